//! This host is elsewhere now, or may be: who must hear of it does, and what it used is doubted.

use std::time::Instant;

use super::{CALM, HERALD_EVERY, Herald, Need, Peer, Shared, Suspicion};
use crate::wire::ProbeFlags;

impl Peer {
    /// What is sent gets no answer.
    pub(in crate::path) fn suspect(&mut self, now: Instant) {
        if self.suspicion.is_none() && now >= self.calm_until {
            self.suspicion = Some(Suspicion::new(now));
        }
    }

    /// A link that has a way through this relay is not answered, maybe because this host is seen elsewhere than before: a probe shows the relay where, before
    /// anything that it would refuse to forward. What it knows already it keeps, since nothing may have changed.
    pub(in crate::path) fn suspect_way(&mut self, shared: &mut Shared, now: Instant) {
        if now < self.told_until {
            return;
        }
        self.told_until = now + CALM;
        let works = |place: &usize| self.tracks[*place].direct() && self.tracks[*place].alive();
        let working: Vec<usize> = (0..self.tracks.len()).filter(works).collect();
        if working.is_empty() {
            return self.ask(shared, now);
        }
        for place in working {
            self.probe(shared, now, place, ProbeFlags::default(), None);
        }
        if self.herald.is_none() {
            self.herald = Some(Herald { moved: false, tries: 1, next: now + HERALD_EVERY });
        }
    }

    fn says_moved(&self) -> ProbeFlags {
        ProbeFlags { nominate: self.first, moved: true, ..ProbeFlags::default() }
    }

    /// This host's own addresses are others now: the peer must learn it at once. Where frames pass, the way is doubted as well: the peer's NAT may let
    /// nobody in from there.
    pub(in crate::path) fn own_moved(&mut self, shared: &mut Shared, now: Instant) {
        if self.need == Need::None && !self.relays_for {
            return;
        }
        let place = self.chosen_place();
        if let Some(place) = place {
            self.probe(shared, now, place, self.says_moved(), None);
        }
        let next = if place.is_some() { now + HERALD_EVERY } else { now };
        self.herald = Some(Herald { moved: true, tries: u32::from(place.is_some()), next });
        let manner = self.manner();
        self.tracks.iter_mut().filter(|track| !track.alive()).for_each(|track| track.start(now, manner));
        if self.need == Need::InUse {
            self.suspicion = Some(Suspicion::new(now));
        }
    }

    /// What could not be said yet, when this host moved, may be said now.
    pub(in crate::path) fn own_moved_again(&mut self, shared: &mut Shared, now: Instant) {
        if self.herald.as_ref().is_some_and(|herald| herald.moved) {
            self.own_moved(shared, now);
        }
    }
}
