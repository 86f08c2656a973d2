//! Cutting and joining against a second, slow way of making the same frames: each is built from scratch, field by field, with checksums
//! over the whole.

mod cutting;
mod extend;
mod joining;

use std::io::IoSlice;

use proptest::prelude::*;

use super::{layout::Layout, vnet::ChecksumPlace, *};
use crate::{
    frame::{checksum::Sum, ip::protocol},
    mac::MacAddr,
    specimen,
};

const TO: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const FROM: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const FRAME_MAX: usize = 65_536;

/// Everything that makes one TCP or UDP frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recipe {
    pub(super) tags: Vec<u16>,
    pub(super) v6: bool,
    pub(super) udp: bool,
    /// Destination options of so many units of eight bytes (IPv6).
    pub(super) extension: Option<u8>,
    pub(super) flow: u16,
    pub(super) traffic_class: u8,
    pub(super) hop_limit: u8,
    pub(super) dont_fragment: bool,
    pub(super) id: u16,
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) options: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) padding: usize,
}

impl Recipe {
    fn addresses4(&self) -> (std::net::Ipv4Addr, std::net::Ipv4Addr) {
        ([10, 7, 0, 1].into(), [10, 7, 0, 2].into())
    }

    fn addresses6(&self) -> (std::net::Ipv6Addr, std::net::Ipv6Addr) {
        ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())
    }

    fn header_bytes(&self) -> usize {
        let network =
            if self.v6 { 40 + self.extension.map_or(0, |units| 8 * (usize::from(units) + 1)) } else { 20 };
        14 + 4 * self.tags.len() + network + if self.udp { 8 } else { 20 + self.options.len() }
    }

    /// The frame with complete checksums, from scratch.
    pub(super) fn frame(&self) -> Vec<u8> {
        let kind = if self.udp { protocol::UDP } else { protocol::TCP };
        let mut segment = if self.udp {
            specimen::udp(self.flow, 53, &self.payload)
        } else {
            let mut header = [self.flow.to_be_bytes(), 80u16.to_be_bytes()].concat();
            header.extend(self.sequence.to_be_bytes());
            header.extend(self.acknowledgement.to_be_bytes());
            header.extend([u8::try_from(5 + self.options.len() / 4).unwrap() << 4, self.flags]);
            header.extend(self.window.to_be_bytes());
            header.extend([0, 0, 0, 0]);
            header.extend(&self.options);
            header.extend(&self.payload);
            header
        };
        let mut frame = if self.v6 {
            let (from, to) = self.addresses6();
            specimen::sum_ipv6(from, to, kind, &mut segment);
            let (next, packet) = match self.extension {
                None => (kind, segment),
                Some(units) => {
                    let mut extension = vec![kind, units, 1, 8 * units + 4];
                    extension.resize(8 * (usize::from(units) + 1), 0);
                    (protocol::DESTINATION_OPTIONS, [extension, segment].concat())
                }
            };
            let mut packet = specimen::ipv6(from, to, next, self.hop_limit, &packet);
            packet[0] |= self.traffic_class >> 4;
            packet[1] |= self.traffic_class << 4;
            specimen::ethernet(TO, FROM, &self.tags, 0x86dd, &packet)
        } else {
            let (from, to) = self.addresses4();
            specimen::sum_ipv4(from, to, kind, &mut segment);
            let mut packet = specimen::ipv4(from, to, kind, &segment);
            packet[1] = self.traffic_class;
            packet[4..6].copy_from_slice(&self.id.to_be_bytes());
            packet[6] = if self.dont_fragment { 0x40 } else { 0 };
            packet[8] = self.hop_limit;
            packet[10..12].fill(0);
            let sum = Sum::default().bytes(&packet[..20]).finish();
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            specimen::ethernet(TO, FROM, &self.tags, 0x0800, &packet)
        };
        frame.resize(frame.len() + self.padding, 0);
        frame
    }

    /// The frame as a kernel leaves it: only the pseudo-header is summed.
    pub(super) fn partial(&self) -> Vec<u8> {
        let mut frame = self.frame();
        let layout = Layout::of(&frame).unwrap();
        let pseudo = layout.pseudo(&frame, u32::try_from(layout.end - layout.upper).unwrap()).folded();
        let field = layout.checksum();
        frame[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
        frame
    }

    /// The header a TAP gives with the super-frame.
    pub(super) fn header(&self, gso_size: u16, ecn: bool) -> VnetHeader {
        let layout = Layout::of(&self.frame()).unwrap();
        VnetHeader {
            gso: match (self.udp, self.v6) {
                (true, _) => Gso::Udp,
                (false, false) => Gso::Tcp4 { ecn },
                (false, true) => Gso::Tcp6 { ecn },
            },
            gso_size,
            header_bytes: u16::try_from(layout.payload).unwrap(),
            needs_checksum: Some(ChecksumPlace {
                start: u16::try_from(layout.upper).unwrap(),
                offset: u16::try_from(layout.transport.checksum_offset()).unwrap(),
            }),
            checksum_valid: false,
        }
    }

    /// The segments by the rules of the module doc, each from scratch.
    fn segments(&self, size: usize) -> Vec<Self> {
        let count = self.payload.chunks(size).count();
        let segment = |(index, payload): (usize, &[u8])| {
            let mut segment = self.clone();
            segment.payload = payload.to_vec();
            segment.id = self.id.wrapping_add(u16::try_from(index).unwrap());
            segment.sequence = self.sequence.wrapping_add(u32::try_from(index * size).unwrap());
            if index + 1 < count {
                segment.flags &= !0x09;
            }
            if index > 0 {
                segment.flags &= !0x80;
            }
            segment
        };
        self.payload.chunks(size).enumerate().map(segment).collect()
    }
}

/// Frames of one flow, with anything a stack may set.
fn recipe(payload: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Recipe> {
    let network = (
        proptest::collection::vec(1u16..4095, 0..=2),
        any::<bool>(),
        any::<bool>(),
        proptest::option::of(0u8..3),
        any::<u8>(),
        1u8..,
        any::<bool>(),
        any::<u16>(),
    );
    let upper = (
        any::<u32>(),
        any::<u32>(),
        // ACK, and any of FIN, PSH, ECE, CWR.
        any::<u8>().prop_map(|flags| flags & 0xc9 | 0x10),
        any::<u16>(),
        (0usize..=10).prop_flat_map(|words| proptest::collection::vec(any::<u8>(), words * 4)),
        payload,
    );
    (network, upper).prop_map(
        |(
            (tags, v6, udp, extension, traffic_class, hop_limit, dont_fragment, id),
            (sequence, acknowledgement, flags, window, options, payload),
        )| Recipe {
            tags,
            v6,
            udp,
            extension,
            flow: 1000,
            traffic_class,
            hop_limit,
            dont_fragment,
            id,
            sequence,
            acknowledgement,
            flags,
            window,
            options,
            payload,
            padding: 0,
        },
    )
}

fn bytes(lengths: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), lengths)
}

/// Cuts a super-frame both ways that links do, which are to agree.
pub(super) fn cut(header: &VnetHeader, frame: &[u8], checksum: Checksum) -> Vec<Vec<u8>> {
    let segments = Segments::plan(header, frame, FRAME_MAX).unwrap();
    let one = |index| {
        let mut out = vec![0xee; segments.frame_bytes(index) + 3];
        let length = segments.write(frame, index, checksum, &mut out);
        assert_eq!(length, segments.frame_bytes(index), "the length is known before");
        assert_eq!(out[length..], [0xee; 3], "nothing is written behind the end");
        out.truncate(length);
        out
    };
    let written: Vec<_> = (0..segments.count()).map(one).collect();
    let (headers, mut left) = (segments.headers(frame), frame.to_vec());
    for (index, written) in written.iter().enumerate() {
        let place = segments.lay(&headers, &mut left, index, checksum);
        assert_eq!(&left[place], written, "segment {index}");
    }
    written
}

/// Joins frames of one batch the way a link does: what is delivered, each as one piece.
pub(super) fn join(frames: &[(Vec<u8>, bool)], takes: Capabilities) -> Vec<(VnetHeader, Vec<u8>)> {
    let arena: Vec<u8> = frames.iter().flat_map(|(frame, _)| frame).copied().collect();
    let mut delivered = Vec::new();
    let mut deliver = |port: u8, slices: &[IoSlice<'_>]| {
        assert_eq!(port, 7);
        let whole: Vec<u8> = slices.iter().flat_map(|slice| slice.iter()).copied().collect();
        delivered.push((VnetHeader::parse(&whole).unwrap(), whole[HEADER_BYTES..].to_vec()));
    };
    let mut joiner = Joiner::new();
    let mut start = 0;
    for (frame, partial) in frames {
        let received = Received { start, end: start + frame.len(), partial: *partial };
        start = received.end;
        joiner.push(&arena, 7, takes, received, &mut deliver).unwrap();
    }
    joiner.flush(&arena, &mut deliver);
    delivered
}

/// What a delivered piece is on a wire: super-frames cut, open checksums completed.
fn on_the_wire((header, mut frame): (VnetHeader, Vec<u8>)) -> Vec<Vec<u8>> {
    if header.gso != Gso::None {
        return cut(&header, &frame, Checksum::Complete);
    }
    if let Some(place) = header.needs_checksum {
        split::complete(place, &mut frame).unwrap();
    }
    vec![frame]
}

/// A frame in the middle of an IPv4 TCP stream.
pub(super) fn plain() -> Recipe {
    Recipe {
        tags: vec![],
        v6: false,
        udp: false,
        extension: None,
        flow: 1000,
        traffic_class: 0,
        hop_limit: 64,
        dont_fragment: true,
        id: 100,
        sequence: 5000,
        acknowledgement: 77,
        flags: 0x10,
        window: 500,
        options: vec![],
        payload: vec![0xab; 100],
        padding: 0,
    }
}

/// The frame that continues another.
pub(super) fn next(frame: &Recipe) -> Recipe {
    Recipe {
        id: frame.id.wrapping_add(1),
        sequence: frame.sequence.wrapping_add(u32::try_from(frame.payload.len()).unwrap()),
        ..frame.clone()
    }
}

/// What one step of a stream does to the frame before it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Twist {
    Nothing,
    Short,
    Push,
    Fin,
    Gap,
    Acknowledgement,
    Window,
    Congestion,
    IdJump,
    Empty,
    Urgent,
    Syn,
    Cwr,
    Options,
    Padding,
    Broken,
    BrokenHeader,
    Fragment,
}

pub(super) fn twisted(last: &Recipe, twist: Twist) -> (Recipe, Vec<u8>) {
    let mut recipe = next(last);
    recipe.flags = 0x10;
    recipe.padding = 0;
    recipe.payload = vec![recipe.payload.first().copied().unwrap_or(0).wrapping_add(1); 100];
    match twist {
        Twist::Nothing | Twist::Broken | Twist::BrokenHeader | Twist::Fragment => {}
        Twist::Short => recipe.payload.truncate(60),
        Twist::Push => recipe.flags |= 0x08,
        Twist::Fin => recipe.flags |= 0x01,
        Twist::Gap => recipe.sequence = recipe.sequence.wrapping_add(100),
        Twist::Acknowledgement => recipe.acknowledgement += 1,
        Twist::Window => recipe.window += 1,
        Twist::Congestion => recipe.traffic_class ^= 1,
        Twist::IdJump => recipe.id = recipe.id.wrapping_add(7),
        Twist::Empty => recipe.payload.clear(),
        Twist::Urgent => recipe.flags |= 0x20,
        Twist::Syn => recipe.flags |= 0x02,
        Twist::Cwr => recipe.flags |= 0x80,
        Twist::Options => {
            recipe.options = [recipe.options, vec![1; 4]].concat().into_iter().take(40).collect()
        }
        Twist::Padding => recipe.padding = 5,
    }
    let mut frame = recipe.frame();
    let network = 14 + 4 * recipe.tags.len();
    match twist {
        Twist::Broken => *frame.last_mut().unwrap() ^= 1,
        Twist::BrokenHeader if !recipe.v6 => frame[network + 10] ^= 1,
        Twist::Fragment if !recipe.v6 => frame[network + 6] |= 0x20,
        _ => {}
    }
    (recipe, frame)
}

#[test]
fn no_bytes_make_the_offloads_panic() {
    specimen::hostile(20_000, fuzz);
    // Nearly right ones: a real super-frame with bytes changed.
    let whole = Recipe { payload: vec![7; 5000], ..plain() };
    let good = [&[5, 220, 1][..], &whole.header(1448, false).encode(), &whole.partial()].concat();
    specimen::damaged(&good, 90, 5_000, fuzz);
    let whole = Recipe { v6: true, udp: true, extension: Some(1), tags: vec![5], ..whole };
    let good = [&[5, 220, 0][..], &whole.header(1200, false).encode(), &whole.partial()].concat();
    specimen::damaged(&good, 110, 5_000, fuzz);
}
