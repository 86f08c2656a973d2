//! Events from the data plane's threads to node: a bounded queue that can be awaited from any runtime or waited for without one.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use crate::link::Event;

/// Events that wait for node. Beyond it, questions are asked again by the peer and other news are lost, which is counted.
pub(crate) const EVENTS_MAX: usize = 1024;

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Event>,
    waker: Option<Waker>,
    closed: bool,
    lost: u64,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The data plane's end.
#[derive(Debug, Clone)]
pub(crate) struct EventSender(Arc<Shared>);

/// Node's end of the event queue.
#[derive(Debug)]
pub struct EventReceiver(Arc<Shared>);

pub(crate) fn channel() -> (EventSender, EventReceiver) {
    let shared = Arc::new(Shared::default());
    (EventSender(Arc::clone(&shared)), EventReceiver(shared))
}

impl EventSender {
    /// False if there is no room for it; then it is lost.
    pub(crate) fn send(&self, event: Event) -> bool {
        let mut state = self.0.state();
        if state.queue.len() >= EVENTS_MAX || state.closed {
            state.lost += 1;
            return false;
        }
        state.queue.push_back(event);
        let waker = state.waker.take();
        drop(state);
        self.0.arrived.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// No more events will come.
    pub(crate) fn close(&self) {
        let mut state = self.0.state();
        state.closed = true;
        let waker = state.waker.take();
        drop(state);
        self.0.arrived.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Events for which there was no room.
    pub(crate) fn lost(&self) -> u64 {
        self.0.state().lost
    }
}

impl EventReceiver {
    /// The next event; none when the data plane was shut down. May be dropped and called again without loss.
    pub async fn recv(&mut self) -> Option<Event> {
        poll_fn(|context| {
            let mut state = self.0.state();
            match state.queue.pop_front() {
                Some(event) => Poll::Ready(Some(event)),
                None if state.closed => Poll::Ready(None),
                None => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// As [`Self::recv`], for a thread.
    pub fn recv_blocking(&mut self) -> Option<Event> {
        let state = self.0.state();
        let waiting = |state: &mut State| state.queue.is_empty() && !state.closed;
        let mut state = self.0.arrived.wait_while(state, waiting).unwrap_or_else(PoisonError::into_inner);
        state.queue.pop_front()
    }

    /// An event that is there already.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.0.state().queue.pop_front()
    }
}

impl Drop for EventReceiver {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.closed = true;
        state.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostId;

    fn event() -> Event {
        Event::LinkUp { peer: HostId::random() }
    }

    #[test]
    fn events_come_in_order_and_the_queue_is_bounded() {
        let (sender, mut receiver) = channel();
        let first = event();
        assert!(sender.send(first.clone()));
        for _ in 1..EVENTS_MAX {
            assert!(sender.send(event()));
        }
        assert!(!sender.send(event()));
        assert_eq!(sender.lost(), 1);
        assert_eq!(receiver.recv_blocking(), Some(first));
        assert!(sender.send(event()));
    }

    #[test]
    fn a_thread_that_waits_is_woken_by_an_event_and_by_the_end() {
        let (sender, mut receiver) = channel();
        let waiting = std::thread::spawn(move || {
            let first = receiver.recv_blocking();
            (first, receiver.recv_blocking())
        });
        let sent = event();
        assert!(sender.send(sent.clone()));
        sender.close();
        assert_eq!(waiting.join().unwrap(), (Some(sent), None));
    }
}
