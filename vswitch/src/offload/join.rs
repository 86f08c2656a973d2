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
    layout::{
        HEADERS_MAX, Layout, TCP_BYTES, TCP_FLAGS, Transport, UDP_BYTES, Version,
        flag::{CWR, FIN, PSH, RST, SYN, URG},
    },
    vnet::{ChecksumPlace, Gso, HEADER_BYTES, VnetHeader},
};
use crate::frame::{
    checksum::Sum,
    ip::{IPV4_BYTES, IPV6_BYTES},
};

/// Super-frames under way at once. The kernel keeps 8 flows in each of 8 buckets for a whole card; a batch of one worker sees fewer. More cost
/// a longer search for each frame.
pub const FLOWS_MAX: usize = 16;

/// Frames in one super-frame. 64 KiB in frames of 1100 bytes; the kernel's bound for UDP is the same (`UDP_MAX_SEGMENTS` was 64).
pub const FRAMES_MAX: usize = 64;

/// An IP packet's longest total length.
const PACKET_MAX: usize = 65_535;

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

/// What is known of a super-frame's checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checksums {
    Partial,
    Unchecked,
    Right,
}

/// How the IPv4 ids of a super-frame go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ids {
    /// One frame only: not known.
    One,
    Fixed,
    Rising,
}

/// A super-frame under way.
#[derive(Debug)]
struct Flow<P> {
    port: P,
    ends: Ends,
    layout: Layout,
    first: Received,
    /// Payload of the first frame: the segment size.
    size: usize,
    payload_bytes: usize,
    ids: Ids,
    checksums: Checksums,
    /// FIN and PSH of the last frame.
    last_flags: u8,
    /// Nothing may follow.
    closed: bool,
    /// How many frames it has.
    count: usize,
}

/// Where the payloads after the first frame's lie in the batch. Kept apart from [`Flow`], which is small enough to move.
type Payloads = [(usize, usize); FRAMES_MAX - 1];

/// Joins the frames of one batch. `P` names a port.
#[derive(Debug)]
pub struct Joiner<P> {
    /// Oldest first; each owns the place of `payloads` that stands beside it.
    flows: Vec<(Flow<P>, usize)>,
    payloads: Box<[Payloads; FLOWS_MAX]>,
    /// Places of `payloads` that no flow owns.
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
            payloads: Box::new([[(0, 0); FRAMES_MAX - 1]; FLOWS_MAX]),
            free: (0..FLOWS_MAX).collect(),
            latest: None,
        }
    }

    /// Takes one frame of the batch if it continues the super-frame that took the frame before it, of whose port, Ethernet header,
    /// addresses, protocol and transport ports it then is. False, and nothing has changed, if it does not or there is none.
    #[inline]
    pub fn extend(&mut self, arena: &[u8], received: Received) -> bool {
        let Some((flow, place)) = self.latest.map(|at| &mut self.flows[at]) else { return false };
        let frame = &arena[received.start..received.end];
        let Some(layout) = Layout::of(frame) else { return false };
        flow.is_flow(flow.port, &Ends::of(&layout, frame), &layout)
            && flow.take(&mut self.payloads[*place], arena, &layout, received)
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
            if flow.take(&mut self.payloads[*place], arena, &layout, received) {
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
        self.flows.push((Flow::start(port, ends, layout, received), place));
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
        flow.deliver(&self.payloads[place], arena, deliver);
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

/// Whether a frame may be the first of a super-frame.
#[inline]
fn may_start(layout: &Layout, frame: &[u8]) -> bool {
    if layout.end != frame.len() || layout.payload == layout.end {
        return false;
    }
    if layout.version == Version::V4 && frame[layout.network] != 0x45 {
        return false;
    }
    let upper = &frame[layout.upper..];
    match layout.transport {
        Transport::Tcp => upper[TCP_FLAGS] & (FIN | SYN | RST | PSH | URG | CWR) == 0,
        Transport::Udp => {
            usize::from(u16::from_be_bytes([upper[4], upper[5]])) == layout.end - layout.upper
                && upper[6..8] != [0, 0]
        }
    }
}

/// What tells flows apart: addresses and transport ports. IPv4 leaves most of the addresses zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    ports: u32,
    addresses: [u64; 4],
}

impl Ends {
    #[inline]
    fn of(layout: &Layout, frame: &[u8]) -> Self {
        let word = |at| u64::from_ne_bytes(octets(frame, layout.network + at));
        let addresses = match layout.version {
            Version::V4 => [word(12), 0, 0, 0],
            Version::V6 => [word(8), word(16), word(24), word(32)],
        };
        Self { ports: u32::from_ne_bytes(octets(frame, layout.upper)), addresses }
    }
}

/// So many bytes from a place inside a header. A layout's headers are inside its frame.
#[inline]
fn octets<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("the layout is of this frame")
}

/// Whether the Ethernet headers (14, 18 or 22 bytes) are the same.
#[inline]
fn same_ethernet(a: &[u8], b: &[u8], bytes: usize) -> bool {
    let word = |frame: &[u8], at| u64::from_ne_bytes(octets(frame, at));
    [0, 6, bytes - 8].into_iter().all(|at| word(a, at) == word(b, at))
}

/// Whether an IPv4 header without options has a right checksum: its words sum to all ones.
#[inline]
fn ipv4_right(header: [u8; IPV4_BYTES]) -> bool {
    let words = header.as_chunks::<4>().0.iter().map(|word| u64::from(u32::from_ne_bytes(*word)));
    let sum: u64 = words.sum();
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum == 0xffff
}

/// The header of a frame that goes alone.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "headers are below HEADERS_MAX")]
fn single_header(layout: &Layout, partial: bool) -> VnetHeader {
    VnetHeader {
        needs_checksum: partial.then_some(ChecksumPlace {
            start: layout.upper as u16,
            offset: layout.transport.checksum_offset() as u16,
        }),
        ..VnetHeader::PLAIN
    }
}

#[inline]
fn deliver_one<P>(port: P, header: &VnetHeader, frame: &[u8], deliver: &mut impl FnMut(P, &[IoSlice<'_>])) {
    deliver(port, &[IoSlice::new(&header.encode()), IoSlice::new(frame)]);
}

impl<P: Copy + Eq> Flow<P> {
    fn start(port: P, ends: Ends, layout: Layout, first: Received) -> Self {
        let size = layout.end - layout.payload;
        Self {
            port,
            ends,
            layout,
            first,
            size,
            payload_bytes: size,
            ids: Ids::One,
            checksums: if first.partial { Checksums::Partial } else { Checksums::Unchecked },
            last_flags: 0,
            closed: false,
            count: 1,
        }
    }

    #[inline]
    fn first<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        &arena[self.first.start..self.first.end]
    }

    /// Whether a frame is of this flow: same port, addresses and transport ports.
    #[inline]
    fn is_flow(&self, port: P, ends: &Ends, layout: &Layout) -> bool {
        self.ends == *ends
            && self.port == port
            && (self.layout.version, self.layout.transport) == (layout.version, layout.transport)
    }

    /// Appends a frame of this flow if it continues it.
    #[inline]
    fn take(&mut self, more: &mut Payloads, arena: &[u8], layout: &Layout, received: Received) -> bool {
        let frame = &arena[received.start..received.end];
        let first = self.first(arena);
        let payload_bytes = layout.end - layout.payload;
        let fits = !self.closed
            && self.count < FRAMES_MAX
            && layout.end == frame.len()
            && (1..=self.size).contains(&payload_bytes)
            && self.layout.payload - self.layout.network + self.payload_bytes + payload_bytes <= PACKET_MAX
            && (layout.network, layout.upper, layout.payload)
                == (self.layout.network, self.layout.upper, self.layout.payload)
            && received.partial == self.first.partial
            && same_ethernet(first, frame, layout.network);
        if !fits {
            return false;
        }
        let Some(ids) = self.continues_network(first, frame) else { return false };
        if !self.continues_upper(first, frame) || !self.checksums_right(first, frame, layout) {
            return false;
        }
        self.ids = ids;
        if layout.transport == Transport::Tcp {
            self.last_flags = frame[layout.upper + TCP_FLAGS] & (FIN | PSH);
        }
        self.closed = payload_bytes < self.size || self.last_flags != 0;
        more[self.count - 1] = (received.start + layout.payload, received.start + layout.end);
        self.payload_bytes += payload_bytes;
        self.count += 1;
        true
    }

    /// The rules of IP beyond the addresses, which are the same in one flow; the answer is how the ids go.
    #[inline]
    fn continues_network(&self, first: &[u8], frame: &[u8]) -> Option<Ids> {
        let Layout { network, upper, version, .. } = self.layout;
        match version {
            Version::V4 => {
                let (a, b): ([u8; IPV4_BYTES], [u8; IPV4_BYTES]) =
                    (octets(first, network), octets(frame, network));
                let same = a[..2] == b[..2] && a[6..10] == b[6..10];
                if !same || !ipv4_right(b) {
                    return None;
                }
                let id = |header: [u8; IPV4_BYTES]| u16::from_be_bytes([header[4], header[5]]);
                let step = usize::from(id(b).wrapping_sub(id(a)));
                let dont_fragment = a[6] & 0x40 != 0;
                match self.ids {
                    Ids::One if step == 1 => Some(Ids::Rising),
                    Ids::One if step == 0 && dont_fragment => Some(Ids::Fixed),
                    Ids::Rising if step == self.count => Some(Ids::Rising),
                    Ids::Fixed if step == 0 => Some(Ids::Fixed),
                    _ => None,
                }
            }
            Version::V6 => {
                let (a, b): ([u8; 8], [u8; 8]) = (octets(first, network), octets(frame, network));
                let extensions = network + IPV6_BYTES..upper;
                (a[..4] == b[..4] && a[6..] == b[6..] && first[extensions.clone()] == frame[extensions])
                    .then_some(Ids::One)
            }
        }
    }

    /// The rules of TCP and UDP beyond the ports, which are the same in one flow.
    #[inline]
    fn continues_upper(&self, first: &[u8], frame: &[u8]) -> bool {
        let Layout { upper, payload, transport, .. } = self.layout;
        match transport {
            Transport::Tcp => {
                let (a, b): ([u8; TCP_BYTES], [u8; TCP_BYTES]) = (octets(first, upper), octets(frame, upper));
                let word = |header: [u8; TCP_BYTES], at: usize| u32::from_be_bytes(octets(&header, at));
                #[expect(clippy::cast_possible_truncation, reason = "below 64 KiB")]
                let next = word(a, 4).wrapping_add(self.payload_bytes as u32);
                // Data offset, flags and window. First frames have none of FIN, SYN, RST, PSH, URG and CWR.
                let mask = !(u32::from(FIN | PSH) << 16);
                let options = upper + TCP_BYTES..payload;
                word(b, 4) == next
                    && word(a, 8) == word(b, 8)
                    && word(a, 12) == word(b, 12) & mask
                    && a[18..] == b[18..]
                    && first[options.clone()] == frame[options]
            }
            Transport::Udp => {
                let header: [u8; UDP_BYTES] = octets(frame, upper);
                let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
                length == frame.len() - upper && header[6..] != [0, 0]
            }
        }
    }

    /// Checks what is not to be completed; the first frame's only once there is a second.
    #[inline]
    fn checksums_right(&mut self, first: &[u8], frame: &[u8], layout: &Layout) -> bool {
        if self.checksums == Checksums::Partial {
            return self.layout.version == Version::V6 || self.count > 1 || self.network_right(first);
        }
        if self.checksums == Checksums::Unchecked {
            if !upper_right(&self.layout, first) || !self.network_right(first) {
                self.closed = true;
                return false;
            }
            self.checksums = Checksums::Right;
        }
        upper_right(layout, frame)
    }

    fn network_right(&self, first: &[u8]) -> bool {
        self.layout.version == Version::V6 || ipv4_right(octets(first, self.layout.network))
    }

    /// Hands the super-frame over, or the one frame.
    #[inline]
    fn deliver(&self, more: &Payloads, arena: &[u8], deliver: &mut impl FnMut(P, &[IoSlice<'_>])) {
        let first = self.first(arena);
        if self.count == 1 {
            deliver_one(self.port, &single_header(&self.layout, self.first.partial), first, deliver);
            return;
        }
        let mut head = [0; HEADERS_MAX];
        let head = &mut head[..self.layout.payload];
        head.copy_from_slice(&first[..self.layout.payload]);
        let header: [u8; HEADER_BYTES] = self.rewrite(head).encode();
        let mut slices = [IoSlice::new(&[]); FRAMES_MAX + 2];
        slices[0] = IoSlice::new(&header);
        slices[1] = IoSlice::new(head);
        slices[2] = IoSlice::new(&first[self.layout.payload..]);
        for (slice, (start, end)) in slices[3..].iter_mut().zip(&more[..self.count - 1]) {
            *slice = IoSlice::new(&arena[*start..*end]);
        }
        deliver(self.port, &slices[..self.count + 2]);
    }

    /// Makes the first frame's headers the super-frame's.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "lengths are at most PACKET_MAX, headers at most HEADERS_MAX"
    )]
    fn rewrite(&self, head: &mut [u8]) -> VnetHeader {
        let layout = &self.layout;
        let packet_bytes = layout.payload - layout.network + self.payload_bytes;
        let segment_bytes = layout.payload - layout.upper + self.payload_bytes;
        let pseudo = self.pseudo(head, segment_bytes);
        let ip = &mut head[layout.network..];
        match layout.version {
            Version::V4 => {
                ip[2..4].copy_from_slice(&(packet_bytes as u16).to_be_bytes());
                ip[10..12].fill(0);
                let sum = Sum::default().bytes(&ip[..IPV4_BYTES]).finish();
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            Version::V6 => ip[4..6].copy_from_slice(&((packet_bytes - IPV6_BYTES) as u16).to_be_bytes()),
        }
        let upper = &mut head[layout.upper..];
        let gso = match layout.transport {
            Transport::Tcp => {
                upper[TCP_FLAGS] |= self.last_flags;
                match layout.version {
                    Version::V4 => Gso::Tcp4 { ecn: false },
                    Version::V6 => Gso::Tcp6 { ecn: false },
                }
            }
            Transport::Udp => {
                upper[4..6].copy_from_slice(&(segment_bytes as u16).to_be_bytes());
                Gso::Udp
            }
        };
        let field = layout.transport.checksum_offset();
        upper[field..field + 2].copy_from_slice(&pseudo.folded().to_be_bytes());
        VnetHeader {
            gso,
            gso_size: self.size as u16,
            header_bytes: layout.payload as u16,
            needs_checksum: Some(ChecksumPlace { start: layout.upper as u16, offset: field as u16 }),
            checksum_valid: false,
        }
    }

    /// The pseudo-header's sum with the super-frame's length. A partial frame's field holds it with the first frame's length; taking that off
    /// is right also behind a routing header.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "lengths are at most PACKET_MAX")]
    fn pseudo(&self, head: &[u8], segment_bytes: usize) -> Sum {
        if self.checksums == Checksums::Partial {
            let field = self.layout.checksum();
            let held = u16::from_be_bytes([head[field], head[field + 1]]);
            let first_bytes = (self.layout.end - self.layout.upper) as u16;
            Sum::default().word(held).word(!first_bytes).word(segment_bytes as u16)
        } else {
            self.layout.pseudo(head, segment_bytes as u32)
        }
    }
}

/// Whether a complete transport checksum is right.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a packet is shorter than 64 KiB")]
fn upper_right(layout: &Layout, frame: &[u8]) -> bool {
    let segment = &frame[layout.upper..layout.end];
    layout.pseudo(frame, segment.len() as u32).bytes(segment).finish() == 0
}
