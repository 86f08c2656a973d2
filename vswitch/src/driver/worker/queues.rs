//! The queues a worker reads: taken, looked at, given away ([`super::super::readers`] says when).

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Port, Ports, Worker, token};
use crate::{
    driver::{
        clock,
        readers::{LOOK, Reading},
    },
    switch::PortId,
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// The ports there are, as far as this worker has noticed.
    ports: Arc<Ports>,
    reading: HashMap<(PortId, usize), Reading>,
    /// Those that are given to another worker once nothing of them waits here: no more is read of them.
    leaving: Vec<Leaving>,
    looked_at: Option<Looked>,
    /// Thousandths of a core.
    load: u32,
}

#[derive(Debug)]
struct Leaving {
    port: Arc<Port>,
    queue: usize,
    to: usize,
    /// When the last of what waits for its line will have left, once nothing of the port waits for its turn.
    last: Option<Instant>,
}

impl Leaving {
    /// Whether something of it may still wait for its line, nothing waiting for its turn. Others' lines may be busy for ever, and are not waited for.
    fn waits(&mut self, now: Instant, next: Option<Instant>, last: Option<Instant>) -> bool {
        let last = *self.last.get_or_insert(last.unwrap_or(now));
        next.is_some_and(|next| next <= last)
    }
}

#[derive(Debug, Clone, Copy)]
struct Looked {
    at: Instant,
    processor: Duration,
}

impl Queues {
    pub(super) fn load(&self) -> u32 {
        self.load
    }

    pub(super) fn port(&self, id: PortId) -> Option<Arc<Port>> {
        self.ports.get(&id).map(Arc::clone)
    }

    /// So many bytes were read.
    #[inline]
    pub(super) fn note(&mut self, port: PortId, queue: usize, bytes: usize) {
        if let Some(reading) = self.reading.get_mut(&(port, queue)) {
            reading.note(bytes);
        }
    }
}

impl Worker {
    /// Waits for the queues of new ports that are this worker's, and no longer for those that are gone.
    pub(super) fn watch(&mut self, now: Instant) {
        let ports = Arc::clone(self.ports.value());
        let before = std::mem::replace(&mut self.queues.ports, Arc::clone(&ports));
        for (id, port) in before.iter().filter(|(id, _)| !ports.contains_key(id)) {
            for queue in 0..port.queues.len() {
                if self.queues.reading.contains_key(&(*id, queue)) {
                    // The kernel forgets a descriptor that is closed; this one is still open.
                    self.let_go(port, queue);
                }
            }
        }
        self.queues.leaving.retain(|leaving| ports.contains_key(&leaving.port.id));
        self.take_given(now);
    }

    /// Waits for the queues that have become this worker's.
    pub(super) fn take_given(&mut self, now: Instant) {
        let Queues { ports, reading, leaving, .. } = &mut self.queues;
        for (id, port) in &**ports {
            for queue in port.readers.queues_of(self.number) {
                if leaving.iter().any(|leaving| leaving.port.id == *id && leaving.queue == queue) {
                    continue;
                }
                let Entry::Vacant(place) = reading.entry((*id, queue)) else { continue };
                match self.poll.add(&port.queues[queue], token(*id, queue)) {
                    Ok(()) => drop(place.insert(Reading::begun(now))),
                    Err(error) => tracing::warn!(%error, port = %id, "a queue cannot be waited for"),
                }
            }
        }
    }

    /// Waits for a queue no longer.
    pub(super) fn let_go(&mut self, port: &Port, queue: usize) {
        self.queues.reading.remove(&(port.id, queue));
        if let Err(error) = self.poll.remove(&port.queues[queue]) {
            tracing::warn!(%error, port = %port.id, "a queue could not be let go");
        }
    }

    /// Once in a while, judges which queues another worker is to read; gives them away when nothing of them waits here.
    pub(super) fn look(&mut self, now: Instant) {
        if self.queues.looked_at.is_none_or(|looked| now >= looked.at + LOOK) {
            self.judge(now);
        }
        let Self { queues: Queues { leaving, .. }, backlog, pacer, shared, .. } = self;
        let pacer = pacer.get_mut();
        let is_over = |leaving: &mut Leaving| {
            !backlog.has(leaving.port.id) && !leaving.waits(now, pacer.next_at(), pacer.last_at())
        };
        for Leaving { port, queue, to, .. } in leaving.extract_if(.., is_over) {
            port.readers.give(queue, to);
            shared.counters.queues_given.one();
            if let Some(waker) = shared.keeper.workers.get().and_then(|wakers| wakers.get(to)) {
                waker.wake();
            }
        }
    }

    fn judge(&mut self, now: Instant) {
        let processor = clock::thread_time();
        if let Some(before) = self.queues.looked_at.replace(Looked { at: now, processor }) {
            let (used, passed) = (processor.saturating_sub(before.processor), now - before.at);
            let load = used.as_nanos() * 1000 / passed.as_nanos().max(1);
            self.queues.load = u32::try_from(load).unwrap_or(1000);
        }
        let Self { queues: Queues { ports, reading, .. }, number, workers, .. } = self;
        let leave = |((id, queue), reading): (&(PortId, usize), &mut Reading)| {
            let port = ports.get(id)?;
            let to = reading.look(now, &port.readers, *queue, *number, *workers)?;
            Some(Leaving { port: Arc::clone(port), queue: *queue, to, last: None })
        };
        let leaving: Vec<Leaving> = reading.iter_mut().filter_map(leave).collect();
        for leaving in leaving {
            self.let_go(&leaving.port, leaving.queue);
            self.queues.leaving.push(leaving);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{driver::readers::Readers, testing};

    #[test]
    fn a_queue_leaves_behind_its_own_frames_and_not_behind_those_that_came_later() {
        let now = testing::now();
        let at = |millis| Some(now + Duration::from_millis(millis));
        let port =
            Port { id: PortId(1), queues: Vec::new(), writer: None, readers: Readers::new(PortId(1), 1, 2) };
        let port = Arc::new(port);
        let leaving = || Leaving { port: Arc::clone(&port), queue: 0, to: 1, last: None };
        assert!(!leaving().waits(now, None, None), "no line has a rate");
        let mut behind = leaving();
        assert!(behind.waits(now, at(2), at(8)));
        assert!(behind.waits(now, at(8), at(20)), "its last one");
        assert!(!behind.waits(now, at(9), at(30)), "others' are left");
    }
}
