//! What others see of a link: its route for workers, its state for people.

use std::{sync::Arc, time::Instant};

use super::Link;
use crate::{
    link::{
        channel::{Channel, Sendable},
        path_mtu::BASE,
        route::{Route, SendChannel, SendState, Sending},
        snapshot::{ChannelSnapshot, LinkSnapshot, LinkState},
    },
    path::{Line, Via},
    session::Session,
    wire::{DATA_OVERHEAD, INNER_BYTES},
};

/// What a datagram is longer than its frame, as a size of datagrams.
const FRAME_OVERHEAD: u16 = 36;
const _: () = assert!(FRAME_OVERHEAD as usize == DATA_OVERHEAD && INNER_BYTES == 4 && BASE > FRAME_OVERHEAD);

/// Datagrams of a session below which nothing is said of loss: chance alone would speak.
const LOSS_SAMPLE_MIN: u64 = 256;
/// Datagrams of a session that may be missing without a word: the search for the path's largest datagram loses those that are too large,
/// three for each size it tries, and a path that changes may cost some more.
const PROBES_LOST_MAX: u64 = 32;

/// The part of a session's datagrams that were lost on the way to this host.
#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn loss(opened: u64, sealed: u64) -> f64 {
    if sealed < LOSS_SAMPLE_MIN {
        return 0.0;
    }
    sealed.saturating_sub(opened).saturating_sub(PROBES_LOST_MAX) as f64 / sealed as f64
}

impl Link {
    pub(super) fn wanted(&self) -> bool {
        self.kept || self.channels.values().any(Channel::wanted)
    }

    /// Whether workers must see another route; asked once.
    pub(in crate::link) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// `line` says what bounds the rate of a way's first link.
    pub(in crate::link) fn route(&self, line: impl Fn(&Via) -> Option<Arc<Line>>) -> Route {
        let sending = match (self.slots.current(), self.via) {
            (Some(session), Some(via)) if self.up => Some(Sending {
                session: Arc::clone(session),
                via,
                known: self.ways.known.iter().map(|(origin, _)| *origin).collect(),
                datagram_bytes: self.mtu.datagram_bytes().into(),
                line: line(&via),
            }),
            _ => None,
        };
        let send = self.channels.iter().filter_map(|(network, channel)| {
            let state = match channel.sendable() {
                Sendable::Open { number: channel, until } if self.up => SendState::Open { channel, until },
                Sendable::Open { .. } | Sendable::Waiting => SendState::Waiting,
                Sendable::No => return None,
            };
            Some(SendChannel { network: *network, state, frame_bytes: Arc::clone(channel.frame_bytes()) })
        });
        let mut receive: Vec<_> = self
            .channels
            .iter()
            .filter_map(|(network, channel)| {
                channel.receivable().map(|(number, until)| (number, *network, until))
            })
            .collect();
        receive.sort_unstable_by_key(|(number, ..)| *number);
        Route {
            peer: self.peer,
            sending,
            send: send.collect(),
            receive,
            counters: Arc::clone(&self.counters),
            asleep: Arc::clone(&self.asleep),
        }
    }

    pub(in crate::link) fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.slots.opening()
    }

    pub(in crate::link) fn snapshot(&self, now: Instant) -> LinkSnapshot {
        let session = self.slots.current();
        let loss = session.map_or(0.0, |session| {
            let (opened, sealed) = session.opened();
            loss(opened, sealed)
        });
        LinkSnapshot {
            peer: self.host,
            state: match (self.up, self.down) {
                (true, _) => LinkState::Up,
                (false, _) if self.slots.attempt.is_some() => LinkState::Connecting,
                (false, Some(reason)) => LinkState::Down(reason),
                (false, None) => LinkState::Idle,
            },
            in_use: self.up && self.is_used(now),
            address: self.via.map(|via| via.address),
            round_trip_micros: self
                .live
                .round_trip()
                .map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            loss,
            datagram_bytes: self.mtu.datagram_bytes(),
            frame_bytes: self.mtu.datagram_bytes() - FRAME_OVERHEAD - self.via.map_or(0, |via| via.head()),
            suite: session.map(|session| session.suite()),
            session_seconds: session
                .map(|session| now.saturating_duration_since(session.established()).as_secs()),
            channels: self
                .channels
                .iter()
                .map(|(network, channel)| {
                    let (outbound, inbound) = channel.words(now);
                    let frame_bytes_sent = channel.frame_bytes().read();
                    ChannelSnapshot { network: *network, outbound, inbound, frame_bytes_sent }
                })
                .collect(),
            counts: self.counters.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_that_were_too_large_are_no_loss_and_a_young_session_has_none() {
        assert!(loss(4, 8) < 1e-9);
        assert!(loss(256 - PROBES_LOST_MAX, 256) < 1e-9);
        assert!(loss(10_000, 9_990) < 1e-9);
        assert!((0.09..0.1).contains(&loss(9_000, 10_000)));
    }
}
