//! Whether the peer is there, and how far away: pings, round-trip time, silence.
//!
//! While the link is in use, a ping goes out every [`PING_EVERY`]; without an answer again every [`PING_AGAIN`]. A peer from which nothing
//! at all was opened meanwhile for [`SILENCE_MAX`] is gone. Pings also keep the address mapping of a NAT alive (RFC 4787 asks of it two minutes, and many
//! give thirty seconds).

use std::time::{Duration, Instant};

/// Between answered pings. Halving it would detect silence no sooner, as that is counted from the last datagram of any kind.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Between unanswered ones.
const PING_AGAIN: Duration = Duration::from_secs(1);
/// Without anything opened for so long, the link is down: a few lost pings in a row at any usual loss rate.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(12);

/// The state of one link's pings.
#[derive(Debug)]
pub(super) struct Liveness {
    next_ping: Instant,
    asked: Option<(u32, Instant)>,
    serial: u32,
    round_trip: Option<Duration>,
}

impl Liveness {
    pub(super) fn new(now: Instant) -> Self {
        Self { next_ping: now, asked: None, serial: 0, round_trip: None }
    }

    /// The smoothed round-trip time (RFC 6298 section 2, weight 1/8).
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// A ping shall go out at once: a session began.
    pub(super) fn ask_now(&mut self, now: Instant) {
        self.next_ping = now;
    }

    /// The id of the ping that is due, if one is.
    pub(super) fn ping(&mut self, now: Instant) -> Option<u32> {
        if self.next_ping > now {
            return None;
        }
        self.serial = self.serial.wrapping_add(1);
        self.asked = Some((self.serial, now));
        self.next_ping = now + PING_AGAIN;
        Some(self.serial)
    }

    /// Whether a ping is out that was not answered.
    pub(super) fn unanswered(&self) -> bool {
        self.asked.is_some()
    }

    /// A pong came: the round trip, if it answers the last ping.
    pub(super) fn pong(&mut self, now: Instant, id: u32) -> Option<Duration> {
        let (_, sent) = self.asked.filter(|(asked, _)| *asked == id)?;
        self.asked = None;
        self.next_ping = now + PING_EVERY;
        let sample = now.saturating_duration_since(sent);
        self.round_trip = Some(self.round_trip.map_or(sample, |old| (old * 7 + sample) / 8));
        Some(sample)
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.next_ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn unanswered_pings_come_sooner_and_only_the_last_is_answered() {
        let now = testing::now();
        let mut live = Liveness::new(now);
        let first = live.ping(now).unwrap();
        assert_eq!(live.ping(now), None);
        let second = live.ping(now + PING_AGAIN).unwrap();
        assert_eq!(live.pong(now + PING_AGAIN, first), None);
        assert_eq!(live.round_trip(), None, "the answer to a ping given up says nothing");
        live.pong(now + PING_AGAIN + Duration::from_millis(40), second);
        assert_eq!(live.round_trip(), Some(Duration::from_millis(40)));
        assert_eq!(live.poll_timeout(), now + PING_AGAIN + Duration::from_millis(40) + PING_EVERY);
    }
}
