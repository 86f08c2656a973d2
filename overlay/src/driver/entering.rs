//! From a ticket to a membership: joining, and the change of everything that belonged to the overlay of before.

use super::{Driver, lan::JOIN_PATIENCE};
use crate::{
    behaviour::news_topic,
    event::Event,
    handle::{Answer, JoinError},
    identity::{HostId, OverlayKey},
    peers::{FailureReason, Reach},
    ticket::Ticket,
};
use std::time::Duration;

impl Driver {
    /// A ticket shall lead in.
    pub(super) fn join(&mut self, ticket: Ticket, answer: Answer<Result<OverlayKey, JoinError>>) {
        if let Some(error) = self.obstacle(&ticket) {
            drop(answer.send(Err(error)));
            return;
        }
        let (inviter, overlay) = (ticket.inviter(), ticket.overlay());
        self.peers.learn(inviter, ticket.addresses());
        if self.door.lock().overlay() == Some(overlay) {
            drop(answer.send(Ok(overlay)));
            return;
        }
        self.door.lock().tickets.push(ticket);
        self.joining = Some((inviter, answer));
        self.join_failed = None;
        self.join_until = self.now() + JOIN_PATIENCE;
        self.tell_link();
        self.peers.retry_now(&inviter);
        if let Reach::Dial(addresses) = self.peers.ask_for(&inviter, self.now()) {
            self.dial(inviter, &addresses);
        }
    }

    /// A dial failed. If it was to the inviter, the join has, unless somebody on the local link lets this host in.
    pub(super) fn on_join_failed(&mut self, host: HostId, reason: FailureReason) {
        if self.joining.as_ref().is_none_or(|(inviter, _)| *inviter != host) {
            return;
        }
        if !matches!(
            reason,
            FailureReason::Unreachable { .. } | FailureReason::Timeout | FailureReason::NoAddress
        ) {
            // It was reached and said no: nobody else would say yes.
            self.join_until = Duration::ZERO;
        }
        self.join_failed = Some(reason);
        self.upkeep_join();
    }

    /// Gives up a join that has failed, when its time is over.
    pub(super) fn upkeep_join(&mut self) {
        if self.link.is_some() && self.now() < self.join_until {
            return;
        }
        let Some(reason) = self.join_failed.take() else { return };
        let Some((inviter, answer)) = self.joining.take() else { return };
        let kept = self.config.bootstrap.clone();
        self.door.lock().tickets.retain(|ticket| ticket.inviter() != inviter || kept.contains(ticket));
        answer.send(Err(JoinError::Failed { inviter, reason })).ok();
    }

    /// Why this host may not use the ticket.
    fn obstacle(&self, ticket: &Ticket) -> Option<JoinError> {
        if let Err(error) = ticket.verify(self.clock.unix()) {
            return Some(error.into());
        }
        if let Some(pinned) = self.config.pinned.filter(|pinned| *pinned != ticket.overlay()) {
            return Some(JoinError::OtherThanPinned { found: ticket.overlay(), pinned });
        }
        if self.joining.is_some() || self.entering {
            return Some(JoinError::Busy);
        }
        let overlay = self.door.lock().overlay();
        overlay.filter(|own| *own != ticket.overlay() && !self.is_alone()).map(JoinError::MemberOfOther)
    }

    /// The door has a new membership: the rest follows when nothing of the old overlay is left.
    pub(super) fn on_admitted(&mut self, inviter: HostId) {
        self.entering = true;
        let hosts: Vec<HostId> = self.peers.up().collect();
        for host in hosts {
            self.close_peer(&host, &FailureReason::ClosedHere);
        }
        self.inviter = Some(inviter);
        self.enter_when_alone();
    }

    pub(super) fn enter_when_alone(&mut self) {
        if self.swarm.connected_peers().next().is_some() {
            return;
        }
        let membership = self.door.lock().membership.clone();
        let Some(membership) = membership else { return };
        let overlay = membership.overlay;
        self.entering = false;
        self.overlay = Some(overlay);
        let (pair, protocols) = (self.config.keypair.clone(), self.protocols.clone());
        self.swarm.behaviour_mut().enter(&pair, overlay.id(), protocols, &self.config.streams);
        self.calls.clear();
        self.searches.clear();
        self.view.clear();
        self.told.clear();
        self.documents.clear();
        let inviter = self.inviter.take();
        self.peers.clear_but(inviter.as_ref());
        if let Some(inviter) = inviter {
            self.peers.retry_now(&inviter);
        }
        self.renew_record();
        tracing::info!(%overlay, topic = %news_topic(Some(overlay.id())), "this host is a member");
        // Without a reader of the watch nobody is interested; node may hold none.
        self.membership.send(Some(membership)).ok();
        self.announce(Event::Joined(overlay));
        self.save_state();
        self.join_failed = None;
        if let Some((_, answer)) = self.joining.take() {
            answer.send(Ok(overlay)).ok();
        }
        self.tell_link();
        self.upkeep_connections();
    }
}
