//! Super-frames that are cut, and headers that must not be believed.

use super::*;

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
