//! What the peer said inside the seal: proofs of a session, roaming, messages of the link.

use std::time::{Duration, Instant};

use super::{Link, accept};
use crate::{
    link::{
        Now, Shared,
        channel::{Question, Sendable},
        event::{ChannelRequest, Event, LinkDownReason},
        path_mtu::Change,
    },
    path::Origin,
    switch::NetworkId,
    wire::control::{Control, GrantDigest, GrantRefusal},
};

/// Notes of one peer's node that are passed on in a second: where it is, a few times while it moves.
const NOTES_PER_SECOND: u32 = 8;
/// Grants one peer may put to node in a second.
const QUESTIONS_PER_SECOND: u32 = 64;

impl Link {
    /// A datagram of this session was opened that makes the session proved, or the peer's address another.
    pub(in crate::link) fn handle_touched(
        &mut self,
        shared: &mut Shared,
        now: Now,
        index: u32,
        from: Origin,
        newest: bool,
    ) {
        if let Some(instance) = self.slots.confirmed(index) {
            self.begin(shared, now.at, from, instance);
        } else if newest && self.is_current(index) {
            self.notes.heard = Some(from);
        }
        self.retire(shared);
    }

    /// An old session's datagram may come late from the old address; it moves nothing.
    pub(super) fn is_current(&self, index: u32) -> bool {
        self.slots.current().is_some_and(|session| session.local_index() == index)
    }

    pub(in crate::link) fn handle_control(&mut self, shared: &mut Shared, now: Now, bytes: &[u8]) {
        let Ok(message) = Control::parse(bytes) else { return self.counters.malformed.one() };
        if self.up {
            self.in_use(now.at);
        }
        match message {
            Control::Ping { id } => self.say(shared, &Control::Pong { id }),
            Control::Pong { id } => {
                if let Some(sample) = self.live.pong(now.at, id) {
                    self.notes.sample = Some(sample);
                }
            }
            Control::Probe { id, .. } => self.say(shared, &Control::ProbeSeen { id }),
            Control::ProbeSeen { id } => {
                if let Some(place) = self.probes.iter().position(|(own, _)| *own == id)
                    && let Some((_, size)) = self.probes.remove(place)
                    && self.mtu.seen(now.at, size) == Change::Size
                {
                    self.changed = true;
                }
            }
            Control::Open { network, grant } => self.handle_open(shared, now.at, network, grant),
            Control::Accept { network, grant, channel: number, seconds } => {
                if let Some(channel) = self.channels.get_mut(&network) {
                    channel.accepted(now.at, grant, number, seconds);
                    self.changed = true;
                    self.release(shared, network);
                }
            }
            Control::Refuse { network, grant, reason } => {
                if let Some(channel) = self.channels.get_mut(&network)
                    && channel.refused(now.at, grant)
                {
                    self.changed = true;
                    self.drop_held(network);
                    shared.tell(Event::ChannelRefused { peer: self.host, network, reason });
                }
            }
            Control::Close { network } => {
                if let Some(channel) = self.channels.get_mut(&network) {
                    channel.closed(now.at);
                    self.changed = true;
                }
            }
            Control::Unknown { channel: number } => {
                self.channels.values_mut().for_each(|channel| channel.unknown(now.at, number));
                self.changed = true;
            }
            Control::Note { body } => self.handle_note(shared, now.at, body),
            Control::Bye => {
                self.go_down(shared, LinkDownReason::PeerLeft);
                self.retire(shared);
            }
        }
    }

    /// The peer's node says something to ours. What is too much is not passed on: it is said again if it matters.
    fn handle_note(&mut self, shared: &mut Shared, now: Instant, body: &[u8]) {
        if now >= self.noted.0 + Duration::from_secs(1) {
            self.noted = (now, 0);
        }
        if self.noted.1 >= NOTES_PER_SECOND {
            return self.counters.notes_dropped.one();
        }
        self.noted.1 += 1;
        shared.tell(Event::Said { peer: self.host, body: body.to_vec() });
    }

    pub(super) fn handle_open(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        network: NetworkId,
        grant: &[u8],
    ) {
        let digest = GrantDigest::of(grant);
        if now >= self.questions.0 + Duration::from_secs(1) {
            self.questions = (now, 0);
        }
        let Ok(channel) = self.channel_entry(network) else {
            return self.say(shared, &Control::Refuse { network, grant: digest, reason: GrantRefusal::Full });
        };
        match channel.opened_by_peer(now, digest) {
            Question::Wait => {}
            Question::Accept { number, left } => self.say(shared, &accept(network, digest, number, left)),
            Question::Refuse(reason) => self.say(shared, &Control::Refuse { network, grant: digest, reason }),
            Question::AskNode if self.questions.1 >= QUESTIONS_PER_SECOND => self.forget_question(network),
            Question::AskNode => {
                self.questions.1 += 1;
                let request = ChannelRequest { peer: self.peer, network, digest: digest.0 };
                let grant = grant.to_vec();
                shared.tell(Event::ChannelRequested { request, peer: self.host, network, grant });
                // The peer has the network now, whatever it said before.
                if let Some(channel) = self.channels.get_mut(&network)
                    && channel.sendable() == Sendable::No
                {
                    channel.ask_again(now);
                }
            }
        }
    }

    /// Frames come on a channel that is not known here.
    pub(in crate::link) fn handle_unknown_channel(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        channel: u32,
    ) {
        if self.unknown_told.is_some_and(|told| now < told + Duration::from_secs(1)) {
            return;
        }
        self.unknown_told = Some(now);
        self.say(shared, &Control::Unknown { channel });
    }
}
