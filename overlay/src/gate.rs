//! The door: no connection reaches the swarm before its peer has proved that it belongs.
//!
//! The proof runs inside the transport ([`upgrade`]): after encryption and multiplexing, before the swarm is told. So identify, Kademlia, gossip
//! and requests never see a stranger and need no check of their own, and a stranger costs one pending connection for a few seconds.
//!
//! [`Door`] decides and does no I/O; the driver and the connections under way share it behind a lock that is never held across an await.

pub(crate) mod arbiter;
pub(crate) mod upgrade;

use crate::{
    clock::{Clock, UnixSeconds},
    identity::{HostId, Key, Keypair, OverlayKey},
    membership::{Chain, Membership, Revocations, Standing, claim, claim_holds},
    peers::Direction,
    protocol::member::{Admission, Hello, Proof, Refusal, Welcome},
    ticket::Ticket,
};
use arbiter::Arbiter;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Most admissions remembered, so that whom this host let in can be put out while it is away; the oldest goes first.
pub(crate) const ISSUED_MAX: usize = 256;
/// Most tickets tried at once; a configuration names a few bootstrap hosts.
pub const TICKETS_MAX: usize = 16;
/// Proofs that the driver has not fetched yet: one per connection under way.
const PROVED_MAX: usize = 256;
/// Hosts on the local link that may take this host's ticket though they did not make it.
const FOUND_MAX: usize = 16;

/// What came of a handshake that went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Both are members: the connection stands.
    Member,
    /// The dialler is a member from now on. The connection closes; it comes back as a member.
    Admission,
}

/// All that decides who passes.
pub(crate) struct Door {
    pair: Keypair,
    local: HostId,
    session: u64,
    clock: Arc<dyn Clock>,
    pub(crate) membership: Option<Membership>,
    pub(crate) tickets: Vec<Ticket>,
    pub(crate) revocations: Revocations,
    pub(crate) issued: VecDeque<Chain>,
    pub(crate) arbiter: Arbiter,
    proved: HashMap<HostId, (Chain, u64)>,
    /// Hosts on the local link that say they are members of an overlay this host has a ticket of.
    found: HashMap<HostId, OverlayKey>,
}

/// The door as its users hold it.
#[derive(Clone)]
pub(crate) struct SharedDoor(Arc<Mutex<Door>>);

impl SharedDoor {
    pub(crate) fn new(door: Door) -> Self {
        Self(Arc::new(Mutex::new(door)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Door> {
        // A panic while the lock was held is a fault of ours that has been reported; the door's data is whole after each statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door {
    pub(crate) fn new(pair: Keypair, session: u64, clock: Arc<dyn Clock>, connections_max: usize) -> Self {
        let local = Key::of(&pair).host().expect("a key pair's own public key is a key");
        Self {
            pair,
            local,
            session,
            clock,
            membership: None,
            tickets: Vec::new(),
            revocations: Revocations::default(),
            issued: VecDeque::new(),
            arbiter: Arbiter::new(local, connections_max),
            proved: HashMap::new(),
            found: HashMap::new(),
        }
    }

    /// Connections of this host are dead because it has another address: what it dials now is taken as from a new process, at once, and not for one of two dials
    /// that crossed.
    pub(crate) fn moved(&mut self) {
        self.session = self.session.wrapping_add(1);
    }

    fn key(&self) -> Key {
        Key::of(&self.pair)
    }

    fn unix(&self) -> UnixSeconds {
        self.clock.unix()
    }

    pub(crate) fn overlay(&self) -> Option<OverlayKey> {
        self.membership.as_ref().map(|membership| membership.overlay)
    }

    /// The ticket to show to `inviter`: its own, or one to a member on the local link.
    fn ticket_by(&self, inviter: HostId) -> Option<&Ticket> {
        let made_by = self.tickets.iter().find(|ticket| ticket.inviter() == inviter);
        // Any member may admit the bearer of a ticket.
        made_by.or_else(|| {
            let overlay = self.found.get(&inviter)?;
            self.tickets.iter().find(|ticket| ticket.overlay() == *overlay)
        })
    }

    /// A host on the local link says it is a member of `overlay`; false: there is no ticket for it.
    pub(crate) fn found_on_link(&mut self, host: HostId, overlay: OverlayKey) -> bool {
        let wanted = self.tickets.iter().any(|ticket| ticket.overlay() == overlay);
        if wanted && (self.found.len() < FOUND_MAX || self.found.contains_key(&host)) {
            self.found.insert(host, overlay);
        }
        wanted
    }

    /// What this host shows as the dialler: its ticket to the host that made it, else its membership.
    pub(crate) fn hello(&mut self, peer: HostId, now: Duration) -> Result<Hello, Refusal> {
        let hello = if let Some(ticket) = self.ticket_by(peer) {
            let claim = claim(&ticket.invitation_pair(), ticket.overlay(), self.key());
            let proof = Proof::Newcomer { claim, invitation: ticket.chain().clone() };
            Hello { overlay: ticket.overlay(), session: self.session, proof }
        } else {
            let membership = self.membership.as_ref().ok_or(Refusal::NotReady)?;
            if Key::of_host(&peer).is_some_and(|key| self.revocations.covers(key)) {
                return Err(Refusal::Revoked);
            }
            let proof = Proof::Member(membership.chain.clone());
            Hello { overlay: membership.overlay, session: self.session, proof }
        };
        self.arbiter.begin_dial(peer, now)?;
        Ok(hello)
    }

    /// The listener's answer. Whoever sends `hello` has proved to be `peer`.
    pub(crate) fn answer(&mut self, peer: HostId, hello: &Hello, now: Duration) -> Result<Welcome, Refusal> {
        let unix = self.unix();
        let membership = self.membership.clone().ok_or(Refusal::NotReady)?;
        let overlay = membership.overlay;
        if hello.overlay != overlay {
            return Err(Refusal::OtherOverlay);
        }
        let newcomer = Key::of_host(&peer).ok_or(Refusal::Malformed)?;
        if self.revocations.covers(newcomer) {
            return Err(Refusal::Revoked);
        }
        match &hello.proof {
            Proof::Member(chain) => {
                chain.verify_member(overlay, newcomer, unix, &self.revocations)?;
                self.arbiter.accept(peer, hello.session, now)?;
                self.proved(peer, chain.clone(), hello.session);
                Ok(Welcome { session: self.session, chain: membership.chain, admission: None })
            }
            Proof::Newcomer { claim, invitation } => {
                invitation.verify_invitation(overlay, unix, &self.revocations)?;
                let key = invitation.holder();
                if !claim_holds(key, overlay, newcomer, claim) {
                    return Err(Refusal::Claim);
                }
                let standing = Standing::Member { invitation: Some(key) };
                let chain = membership
                    .chain
                    .extended(&self.pair, overlay, newcomer, standing, unix, None)
                    .map_err(|_| Refusal::TooDeep)?;
                if self.issued.len() >= ISSUED_MAX {
                    self.issued.pop_front();
                }
                self.issued.push_back(chain.clone());
                let admission = Admission { chain, link_secret: membership.link_secret };
                Ok(Welcome { session: self.session, chain: membership.chain, admission: Some(admission) })
            }
        }
    }

    /// The dialler's judgement of the answer to `hello`.
    pub(crate) fn judge(
        &mut self,
        peer: HostId,
        hello: &Hello,
        welcome: &Welcome,
    ) -> Result<Passed, Refusal> {
        let unix = self.unix();
        let listener = Key::of_host(&peer).ok_or(Refusal::Malformed)?;
        let (own, none) = (self.key(), Revocations::default());
        // What is revoked in the overlay of before says nothing about the one that is joined.
        let revocations = if self.overlay() == Some(hello.overlay) { &self.revocations } else { &none };
        welcome.chain.verify_member(hello.overlay, listener, unix, revocations)?;
        match (&hello.proof, &welcome.admission) {
            (Proof::Member(_), None) => {
                self.proved(peer, welcome.chain.clone(), welcome.session);
                Ok(Passed::Member)
            }
            (Proof::Newcomer { .. }, Some(admission)) => {
                admission.chain.verify_member(hello.overlay, own, unix, revocations)?;
                self.enter(Membership {
                    overlay: hello.overlay,
                    chain: admission.chain.clone(),
                    link_secret: admission.link_secret.clone(),
                    overlay_seed: None,
                });
                Ok(Passed::Admission)
            }
            _ => Err(Refusal::Malformed),
        }
    }

    /// Takes over a membership; what belonged to another overlay goes.
    pub(crate) fn enter(&mut self, membership: Membership) {
        if self.overlay() != Some(membership.overlay) {
            self.revocations = Revocations::default();
            self.issued.clear();
            self.proved.clear();
        }
        self.tickets.clear();
        self.found.clear();
        self.membership = Some(membership);
    }

    fn proved(&mut self, peer: HostId, chain: Chain, session: u64) {
        if self.proved.len() >= PROVED_MAX && !self.proved.contains_key(&peer) {
            self.proved.clear();
        }
        self.proved.insert(peer, (chain, session));
    }

    /// The swarm reports a connection: gives the chain its peer passed with. `None`: it passed in another overlay or was put out since, and
    /// must go.
    pub(crate) fn established(&mut self, peer: HostId, direction: Direction, now: Duration) -> Option<Chain> {
        let (chain, session) = self.proved.remove(&peer)?;
        if chain.revoked_by(&self.revocations).is_some() {
            return None;
        }
        self.arbiter.established(peer, direction, session, now);
        Some(chain)
    }

    pub(crate) fn local(&self) -> HostId {
        self.local
    }

    pub(crate) fn pair(&self) -> &Keypair {
        &self.pair
    }
}

#[cfg(test)]
mod tests;
