//! Frames to datagrams, on a worker: cut if need be, sealed one beside the other, handed over in one call.
//!
//! A frame is sealed from where it lies to its place among the datagrams: its bytes are not copied before.
//!
//! Datagrams that go to one peer one after the other and have one length (the last may be shorter) leave with one system call (UDP
//! segmentation). A batch ends when the next datagram does not fit it, and when the worker has nothing more to send
//! ([`Egress::flush`]): nothing waits for company.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use super::{
    path_mtu::{BASE, USUAL},
    route::{Route, SendState},
};
use crate::{
    offload::{Checksum, mss::Room},
    path::{Line, Via},
    session::Session,
    switch::NetworkId,
    wire::{
        DATA_HEADER_BYTES, DATA_OVERHEAD, DATAGRAM_BYTES_MAX, INNER_BYTES, Inner, InnerKind, TAG_BYTES,
        fragment::{FRAGMENT_BYTES, Fragment},
    },
};

/// Datagrams of one call: what Linux takes since UDP segmentation exists (UDP_MAX_SEGMENTS).
const DATAGRAMS_MAX: usize = 64;

/// Where finished datagrams go.
pub(crate) trait Transmit {
    /// Sends `bytes` as datagrams of `stride` bytes each, the last one maybe shorter.
    fn transmit(&mut self, via: &Via, bytes: &[u8], stride: usize) -> Transmitted;

    /// The same over a line with a rate, when it lets them.
    fn transmit_over(&mut self, line: &Line, via: &Via, bytes: &[u8], stride: usize) -> Transmitted;
}

/// What became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transmitted {
    Sent,
    /// The local interface refuses datagrams of this size.
    TooLarge,
    /// The kernel did not take them.
    Failed,
    /// They would have waited too long for their line.
    OverRate,
}

/// Why a frame was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// The channel may open shortly: the keeper holds the frame.
    Waiting,
    /// Counted.
    Refused,
}

/// One worker's half of sending.
#[derive(Debug)]
pub(crate) struct Egress {
    buffer: Box<[u8]>,
    used: usize,
    stride: usize,
    count: usize,
    /// The last one was shorter: none may follow.
    closed: bool,
    frames: u64,
    frame_bytes: u64,
    route: Option<Arc<Route>>,
    /// The number of the next frame that is cut; the upper bits name the worker, so that two workers' frames do not mix.
    frame_serial: u32,
    /// What the keeper must know.
    reports: Vec<(Arc<Route>, Report)>,
}

/// What sending showed, for the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// The local interface refuses datagrams of this size.
    TooLarge(u16),
    /// A link that was at rest sends.
    Woken,
}

impl Egress {
    /// `worker` is below 256.
    pub(crate) fn new(worker: u8) -> Self {
        Self {
            buffer: vec![0; DATAGRAM_BYTES_MAX].into(),
            used: 0,
            stride: 0,
            count: 0,
            closed: false,
            frames: 0,
            frame_bytes: 0,
            route: None,
            frame_serial: u32::from(worker) << 24,
            reports: Vec::new(),
        }
    }

    /// The largest frame that goes to this peer uncut.
    pub(crate) fn frame_bytes_max(route: &Route) -> usize {
        let sending = route.sending.as_ref();
        let datagram =
            sending.map_or(usize::from(BASE), |sending| sending.datagram_bytes - sending.via.head_bytes());
        datagram - DATA_OVERHEAD
    }

    /// What segments of connections find room in on a usual path.
    pub(crate) const USUAL_ROOM: Room = Room::Usual(USUAL - DATA_OVERHEAD);

    /// The same on the path to this peer.
    pub(crate) fn segment_room(route: &Route) -> Room {
        match &route.sending {
            Some(sending) if sending.datagram_bytes > usize::from(BASE) => {
                Room::Known(Self::frame_bytes_max(route))
            }
            _ => Self::USUAL_ROOM,
        }
    }

    /// The channel for a frame or super-frame of so many bytes of a network to a peer; it counts as the channel's.
    #[inline]
    pub(crate) fn channel(
        now: Instant,
        route: &Route,
        network: NetworkId,
        bytes: usize,
    ) -> Result<u32, NotSent> {
        let Some(channel) = route.send_channel(network) else {
            route.counters.no_grant_sent.one();
            return Err(NotSent::Refused);
        };
        match (channel.state, &route.sending) {
            (SendState::Open { channel: number, until }, Some(_)) if now < until => {
                channel.frame_bytes.add(bytes as u64);
                Ok(number)
            }
            (SendState::Open { .. } | SendState::Waiting, _) => Err(NotSent::Waiting),
        }
    }

    /// Counters for so many datagrams to a peer, all at once: workers that seal for the same peer share the number they are taken from. None
    /// if nothing more can be sealed for it, which is counted.
    #[inline]
    pub(crate) fn reserve(route: &Route, count: usize) -> Option<Range<u64>> {
        let first = route.sending.as_ref()?.session.reserve(count as u64);
        if first.is_err() {
            route.counters.session_exhausted.add(count as u64);
        }
        first.ok().map(|first| first..first + count as u64)
    }

    /// Seals one frame of at most [`Self::frame_bytes_max`], which stands in `plaintext` behind [`INNER_BYTES`] of room, with a counter that
    /// was [reserved](Self::reserve) for this route.
    #[inline]
    pub(crate) fn whole(
        &mut self,
        route: &Arc<Route>,
        channel: u32,
        checksum: Checksum,
        counter: u64,
        plaintext: &mut [u8],
        out: &mut impl Transmit,
    ) {
        let kind = match checksum {
            Checksum::Complete => InnerKind::Frame,
            Checksum::Partial => InnerKind::Partial,
        };
        plaintext[..INNER_BYTES].copy_from_slice(&Inner { channel, kind }.encode());
        let Some((session, datagram)) = self.place(route, plaintext.len(), out) else { return };
        session.seal_from(counter, plaintext, datagram);
        self.frames += 1;
        self.frame_bytes += (plaintext.len() - INNER_BYTES) as u64;
    }

    /// Sends a frame that is larger than the path in parts. Its checksums are complete.
    pub(crate) fn cut(
        &mut self,
        route: &Arc<Route>,
        channel: u32,
        frame: &[u8],
        out: &mut impl Transmit,
    ) -> Result<(), NotSent> {
        let part_max = Self::frame_bytes_max(route) - FRAGMENT_BYTES;
        let Some(parts) = Fragment::parts(self.frame_serial, frame.len(), part_max) else {
            route.counters.frame_too_large.one();
            return Err(NotSent::Refused);
        };
        self.frame_serial =
            (self.frame_serial & 0xff00_0000) | (self.frame_serial.wrapping_add(1) & 0x00ff_ffff);
        let inner = Inner { channel, kind: InnerKind::Fragment }.encode();
        for part in parts {
            let bytes = INNER_BYTES + FRAGMENT_BYTES + part.part_bytes();
            let Some(counter) = Self::reserve(route, 1).map(|counters| counters.start) else {
                return Err(NotSent::Refused);
            };
            let Some((session, datagram)) = self.place(route, bytes, out) else {
                return Err(NotSent::Refused);
            };
            let (head, body) =
                datagram[DATA_HEADER_BYTES..][..bytes].split_at_mut(INNER_BYTES + FRAGMENT_BYTES);
            head[..INNER_BYTES].copy_from_slice(&inner);
            head[INNER_BYTES..].copy_from_slice(&part.encode());
            body.copy_from_slice(&frame[part.offset()..part.offset() + part.part_bytes()]);
            session.seal(counter, datagram);
        }
        route.counters.frames_split.one();
        self.frames += 1;
        self.frame_bytes += frame.len() as u64;
        Ok(())
    }

    /// Sends one frame with complete checksums, whole or in parts.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        route: &Arc<Route>,
        network: NetworkId,
        frame: &[u8],
        out: &mut impl Transmit,
    ) -> Result<(), NotSent> {
        let channel = Self::channel(now, route, network, frame.len())?;
        if frame.len() > Self::frame_bytes_max(route) {
            return self.cut(route, channel, frame, out);
        }
        let mut plaintext = vec![0; INNER_BYTES + frame.len()];
        plaintext[INNER_BYTES..].copy_from_slice(frame);
        let Some(counters) = Self::reserve(route, 1) else { return Err(NotSent::Refused) };
        self.whole(route, channel, Checksum::Complete, counters.start, &mut plaintext, out);
        Ok(())
    }

    /// Makes room for a datagram behind those that wait, from its data header to its tag, and says what it is sealed with; none if the peer has
    /// no session.
    #[inline]
    fn place<'a>(
        &'a mut self,
        route: &'a Arc<Route>,
        plaintext_bytes: usize,
        out: &mut impl Transmit,
    ) -> Option<(&'a Session, &'a mut [u8])> {
        let sending = route.sending.as_ref()?;
        let head = sending.via.head_bytes();
        let len = head + DATA_HEADER_BYTES + plaintext_bytes + TAG_BYTES;
        let fits = self.count > 0
            && !self.closed
            && self.count < DATAGRAMS_MAX
            && len <= self.stride
            && self.used + len <= self.buffer.len()
            && self.route.as_ref().is_some_and(|waiting| Arc::ptr_eq(waiting, route));
        if !fits {
            self.flush(out);
            self.stride = len;
            self.route = Some(Arc::clone(route));
        }
        let datagram = &mut self.buffer[self.used..self.used + len];
        self.used += len;
        self.count += 1;
        self.closed = len < self.stride;
        sending.via.write_head(datagram);
        Some((&sending.session, &mut datagram[head..]))
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self, out: &mut impl Transmit) {
        let (used, count) = (std::mem::take(&mut self.used), std::mem::take(&mut self.count));
        let (frames, frame_bytes) = (std::mem::take(&mut self.frames), std::mem::take(&mut self.frame_bytes));
        self.closed = false;
        let Some(route) = self.route.take() else { return };
        let Some(sending) = &route.sending else { return };
        let datagrams = &self.buffer[..used];
        let counters = &route.counters;
        if route.asleep.load(Relaxed) && route.asleep.swap(false, Relaxed) {
            self.reports.push((Arc::clone(&route), Report::Woken));
        }
        let sent = match &sending.line {
            None => out.transmit(&sending.via, datagrams, self.stride),
            Some(line) => out.transmit_over(line, &sending.via, datagrams, self.stride),
        };
        match sent {
            Transmitted::Sent => {
                counters.frames_sent.add(frames);
                counters.frame_bytes_sent.add(frame_bytes);
                counters.datagrams_sent.add(count as u64);
                counters.datagram_bytes_sent.add(used as u64);
                if self.stride > usize::from(BASE) {
                    counters.large_datagrams_sent.add(count as u64);
                }
            }
            Transmitted::TooLarge => {
                counters.too_large_here.add(count as u64);
                let size = u16::try_from(self.stride).unwrap_or(u16::MAX);
                self.reports.push((route, Report::TooLarge(size)));
            }
            Transmitted::Failed => counters.send_failed.add(count as u64),
            Transmitted::OverRate => counters.over_rate.add(count as u64),
        }
    }

    /// What sending showed since the last call.
    pub(crate) fn take_reports(&mut self) -> impl Iterator<Item = (Arc<Route>, Report)> + '_ {
        self.reports.drain(..)
    }
}
