//! What time does to a link: sessions age, pings and probes are due, channels are asked for, an unused link ends.

use std::time::{Duration, Instant};

use super::Link;
use crate::{
    link::{
        Now, Shared,
        channel::{Act, Channel},
        event::LinkDownReason,
        liveness::SILENCE_MAX,
        path_mtu::Change,
    },
    session::{Due, Role},
    wire::{
        DATA_OVERHEAD,
        control::{Control, PROBE_BYTES_MIN},
    },
};

/// Without a shared network, a link is kept so long.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Probes that may still be confirmed: three rounds of a sweep.
const PROBES_MAX: usize = 32;

impl Link {
    pub(in crate::link) fn handle_timeout(&mut self, shared: &mut Shared, now: Now) {
        self.age_sessions(shared, now.at);
        if self.up {
            self.look(now.at);
            self.keep_alive(shared, now.at);
        }
        if self.up {
            self.search_mtu(shared, now.at);
            self.ask_for_channels(shared, now.at);
            self.leave_if_unused(shared, now.at);
        }
        let dropped = self.hold.expire(now.at);
        self.counters.held_dropped.add(dropped);
        if !self.up {
            if self.wanted() {
                self.slots.want_handshake(now.at);
            } else {
                self.slots.give_up();
            }
        }
        if self.slots.attempt.as_ref().is_some_and(|attempt| attempt.next_at <= now.at) {
            self.initiate(shared, now);
        }
        self.retire(shared);
    }

    pub(super) fn age_sessions(&mut self, shared: &mut Shared, now: Instant) {
        let due: Vec<_> = self
            .slots
            .opening()
            .map(|session| {
                let age = now.saturating_duration_since(session.established());
                let initiator = session.role() == Role::Initiator;
                (session.local_index(), shared.limits.due(initiator, age, session.sealed()))
            })
            .collect();
        for (index, due) in due {
            match due {
                Due::Nothing => {}
                Due::Rekey if self.is_current(index) => self.slots.want_handshake(now),
                Due::Rekey => {}
                Due::End => {
                    self.slots.drop_session(index);
                    self.changed = true;
                }
            }
        }
        if self.up && self.slots.current().is_none() {
            self.go_down(shared, LinkDownReason::SessionEnded);
        }
    }

    pub(super) fn keep_alive(&mut self, shared: &mut Shared, now: Instant) {
        // At rest nothing is asked, so that silence says nothing.
        if !self.in_use(now) {
            return;
        }
        if self.silent_at().is_none_or(|at| at <= now) {
            return self.go_down(shared, LinkDownReason::Silent);
        }
        let unanswered = self.live.unanswered();
        if let Some(id) = self.live.ping(now) {
            self.notes.suspect |= unanswered;
            self.say(shared, &Control::Ping { id });
        }
    }

    /// When the peer has been silent for too long.
    fn silent_at(&self) -> Option<Instant> {
        Some(self.heard_at()?.max(self.used_since) + SILENCE_MAX)
    }

    /// When the peer was last heard on any session; a session counts from its handshake.
    pub(super) fn heard_at(&self) -> Option<Instant> {
        let current = self.slots.current().map(|session| session.established());
        self.slots.opening().filter_map(|session| session.last_opened()).chain(current).max()
    }

    pub(super) fn search_mtu(&mut self, shared: &mut Shared, now: Instant) {
        let mut sizes = Vec::new();
        let large = self.counters.large_datagrams_sent.read();
        let change = self.mtu.handle_timeout(now, self.live.round_trip(), large, |size| sizes.push(size));
        if change == Change::Size {
            self.counters.black_holes.one();
            self.changed = true;
        }
        for size in sizes {
            self.probe_serial = self.probe_serial.wrapping_add(1);
            if self.probes.len() == PROBES_MAX {
                self.probes.pop_front();
            }
            self.probes.push_back((self.probe_serial, size));
            self.counters.probes_sent.one();
            let head = self.via.map_or(0, |via| via.head_bytes());
            let padding = usize::from(size) - head - DATA_OVERHEAD - PROBE_BYTES_MIN;
            self.say(shared, &Control::Probe { id: self.probe_serial, padding });
        }
    }

    pub(super) fn ask_for_channels(&mut self, shared: &mut Shared, now: Instant) {
        let mut ask = Vec::new();
        for (network, channel) in &mut self.channels {
            if channel.poll_timeout().is_some_and(|at| at <= now) {
                if channel.handle_timeout(now) == Act::Ask {
                    ask.push(*network);
                }
                self.changed = true;
            }
        }
        for network in ask {
            if let Some(grant) = self.channels.get(&network).and_then(Channel::grant) {
                self.say(shared, &Control::Open { network, grant });
            }
        }
    }

    pub(super) fn leave_if_unused(&mut self, shared: &mut Shared, now: Instant) {
        if self.wanted() || self.channels.values().any(|channel| !channel.idle()) {
            self.idle_since = None;
        } else if now >= *self.idle_since.get_or_insert(now) + IDLE_MAX {
            self.channels.clear();
            self.leave(shared, LinkDownReason::Unused);
        }
    }

    /// When [`Self::handle_timeout`] has something to do, at the latest.
    pub(in crate::link) fn poll_timeout(&self, now: Instant, shared: &Shared) -> Option<Instant> {
        let mut earliest = self.hold.poll_timeout();
        let mut at =
            |deadline: Instant| earliest = Some(earliest.map_or(deadline, |other| other.min(deadline)));
        if let Some(attempt) = &self.slots.attempt {
            at(attempt.next_at);
        } else if !self.up && self.wanted() {
            at(now);
        }
        if self.up {
            at(self.mtu.poll_timeout());
            self.watch.next_at().into_iter().for_each(&mut at);
            if self.is_used(now) {
                at(self.live.poll_timeout());
                if !self.kept {
                    at(self.watch.rests_at());
                }
                self.silent_at().into_iter().for_each(&mut at);
            }
            self.channels.values().filter_map(Channel::poll_timeout).for_each(&mut at);
            if let Some(since) = self.idle_since {
                at(since + IDLE_MAX);
            }
        }
        for session in self.slots.opening() {
            let rekey = self.is_current(session.local_index()) && self.slots.attempt.is_none();
            let after = match session.role() {
                Role::Initiator if rekey => shared.limits.rekey_after,
                _ => shared.limits.refuse_after,
            };
            at(session.established() + after);
        }
        earliest
    }
}
