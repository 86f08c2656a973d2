//! Joining frames that were cut because they exceed the path.
//!
//! Cutting is [`crate::wire::fragment::Fragment::parts`]; this is the other end. Each worker has one [`Joiner`]: bounded in frames
//! ([`FRAMES_MAX`], and [`FRAMES_PER_PEER_MAX`] for one peer, so that none can crowd out the others) and thereby in bytes; buffers
//! are reused. The oldest unfinished frame gives way, as one of its parts is most likely lost. Parts come from an authenticated peer
//! and through the replay window, so a part comes once; still, nothing here relies on it.

use crate::{
    switch::PeerIndex,
    wire::fragment::{FRAME_BYTES_MAX, Fragment},
};

/// Unfinished frames at once; 590 KiB at most.
const FRAMES_MAX: usize = 64;
/// Unfinished frames of one peer: what a reordering path has under way.
const FRAMES_PER_PEER_MAX: usize = 32;

#[derive(Debug)]
struct Partial {
    peer: PeerIndex,
    frame: u32,
    total: usize,
    count: u8,
    /// A bit for each part that is there.
    have: u16,
    /// When it began, as a growing number.
    began: u64,
    bytes: Vec<u8>,
}

/// Frames of which parts are missing.
#[derive(Debug, Default)]
pub(crate) struct Joiner {
    partials: Vec<Partial>,
    spare: Vec<Vec<u8>>,
    joined: Vec<u8>,
    serial: u64,
}

impl Joiner {
    /// Takes a part; gives the frame when it is whole.
    pub(crate) fn add(&mut self, peer: PeerIndex, part: Fragment, bytes: &[u8]) -> Option<&[u8]> {
        let same = |partial: &Partial| partial.peer == peer && partial.frame == part.frame();
        let place = match self.partials.iter().position(same) {
            Some(place) => place,
            None => self.begin(peer, part),
        };
        let partial = &mut self.partials[place];
        if partial.total != part.total() || partial.count != part.count() {
            // The peer contradicts itself.
            self.give_up(place);
            return None;
        }
        partial.bytes[part.offset()..part.offset() + bytes.len()].copy_from_slice(bytes);
        partial.have |= 1 << part.index();
        if partial.have.count_ones() < u32::from(partial.count) {
            return None;
        }
        let whole = self.partials.swap_remove(place);
        let old = std::mem::replace(&mut self.joined, whole.bytes);
        self.spare.push(old);
        Some(&self.joined[..whole.total])
    }

    fn begin(&mut self, peer: PeerIndex, part: Fragment) -> usize {
        let oldest = |partials: &[Partial], of: Option<PeerIndex>| {
            let candidates =
                partials.iter().enumerate().filter(|(_, partial)| of.is_none_or(|peer| partial.peer == peer));
            candidates.min_by_key(|(_, partial)| partial.began).map(|(place, _)| place)
        };
        let of_peer = self.partials.iter().filter(|partial| partial.peer == peer).count();
        let victim = if of_peer >= FRAMES_PER_PEER_MAX {
            oldest(&self.partials, Some(peer))
        } else if self.partials.len() >= FRAMES_MAX {
            oldest(&self.partials, None)
        } else {
            None
        };
        if let Some(victim) = victim {
            self.give_up(victim);
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.resize(FRAME_BYTES_MAX, 0);
        self.serial += 1;
        self.partials.push(Partial {
            peer,
            frame: part.frame(),
            total: part.total(),
            count: part.count(),
            have: 0,
            began: self.serial,
            bytes,
        });
        self.partials.len() - 1
    }

    fn give_up(&mut self, place: usize) {
        let partial = self.partials.swap_remove(place);
        self.spare.push(partial.bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    fn parts(frame: u32, bytes: &[u8], part_max: usize) -> Vec<(Fragment, Vec<u8>)> {
        Fragment::parts(frame, bytes.len(), part_max)
            .unwrap()
            .map(|part| (part, bytes[part.offset()..part.offset() + part.part_bytes()].to_vec()))
            .collect()
    }

    proptest! {
        /// The rule: a frame comes out once, whole, as soon as its last part is in, whatever the order of parts.
        #[test]
        fn joins_what_was_cut_in_any_order(
            lens in prop::collection::vec(1201_usize..FRAME_BYTES_MAX, 1..8), seed in any::<u64>()
        ) {
            let frames: Vec<Vec<u8>> = lens
                .iter()
                .enumerate()
                .map(|(i, len)| (0..*len).map(|at| u8::try_from((at * 7 + i * 31) % 251).unwrap()).collect())
                .collect();
            let mut all: Vec<_> = frames
                .iter()
                .enumerate()
                .flat_map(|(i, frame)| parts(u32::try_from(i).unwrap(), frame, 1152))
                .collect();
            testing::shuffle(&mut all, seed);
            let mut joiner = Joiner::default();
            let mut out = Vec::new();
            for (part, bytes) in all {
                if let Some(frame) = joiner.add(testing::peer(1), part, &bytes) {
                    out.push((part.frame(), frame.to_vec()));
                }
            }
            out.sort();
            prop_assert_eq!(out.len(), frames.len());
            for ((_, joined), frame) in out.iter().zip(&frames) {
                prop_assert_eq!(joined, frame);
            }
        }
    }

    #[test]
    fn frames_of_two_peers_do_not_mix() {
        let (a, b) = (vec![1; 1514], vec![2; 1514]);
        let (a, b) = (parts(0, &a, 1152), parts(0, &b, 1152));
        let mut joiner = Joiner::default();
        assert!(joiner.add(testing::peer(1), a[0].0, &a[0].1).is_none());
        assert!(joiner.add(testing::peer(2), b[1].0, &b[1].1).is_none());
        assert_eq!(joiner.add(testing::peer(1), a[1].0, &a[1].1).unwrap(), [1; 1514]);
        assert_eq!(joiner.add(testing::peer(2), b[0].0, &b[0].1).unwrap(), [2; 1514]);
    }

    #[test]
    fn unfinished_frames_are_bounded_per_peer_and_in_sum() {
        let frame = vec![1; 1514];
        let mut joiner = Joiner::default();
        let other = parts(7, &frame, 1152);
        joiner.add(testing::peer(9), other[0].0, &other[0].1);
        for i in 0..1000 {
            let parts = parts(i, &frame, 1152);
            joiner.add(testing::peer(1), parts[0].0, &parts[0].1);
        }
        assert_eq!(joiner.partials.len(), FRAMES_PER_PEER_MAX + 1);
        assert!(
            joiner.add(testing::peer(9), other[1].0, &other[1].1).is_some(),
            "another peer's frame is not crowded out"
        );
        for peer in 0..100 {
            let parts = parts(0, &frame, 1152);
            joiner.add(testing::peer(peer + 10), parts[0].0, &parts[0].1);
        }
        assert_eq!(joiner.partials.len(), FRAMES_MAX);
        assert!(joiner.partials.len() + joiner.spare.len() <= FRAMES_MAX + 2);
    }

    #[test]
    fn parts_that_contradict_each_other_are_given_up() {
        let mut joiner = Joiner::default();
        let (a, b) = (parts(0, &[1; 1514], 1152), parts(0, &[1; 2000], 1152));
        assert!(joiner.add(testing::peer(1), a[0].0, &a[0].1).is_none());
        assert!(joiner.add(testing::peer(1), b[1].0, &b[1].1).is_none());
        assert!(joiner.partials.is_empty());
    }
}
