//! What workers hand to the keeper: a bounded queue in three classes, so that a flood of handshakes leaves room for what
//! authenticated peers say, and frames without a link for both.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
};

use super::poll::Waker;
use crate::{
    link::{Report, Route},
    path::Origin,
    switch::{NetworkId, PeerIndex},
};

/// Handshake datagrams that wait: 40 ms of work at most.
const HANDSHAKES_MAX: usize = 256;
/// Messages and probes of authenticated peers that wait.
const MESSAGES_MAX: usize = 2048;
/// Frames that wait for the keeper to hold or release them.
const FRAMES_MAX: usize = 512;

/// One thing for the keeper.
#[derive(Debug)]
pub(crate) enum Input {
    Handshake { from: Origin, datagram: Vec<u8> },
    Probe { peer: PeerIndex, from: Origin, datagram: Vec<u8> },
    Control { peer: PeerIndex, body: Vec<u8> },
    Touched { peer: PeerIndex, index: u32, from: Origin, newest: bool },
    UnknownChannel { peer: PeerIndex, channel: u32 },
    TooLarge { peer: PeerIndex, size: u16 },
    Woken { peer: PeerIndex },
    Frame { peer: PeerIndex, network: NetworkId, frame: Vec<u8> },
}

#[derive(Debug, Default)]
struct Queue {
    inputs: VecDeque<Input>,
    counts: [usize; 3],
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    waker: Waker,
}

impl Inbox {
    pub(crate) fn new(waker: Waker) -> Self {
        Self { queue: Mutex::default(), waker }
    }

    /// False if the class is full; then the input is lost.
    pub(crate) fn push(&self, input: Input) -> bool {
        let (class, most) = match input {
            Input::Handshake { .. } => (0, HANDSHAKES_MAX),
            Input::Probe { .. }
            | Input::Control { .. }
            | Input::Touched { .. }
            | Input::UnknownChannel { .. }
            | Input::TooLarge { .. }
            | Input::Woken { .. } => (1, MESSAGES_MAX),
            Input::Frame { .. } => (2, FRAMES_MAX),
        };
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.counts[class] >= most {
            return false;
        }
        queue.counts[class] += 1;
        let first = queue.inputs.is_empty();
        queue.inputs.push_back(input);
        drop(queue);
        if first {
            self.waker.wake();
        }
        true
    }

    /// What sending showed.
    pub(crate) fn report(&self, reports: impl Iterator<Item = (Arc<Route>, Report)>) {
        for (route, report) in reports {
            let peer = route.peer;
            // One that finds no room is made again by the next datagram of its kind.
            let taken = self.push(match report {
                Report::TooLarge(size) => Input::TooLarge { peer, size },
                Report::Woken => Input::Woken { peer },
            });
            if !taken && report == Report::Woken {
                route.asleep.store(true, Relaxed);
            }
        }
    }

    /// Everything that waits, in order; `into` is empty and lends its room.
    pub(crate) fn take(&self, into: &mut VecDeque<Input>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut queue.inputs, into);
        queue.counts = [0; 3];
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_flood_of_one_class_leaves_room_for_the_others() {
        let inbox = Inbox::new(Waker::new().unwrap());
        let from = Origin::direct("192.0.2.1:9".parse().unwrap());
        let taken = (0..1000).filter(|_| inbox.push(Input::Handshake { from, datagram: Vec::new() })).count();
        assert_eq!(taken, HANDSHAKES_MAX);
        assert!(inbox.push(Input::UnknownChannel { peer: testing::peer(1), channel: 1 }));
        let mut inputs = VecDeque::new();
        inbox.take(&mut inputs);
        assert_eq!(inputs.len(), HANDSHAKES_MAX + 1);
        assert!(inbox.push(Input::Handshake { from, datagram: Vec::new() }));
    }
}
