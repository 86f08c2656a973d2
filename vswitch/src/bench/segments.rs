//! Cutting a super-frame into segments and joining them again.

use std::{hint::black_box, io::IoSlice};

use super::{Figure, calls, finish, tcp_frame};
use crate::{
    frame::{checksum::Sum, ip::protocol},
    offload::{Capabilities, Checksum, Gso, Joiner, Received, Segments, VnetHeader, vnet::ChecksumPlace},
};

/// Ethernet, IPv4 and TCP without options.
const HEADER_BYTES: usize = 54;

const COPY: &str = "memcpy";

/// The internet checksum as RFC 1071 tells it: word by word.
fn plain_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the line above left 16 bits")]
    {
        sum as u16
    }
}

/// A super-frame as a TAP gives it: payload of 45 segments or as many as fit.
fn super_frame(size: usize) -> (VnetHeader, Vec<u8>) {
    let count = (65_000 / size).min(45);
    let mut frame = tcp_frame(&vec![0x5a; count * size]);
    let pseudo = Sum::default().bytes(&frame[26..34]).word(u16::from(protocol::TCP));
    #[expect(clippy::cast_possible_truncation, reason = "shorter than 64 KiB")]
    let pseudo = pseudo.word((frame.len() - 34) as u16).folded();
    frame[50..52].copy_from_slice(&pseudo.to_be_bytes());
    let header = VnetHeader {
        gso: Gso::Tcp4 { ecn: false },
        #[expect(clippy::cast_possible_truncation, reason = "shorter than 64 KiB")]
        gso_size: size as u16,
        header_bytes: 54,
        needs_checksum: Some(ChecksumPlace { start: 34, offset: 16 }),
        checksum_valid: false,
    };
    (header, frame)
}

/// Who completes or checks sums.
const SUMS: [(Checksum, &str); 2] =
    [(Checksum::Complete, "checksums done"), (Checksum::Partial, "checksums left open")];

pub(super) fn cut_and_join(size: usize) -> Vec<Figure> {
    let (header, frame) = super_frame(size);
    SUMS.into_iter()
        .flat_map(|(checksum, how)| {
            let arena = segments_of(&header, &frame, size, checksum);
            [cut(&header, &frame, size, (checksum, how)), join(&arena, size, (checksum, how))]
        })
        .collect()
}

/// Writes all segments, one after the other.
fn write_all(header: &VnetHeader, frame: &[u8], size: usize, checksum: Checksum, out: &mut [u8]) {
    let segments = Segments::plan(header, frame, 65_536).expect("the super-frame is well made");
    for (index, place) in out.chunks_exact_mut(size + HEADER_BYTES).enumerate() {
        segments.write(frame, index, checksum, place);
    }
}

/// The segments of a super-frame, one after the other.
fn segments_of(header: &VnetHeader, frame: &[u8], size: usize, checksum: Checksum) -> Vec<u8> {
    let mut arena = vec![0; (size + HEADER_BYTES) * ((frame.len() - HEADER_BYTES) / size)];
    write_all(header, frame, size, checksum, &mut arena);
    arena
}

/// One segment made afresh, the way it is written down.
fn plain_segment(frame: &[u8], size: usize, index: usize) -> Vec<u8> {
    let start = HEADER_BYTES + index * size;
    let mut segment = frame[..HEADER_BYTES].to_vec();
    segment.extend_from_slice(&frame[start..start + size]);
    #[expect(clippy::cast_possible_truncation, reason = "shorter than 64 KiB")]
    segment[38..42].copy_from_slice(&(1 + (index * size) as u32).to_be_bytes());
    finish(&mut segment, plain_sum);
    segment
}

fn cut(header: &VnetHeader, frame: &[u8], size: usize, (checksum, how): (Checksum, &str)) -> Figure {
    let mut out = segments_of(header, frame, size, checksum);
    let count = out.len() / (size + HEADER_BYTES);
    let (source, mut copy) = (out.clone(), out.clone());
    Figure::measured(
        format!("cut into {count} segments of {size} bytes, {how}"),
        Some(size * count),
        calls(|| {
            write_all(black_box(header), frame, size, checksum, &mut out);
            black_box(&mut out);
        }),
        [
            (COPY, calls(|| black_box(&mut copy).copy_from_slice(black_box(&source)))),
            (
                "new buffers, sums by the word",
                calls(|| {
                    for index in 0..count {
                        black_box(plain_segment(black_box(frame), size, index));
                    }
                }),
            ),
        ],
    )
}

fn join(arena: &[u8], size: usize, (checksum, how): (Checksum, &str)) -> Figure {
    let stride = size + HEADER_BYTES;
    let (count, partial) = (arena.len() / stride, checksum == Checksum::Partial);
    let mut joiner = Joiner::new();
    let mut copy = arena.to_vec();
    Figure::measured(
        format!("join {count} segments of {size} bytes, {how}"),
        Some(size * count),
        calls(|| {
            let mut pieces = 0;
            let mut deliver = |(), slices: &[IoSlice<'_>]| pieces += black_box(slices).len();
            for index in 0..count {
                let received = Received { start: index * stride, end: (index + 1) * stride, partial };
                joiner
                    .push(black_box(arena), (), Capabilities::ALL, received, &mut deliver)
                    .expect("the segments have a transport");
            }
            joiner.flush(arena, &mut deliver);
            debug_assert_eq!(pieces, count + 2);
            black_box(pieces);
        }),
        [
            (COPY, calls(|| black_box(&mut copy).copy_from_slice(black_box(arena)))),
            (
                "copied together, sums by the word",
                calls(|| {
                    let mut whole: Vec<u8> = arena[..HEADER_BYTES].to_vec();
                    for segment in arena.chunks_exact(stride) {
                        if !partial {
                            black_box(plain_sum(&segment[34..]));
                        }
                        whole.extend_from_slice(&segment[HEADER_BYTES..]);
                    }
                    black_box(whole);
                }),
            ),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_make_the_same_segments() {
        let (header, frame) = super_frame(1400);
        let segments = Segments::plan(&header, &frame, 65_536).unwrap();
        assert_eq!((segments.count(), segments.frame_bytes_max()), (45, 1454));
        let mut ours = vec![0; 1454];
        segments.write(&frame, 0, Checksum::Complete, &mut ours);
        assert_eq!(ours, plain_segment(&frame, 1400, 0));
    }
}
