//! Which worker reads a queue of a TAP.
//!
//! Whoever brings a machine its frames is awake when the machine answers: read by the same worker, an answer wakes no other thread, which is most of what a round
//! trip through an idle tunnel costs. So a queue follows the worker that brings its machine the most lately ([`Readers::brought_by`]), as long as that one has time left. A machine
//! that sends much is read by another, so that two cores share the work.
//!
//! A queue is given away by the worker that reads it, when nothing of it waits there any more: so the order inside a flow stays as it is.
//!
//! Pure but for the numbers that workers share: time, bytes and load are arguments.

use std::{
    sync::atomic::{
        AtomicU32, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::{Duration, Instant},
};

use crate::switch::PortId;

/// How long a queue is looked at before it is judged.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// Bytes a second above which a machine sends much, and those below which it does not: what a worker seals in a tenth, and in a fortieth of its time.
const MUCH: u64 = 64 << 20;
const LITTLE: u64 = 16 << 20;
/// Load, in thousandths of a core, of a worker that has no time left, and of one that has.
const FULL: u32 = 850;
const ROOM: u32 = 600;

/// Who reads each queue of a port, and who brings its machine frames.
#[derive(Debug)]
pub(crate) struct Readers {
    /// The port's number, by which the queues of several ports are spread.
    first: usize,
    of: Box<[AtomicUsize]>,
    /// A worker and its load; [`NOBODY`] before the first.
    bringer: AtomicU32,
}

const NOBODY: u32 = u32::MAX;

/// A worker that brings frames, with its load in thousandths of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bringer {
    worker: usize,
    load: u32,
}

impl Readers {
    /// Those of a port's queues: at first each worker reads its share of them.
    pub(crate) fn new(port: PortId, queues: usize, workers: usize) -> Self {
        let first = port.0 as usize;
        let of = (first..first + queues).map(|worker| AtomicUsize::new(worker % workers)).collect();
        Self { first, of, bringer: AtomicU32::new(NOBODY) }
    }

    /// The queues that this worker is to read.
    pub(crate) fn queues_of(&self, worker: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.of.len()).filter(move |queue| self.of[*queue].load(Acquire) == worker)
    }

    /// Another reads it from now on; it has to be woken.
    pub(crate) fn give(&self, queue: usize, to: usize) {
        self.of[queue].store(to, Release);
    }

    /// A worker brings the machine something. For each write to a TAP; a shared line is written to only where it changes.
    #[inline]
    pub(crate) fn brought_by(&self, worker: usize, load: u32) {
        let word = u32::try_from(worker).unwrap_or(0) << 16 | load.min(1000);
        if self.bringer.load(Relaxed) != word {
            self.bringer.store(word, Relaxed);
        }
    }

    fn bringer(&self) -> Option<Bringer> {
        let word = self.bringer.load(Relaxed);
        (word != NOBODY).then_some(Bringer { worker: (word >> 16) as usize, load: word & 0xffff })
    }
}

/// A queue as the worker sees it that reads it.
#[derive(Debug)]
pub(crate) struct Reading {
    since: Instant,
    bytes: u64,
    bringer: Option<usize>,
}

impl Reading {
    pub(crate) fn begun(now: Instant) -> Self {
        Self { since: now, bytes: 0, bringer: None }
    }

    /// So many bytes were read.
    #[inline]
    pub(crate) fn note(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Judges the time since the last look: to which worker the queue goes, if not to the one that reads it.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        readers: &Readers,
        queue: usize,
        me: usize,
        workers: usize,
    ) -> Option<usize> {
        let took = now.saturating_duration_since(self.since);
        if took < LOOK {
            return None;
        }
        let rate = u128::from(self.bytes) * 1_000_000_000 / took.as_nanos().max(1);
        (self.since, self.bytes) = (now, 0);
        let bringer = readers.bringer();
        let before = std::mem::replace(&mut self.bringer, bringer.map(|bringer| bringer.worker));
        let Bringer { worker, load } = bringer?;
        if worker == me {
            let is_other = (rate > u128::from(MUCH) || load > FULL) && workers > 1;
            // Those of several machines, and those of one, go to several.
            return is_other.then(|| (me + 1 + (readers.first + queue) % (workers - 1)) % workers);
        }
        // Somebody who came by once is not followed.
        let is_usual = before == Some(worker) && worker < workers;
        (is_usual && rate < u128::from(LITTLE) && load < ROOM).then_some(worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const ME: usize = 0;
    const OTHER: usize = 1;
    const WORKERS: usize = 4;

    /// What each of some looks says, so many bytes having been read before each.
    fn looks(readers: &Readers, me: usize, queue: usize, bytes: &[usize]) -> Vec<Option<usize>> {
        let mut now = testing::now();
        let mut reading = Reading::begun(now);
        let look = |bytes: &usize| {
            now += LOOK;
            reading.note(*bytes);
            reading.look(now, readers, queue, me, WORKERS)
        };
        bytes.iter().map(look).collect()
    }

    #[test]
    fn a_queue_follows_who_brings_its_machine_frames_and_leaves_it_when_it_sends_much() {
        let readers = Readers::new(PortId(0), 2, WORKERS);
        assert_eq!(looks(&readers, ME, 0, &[0, 0]), [None, None], "nobody brings anything");
        readers.brought_by(OTHER, 100);
        assert_eq!(looks(&readers, ME, 0, &[0, 0]), [None, Some(OTHER)]);
        assert_eq!(looks(&readers, ME, 0, &[2 << 20, 2 << 20]), [None, None], "100 MiB a second");
        assert_eq!(looks(&readers, OTHER, 0, &[1000, 2 << 20]), [None, Some(2)]);
        assert_eq!(looks(&readers, OTHER, 1, &[2 << 20]), [Some(3)], "the other queue goes elsewhere");
    }

    #[test]
    fn a_worker_without_time_left_is_not_followed() {
        let readers = Readers::new(PortId(0), 1, WORKERS);
        readers.brought_by(OTHER, 700);
        assert_eq!(looks(&readers, ME, 0, &[0, 0]), [None, None]);
        assert_eq!(looks(&readers, OTHER, 0, &[0, 0]), [None, None], "and keeps what it has");
        readers.brought_by(OTHER, 990);
        assert_eq!(looks(&readers, OTHER, 0, &[0]), [Some(2)]);
    }

    #[test]
    fn who_came_by_once_is_not_followed() {
        let readers = Readers::new(PortId(0), 1, WORKERS);
        let mut now = testing::now();
        let mut reading = Reading::begun(now);
        for worker in [1, 2, 1, 3, 2] {
            readers.brought_by(worker, 0);
            now += LOOK;
            assert_eq!(reading.look(now, &readers, 0, ME, WORKERS), None);
        }
    }

    #[test]
    fn one_worker_reads_all() {
        let readers = Readers::new(PortId(3), 2, 1);
        assert_eq!(readers.queues_of(0).count(), 2);
        readers.brought_by(0, 1000);
        let mut reading = Reading::begun(testing::now());
        reading.note(1 << 30);
        assert_eq!(reading.look(testing::now() + LOOK, &readers, 0, 0, 1), None);
    }
}
