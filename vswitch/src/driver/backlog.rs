//! Frames read from TAP queues that wait for their turn, fair among flows.
//!
//! A TAP's own queue is first in, first out, and bounded in frames only: behind the super-frames of one busy flow everything else would wait
//! for tens of milliseconds. So a worker empties it quickly, and sends from here: flows take turns by deficit round robin, and a
//! flow that has nothing waiting goes first when it comes (RFC 8290 section 4.2; what waits is bounded in bytes, and
//! an overflow is taken from the longest flow's head, where its sender learns of it soonest). A flow whose queue stands is told of
//! by [`Codel`]; what becomes of that is the sender's affair.
//!
//! Order inside a flow does not change: a flow is one queue. Buffers are made on demand, kept, and bounded.
//!
//! Pure: time is an argument, and there is no device.

use std::{collections::VecDeque, time::Instant};

use super::codel::Codel;

use crate::switch::PortId;

/// Flow queues; flows that share one share its turn.
const FLOWS: usize = 64;
/// Bytes a flow may send in one turn: a quarter of a super-frame, or some hundred small frames, which leave with few calls.
const QUANTUM: isize = 16 * 1024;
/// Frames up to this size wait in small buffers.
const SMALL_BYTES: usize = 2048;
/// Small frames that wait at once: 2 MiB.
const SMALL_MAX: usize = 1024;
/// Super-frames that wait at once: 8 MiB, more than one TCP connection's usual window (6 MiB), so that a single flow fills no queue
/// and loses nothing here. Fewer would add loss; more would only grow what their senders wait for.
const LARGE_MAX: usize = 128;

/// One frame with its virtio header.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) port: PortId,
    len: usize,
    since: Instant,
    /// Its flow's queue has stood too long: the flow's sender is to be told.
    pub(crate) congested: bool,
    buffer: Box<[u8]>,
}

impl Waiting {
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.len]
    }
}

#[derive(Debug, Default)]
struct Flow {
    frames: VecDeque<Waiting>,
    bytes: usize,
    credit: isize,
    listed: bool,
    codel: Codel,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Backlog {
    flows: Box<[Flow]>,
    /// Flows that came lately, and those that had their first turn.
    new: VecDeque<usize>,
    old: VecDeque<usize>,
    /// Where the next frame is read to.
    spare: Box<[u8]>,
    free_small: Vec<Box<[u8]>>,
    free_large: Vec<Box<[u8]>>,
    small: usize,
    large: usize,
}

impl Backlog {
    /// `frame_bytes` is the longest frame that can be read.
    pub(crate) fn new(frame_bytes: usize) -> Self {
        Self {
            flows: (0..FLOWS).map(|_| Flow::default()).collect(),
            new: VecDeque::new(),
            old: VecDeque::new(),
            spare: vec![0; frame_bytes].into(),
            free_small: Vec::new(),
            free_large: Vec::new(),
            small: 0,
            large: 0,
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.small + self.large == 0
    }

    /// Whether anything of this port waits.
    pub(crate) fn has(&self, port: PortId) -> bool {
        self.flows.iter().flat_map(|flow| &flow.frames).any(|frame| frame.port == port)
    }

    /// Room for the next frame.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.spare
    }

    /// Takes the frame that was read into [`Self::room`], `skip` bytes of which are not the frame's own; how many others had to go for it.
    pub(crate) fn push(&mut self, now: Instant, port: PortId, len: usize, skip: usize) -> u64 {
        let flow = flow_of(port, self.spare.get(skip..len).unwrap_or_default());
        let mut dropped = 0;
        let buffer = if len <= SMALL_BYTES {
            while self.small >= SMALL_MAX {
                dropped += self.drop_from(|flow| flow.frames.len());
            }
            self.small += 1;
            let mut buffer = self.free_small.pop().unwrap_or_else(|| vec![0; SMALL_BYTES].into());
            buffer[..len].copy_from_slice(&self.spare[..len]);
            buffer
        } else {
            while self.large >= LARGE_MAX {
                dropped += self.drop_from(|flow| flow.bytes);
            }
            self.large += 1;
            let frame_bytes = self.spare.len();
            let next = self.free_large.pop().unwrap_or_else(|| vec![0; frame_bytes].into());
            std::mem::replace(&mut self.spare, next)
        };
        let queued = &mut self.flows[flow];
        queued.bytes += len;
        queued.frames.push_back(Waiting { port, len, since: now, congested: false, buffer });
        if !queued.listed {
            queued.listed = true;
            queued.credit = QUANTUM;
            self.new.push_back(flow);
        }
        dropped
    }

    /// The frame whose turn it is; give it back with [`Self::recycle`].
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Waiting> {
        loop {
            let (fresh, flow) = match self.new.front() {
                Some(flow) => (true, *flow),
                None => (false, *self.old.front()?),
            };
            let queued = &mut self.flows[flow];
            let list = if fresh { &mut self.new } else { &mut self.old };
            if queued.credit <= 0 {
                queued.credit += QUANTUM;
                list.pop_front();
                self.old.push_back(flow);
            } else if let Some(mut frame) = queued.frames.pop_front() {
                frame.congested = queued.codel.tells(now, frame.since, queued.frames.is_empty());
                queued.bytes -= frame.len;
                queued.credit -= isize::try_from(frame.len).unwrap_or(isize::MAX);
                return Some(frame);
            } else {
                list.pop_front();
                // A flow that was new waits one round, so that it cannot be new over and over and starve the old.
                if fresh && !self.old.is_empty() {
                    self.old.push_back(flow);
                } else {
                    queued.listed = false;
                }
            }
        }
    }

    /// Takes a frame's buffer back.
    pub(crate) fn recycle(&mut self, frame: Waiting) {
        if frame.buffer.len() == SMALL_BYTES {
            self.small -= 1;
            self.free_small.push(frame.buffer);
        } else {
            self.large -= 1;
            self.free_large.push(frame.buffer);
        }
    }

    /// Drops the head of the longest flow: in frames where small buffers are short, in bytes where large ones are.
    fn drop_from(&mut self, length: impl Fn(&Flow) -> usize) -> u64 {
        let longest = self.flows.iter_mut().max_by_key(|flow| length(flow)).expect("there are flows");
        let Some(frame) = longest.frames.pop_front() else { return 0 };
        longest.bytes -= frame.len;
        self.recycle(frame);
        1
    }
}

/// The queue of a frame: by port, addresses, protocol and transport ports; by its Ethernet header where there are none. Fragments go
/// by addresses, as everywhere in Linux.
fn flow_of(port: PortId, frame: &[u8]) -> usize {
    const FRAGMENT: [u8; 2] = [0x3f, 0xff];
    let part = |from: usize, to: usize| frame.get(from..to).unwrap_or_default();
    let transport = |protocol: Option<&u8>| matches!(protocol, Some(6 | 17));
    let pieces: [&[u8]; 3] = match part(12, 14) {
        [0x08, 0x00] => {
            let fragment = part(20, 22).iter().zip(FRAGMENT).any(|(byte, mask)| byte & mask != 0);
            let ports = transport(frame.get(23)) && frame.get(14) == Some(&0x45) && !fragment;
            [part(26, 34), part(23, 24), if ports { part(34, 38) } else { &[] }]
        }
        [0x86, 0xdd] => {
            [part(22, 54), part(20, 21), if transport(frame.get(20)) { part(54, 58) } else { &[] }]
        }
        _ => [part(0, 14), &[], &[]],
    };
    let seed = u64::from(port.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = pieces.iter().flat_map(|piece| piece.chunks(8)).fold(seed, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    });
    usize::try_from(hash % FLOWS as u64).expect("below FLOWS")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    const PORT: PortId = PortId(1);

    /// A UDP frame of a flow, numbered.
    fn push(backlog: &mut Backlog, flow: u16, number: u32, len: usize) -> u64 {
        let room = backlog.room();
        room[..len].fill(0);
        room[12..14].copy_from_slice(&[0x08, 0x00]);
        room[14] = 0x45;
        room[23] = 17;
        room[34..36].copy_from_slice(&flow.to_le_bytes());
        room[40..44].copy_from_slice(&number.to_le_bytes());
        backlog.push(testing::now(), PORT, len, 0)
    }

    fn pop(backlog: &mut Backlog) -> Option<(u16, u32)> {
        let mut frame = backlog.pop(testing::now())?;
        let bytes = frame.bytes();
        let flow = u16::from_le_bytes([bytes[34], bytes[35]]);
        let number = u32::from_le_bytes([bytes[40], bytes[41], bytes[42], bytes[43]]);
        backlog.recycle(frame);
        Some((flow, number))
    }

    /// Two flows with queues of their own.
    fn two_flows() -> (u16, u16) {
        let queue = |flow: u16| {
            let mut frame = [0; 60];
            frame[12] = 8;
            frame[14] = 0x45;
            frame[23] = 17;
            frame[34..36].copy_from_slice(&flow.to_le_bytes());
            flow_of(PORT, &frame)
        };
        let other = (2..).find(|flow| queue(*flow) != queue(1)).unwrap();
        (1, other)
    }

    #[test]
    fn a_flow_with_nothing_waiting_goes_before_a_busy_one() {
        let (busy, sparse) = two_flows();
        let mut backlog = Backlog::new(65_610);
        for number in 0..20 {
            push(&mut backlog, busy, number, 65_000);
        }
        assert_eq!(pop(&mut backlog), Some((busy, 0)));
        push(&mut backlog, sparse, 0, 98);
        assert_eq!(pop(&mut backlog), Some((sparse, 0)));
        assert_eq!(pop(&mut backlog), Some((busy, 1)));
    }

    #[test]
    fn two_busy_flows_share_by_bytes() {
        let (a, b) = two_flows();
        let mut backlog = Backlog::new(65_610);
        for number in 0..16 {
            push(&mut backlog, a, number, 60_000);
        }
        for number in 0..1000 {
            push(&mut backlog, b, number, 1000);
        }
        let mut sent = BTreeMap::new();
        for _ in 0..500 {
            let (flow, _) = pop(&mut backlog).unwrap();
            *sent.entry(flow).or_insert(0) += if flow == a { 60_000 } else { 1000 };
        }
        let difference: i64 = sent[&a] - sent[&b];
        assert!(difference.abs() < 90_000, "{sent:?}");
    }

    #[test]
    fn what_waits_is_bounded_and_the_longest_flow_gives_way() {
        let (busy, sparse) = two_flows();
        let mut backlog = Backlog::new(65_610);
        push(&mut backlog, sparse, 7, 3000);
        let dropped: u64 = (0..400).map(|number| push(&mut backlog, busy, number, 65_000)).sum();
        assert_eq!(dropped, 400 + 1 - LARGE_MAX as u64);
        let dropped: u64 = (0..5000).map(|number| push(&mut backlog, busy, number, 60)).sum();
        assert!(dropped >= 5000 - SMALL_MAX as u64);
        assert!(backlog.small <= SMALL_MAX && backlog.large <= LARGE_MAX);
        let left: Vec<_> = std::iter::from_fn(|| pop(&mut backlog)).collect();
        assert!(left.contains(&(sparse, 7)), "the short one stays");
        assert!(backlog.is_empty());
        assert!(backlog.free_large.len() <= LARGE_MAX && backlog.free_small.len() <= SMALL_MAX);
    }

    #[test]
    fn a_flood_of_small_frames_takes_nothing_from_a_flow_of_large_ones() {
        let (flood, bulk) = two_flows();
        let mut backlog = Backlog::new(65_610);
        for number in 0..20 {
            push(&mut backlog, bulk, number, 65_000);
        }
        for number in 0..5000 {
            push(&mut backlog, flood, number, 60);
        }
        let left = std::iter::from_fn(|| pop(&mut backlog)).filter(|(flow, _)| *flow == bulk).count();
        assert_eq!(left, 20);
    }

    #[test]
    fn a_port_waits_until_its_last_frame_is_taken() {
        let mut backlog = Backlog::new(65_610);
        let other = PortId(2);
        for number in 0..3 {
            push(&mut backlog, 1, number, 1000);
        }
        assert!(backlog.has(PORT) && !backlog.has(other));
        for left in [true, true, false] {
            pop(&mut backlog).unwrap();
            assert_eq!(backlog.has(PORT), left);
        }
    }

    #[test]
    fn frames_that_are_none_have_a_queue_too() {
        let mut backlog = Backlog::new(65_610);
        for len in 0..60 {
            backlog.room()[..60].copy_from_slice(&[0x08; 60]);
            backlog.push(testing::now(), PORT, len, 10);
        }
        assert_eq!(std::iter::from_fn(|| pop_any(&mut backlog)).count(), 60);
    }

    fn pop_any(backlog: &mut Backlog) -> Option<()> {
        let frame = backlog.pop(testing::now())?;
        backlog.recycle(frame);
        Some(())
    }

    proptest! {
        /// The rule: within the bounds nothing is lost, and each flow's frames come in the order they went in.
        #[test]
        fn order_inside_a_flow_is_kept(steps in prop::collection::vec((0_u16..9, 44_usize..9000, 0_u8..3), 1..300)) {
            let mut backlog = Backlog::new(65_610);
            let (mut next_in, mut next_out) = (BTreeMap::new(), BTreeMap::new());
            let (mut pushed, mut popped) = (0, 0);
            let mut check = |backlog: &mut Backlog| {
                let Some((flow, number)) = pop(backlog) else { return false };
                let expected = next_out.entry(flow).or_insert(0);
                assert_eq!(number, *expected);
                *expected += 1;
                true
            };
            for (flow, len, pops) in steps {
                if backlog.large < LARGE_MAX {
                    let number = next_in.entry(flow).or_insert(0);
                    prop_assert_eq!(push(&mut backlog, flow, *number, len), 0);
                    *number += 1;
                    pushed += 1;
                }
                for _ in 0..pops {
                    popped += usize::from(check(&mut backlog));
                }
            }
            while check(&mut backlog) {
                popped += 1;
            }
            prop_assert_eq!(popped, pushed);
        }
    }
}
