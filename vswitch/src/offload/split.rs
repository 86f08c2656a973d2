//! From what a TAP gave to frames that can cross a link: super-frames are cut as the kernel's GSO cuts them.
//!
//! # Rules for segment `i` of a TCP super-frame (`tcp_gso_segment`, `inet_gso_segment`, `ipv6_gso_segment`)
//! - sequence number + `i` × size; FIN and PSH on the last only; CWR on the first only (RFC 3168; a kernel hands no super-frame of
//!   accurate ECN to a TAP, which would want it on all); everything else as in the original;
//! - IPv4 id + `i`; total length and header checksum, or the IPv6 payload length, of this segment;
//! - TCP may be cut smaller than the kernel asked for where the path takes no more: its segments are a byte stream (RFC 9293 section 3.7.1).
//!
//! For UDP the datagrams' length and checksum change; their size never does, since their borders mean something to the receiver.
//!
//! Nothing the header says is trusted: it must agree with the frame, or the frame is refused with its [`Refusal`].

use std::ops::Range;

use super::{
    Refusal,
    layout::{
        HEADERS_MAX, Layout, TCP_BYTES, TCP_FLAGS, Transport, UDP_BYTES, Version,
        flag::{CWR, FIN, PSH},
    },
    vnet::{ChecksumPlace, Gso, VnetHeader},
};
use crate::frame::{checksum::Sum, ip::IPV6_BYTES};

/// Segments of one super-frame. 64 KiB in segments of 536 bytes (the smallest MSS a host must take, RFC 9293 section 3.7.1) are 122; what
/// wants more wants to make work.
pub const SEGMENTS_MAX: usize = 256;

/// From the start of a TCP header to its sequence number.
const SEQUENCE: usize = 4;

/// What happens to the transport checksum of each segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// It is computed: the segment stands for itself.
    Complete,
    /// The field holds the pseudo-header's sum; the receiving kernel is told so.
    Partial,
}

/// A frame ready for a link.
#[derive(Debug)]
pub enum Prepared {
    /// It is one frame. If `partial`, its transport checksum is left to be completed.
    Single {
        /// See [`Checksum::Partial`].
        partial: bool,
    },
    /// It is to be cut.
    Segments(Segments),
}

/// Judges a frame by the header it came with. `frame_max` is the largest Ethernet frame that crosses the path in one datagram; only TCP is
/// cut smaller for it.
///
/// A checksum that cannot be left partial (its place is not that of the frame's own transport, as inside a tunnel of the machine's
/// own) is completed in place.
#[inline]
pub fn prepare(header: &VnetHeader, frame: &mut [u8], frame_max: usize) -> Result<Prepared, Refusal> {
    if header.gso != Gso::None {
        return Segments::plan(header, frame, frame_max).map(Prepared::Segments);
    }
    let Some(place) = header.needs_checksum else { return Ok(Prepared::Single { partial: false }) };
    if Layout::of(frame).is_some_and(|layout| layout.has_checksum_at(place) && layout.end == frame.len()) {
        return Ok(Prepared::Single { partial: true });
    }
    complete(place, frame)?;
    Ok(Prepared::Single { partial: false })
}

/// Computes a checksum that was left to be completed. The field holds the pseudo-header's sum, if the protocol has one, and is part of
/// what is summed.
pub fn complete(place: ChecksumPlace, frame: &mut [u8]) -> Result<(), Refusal> {
    let start = usize::from(place.start);
    let field = start + usize::from(place.offset);
    let summed = frame.get(start..).ok_or(Refusal::ChecksumOutside)?;
    if field + 2 > frame.len() {
        return Err(Refusal::ChecksumOutside);
    }
    let sum = Sum::default().bytes(summed);
    // All ones is the same number as zero, and only UDP takes a zero for "none".
    let udp = usize::from(place.offset) == Transport::Udp.checksum_offset();
    let sum = if udp { sum.finish_udp() } else { sum.finish() };
    frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

impl Layout {
    /// Whether this is where the frame's own transport has its checksum.
    #[inline]
    pub(super) fn has_checksum_at(&self, place: ChecksumPlace) -> bool {
        usize::from(place.start) == self.upper
            && usize::from(place.offset) == self.transport.checksum_offset()
    }
}

/// How a super-frame is cut. Small; the frame itself stays where it is.
#[derive(Debug, Clone, Copy)]
pub struct Segments {
    layout: Layout,
    /// Payload of each segment but the last.
    size: usize,
    count: usize,
    /// Sum of the IPv4 header without length, id and checksum.
    network_sum: Sum,
    /// The pseudo-header's sum without the length.
    pseudo_sum: Sum,
    /// Sum of the transport header without sequence number, flags' word, UDP length and checksum.
    upper_sum: Sum,
}

impl Segments {
    /// Checks a super-frame against its header and plans the cuts.
    pub fn plan(header: &VnetHeader, frame: &[u8], frame_max: usize) -> Result<Self, Refusal> {
        let layout = Layout::of(frame).ok_or(Refusal::GsoMismatch)?;
        match (header.gso, layout.version, layout.transport) {
            (Gso::Tcp4 { .. }, Version::V4, Transport::Tcp)
            | (Gso::Tcp6 { .. }, Version::V6, Transport::Tcp)
            | (Gso::Udp, _, Transport::Udp) => {}
            _ => return Err(Refusal::GsoMismatch),
        }
        if layout.end != frame.len() {
            return Err(Refusal::LengthMismatch);
        }
        if !header.needs_checksum.is_some_and(|place| layout.has_checksum_at(place)) {
            return Err(Refusal::ChecksumMismatch);
        }
        let mut size = usize::from(header.gso_size);
        if layout.transport == Transport::Tcp {
            size = size.min(frame_max.saturating_sub(layout.payload));
        }
        let payload_bytes = layout.end - layout.payload;
        if size == 0 || payload_bytes.div_ceil(size) > SEGMENTS_MAX {
            return Err(Refusal::GsoSize);
        }
        Ok(Self {
            layout,
            size,
            count: payload_bytes.div_ceil(size).max(1),
            network_sum: network_sum(&layout, frame),
            pseudo_sum: pseudo_sum(&layout, frame),
            upper_sum: upper_sum(&layout, frame),
        })
    }

    /// How many frames it becomes.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Length of one of them.
    #[inline]
    pub fn frame_bytes(&self, index: usize) -> usize {
        let start = self.layout.payload + index * self.size;
        self.layout.payload + self.layout.end.saturating_sub(start).min(self.size)
    }

    /// Length of the longest of them.
    #[inline]
    pub fn frame_bytes_max(&self) -> usize {
        self.frame_bytes(0)
    }

    /// The super-frame's headers, put aside for [`Self::lay`].
    #[inline]
    pub fn headers(&self, frame: &[u8]) -> [u8; HEADERS_MAX] {
        let mut headers = [0; HEADERS_MAX];
        headers[..self.layout.payload].copy_from_slice(&frame[..self.layout.payload]);
        headers
    }

    /// Makes one of the frames inside the super-frame, and says where it stands there: its headers are written before its payload, over the
    /// end of the payload before. So each frame is to be used before the next one is made, in the order of their numbers, and no
    /// super-frame is left. `headers` are what [`Self::headers`] gave while there was one; for the rest see [`Self::write`].
    #[inline]
    pub fn lay(
        &self,
        headers: &[u8; HEADERS_MAX],
        frame: &mut [u8],
        index: usize,
        checksum: Checksum,
    ) -> Range<usize> {
        let (start, end) = self.payload(index);
        let (before, payload) = frame[..end].split_at_mut(start);
        let head = &mut before[start - self.layout.payload..];
        head.copy_from_slice(&headers[..self.layout.payload]);
        self.write_headers(head, index, payload, checksum);
        start - self.layout.payload..end
    }

    /// Writes one of the frames to the start of `out` and returns its length. `frame` is the super-frame the plan was made of, `index` less
    /// than [`Self::count`], `out` at least [`Self::frame_bytes`] long: anything else is a fault of the caller's and panics.
    #[inline]
    pub fn write(&self, frame: &[u8], index: usize, checksum: Checksum, out: &mut [u8]) -> usize {
        let (start, end) = self.payload(index);
        let length = self.layout.payload + (end - start);
        let (head, payload) = out[..length].split_at_mut(self.layout.payload);
        head.copy_from_slice(&frame[..self.layout.payload]);
        payload.copy_from_slice(&frame[start..end]);
        self.write_headers(head, index, payload, checksum);
        length
    }

    /// Where a segment's payload starts and ends in the super-frame.
    #[inline]
    fn payload(&self, index: usize) -> (usize, usize) {
        let start = self.layout.payload + index * self.size;
        (start, self.layout.end.min(start + self.size))
    }

    /// Makes the super-frame's headers a segment's.
    #[inline]
    fn write_headers(&self, head: &mut [u8], index: usize, payload: &[u8], checksum: Checksum) {
        self.write_network(head, index, head.len() + payload.len());
        self.write_upper(head, index, payload, checksum);
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "lengths are below 64 KiB, ids wrap")]
    fn write_network(&self, head: &mut [u8], index: usize, length: usize) {
        let packet_bytes = length - self.layout.network;
        let ip = &mut head[self.layout.network..];
        match self.layout.version {
            Version::V4 => {
                let packet_bytes = packet_bytes as u16;
                let id = u16::from_be_bytes([ip[4], ip[5]]).wrapping_add(index as u16);
                let sum = self.network_sum.word(packet_bytes).word(id).finish();
                ip[2..4].copy_from_slice(&packet_bytes.to_be_bytes());
                ip[4..6].copy_from_slice(&id.to_be_bytes());
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            Version::V6 => ip[4..6].copy_from_slice(&((packet_bytes - IPV6_BYTES) as u16).to_be_bytes()),
        }
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "offsets are below 64 KiB")]
    fn write_upper(&self, head: &mut [u8], index: usize, payload: &[u8], checksum: Checksum) {
        let upper = &mut head[self.layout.upper..];
        let segment_bytes = (upper.len() + payload.len()) as u16;
        let changed = match self.layout.transport {
            Transport::Tcp => {
                let sequence = u32::from_be_bytes([upper[4], upper[5], upper[6], upper[7]])
                    .wrapping_add((index * self.size) as u32);
                upper[SEQUENCE..SEQUENCE + 4].copy_from_slice(&sequence.to_be_bytes());
                if index + 1 < self.count {
                    upper[TCP_FLAGS] &= !(FIN | PSH);
                }
                if index > 0 {
                    upper[TCP_FLAGS] &= !CWR;
                }
                let flags = u16::from_be_bytes([upper[12], upper[13]]);
                Sum::default().word((sequence >> 16) as u16).word(sequence as u16).word(flags)
            }
            Transport::Udp => {
                upper[4..6].copy_from_slice(&segment_bytes.to_be_bytes());
                Sum::default().word(segment_bytes)
            }
        };
        let pseudo = self.pseudo_sum.word(segment_bytes);
        let sum = match checksum {
            Checksum::Partial => pseudo.folded(),
            Checksum::Complete => {
                let sum = pseudo.plus(self.upper_sum).plus(changed).bytes(payload);
                match self.layout.transport {
                    Transport::Tcp => sum.finish(),
                    Transport::Udp => sum.finish_udp(),
                }
            }
        };
        let field = self.layout.transport.checksum_offset();
        upper[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

fn network_sum(layout: &Layout, frame: &[u8]) -> Sum {
    match layout.version {
        Version::V4 => {
            let header_bytes = usize::from(frame[layout.network] & 0x0f) * 4;
            let header = &frame[layout.network..layout.network + header_bytes];
            Sum::default().bytes(&header[..2]).bytes(&header[6..10]).bytes(&header[12..])
        }
        Version::V6 => Sum::default(),
    }
}

/// The field holds the sum of the pseudo-header with the super-frame's length. Taking that length off, instead of summing the
/// addresses, is right also where the pseudo-header's destination is not the header's (a routing header).
#[expect(
    clippy::cast_possible_truncation,
    reason = "a frame with a layout is shorter than 64 KiB and its headers"
)]
fn pseudo_sum(layout: &Layout, frame: &[u8]) -> Sum {
    let field = layout.checksum();
    let held = u16::from_be_bytes([frame[field], frame[field + 1]]);
    Sum::default().word(held).word(!((layout.end - layout.upper) as u16))
}

fn upper_sum(layout: &Layout, frame: &[u8]) -> Sum {
    let header = &frame[layout.upper..layout.payload];
    match layout.transport {
        Transport::Tcp => Sum::default()
            .bytes(&header[..4])
            .bytes(&header[8..12])
            .bytes(&header[14..16])
            .bytes(&header[18..TCP_BYTES])
            .bytes(&header[TCP_BYTES..]),
        Transport::Udp => {
            debug_assert_eq!(header.len(), UDP_BYTES);
            Sum::default().bytes(&header[..4])
        }
    }
}
