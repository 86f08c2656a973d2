//! When node is asked to let the two ends tell each other where they are: at first, while there is no path, seldom while a relay carries the link, and soon after
//! a direct path was lost.

use std::time::{Duration, Instant};

use super::{Need, Peer, Shared};
use crate::{
    link::Event,
    path::{PathOutput, track::Track},
};

/// Until node is asked for a meeting: shorter than anybody notices, longer than a direct handshake takes on most paths.
const MEET_AFTER: Duration = Duration::from_millis(100);
/// The next meetings while no path is found, doubled each time.
const MEET_AGAIN: Duration = Duration::from_secs(2);
const MEET_AGAIN_MAX: Duration = Duration::from_secs(30);
/// The next meetings while the path leads through a relay though a direct one is allowed, doubled each time. After a burst's last probe a NAT that took one for
/// its own must have forgotten it: Linux keeps what was not answered for 30 s.
const UPGRADE_AGAIN: Duration = Duration::from_secs(40);
const UPGRADE_AGAIN_MAX: Duration = Duration::from_secs(300);
/// Where a direct path has just been lost, so many meetings come sooner, as if there were no path: one end may have been told too early, or of an address that was no
/// longer its peer's.
const SOON_AFTER_LOSS: u32 = 3;

#[derive(Debug)]
pub(super) struct Meet {
    at: Instant,
    tries: u32,
    /// So many more come soon after each other though a relay carries the link.
    soon: u32,
    /// It is for a path that is better than a relay's: its time is set, whatever else is heard of the paths.
    is_upgrade: bool,
}

impl Meet {
    pub(super) fn new(at: Instant) -> Self {
        Self { at, tries: 0, soon: 0, is_upgrade: false }
    }

    /// The link is wanted.
    pub(super) fn first(now: Instant) -> Self {
        Self::new(now + MEET_AFTER)
    }

    /// A relay carries the link.
    fn upgrade(at: Instant, tries: u32) -> Self {
        Self { at, tries, soon: 0, is_upgrade: true }
    }

    /// A direct path was lost.
    pub(super) fn after_loss(now: Instant) -> Self {
        Self { soon: SOON_AFTER_LOSS, ..Self::new(now) }
    }

    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// Whether it may come later once a relay carries the link: neither the first, nor one of those soon after a loss.
    fn has_time(&self) -> bool {
        !self.is_upgrade && self.tries > 0 && self.soon == 0
    }
}

impl Peer {
    /// Sets the time of the next meeting by how good the chosen path is.
    pub(super) fn want_meeting(&mut self, now: Instant) {
        if self.need < Need::Wanted || self.settled() {
            self.meet = None;
        } else if self.chosen_place().is_some_and(|place| self.tracks[place].alive()) {
            if self.meet.as_ref().is_none_or(Meet::has_time) {
                self.meet = Some(Meet::upgrade(now + UPGRADE_AGAIN, 1));
            }
        } else if self.meet.as_ref().is_none_or(|meet| meet.is_upgrade) {
            self.meet = Some(Meet::first(now));
        }
    }

    /// Asks node for a meeting that is due.
    pub(super) fn meet(&mut self, shared: &mut Shared, now: Instant) {
        let alive = self.tracks.iter().any(Track::alive);
        let Some(meet) = self.meet.as_mut().filter(|meet| meet.at <= now) else { return };
        if let Some(ends) = self.searches.ends(now)
            && (!alive || meet.soon > 0 && meet.tries > 0)
        {
            // A meeting would make both ends spend the search's rate on what was tried already.
            meet.at = ends;
            return;
        }
        let (first, most) = if alive && meet.soon == 0 {
            (UPGRADE_AGAIN, UPGRADE_AGAIN_MAX)
        } else {
            (MEET_AGAIN, MEET_AGAIN_MAX)
        };
        meet.soon = meet.soon.saturating_sub(1);
        meet.at = now + (first * 2_u32.saturating_pow(meet.tries.min(8))).min(most);
        meet.tries += 1;
        shared.outputs.push_back(PathOutput::Tell(Event::MeetWanted { peer: self.host }));
        self.asks_to_meet = true;
        // What failed may work now, also without a meeting, if it needs no NAT to be opened from both sides: the peer may have come back.
        let manner = self.manner();
        let alone = self.tracks.iter_mut().filter(|track| !track.needs_meeting());
        alone.for_each(|track| track.start(now, manner));
    }

    /// The two are to meet now, as often as they have.
    pub(super) fn meet_now(&mut self, now: Instant) {
        let tries = self.meet.as_ref().map_or(0, |meet| meet.tries);
        self.meet = Some(Meet::upgrade(now, tries));
    }
}
