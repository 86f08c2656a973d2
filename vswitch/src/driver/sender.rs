//! From what a port gave to what links carry: a frame or super-frame for one peer, cut, sealed and sent, or held for its link.

use std::{sync::Arc, time::Instant};

use super::{inbox::Input, underlay::Out, worker::WorkersShared};
use crate::{
    link::{Egress, NotSent, Route, Routes},
    offload::{Checksum, Gso, HEADER_BYTES, Prepared, VnetHeader, ecn, mss, prepare, split::complete},
    switch::{NetworkId, PeerIndex},
    wire::INNER_BYTES,
};

/// The largest frame that goes to a peer before its path is known, for frames that wait for their link.
const WAITING_FRAME_BYTES: usize = 1100;

/// What sending to peers needs.
pub(super) struct Sender<'a> {
    pub(super) now: Instant,
    pub(super) shared: &'a WorkersShared,
    pub(super) egress: &'a mut Egress,
    pub(super) out: Out<'a>,
    /// The frame's flow has a queue that stood too long.
    pub(super) congested: bool,
}

impl Sender<'_> {
    /// Sends a frame or super-frame to one peer. `bytes` are the virtio header's place and the frame, both of which are spoiled.
    pub(super) fn send(
        &mut self,
        routes: &Routes,
        peer: PeerIndex,
        network: NetworkId,
        header: VnetHeader,
        bytes: &mut [u8],
    ) {
        let counters = &*self.shared.counters;
        let frame = &mut bytes[HEADER_BYTES..];
        let Some(route) = routes.peers.get(&peer) else { return counters.no_link.one() };
        counters.note_questions(frame);
        match Egress::channel(self.now, route, network, frame.len()) {
            Ok(channel) => self.send_open(route, channel, header, bytes),
            Err(NotSent::Refused) => {}
            Err(NotSent::Waiting) => self.hold(peer, network, header, frame),
        }
    }

    fn send_open(&mut self, route: &Arc<Route>, channel: u32, header: VnetHeader, bytes: &mut [u8]) {
        // What a session seals before a frame takes the virtio header's place.
        const BEFORE: usize = HEADER_BYTES - INNER_BYTES;
        let frame_max = Egress::frame_bytes_max(route);
        let mut out = self.out;
        let frame = &mut bytes[HEADER_BYTES..];
        let first = self.told(&header, frame);
        match prepare(&header, frame, frame_max) {
            Ok(Prepared::Single { partial }) if frame.len() <= frame_max => {
                mss::clamp(frame, Egress::segment_room(route), partial);
                let checksum = if partial { Checksum::Partial } else { Checksum::Complete };
                let Some(counters) = Egress::reserve(route, 1) else { return };
                self.egress.whole(route, channel, checksum, counters.start, &mut bytes[BEFORE..], &mut out);
            }
            Ok(Prepared::Single { partial }) => {
                if partial && !self.complete(header, frame) {
                    return;
                }
                // Refusals are counted by the link.
                let _ = self.egress.cut(route, channel, frame, &mut out);
            }
            Ok(Prepared::Segments(segments)) => {
                let headers = segments.headers(frame);
                let whole =
                    (first..segments.count()).filter(|index| segments.frame_bytes(*index) <= frame_max);
                let Some(mut counters) = Egress::reserve(route, whole.count()) else { return };
                for index in first..segments.count() {
                    let frame = &mut bytes[HEADER_BYTES..];
                    if segments.frame_bytes(index) <= frame_max
                        && let Some(counter) = counters.next()
                    {
                        let place = segments.lay(&headers, frame, index, Checksum::Partial);
                        let plaintext = &mut bytes[place.start + BEFORE..place.end + HEADER_BYTES];
                        self.egress.whole(route, channel, Checksum::Partial, counter, plaintext, &mut out);
                    } else {
                        let place = segments.lay(&headers, frame, index, Checksum::Complete);
                        let _ = self.egress.cut(route, channel, &frame[place], &mut out);
                    }
                }
            }
            Err(refusal) => self.shared.counters.offload.count(refusal),
        }
    }

    /// Tells the sender of a TCP super-frame that its queue stands too long, by a mark or by the loss of a segment: the first segment
    /// that is sent. What is no such super-frame is left alone: queues of small frames are short in bytes, and UDP need not listen.
    fn told(&self, header: &VnetHeader, frame: &mut [u8]) -> usize {
        if !self.congested || !matches!(header.gso, Gso::Tcp4 { .. } | Gso::Tcp6 { .. }) {
            return 0;
        }
        if ecn::mark(frame) {
            self.shared.counters.backlog_marked.one();
            return 0;
        }
        self.shared.counters.backlog_dropped.one();
        1
    }

    /// Gives a frame whose link or channel is not open to the keeper, as it would cross the link later.
    fn hold(&mut self, peer: PeerIndex, network: NetworkId, header: VnetHeader, frame: &mut [u8]) {
        let inbox = &self.shared.keeper.inbox;
        let counters = &*self.shared.counters;
        let keep = |frame: Vec<u8>| {
            if !inbox.push(Input::Frame { peer, network, frame }) {
                counters.hold_full.one();
            }
        };
        match prepare(&header, frame, WAITING_FRAME_BYTES) {
            Ok(Prepared::Single { partial }) => {
                mss::clamp(frame, Egress::USUAL_ROOM, partial);
                if !partial || self.complete(header, frame) {
                    keep(frame.to_vec());
                }
            }
            Ok(Prepared::Segments(segments)) => {
                for index in 0..segments.count() {
                    let mut one = vec![0; segments.frame_bytes(index)];
                    segments.write(frame, index, Checksum::Complete, &mut one);
                    keep(one);
                }
            }
            Err(refusal) => counters.offload.count(refusal),
        }
    }

    fn complete(&self, header: VnetHeader, frame: &mut [u8]) -> bool {
        let Some(place) = header.needs_checksum else { return true };
        complete(place, frame).map_err(|refusal| self.shared.counters.offload.count(refusal)).is_ok()
    }
}
