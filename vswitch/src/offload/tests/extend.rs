//! [`Joiner::extend`]: what continues the frame before it is joined without being judged again, and nothing else is.

use super::*;

/// One batch, and where its frames lie.
struct Batch {
    arena: Vec<u8>,
    places: Vec<Received>,
}

impl Batch {
    fn of(frames: &[Recipe]) -> Self {
        let (mut arena, mut places) = (Vec::new(), Vec::new());
        for frame in frames {
            let start = arena.len();
            arena.extend(frame.frame());
            places.push(Received { start, end: arena.len(), partial: false });
        }
        Self { arena, places }
    }

    /// Gives the frames to a joiner, each first to `extend` where `tried` says so: which were taken by it, and what was delivered, by port.
    fn join(&self, tried: bool, port: impl Fn(usize) -> u8) -> (Vec<usize>, Vec<(u8, Vec<u8>)>) {
        let (mut joiner, mut extended, mut delivered) = (Joiner::new(), Vec::new(), Vec::new());
        let mut deliver = |port: u8, slices: &[IoSlice<'_>]| {
            delivered.push((port, slices.iter().flat_map(|slice| slice.iter()).copied().collect()));
        };
        for (number, place) in self.places.iter().enumerate() {
            if tried && joiner.extend(&self.arena, *place) {
                extended.push(number);
            } else {
                joiner.push(&self.arena, port(number), Capabilities::ALL, *place, &mut deliver).unwrap();
            }
        }
        joiner.flush(&self.arena, &mut deliver);
        (extended, delivered)
    }
}

#[test]
fn a_run_is_taken_after_its_first_frame_and_becomes_what_it_would_have_become() {
    for (v6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
        let frames: Vec<Recipe> =
            std::iter::successors(Some(Recipe { v6, udp, ..plain() }), |frame| Some(next(frame)))
                .take(5)
                .collect();
        let batch = Batch::of(&frames);
        let (extended, delivered) = batch.join(true, |_| 7);
        assert_eq!(extended, [1, 2, 3, 4], "v6 {v6}, udp {udp}");
        assert_eq!(delivered, batch.join(false, |_| 7).1);
    }
}

#[test]
fn only_the_flow_of_the_frame_before_is_continued() {
    let one = plain();
    let other = Recipe { flow: 2000, ..plain() };
    // The last frame continues the first flow, but another flow's stands between them: whose it is has to be judged.
    let batch = Batch::of(&[one.clone(), other, next(&one)]);
    assert_eq!(batch.join(true, |_| 7).0, [0_usize; 0]);
}

#[test]
fn what_goes_alone_is_continued_by_nothing() {
    let pushed = Recipe { flags: 0x18, ..plain() };
    let batch = Batch::of(&[plain(), next(&plain()), pushed.clone(), next(&pushed)]);
    let (extended, _) = batch.join(true, |_| 7);
    assert_eq!(extended, [1], "a frame with PSH that starts nothing is the latest of no flow");
}

#[test]
fn other_addresses_and_other_stations_are_judged() {
    let first = plain();
    let tagged = Recipe { tags: vec![5], ..next(&first) };
    let seven = Recipe { v6: true, ..next(&first) };
    for other in [tagged, seven] {
        assert_eq!(Batch::of(&[first.clone(), other]).join(true, |_| 7).0, [0_usize; 0]);
    }
    let mut batch = Batch::of(&[first.clone(), next(&first)]);
    let source = batch.places[1].start + 6;
    batch.arena[source + 5] ^= 1;
    assert_eq!(batch.join(true, |_| 7).0, [0_usize; 0], "another source MAC address");
}

proptest! {
    /// Trying changes nothing of what is delivered, whatever the mixture.
    #[test]
    fn trying_first_changes_nothing(steps in proptest::collection::vec((0u16..3, any::<bool>()), 1..80)) {
        let mut flows: Vec<Recipe> = (0..3).map(|flow| Recipe { flow, ..plain() }).collect();
        let mut frames = Vec::new();
        for (flow, lost) in steps {
            let flow = &mut flows[usize::from(flow)];
            if !lost {
                frames.push(flow.clone());
            }
            *flow = next(flow);
        }
        let batch = Batch::of(&frames);
        prop_assert_eq!(batch.join(true, |_| 7).1, batch.join(false, |_| 7).1);
    }
}
