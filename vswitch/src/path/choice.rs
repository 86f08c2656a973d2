//! Which of several working paths a link uses.
//!
//! # Rules
//! - A direct path goes before one through relays, and that before a stream over a control connection, unless it loses so much that it is of
//!   little use ([`LOSS_MAX`]).
//! - Among paths of one class the lower score is better: the smoothed round trip, made worse by loss ([`LOSS_WEIGHT`]), and the relay's cost.
//! - A path that works is left only for one that is better by [`MARGIN_PART`] and [`MARGIN_MIN`], as [`ANSWERS_MIN`] probes have shown: no flapping
//!   between equals.

use std::time::Duration;

use super::{
    candidate::CandidateKind,
    track::{Kind, Track},
};

/// Above this part of lost probes, a path loses its rank.
const LOSS_MAX: f32 = 0.4;
/// One per cent of loss weighs as much as a tenth more round trip.
const LOSS_WEIGHT: f32 = 10.0;
/// A better path must be better by this part of the score of the one in use (one in so many).
const MARGIN_PART: u32 = 5;
/// And by this much: what scheduling on busy hosts adds to a round trip.
const MARGIN_MIN: Duration = Duration::from_millis(3);
/// Answers that a path must have given before it takes another's place.
const ANSWERS_MIN: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Direct,
    Relayed,
    Stream,
    Lossy,
}

fn class(track: &Track) -> Class {
    match track.kind {
        _ if track.loss() > LOSS_MAX => Class::Lossy,
        Kind::Relay { .. } => Class::Relayed,
        Kind::Candidate(CandidateKind::Stream) => Class::Stream,
        Kind::Candidate(_) | Kind::Heard => Class::Direct,
    }
}

fn score(track: &Track) -> Duration {
    let cost = match track.kind {
        Kind::Relay { cost, .. } => cost,
        _ => Duration::ZERO,
    };
    let round_trip = track.round_trip().unwrap_or(Duration::from_secs(1));
    round_trip.mul_f32(1.0 + track.loss() * LOSS_WEIGHT) + cost
}

/// The place of the path to use among those that work; `chosen` is the place of the one in use.
pub(super) fn best(tracks: &[Track], chosen: Option<usize>) -> Option<usize> {
    let working = || tracks.iter().enumerate().filter(|(_, track)| track.alive());
    let (place, best) = working().min_by_key(|(place, track)| (class(track), score(track), *place))?;
    let Some(chosen) = chosen.filter(|chosen| tracks[*chosen].alive()) else { return Some(place) };
    let current = &tracks[chosen];
    if class(best) < class(current) {
        return Some(place);
    }
    let (new, old) = (score(best), score(current));
    let margin = (old / MARGIN_PART).max(MARGIN_MIN);
    let better = best.answers() >= ANSWERS_MIN && class(best) == class(current) && new + margin < old;
    Some(if better { place } else { chosen })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        HostId,
        path::via::{Origin, Via},
        testing,
    };

    fn track(kind: Kind, millis: u64, answers: u64) -> Track {
        let address = "192.0.2.1:9".parse().unwrap();
        let mut track = Track::new(kind, Via::direct(address), Origin::direct(address));
        let mut now = testing::now();
        for serial in 0..answers {
            track.sent(now, serial);
            now += Duration::from_millis(millis);
            track.answered(now, serial);
        }
        track
    }

    const LOCAL: Kind = Kind::Candidate(CandidateKind::Local);

    fn relay() -> Kind {
        Kind::Relay { relay: HostId::random(), cost: Duration::ZERO }
    }

    #[test]
    fn direct_goes_before_relayed_and_that_before_a_stream() {
        let stream = Kind::Candidate(CandidateKind::Stream);
        let mut tracks = vec![track(stream, 1, 3), track(relay(), 5, 3), track(LOCAL, 50, 1)];
        assert_eq!(best(&tracks, Some(1)), Some(2), "at the first answer");
        tracks.pop();
        assert_eq!(best(&tracks, Some(0)), Some(1));
        assert_eq!(best(&[], None), None);
    }

    #[test]
    fn a_path_is_left_for_a_clearly_better_one_only() {
        let tracks = [track(LOCAL, 50, 3), track(LOCAL, 45, 9)];
        assert_eq!(best(&tracks, Some(0)), Some(0), "within the margin");
        assert_eq!(best(&tracks, None), Some(1));
        let tracks = [track(LOCAL, 50, 3), track(LOCAL, 30, 2)];
        assert_eq!(best(&tracks, Some(0)), Some(0), "too few answers");
        let tracks = [track(LOCAL, 50, 3), track(LOCAL, 30, 3)];
        assert_eq!(best(&tracks, Some(0)), Some(1));
    }

    #[test]
    fn a_dead_path_is_left_for_any_that_works() {
        let mut tracks = [track(LOCAL, 5, 3), track(relay(), 500, 1)];
        tracks[0].give_up();
        assert_eq!(best(&tracks, Some(0)), Some(1));
    }
}
