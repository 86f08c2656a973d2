//! What is joined, and what must not be.

use super::*;

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
