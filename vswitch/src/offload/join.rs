//! From frames as they came over a link to super-frames for a TAP: what the kernel's GRO does on a network card's receive queue.
//!
//! A [`Joiner`] belongs to one worker and holds frames for the length of one batch: what was already there when the worker looked. It keeps no
//! bytes, only where they lie in the batch's buffer, and hands each super-frame over as slices of it: header, first headers, and
//! payload after payload, for one `writev`.
//!
//! # When a frame continues the one before (`tcp_gro_receive`, `inet_gro_receive`, `ipv6_gro_receive`, `udp_gro_receive_segment`)
//! - same port, same Ethernet header and tags, no padding;
//! - IPv4 without options: same type of service (hence same ECN), time to live and don't-fragment; id one more each time, or always
//!   the same where don't-fragment makes it meaningless (RFC 6864); a right header checksum;
//! - IPv6: same traffic class, flow label, hop limit and extension headers;
//! - TCP (RFC 9293): the next sequence number exactly; same acknowledgement, window, urgent pointer and options; same flags but for FIN
//!   and PSH, which may come with the last; none of SYN, RST, URG; some payload, and not more than the first frame's;
//! - no CWR: for RFC 3168 it is news, for accurate ECN part of a counter that a super-frame would spoil. (Linux joins frames
//!   that all have it, which is right only where nobody cuts them again.)
//! - UDP: some payload, not more than the first's; with a checksum;
//! - both checksums partial, or both right.
//!
//! A frame shorter than the first, or with FIN or PSH, is the last of its super-frame. A frame that does not continue its flow's
//! super-frame makes it be handed over first, so the order inside a flow never changes. Where ids went up by one, cutting
//! the super-frame gives back the frames that came, bit for bit.

use std::io::IoSlice;

use super::{
    Refusal,
    flow::{Ends, Flow, Kept, deliver_one, may_start, single_header},
    layout::{Layout, Transport, Version},
    vnet::VnetHeader,
};

/// Super-frames under way at once. The kernel keeps 8 flows in each of 8 buckets for a whole card; a batch of one worker sees fewer. More cost
/// a longer search for each frame.
pub const FLOWS_MAX: usize = 16;

/// Frames in one super-frame. 64 KiB in frames of 1100 bytes; the kernel's bound for UDP is the same (`UDP_MAX_SEGMENTS` was 64).
pub const FRAMES_MAX: usize = 64;

/// What the reader of a port takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Super-frames of TCP over IPv4.
    pub tcp4: bool,
    /// Super-frames of TCP over IPv6.
    pub tcp6: bool,
    /// Super-frames of UDP.
    pub udp: bool,
}

impl Capabilities {
    /// Everything: a TAP read by a kernel since Linux 6.2.
    pub const ALL: Self = Self { tcp4: true, tcp6: true, udp: true };
    /// Single frames only.
    pub const NONE: Self = Self { tcp4: false, tcp6: false, udp: false };
}

/// One frame of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Where it starts in the batch's buffer.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// Whether the link said that its transport checksum is to be completed.
    pub partial: bool,
}

/// Joins the frames of one batch. `P` names a port.
#[derive(Debug)]
pub struct Joiner<P> {
    /// Oldest first; each owns the place of `kept` that stands beside it.
    flows: Vec<(Flow<P>, usize)>,
    kept: Box<[Kept; FLOWS_MAX]>,
    /// Places of `kept` that no flow owns.
    free: Vec<usize>,
    /// The flow that took the frame before, if one did.
    latest: Option<usize>,
}

impl<P: Copy + Eq> Default for Joiner<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Copy + Eq> Joiner<P> {
    /// A joiner with nothing under way. Its memory is taken here, once.
    pub fn new() -> Self {
        Self {
            flows: Vec::with_capacity(FLOWS_MAX),
            kept: Box::new([Kept::NOTHING; FLOWS_MAX]),
            free: (0..FLOWS_MAX).collect(),
            latest: None,
        }
    }

    /// Takes one frame of the batch if it continues the super-frame that took the frame before it, of whose port, Ethernet header,
    /// addresses, protocol and transport ports it then is. False, and nothing has changed, if it does not or there is none.
    #[inline]
    pub fn extend(&mut self, arena: &[u8], received: Received) -> bool {
        let Some((flow, place)) = self.latest.map(|at| &mut self.flows[at]) else { return false };
        flow.take(&mut self.kept[*place], arena, received)
    }

    /// Takes one frame of the batch in `arena` for a port. `deliver` is called with what is ready: the slices of one write, the virtio
    /// header first. The arena must stay as it is until [`Self::flush`].
    #[inline]
    pub fn push(
        &mut self,
        arena: &[u8],
        port: P,
        takes: Capabilities,
        received: Received,
        deliver: &mut impl FnMut(P, &[IoSlice<'_>]),
    ) -> Result<(), Refusal> {
        self.latest = None;
        let frame = &arena[received.start..received.end];
        let Some(layout) = Layout::of(frame) else {
            if received.partial {
                return Err(Refusal::PartialUnknown);
            }
            // It may be a fragment of any flow between the same machines: nothing may overtake it.
            while let Some(at) = self.flows.iter().position(|(flow, _)| flow.port == port) {
                self.finish(at, arena, deliver);
            }
            deliver_one(port, &VnetHeader::PLAIN, frame, deliver);
            return Ok(());
        };
        let ends = Ends::of(&layout, frame);
        if let Some(at) = self.flows.iter().position(|(flow, _)| flow.is_flow(port, &ends, &layout)) {
            let (flow, place) = &mut self.flows[at];
            if flow.take(&mut self.kept[*place], arena, received) {
                self.latest = Some(at);
                return Ok(());
            }
            self.finish(at, arena, deliver);
        }
        if !takes.take(&layout) || !may_start(&layout, frame) {
            deliver_one(port, &single_header(&layout, received.partial), frame, deliver);
            return Ok(());
        }
        if self.flows.len() == FLOWS_MAX {
            self.finish(0, arena, deliver);
        }
        let place = self.free.pop().expect("fewer flows than places");
        self.latest = Some(self.flows.len());
        self.flows.push((Flow::start(port, ends, layout, received, &mut self.kept[place]), place));
        Ok(())
    }

    /// Hands over everything under way: the batch is over.
    #[inline]
    pub fn flush(&mut self, arena: &[u8], deliver: &mut impl FnMut(P, &[IoSlice<'_>])) {
        while !self.flows.is_empty() {
            self.finish(0, arena, deliver);
        }
    }

    /// Hands one super-frame over.
    #[inline]
    fn finish(&mut self, at: usize, arena: &[u8], deliver: &mut impl FnMut(P, &[IoSlice<'_>])) {
        self.latest = None;
        let (flow, place) = self.flows.remove(at);
        self.free.push(place);
        flow.deliver(&self.kept[place], arena, deliver);
    }
}

impl Capabilities {
    /// Whether these are no more than others.
    pub(crate) const fn is_within(self, others: Self) -> bool {
        (!self.tcp4 || others.tcp4) && (!self.tcp6 || others.tcp6) && (!self.udp || others.udp)
    }

    const fn take(self, layout: &Layout) -> bool {
        match (layout.transport, layout.version) {
            (Transport::Tcp, Version::V4) => self.tcp4,
            (Transport::Tcp, Version::V6) => self.tcp6,
            (Transport::Udp, _) => self.udp,
        }
    }
}
