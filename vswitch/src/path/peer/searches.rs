//! A peer's part in port searches ([`crate::path::search`]): when one is due, what was asked, what they have cost.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Need, Peer, Shared};
use crate::{
    path::{
        CandidateKind, PeerNat,
        search::TIME_MAX,
        track::Kind,
        via::{Origin, SocketId, Via},
        view::SearchSpent,
    },
    wire::{Probe, ProbeFlags, ProbeKind},
};

/// Probes of a search that may still be answered: four seconds' worth.
const ASKED_MAX: usize = 400;
/// After candidates came, until a port search begins if no probe was answered: two probes of a host whose own NAT is the difficult one, and a round trip on most
/// paths. The bursts' later probes go on meanwhile, within the search's rate.
const AFTER: Duration = Duration::from_millis(200);
/// Between searches for one peer, doubled each time up to an hour.
const AGAIN: Duration = Duration::from_secs(60);
/// How often one that is put off looks whether its turn has come.
const TURN: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Searches {
    /// When it is looked whether one is needed.
    at: Option<Instant>,
    /// When the last one began.
    last: Option<Instant>,
    /// Another went first: this one begins with a meeting.
    put_off: bool,
    spent: SearchSpent,
    asked: VecDeque<(u64, Origin, Instant)>,
}

impl Searches {
    /// Both ends know of each other now.
    pub(super) fn met(&mut self, now: Instant) {
        // The two may meet several times at once, by the link and by the control plane: one search follows from it, and is not put off by each.
        let at = now + AFTER;
        self.at = Some(self.at.map_or(at, |before| before.min(at)));
        self.put_off = false;
    }

    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }

    pub(super) fn spent(&self) -> SearchSpent {
        self.spent
    }

    /// When the one under way ends at the latest.
    pub(super) fn ends(&self, now: Instant) -> Option<Instant> {
        self.last.map(|began| began + TIME_MAX).filter(|ends| now < *ends)
    }

    /// Takes a probe that is answered: when it was sent.
    pub(super) fn take_asked(&mut self, serial: u64, from: &Origin) -> Option<Instant> {
        let place = self.asked.iter().position(|(own, to, _)| *own == serial && to.same(from))?;
        self.asked.remove(place).map(|(_, _, at)| at)
    }
}

impl Peer {
    /// Whether a search is to begin now; asked once for each time it is due.
    pub(in crate::path) fn search_due(&mut self, now: Instant) -> bool {
        if self.searches.at.is_none_or(|at| at > now) {
            return false;
        }
        self.searches.at = None;
        let again = AGAIN * 2_u32.saturating_pow(self.searches.spent.searches.saturating_sub(1).min(6));
        let rested = self.searches.last.is_none_or(|at| now >= at + again);
        self.direct && self.is_search_wanted() && rested
    }

    /// Whether there is anything to find: somebody wants the link, and no direct path works.
    pub(in crate::path) fn is_search_wanted(&self) -> bool {
        let found = self.tracks.iter().any(|track| track.direct() && track.alive());
        self.need >= Need::Wanted && !found
    }

    /// Another search goes first.
    pub(in crate::path) fn put_search_off(&mut self, now: Instant) {
        self.searches.at = Some(now + TURN);
        self.searches.put_off = true;
    }

    pub(in crate::path) fn is_search_put_off(&self) -> bool {
        self.searches.put_off
    }

    /// Its turn has come: the two meet, and both begin.
    pub(in crate::path) fn meet_for_search(&mut self, now: Instant) {
        self.searches.put_off = false;
        self.meet_now(now);
    }

    pub(in crate::path) fn search_began(&mut self, now: Instant) {
        self.searches.last = Some(now);
        self.searches.spent.searches = self.searches.spent.searches.saturating_add(1);
    }

    pub(in crate::path) fn search_opened(&mut self) {
        self.searches.spent.mappings = self.searches.spent.mappings.saturating_add(1);
    }

    /// A probe of a port search.
    pub(in crate::path) fn probe_search(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        socket: SocketId,
        to: SocketAddr,
        hops: Option<u8>,
    ) {
        let serial = self.next_serial();
        if self.searches.asked.len() == ASKED_MAX {
            self.searches.asked.pop_front();
        }
        let origin = Origin { socket, address: to, token: None };
        self.searches.asked.push_back((serial, origin, now));
        self.searches.spent.probes = self.searches.spent.probes.saturating_add(1);
        let via = Via { socket, address: to, token: None };
        let kind = ProbeKind::Probe(ProbeFlags::default());
        self.send(shared, via, Probe { kind, tag: self.tag_out, serial, address: Some(to) }, hops);
    }

    pub(in crate::path) fn nat(&self) -> PeerNat {
        self.nat
    }

    /// The peer's outside IPv4 addresses, those seen by members first, and the ports it has inside.
    pub(in crate::path) fn outside(&self) -> (Vec<SocketAddr>, Vec<u16>) {
        let kinds =
            [CandidateKind::Observed, CandidateKind::Mapped, CandidateKind::Told, CandidateKind::Local];
        let of = |wanted: CandidateKind| {
            self.tracks.iter().filter(move |track| track.kind == Kind::Candidate(wanted))
        };
        let outside = kinds.into_iter().flat_map(of).filter(|track| track.is_wide());
        let inside = of(CandidateKind::Local).chain(of(CandidateKind::Observed));
        (
            outside.map(|track| track.via.address).collect(),
            inside.map(|track| track.via.address.port()).collect(),
        )
    }

    pub(in crate::path) fn uses(&self, socket: SocketId) -> bool {
        self.tracks.iter().any(|track| track.via.socket == socket)
    }
}
