//! Cutting and joining against a second, slow way of making the same frames: each is built from scratch, field by field, with checksums
//! over the whole.

mod extend;

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

/// Cuts a super-frame the way a link does.
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
    (0..segments.count()).map(one).collect()
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

proptest! {
    /// Cutting gives exactly the frames that a stack without offloads would have sent.
    #[test]
    fn segments_are_what_a_plain_stack_would_send(
        whole in recipe(bytes(1..6000)),
        size in 30u16..3000,
        ecn in any::<bool>(),
    ) {
        let ecn = ecn && !whole.udp;
        let expected: Vec<Vec<u8>> =
            whole.segments(usize::from(size)).iter().map(Recipe::frame).collect();
        let is = cut(&whole.header(size, ecn), &whole.partial(), Checksum::Complete);
        prop_assert_eq!(is, expected);
    }

    /// Partial segments differ only in the transport checksum, which holds the pseudo-header's sum.
    #[test]
    fn partial_segments_hold_the_pseudo_sum(whole in recipe(bytes(1..6000)), size in 30u16..3000) {
        let expected: Vec<Vec<u8>> =
            whole.segments(usize::from(size)).iter().map(Recipe::partial).collect();
        let is = cut(&whole.header(size, false), &whole.partial(), Checksum::Partial);
        // 0 and 0xffff are the same number; which one stands there decides nothing.
        let same = |a: &[u8], b: &[u8]| {
            let place = Layout::of(a).unwrap().checksum();
            let number = |frame: &[u8]| u16::from_be_bytes([frame[place], frame[place + 1]]) % 0xffff;
            number(a) == number(b) && a[..place] == b[..place] && a[place + 2..] == b[place + 2..]
        };
        prop_assert_eq!(is.len(), expected.len());
        prop_assert!(is.iter().zip(&expected).all(|(a, b)| same(a, b)));
    }

    /// A super-frame that was cut is joined to itself, whether checksums were completed on the way or not.
    #[test]
    fn what_was_cut_is_joined_to_itself(whole in recipe(bytes(1..20_000)), size in 400u16..3000, complete in any::<bool>()) {
        let mut whole = whole;
        // With one segment there is nothing to join, with 64 too much; FIN or PSH on a lone first frame makes no super-frame.
        prop_assume!((usize::from(size) + 1..usize::from(size) * 60).contains(&whole.payload.len()));
        // CWR goes alone.
        whole.flags &= !0x80;
        let header = whole.header(size, false);
        let frame = whole.partial();
        let checksum = if complete { Checksum::Complete } else { Checksum::Partial };
        let frames: Vec<_> =
            cut(&header, &frame, checksum).into_iter().map(|frame| (frame, !complete)).collect();
        let joined = join(&frames, Capabilities::ALL);
        prop_assert_eq!(joined.len(), 1);
        prop_assert_eq!(&joined[0].0, &header);
        let wire = on_the_wire(joined[0].clone());
        let expected: Vec<Vec<u8>> = whole.segments(usize::from(size)).iter().map(Recipe::frame).collect();
        prop_assert_eq!(wire, expected);
    }

    /// Whatever header a guest writes before whatever frame: refused or cut, never a panic, and never longer than planned.
    #[test]
    fn hostile_headers_are_refused_or_harmless(
        header in bytes(10..=10),
        whole in recipe(bytes(0..2000)),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        length in any::<prop::sample::Index>(),
        mtu in 0usize..3000,
    ) {
        let mut frame = whole.partial();
        for (at, value) in flips {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        frame.truncate(length.index(frame.len()) + 1);
        if let Ok(header) = VnetHeader::parse(&header)
            && let Ok(Prepared::Segments(segments)) = prepare(&header, &mut frame, mtu)
        {
            let mut out = vec![0; segments.frame_bytes_max()];
            for index in 0..segments.count() {
                segments.write(&frame, index, Checksum::Complete, &mut out);
            }
        }
    }

    /// The same with headers that are nearly right, which random bytes hardly ever are.
    #[test]
    fn nearly_right_headers_are_refused_or_harmless(
        whole in recipe(bytes(1..4000)),
        size in any::<u16>(),
        place in proptest::option::of((any::<u16>(), any::<u16>())),
        cut_at in proptest::option::of(any::<prop::sample::Index>()),
        mtu in 0usize..3000,
    ) {
        let mut header = whole.header(size.max(1), false);
        let mut frame = whole.partial();
        if let Some((start, offset)) = place {
            header.needs_checksum = Some(ChecksumPlace { start, offset });
        }
        if let Some(at) = cut_at {
            frame.truncate(at.index(frame.len()) + 1);
        }
        if let Ok(Prepared::Segments(segments)) = prepare(&header, &mut frame, mtu) {
            let mut out = vec![0; segments.frame_bytes_max()];
            let total: usize = (0..segments.count())
                .map(|index| segments.write(&frame, index, Checksum::Complete, &mut out) - whole.header_bytes())
                .sum();
            prop_assert_eq!(total, whole.payload.len(), "no byte is lost or doubled");
        }
    }
}

#[test]
fn tcp_is_cut_smaller_where_the_path_takes_no_more_and_udp_is_not() {
    let mut whole = plain();
    whole.payload = vec![7; 4000];
    let plan = |whole: &Recipe| Segments::plan(&whole.header(1448, false), &whole.partial(), 1200).unwrap();
    let tcp = plan(&whole);
    assert!(tcp.frame_bytes_max() <= 1200);
    assert_eq!(tcp.count(), 4000_usize.div_ceil(1200 - 54));
    whole.udp = true;
    assert_eq!(plan(&whole).frame_bytes_max(), 14 + 28 + 1448);
}

#[test]
fn a_segment_size_that_makes_too_many_pieces_is_refused() {
    let mut whole = plain();
    whole.payload = vec![7; 1000];
    let plan = |size| Segments::plan(&whole.header(size, false), &whole.partial(), FRAME_MAX).map(|_| ());
    assert_eq!(plan(4), Ok(()));
    assert_eq!(plan(3), Err(Refusal::GsoSize));
    assert_eq!(
        Segments::plan(&whole.header(1000, false), &whole.partial(), 54).map(|_| ()),
        Err(Refusal::GsoSize),
        "a path that takes no payload"
    );
}

#[test]
fn a_header_that_does_not_match_its_frame_is_refused() {
    let mut whole = plain();
    whole.payload = vec![7; 3000];
    let good = whole.header(1448, false);
    let frame = whole.partial();
    let plan =
        |header: &VnetHeader, frame: &[u8]| Segments::plan(header, frame, FRAME_MAX).map(|_| ()).unwrap_err();
    assert_eq!(plan(&VnetHeader { gso: Gso::Tcp6 { ecn: false }, ..good }, &frame), Refusal::GsoMismatch);
    assert_eq!(plan(&VnetHeader { gso: Gso::Udp, ..good }, &frame), Refusal::GsoMismatch);
    assert_eq!(plan(&VnetHeader { needs_checksum: None, ..good }, &frame), Refusal::ChecksumMismatch);
    let elsewhere = Some(ChecksumPlace { start: 34, offset: 6 });
    assert_eq!(plan(&VnetHeader { needs_checksum: elsewhere, ..good }, &frame), Refusal::ChecksumMismatch);
    assert_eq!(plan(&good, &[&frame[..], &[0]].concat()), Refusal::LengthMismatch);
    assert_eq!(plan(&good, &frame[..frame.len() - 1]), Refusal::GsoMismatch);
}

#[test]
fn an_open_checksum_is_left_open_where_the_link_can_say_so_and_completed_elsewhere() {
    let whole = plain();
    let mut frame = whole.partial();
    let header = VnetHeader { gso: Gso::None, gso_size: 0, ..whole.header(1, false) };
    assert!(matches!(prepare(&header, &mut frame, 1500), Ok(Prepared::Single { partial: true })));
    assert_eq!(frame, whole.partial());

    // A tunnel of the machine's own: UDP over IPv4 outside, the open checksum is the inner packet's.
    let inner = &whole.partial()[14..];
    let tunnel = specimen::udp(4000, 4000, inner);
    let (from, to) = whole.addresses4();
    let mut outer =
        specimen::ethernet(TO, FROM, &[], 0x0800, &specimen::ipv4(from, to, protocol::UDP, &tunnel));
    let place = ChecksumPlace { start: 14 + 28 + 20, offset: 16 };
    let header = VnetHeader { needs_checksum: Some(place), ..VnetHeader::PLAIN };
    assert!(matches!(prepare(&header, &mut outer, 1500), Ok(Prepared::Single { partial: false })));
    assert_eq!(outer[14 + 28..], whole.frame()[14..]);

    let outside = ChecksumPlace { start: 60, offset: u16::MAX };
    assert_eq!(split::complete(outside, &mut frame), Err(Refusal::ChecksumOutside));
    let outside = ChecksumPlace { start: u16::MAX, offset: 0 };
    assert_eq!(split::complete(outside, &mut frame), Err(Refusal::ChecksumOutside));
}

#[test]
fn a_completed_checksum_of_zero_is_all_ones_for_udp_only() {
    for (offset, expected) in [(16, [0, 0]), (6, [0xff, 0xff])] {
        let mut frame = vec![0; 60];
        frame[40..42].fill(0xff);
        split::complete(ChecksumPlace { start: 34, offset }, &mut frame).unwrap();
        let field = 34 + usize::from(offset);
        assert_eq!(frame[field..field + 2], expected);
    }
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

/// How many pieces two frames become.
fn pieces(frames: &[Recipe]) -> usize {
    let frames: Vec<_> = frames.iter().map(|recipe| (recipe.frame(), false)).collect();
    join(&frames, Capabilities::ALL).len()
}

#[test]
fn a_frame_that_continues_is_joined() {
    for (v6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
        let first = Recipe { v6, udp, ..plain() };
        assert_eq!(pieces(&[first.clone(), next(&first), next(&next(&first))]), 1, "v6 {v6}, udp {udp}");
    }
}

#[test]
fn a_frame_that_does_not_continue_is_not_joined() {
    type Change = (&'static str, fn(&mut Recipe));
    let changes: &[Change] = &[
        ("gap", |r| r.sequence += 1),
        ("repeat", |r| r.sequence -= 100),
        ("acknowledgement", |r| r.acknowledgement += 1),
        ("window", |r| r.window += 1),
        ("options", |r| r.options = vec![1, 1, 1, 1]),
        ("longer", |r| r.payload.push(0)),
        ("empty", |r| r.payload.clear()),
        ("SYN", |r| r.flags |= 0x02),
        ("RST", |r| r.flags |= 0x04),
        ("URG", |r| r.flags |= 0x20),
        ("ECE", |r| r.flags |= 0x40),
        ("CWR", |r| r.flags |= 0x80),
        ("congestion experienced", |r| r.traffic_class = 3),
        ("hop limit", |r| r.hop_limit -= 1),
        ("id", |r| r.id += 1),
        ("may fragment", |r| r.dont_fragment = false),
        ("other flow", |r| r.flow += 1),
        ("VLAN", |r| r.tags = vec![5]),
        ("padding", |r| r.padding = 1),
    ];
    for (name, change) in changes {
        for v6 in [false, true] {
            if v6 && matches!(*name, "id" | "may fragment") {
                continue;
            }
            let first = Recipe { v6, ..plain() };
            let mut second = next(&first);
            change(&mut second);
            assert_eq!(pieces(&[first, second]), 2, "{name}, v6 {v6}");
        }
    }
}

#[test]
fn options_that_differ_are_not_joined_though_equally_long() {
    let first = Recipe { options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2], ..plain() };
    let mut second = next(&first);
    assert_eq!(pieces(&[first.clone(), second.clone()]), 1);
    second.options[7] = 9;
    assert_eq!(pieces(&[first, second]), 2);
}

#[test]
fn extension_headers_are_joined_only_when_equal() {
    let first = Recipe { v6: true, extension: Some(1), ..plain() };
    assert_eq!(pieces(&[first.clone(), next(&first)]), 1);
    assert_eq!(pieces(&[first.clone(), Recipe { extension: Some(0), ..next(&first) }]), 2);
    assert_eq!(pieces(&[first.clone(), Recipe { extension: None, ..next(&first) }]), 2);
}

#[test]
fn push_fin_and_a_short_frame_end_a_super_frame() {
    for (flags, length) in [(0x18, 100), (0x11, 100), (0x10, 99)] {
        let first = plain();
        let last = Recipe { flags, payload: vec![1; length], ..next(&first) };
        let after = Recipe { flags: 0x10, ..next(&last) };
        let frames = [first, last.clone(), after];
        assert_eq!(pieces(&frames), 2, "flags {flags:#x}, {length} bytes");
        let joined = join(&frames.map(|recipe| (recipe.frame(), false)), Capabilities::ALL);
        assert_eq!(joined[0].1[14 + 20 + 13], flags);
    }
}

#[test]
fn what_starts_with_push_fin_syn_or_cwr_goes_alone() {
    for flags in [0x18, 0x11, 0x12, 0x14, 0x30, 0x90] {
        let first = Recipe { flags, ..plain() };
        let second = Recipe { flags: 0x10, ..next(&first) };
        assert_eq!(pieces(&[first, second]), 2, "{flags:#x}");
    }
}

#[test]
fn ids_rise_or_stand_still_where_they_mean_nothing() {
    let first = plain();
    let same = |recipe: &Recipe| Recipe { id: recipe.id, ..next(recipe) };
    assert_eq!(pieces(&[first.clone(), same(&first)]), 1, "an atomic datagram's id means nothing");
    let fragmentable = Recipe { dont_fragment: false, ..plain() };
    assert_eq!(pieces(&[fragmentable.clone(), next(&fragmentable)]), 1);
    assert_eq!(pieces(&[fragmentable.clone(), same(&fragmentable)]), 2);
    let second = next(&first);
    assert_eq!(pieces(&[first, second.clone(), same(&second)]), 2, "rising, then standing");
}

#[test]
fn a_wrong_checksum_is_never_covered_up() {
    let frames = [plain(), next(&plain()), next(&next(&plain()))].map(|recipe| recipe.frame());
    for broken in 0..3 {
        for place in [24, 54] {
            let mut frames = frames.clone();
            frames[broken][place] ^= 0x10;
            let joined = join(&frames.clone().map(|frame| (frame, false)), Capabilities::ALL);
            let wire: Vec<_> = joined.into_iter().flat_map(on_the_wire).collect();
            assert_eq!(wire, frames, "frame {broken}, byte {place}");
        }
    }
}

#[test]
fn open_and_complete_checksums_are_not_mixed() {
    let frames = [(plain().frame(), false), (next(&plain()).partial(), true)];
    assert_eq!(join(&frames, Capabilities::ALL).len(), 2);
}

#[test]
fn a_datagram_without_checksum_is_not_given_one() {
    let first = Recipe { udp: true, ..plain() };
    let frames = [first.clone(), next(&first)].map(|recipe| {
        let mut frame = recipe.frame();
        frame[40..42].fill(0);
        (frame, false)
    });
    assert_eq!(join(&frames, Capabilities::ALL).len(), 2);
}

#[test]
fn a_super_frame_is_no_longer_than_an_ip_packet() {
    let mut frames = vec![Recipe { payload: vec![1; 9000], ..plain() }];
    for _ in 0..7 {
        frames.push(next(frames.last().unwrap()));
    }
    let frames: Vec<_> = frames.iter().map(|recipe| (recipe.frame(), false)).collect();
    let joined = join(&frames, Capabilities::ALL);
    assert_eq!(joined.len(), 2);
    assert_eq!(joined[0].1.len(), 54 + 7 * 9000);
}

#[test]
fn flows_are_joined_beside_each_other() {
    let mut frames = Vec::new();
    let mut flows: Vec<Recipe> = (0..10).map(|flow| Recipe { flow, ..plain() }).collect();
    for _ in 0..5 {
        for flow in &mut flows {
            frames.push(flow.clone());
            *flow = next(flow);
        }
    }
    assert_eq!(pieces(&frames), 10);
}

#[test]
fn more_flows_than_places_lose_nothing() {
    let mut frames = Vec::new();
    let mut flows: Vec<Recipe> = (0..40).map(|flow| Recipe { flow, ..plain() }).collect();
    for _ in 0..3 {
        for flow in &mut flows {
            frames.push((flow.frame(), false));
            *flow = next(flow);
        }
    }
    let wire: Vec<_> = join(&frames, Capabilities::ALL).into_iter().flat_map(on_the_wire).collect();
    assert_eq!(wire.len(), 120);
}

#[test]
fn a_reader_without_the_offload_gets_single_frames() {
    let frames = [(plain().frame(), false), (next(&plain()).frame(), false)];
    assert_eq!(join(&frames, Capabilities::NONE).len(), 2);
    assert_eq!(join(&frames, Capabilities { tcp4: false, ..Capabilities::ALL }).len(), 2);
    assert_eq!(join(&frames, Capabilities { udp: false, ..Capabilities::ALL }).len(), 1);
}

#[test]
fn what_has_no_transport_cannot_have_an_open_checksum() {
    let arp = specimen::ethernet(TO, FROM, &[], 0x0806, &[0; 28]);
    let received = Received { start: 0, end: arp.len(), partial: true };
    let outcome = Joiner::new().push(&arp, 7u8, Capabilities::ALL, received, &mut |_, _| panic!("delivered"));
    assert_eq!(outcome, Err(Refusal::PartialUnknown));
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

fn twist() -> impl Strategy<Value = Twist> {
    use Twist::*;
    prop_oneof![
        20 => Just(Nothing),
        10 => prop::sample::select(vec![
            Short, Push, Fin, Gap, Acknowledgement, Window, Congestion, IdJump, Empty, Urgent, Syn, Cwr, Options,
            Padding, Broken, BrokenHeader, Fragment,
        ]),
    ]
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

proptest! {
    /// Whatever comes in whatever mixture, what leaves the joiner is on the wire, flow by flow, bit for bit what came.
    #[test]
    fn joining_changes_nothing_on_the_wire(
        kinds in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 3),
        steps in proptest::collection::vec((0usize..3, twist()), 1..120),
        partial in any::<bool>(),
    ) {
        let mut flows: Vec<Recipe> = kinds
            .iter()
            .zip(1000..)
            .map(|((v6, udp, tagged), flow)| Recipe {
                v6: *v6,
                udp: *udp,
                tags: if *tagged { vec![5] } else { vec![] },
                flow,
                ..plain()
            })
            .collect();
        let mut came = vec![Vec::new(); 3];
        let mut batch = Vec::new();
        for (flow, twist) in steps {
            let (recipe, frame) = twisted(&flows[flow], twist);
            flows[flow] = recipe.clone();
            came[flow].push(frame.clone());
            // Only an intact frame is ever sent with an open checksum.
            let open = partial && frame == recipe.frame() && Layout::of(&frame).is_some_and(|l| l.end == frame.len());
            batch.push(if open { (recipe.partial(), true) } else { (frame, false) });
        }
        let mut went = vec![Vec::new(); 3];
        for frame in join(&batch, Capabilities::ALL).into_iter().flat_map(on_the_wire) {
            let flow = flows
                .iter()
                .position(|flow| {
                    let network = 14 + 4 * flow.tags.len();
                    let upper = network + if flow.v6 { 40 } else { 20 };
                    frame[network] >> 4 == if flow.v6 { 6 } else { 4 }
                        && frame[upper..upper + 2] == flow.flow.to_be_bytes()
                })
                .unwrap();
            went[flow].push(frame);
        }
        prop_assert_eq!(went, came);
    }
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
