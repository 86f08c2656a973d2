//! A super-frame under way: which frames continue it, and what it becomes. The rules stand at the head of [`super::join`].
//!
//! The headers of its frames are the same but for a few fields, and most of the rules say no more than that. So they are compared whole,
//! under a [mask](Kept::same) that leaves those fields out; then each of the fields is looked at. Equal headers have equal layouts, hence
//! a frame that continues a super-frame need not be parsed.

use std::io::IoSlice;

use super::{
    join::{FRAMES_MAX, Received},
    layout::{
        HEADERS_MAX, Layout, TCP_FLAGS, Transport, Version,
        flag::{CWR, FIN, PSH, RST, SYN, URG},
    },
    vnet::{ChecksumPlace, Gso, HEADER_BYTES, VnetHeader},
};
use crate::frame::{
    checksum::Sum,
    ip::{IPV4_BYTES, IPV6_BYTES},
};

/// An IP packet's longest total length.
const PACKET_MAX: usize = 65_535;

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
pub(super) struct Flow<P> {
    pub(super) port: P,
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

/// What is kept of a super-frame beside its [`Flow`], which is small enough to move.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    /// Ones for the bits in which the headers of all its frames are the same.
    same: [u8; HEADERS_MAX],
    /// Where the payloads after the first frame's lie in the batch.
    payloads: [(usize, usize); FRAMES_MAX - 1],
}

impl Kept {
    pub(super) const NOTHING: Self = Self { same: [0; HEADERS_MAX], payloads: [(0, 0); FRAMES_MAX - 1] };

    /// Makes the mask for headers of this layout.
    #[inline]
    fn start(&mut self, layout: &Layout) {
        let same = &mut self.same[..layout.payload];
        same.fill(0xff);
        let (network, upper) = same.split_at_mut(layout.upper);
        let network = &mut network[layout.network..];
        match layout.version {
            Version::V4 => {
                // Length, id, checksum.
                network[2..6].fill(0);
                network[10..12].fill(0);
            }
            Version::V6 => network[4..6].fill(0),
        }
        match layout.transport {
            Transport::Tcp => {
                // Sequence number, checksum; the first frame has neither flag.
                upper[4..8].fill(0);
                upper[TCP_FLAGS] = !(FIN | PSH);
                upper[16..18].fill(0);
            }
            // Length, checksum.
            Transport::Udp => upper[4..8].fill(0),
        }
    }

    /// Whether two headers, of as many bytes as the one this was made for, are the same under the mask.
    #[inline]
    fn alike(&self, first: &[u8], frame: &[u8]) -> bool {
        let same = &self.same[..first.len()];
        let differ = |((a, b), same): ((&[u8; 8], &[u8; 8]), &[u8; 8])| {
            (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b)) & u64::from_ne_bytes(*same)
        };
        let words = |bytes| <[u8]>::as_chunks::<8>(bytes).0.iter();
        // The last word overlaps the one before it.
        let last = first.last_chunk().zip(frame.last_chunk()).zip(same.last_chunk()).map_or(1, differ);
        words(first).zip(words(frame)).zip(words(same)).map(differ).fold(last, |all, one| all | one) == 0
    }
}

/// Whether a frame may be the first of a super-frame.
#[inline]
pub(super) fn may_start(layout: &Layout, frame: &[u8]) -> bool {
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
pub(super) struct Ends {
    ports: u32,
    addresses: [u64; 4],
}

impl Ends {
    #[inline]
    pub(super) fn of(layout: &Layout, frame: &[u8]) -> Self {
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
fn octets<const N: usize>(frame: &[u8], at: usize) -> [u8; N] {
    *frame[at..].first_chunk().expect("the layout is of this frame")
}

/// A number of two bytes inside a header.
#[inline]
fn number16(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(octets(frame, at))
}

/// Whether an IPv4 header without options has a right checksum: its words sum to all ones.
#[inline]
fn ipv4_right(frame: &[u8], network: usize) -> bool {
    let word = |at| u64::from(u32::from_ne_bytes(octets(frame, network + at)));
    let sum: u64 = (0..IPV4_BYTES).step_by(4).map(word).sum();
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum == 0xffff
}

/// The header of a frame that goes alone.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "headers are below HEADERS_MAX")]
pub(super) fn single_header(layout: &Layout, partial: bool) -> VnetHeader {
    VnetHeader {
        needs_checksum: partial.then_some(ChecksumPlace {
            start: layout.upper as u16,
            offset: layout.transport.checksum_offset() as u16,
        }),
        ..VnetHeader::PLAIN
    }
}

#[inline]
pub(super) fn deliver_one<P>(
    port: P,
    header: &VnetHeader,
    frame: &[u8],
    deliver: &mut impl FnMut(P, &[IoSlice<'_>]),
) {
    deliver(port, &[IoSlice::new(&header.encode()), IoSlice::new(frame)]);
}

impl<P: Copy + Eq> Flow<P> {
    pub(super) fn start(port: P, ends: Ends, layout: Layout, first: Received, kept: &mut Kept) -> Self {
        let size = layout.end - layout.payload;
        kept.start(&layout);
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
    pub(super) fn is_flow(&self, port: P, ends: &Ends, layout: &Layout) -> bool {
        self.ends == *ends
            && self.port == port
            && (self.layout.version, self.layout.transport) == (layout.version, layout.transport)
    }

    /// Appends a frame if it continues the super-frame, of whose port it is.
    #[inline]
    pub(super) fn take(&mut self, kept: &mut Kept, arena: &[u8], received: Received) -> bool {
        let Layout { network, upper, payload, transport, .. } = self.layout;
        let (first, frame) = (self.first(arena), &arena[received.start..received.end]);
        let Some(payload_bytes) = frame.len().checked_sub(payload) else { return false };
        let fits = !self.closed
            && self.count < FRAMES_MAX
            && (1..=self.size).contains(&payload_bytes)
            && payload - network + self.payload_bytes + payload_bytes <= PACKET_MAX
            && received.partial == self.first.partial;
        if !fits || !kept.alike(&first[..payload], &frame[..payload]) {
            return false;
        }
        let Some(ids) = self.continues_network(first, frame) else { return false };
        if !self.continues_upper(first, frame) || !self.checksums_right(first, frame) {
            return false;
        }
        self.ids = ids;
        if transport == Transport::Tcp {
            self.last_flags = frame[upper + TCP_FLAGS] & (FIN | PSH);
        }
        self.closed = payload_bytes < self.size || self.last_flags != 0;
        kept.payloads[self.count - 1] = (received.start + payload, received.end);
        self.payload_bytes += payload_bytes;
        self.count += 1;
        true
    }

    /// What IP asks beyond headers that are the same: no padding; the answer is how the ids go.
    #[inline]
    fn continues_network(&self, first: &[u8], frame: &[u8]) -> Option<Ids> {
        let network = self.layout.network;
        let packet_bytes = frame.len() - network;
        match self.layout.version {
            Version::V4 => {
                let whole = usize::from(number16(frame, network + 2)) == packet_bytes;
                if !whole || !ipv4_right(frame, network) {
                    return None;
                }
                let id = |frame| number16(frame, network + 4);
                let step = usize::from(id(frame).wrapping_sub(id(first)));
                let dont_fragment = first[network + 6] & 0x40 != 0;
                match self.ids {
                    Ids::One if step == 1 => Some(Ids::Rising),
                    Ids::One if step == 0 && dont_fragment => Some(Ids::Fixed),
                    Ids::Rising if step == self.count => Some(Ids::Rising),
                    Ids::Fixed if step == 0 => Some(Ids::Fixed),
                    _ => None,
                }
            }
            Version::V6 => {
                let whole = usize::from(number16(frame, network + 4)) + IPV6_BYTES == packet_bytes;
                whole.then_some(Ids::One)
            }
        }
    }

    /// What TCP and UDP ask beyond headers that are the same.
    #[inline]
    fn continues_upper(&self, first: &[u8], frame: &[u8]) -> bool {
        let upper = self.layout.upper;
        match self.layout.transport {
            Transport::Tcp => {
                let sequence = |frame| u32::from_be_bytes(octets(frame, upper + 4));
                #[expect(clippy::cast_possible_truncation, reason = "below 64 KiB")]
                let next = sequence(first).wrapping_add(self.payload_bytes as u32);
                sequence(frame) == next
            }
            Transport::Udp => {
                let length = usize::from(number16(frame, upper + 4));
                length == frame.len() - upper && number16(frame, upper + 6) != 0
            }
        }
    }

    /// Checks what is not to be completed; the first frame's only once there is a second.
    #[inline]
    fn checksums_right(&mut self, first: &[u8], frame: &[u8]) -> bool {
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
        upper_right(&Layout { end: frame.len(), ..self.layout }, frame)
    }

    fn network_right(&self, first: &[u8]) -> bool {
        self.layout.version == Version::V6 || ipv4_right(first, self.layout.network)
    }

    /// Hands the super-frame over, or the one frame.
    #[inline]
    pub(super) fn deliver(&self, kept: &Kept, arena: &[u8], deliver: &mut impl FnMut(P, &[IoSlice<'_>])) {
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
        for (slice, (start, end)) in slices[3..].iter_mut().zip(&kept.payloads[..self.count - 1]) {
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
