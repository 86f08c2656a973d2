//! Offloads: what a TAP with `IFF_VNET_HDR` leaves to whoever holds its descriptor, done for frames that cross a link.
//!
//! # The way of a frame
//! ```text
//!   TAP ─read─▶ header + super-frame ─prepare─▶ Single ────────────────────────┐
//!                                          └──▶ Segments, written one by one ──┤ sealed, sent with UDP GSO
//!                                                                              ▼
//!   TAP ◀─write once─ header + super-frame ◀─ Joiner ◀─ frames in receive order, opened
//! ```
//! - [`vnet`] reads and writes the virtio-net header; everything in it comes from a guest and is checked against the frame.
//! - [`layout`] finds the headers of TCP and UDP over IPv4 and IPv6 behind tags and extensions.
//! - [`split`] cuts super-frames as the kernel's GSO does; [`join`] puts frames together as the kernel's GRO does.
//! - [`mss`] lowers what the ends of a TCP connection tell each other of their segments to what the path takes.
//! - A transport checksum that the sending kernel left to be completed need not be computed for a frame that crosses a link: the seal
//!   protects it. Such a frame is *partial*: the link carries that as a flag, and the receiving kernel gets the header that says
//!   so. A checksum that is there is checked before its frame is joined into a super-frame, so that no damage is covered up.
//!
//! It refuses to know links, ports and sockets. Nothing here allocates after construction.
//!
//! Sources: virtio 1.2 section 5.1.6; Linux `Documentation/networking/segmentation-offloads.rst`, `net/ipv4/tcp_offload.c`,
//! `udp_offload.c`, `net/core/gro.c`; RFC 9293; RFC 3168 section 6.1 (ECN).

pub mod ecn;
mod flow;
pub mod join;
pub mod layout;
pub mod mss;
pub mod split;
pub mod vnet;

use crate::tally::{Tally, named};

pub use join::{Capabilities, Joiner, Received};
pub use split::{Checksum, Prepared, Segments, prepare};
pub use vnet::{Gso, HEADER_BYTES, VnetHeader};

named! {
    /// Why a header, or a frame that a header speaks of, is refused.
    #[derive(thiserror::Error)]
    #[error("{}", self.name())]
    #[non_exhaustive]
    pub enum Refusal {
        /// Shorter than the virtio header.
        HeaderTruncated = "header_truncated",
        /// A segmentation type that was not offered, or is none.
        GsoUnknown = "gso_unknown",
        /// A segment size of zero, or so small that the frame would fall into more than [`split::SEGMENTS_MAX`] pieces.
        GsoSize = "gso_size",
        /// The segmentation type does not match what the frame carries.
        GsoMismatch = "gso_mismatch",
        /// The frame's own lengths contradict its size.
        LengthMismatch = "length_mismatch",
        /// The place of the checksum is outside the frame.
        ChecksumOutside = "checksum_outside",
        /// A segmented frame whose checksum is not where its transport has it.
        ChecksumMismatch = "checksum_mismatch",
        /// A peer says the transport checksum is to be completed, but there is none.
        PartialUnknown = "partial_unknown",
    }
}

/// How often each [`Refusal`] happened; one writer.
#[derive(Debug, Default)]
pub struct Refusals(Tally<{ Refusal::ALL.len() }>);

impl Refusals {
    /// Counts one.
    pub fn count(&self, refusal: Refusal) {
        self.0.bump(refusal as usize);
    }

    /// Each with its count.
    pub fn counts(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL.iter().copied().zip(self.0.values())
    }
}

/// Fuzz entry: the bytes are the largest frame of a path (two bytes), whether a peer says its checksums are open (one), and what a
/// guest wrote: a virtio header and a frame. The frame is cut as a guest's and joined as a peer's.
pub fn fuzz(bytes: &[u8]) {
    let [high, low, partial, written @ ..] = bytes else { return };
    let Some((header, frame)) = written.split_at_checked(HEADER_BYTES) else { return };
    let frame_max = usize::from(u16::from_be_bytes([*high, *low]));
    let mut deliver = |_, slices: &[std::io::IoSlice<'_>]| assert_eq!(slices[0].len(), HEADER_BYTES);
    if let Ok(header) = VnetHeader::parse(header) {
        assert_eq!(VnetHeader::parse(&header.encode()), Ok(header));
        let mut frame = frame.to_vec();
        mss::clamp(&mut frame, mss::Room::Known(frame_max), header.needs_checksum.is_some());
        if let Ok(Prepared::Segments(segments)) = prepare(&header, &mut frame, frame_max) {
            let mut pieces = Vec::new();
            let mut joiner = Joiner::new();
            let mut received = Vec::new();
            for index in 0..segments.count() {
                let start = pieces.len();
                pieces.resize(start + segments.frame_bytes_max(), 0);
                let end = start + segments.write(&frame, index, Checksum::Partial, &mut pieces[start..]);
                received.push(Received { start, end, partial: true });
            }
            let headers = segments.headers(&frame);
            for (index, place) in received.iter().enumerate() {
                let laid = segments.lay(&headers, &mut frame, index, Checksum::Partial);
                assert_eq!(frame[laid], pieces[place.start..place.end]);
            }
            for received in received {
                let outcome = joiner.push(&pieces, (), Capabilities::ALL, received, &mut deliver);
                assert_eq!(outcome, Ok(()), "what was cut has a transport");
            }
            joiner.flush(&pieces, &mut deliver);
        }
    }
    let mut joiner = Joiner::new();
    for _ in 0..2 {
        let received = Received { start: 0, end: frame.len(), partial: partial & 1 == 1 };
        // A refusal is as good as a delivery.
        let _ = joiner.push(frame, (), Capabilities::ALL, received, &mut deliver);
    }
    joiner.flush(frame, &mut deliver);
}

#[cfg(test)]
mod kernel;
#[cfg(test)]
mod tests;
