//! A peer's part in fresh ports ([`crate::path::fresh`]): when one is due for it, its questions as a member that is asked, its ways over one.

use std::time::Instant;

use super::{Need, Peer, Shared};
use crate::{
    path::{
        schedule::Manner,
        track::{Kind, Track},
        via::{Origin, SocketId, Via},
    },
    wire::{Probe, ProbeFlags, ProbeKind},
};

/// Of the peer's addresses, so many are tried from a fresh port: what members see of it, by each outside address it has.
const TRIED_MAX: usize = 4;

impl Peer {
    /// Whether a round of probes after a meeting has turned out to be in vain, and something is to be done about it; asked once for each.
    pub(in crate::path) fn in_vain(&mut self, now: Instant) -> bool {
        if !self.vain.take_due(now) {
            return false;
        }
        let is_in_vain = self.direct && self.is_search_wanted();
        if !is_in_vain {
            self.vain.settled();
        }
        is_in_vain
    }

    pub(in crate::path) fn may_open_port(&self, now: Instant) -> bool {
        self.vain.may_open(now)
    }

    pub(in crate::path) fn port_opened(&mut self, now: Instant) {
        self.vain.opened(now);
    }

    /// Another peer's turn.
    pub(in crate::path) fn put_port_off(&mut self, until: Instant) {
        self.vain.put_off(until);
    }

    /// This end's choice goes first, also where either could begin.
    pub(in crate::path) fn is_first(&self) -> bool {
        self.first
    }

    /// How rounds towards this peer go.
    pub(super) fn manner(&self) -> Manner {
        if self.own_is_hard { Manner::Plain } else { Manner::Gentle { in_vain: self.vain.rounds() } }
    }

    /// Asks what it sees of a socket; the number of the question and where it went. None if no way to it is known to work.
    pub(in crate::path) fn ask_over(
        &mut self,
        shared: &mut Shared,
        socket: SocketId,
    ) -> Option<(u64, std::net::SocketAddr)> {
        let ways = self.direct_ways();
        let address = ways.iter().map(|via| via.address).find(std::net::SocketAddr::is_ipv4)?;
        let serial = self.next_serial();
        let kind = ProbeKind::Probe(ProbeFlags { aside: true, ..ProbeFlags::default() });
        let probe = Probe { kind, tag: self.tag_out, serial, address: Some(address) };
        self.send(shared, Via { socket, address, token: None }, probe, None);
        Some((serial, address))
    }

    /// The peer has been told of the port: where it may be reached is tried from there.
    pub(in crate::path) fn try_from(&mut self, shared: &mut Shared, now: Instant, socket: SocketId) {
        let from_here = |track: &&Track| match track.kind {
            Kind::Candidate(_) => track.via.socket == SocketId::MAIN && track.is_wide(),
            _ => false,
        };
        let wide: Vec<(Kind, Via)> = self
            .tracks
            .iter()
            .filter(from_here)
            .map(|track| (track.kind, Via { socket, ..track.via }))
            .take(TRIED_MAX)
            .collect();
        for (kind, via) in wide {
            let origin = Origin { socket, address: via.address, token: None };
            if self.place(&origin).is_none() && self.has_room() {
                self.tracks.push(Track::new(kind, via, origin));
            }
            let manner = self.manner();
            if let Some(place) = self.place(&origin).filter(|place| !self.tracks[*place].alive()) {
                self.tracks[place].restart(now, manner);
            }
        }
        self.changed = true;
        // The probes are due at once.
        self.run_bursts(shared, now);
    }

    /// The port is given up, but for a way over it that works; whether there is one.
    pub(in crate::path) fn leave_port(&mut self, shared: &mut Shared, socket: SocketId) -> bool {
        self.drop_tracks(shared, |track| track.via.socket != socket || track.alive());
        self.uses(socket)
    }

    /// Whether somebody waits for a link.
    pub(in crate::path) fn is_wanted(&self) -> bool {
        self.need >= Need::Wanted
    }
}
