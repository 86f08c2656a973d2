//! Which way a link uses: the choice told to the link, to node, and to the peer.

use std::time::Instant;

use super::{CALM, Herald, Need, Peer, Shared};
use crate::{
    link::Event,
    path::{PathOutput, choice, view::PathReason},
};

impl Peer {
    /// A direct path works, or the one allowed.
    pub(super) fn settled(&self) -> bool {
        self.chosen_place().is_some_and(|place| {
            let chosen = &self.tracks[place];
            chosen.alive() && (chosen.direct() || !self.direct)
        })
    }

    /// Chooses anew after something changed.
    pub(super) fn reconsider(&mut self, shared: &mut Shared, now: Instant, reason: PathReason) {
        let current = self.chosen_place();
        if self.chosen.is_some() && current.is_none() {
            self.chosen = None;
            self.changed = true;
        }
        let nominated = self.nominated.filter(|_| !self.first).and_then(|origin| self.place(&origin));
        let nominated = nominated.filter(|place| self.tracks[*place].alive());
        let best = nominated.or_else(|| choice::best(&self.tracks, current));
        match best {
            Some(place) if current == Some(place) => {}
            Some(place) => {
                let reason = match current {
                    None if reason != PathReason::Withdrawn => PathReason::First,
                    Some(current) if !self.tracks[current].alive() => PathReason::Failover,
                    _ if nominated.is_some() => PathReason::Nominated,
                    _ => reason,
                };
                self.choose(shared, now, place, reason);
            }
            // Node looks for another at once: a relay's place is not for links that nobody wants.
            None if current.is_none()
                && reason == PathReason::Withdrawn
                && self.reason.take().is_some()
                && self.need >= Need::Wanted =>
            {
                self.tell(shared, PathReason::Withdrawn);
            }
            None => {}
        }
        self.want_meeting(now);
    }

    pub(super) fn choose(&mut self, shared: &mut Shared, now: Instant, place: usize, reason: PathReason) {
        let origin = self.tracks[place].origin;
        if self.chosen.is_some_and(|chosen| chosen.same(&origin)) {
            return;
        }
        self.chosen = Some(origin);
        self.reason = Some(reason);
        self.changed = true;
        self.suspicion = None;
        // That this host has moved is said on the way that is taken now, if it was not heard on the one before.
        let moved = self.herald.take().is_some_and(|herald| herald.moved);
        if self.first || moved {
            self.herald = Some(Herald { moved, tries: 0, next: now });
        }
        if self.need > Need::None {
            self.tell(shared, reason);
        }
        self.want_meeting(now);
    }

    fn tell(&self, shared: &mut Shared, reason: PathReason) {
        let path = self.chosen_place().map(|place| self.tracks[place].view());
        shared.outputs.push_back(PathOutput::Tell(Event::PathChanged { peer: self.host, path, reason }));
    }

    /// The chosen path was answered on.
    pub(super) fn answered_chosen(&mut self, now: Instant) {
        if self.suspicion.take().is_some() {
            self.calm_until = now + CALM;
        }
    }
}
