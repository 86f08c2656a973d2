//! Frames that no worker could send yet, and sealed messages to the peer.

use std::time::Instant;

use super::Link;
use crate::{
    link::{
        HELD_BYTES_MAX, Output, Shared,
        channel::{Channel, Sendable},
        path_mtu::Change,
    },
    switch::NetworkId,
    wire::{
        DATA_HEADER_BYTES, Inner, InnerKind, TAG_BYTES,
        control::{Control, NOTE_BYTES_MAX},
    },
};

impl Link {
    /// A frame that no worker could send, as the channel was not open.
    pub(in crate::link) fn handle_frame(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        network: NetworkId,
        frame: Vec<u8>,
    ) {
        match self.channels.get(&network).map_or(Sendable::No, Channel::sendable) {
            Sendable::No => self.counters.no_grant_sent.one(),
            Sendable::Open { until, .. } if self.sends() && now < until => {
                shared.outputs.push_back(Output::Release { peer: self.peer, network, frames: vec![frame] });
            }
            Sendable::Open { .. } | Sendable::Waiting if shared.held_bytes + frame.len() > HELD_BYTES_MAX => {
                self.counters.held_dropped.one();
            }
            Sendable::Open { .. } | Sendable::Waiting => {
                self.counters.held.one();
                self.counters.held_dropped.add(self.hold.push(now, network, frame));
                // Its path may be gone, and another is looked for only while it is used.
                self.handle_woken(now);
            }
        }
    }

    /// Whether there is a session, and a way for what it seals: as workers see it.
    pub(super) fn sends(&self) -> bool {
        self.up && self.via.is_some() && self.slots.current().is_some()
    }

    /// Bytes of frames held for the link.
    pub(in crate::link) fn held_bytes(&self) -> usize {
        self.hold.bytes()
    }

    /// The local interface refused a datagram of this size.
    pub(in crate::link) fn handle_too_large(&mut self, now: Instant, size: u16) {
        if self.mtu.too_large_here(now, size) == Change::Size {
            self.changed = true;
        }
    }

    pub(super) fn release(&mut self, shared: &mut Shared, network: NetworkId) {
        let open = matches!(self.channels.get(&network).map(Channel::sendable), Some(Sendable::Open { .. }));
        if self.sends() && open {
            let frames = self.hold.take(network);
            if !frames.is_empty() {
                shared.outputs.push_back(Output::Release { peer: self.peer, network, frames });
            }
        }
    }

    pub(super) fn drop_held(&mut self, network: NetworkId) {
        self.counters.held_dropped.add(self.hold.take(network).len() as u64);
    }

    /// Says something to the peer's node; false where there is no session, or too much or nothing to say.
    pub(in crate::link) fn say_note(&self, shared: &mut Shared, body: &[u8]) -> bool {
        let fits = self.up && (1..=NOTE_BYTES_MAX).contains(&body.len());
        if fits {
            self.say(shared, &Control::Note { body });
        }
        fits
    }

    /// Seals a message for the peer, if there is a session to do it with.
    pub(super) fn say(&self, shared: &mut Shared, message: &Control<'_>) {
        let (Some(session), Some(via)) = (self.slots.current(), self.via) else { return };
        let Ok(counter) = session.reserve(1) else { return self.counters.session_exhausted.one() };
        let mut datagram = vec![0; DATA_HEADER_BYTES];
        datagram.extend(Inner { channel: 0, kind: InnerKind::Control }.encode());
        message.encode(&mut datagram);
        datagram.resize(datagram.len() + TAG_BYTES, 0);
        session.seal(counter, &mut datagram);
        shared.send(&via, &datagram);
    }
}
