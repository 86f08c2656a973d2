//! What the overlay tells node by itself.
//!
//! Events wait in an [`Outbox`] until node takes them. Its bound holds without losing what matters: requests and streams are refused to their
//! senders when too many wait; a peer's coming and going, a changed record and a changed state are kept once each, in their latest form.

use crate::{
    handle::Stream,
    identity::{HostId, Key, OverlayKey},
    protocol::rpc::{RpcRefusal, RpcResponse},
    state::OverlayState,
};
use std::collections::VecDeque;
use tokio::sync::{mpsc, oneshot};

/// News for node.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A member asks something.
    Request {
        /// Who.
        from: HostId,
        /// By which of node's protocols.
        protocol: &'static str,
        /// What.
        body: Vec<u8>,
        /// The way back.
        reply: Reply,
    },
    /// A member opened a stream.
    Stream {
        /// Who.
        from: HostId,
        /// For which of node's protocols.
        protocol: &'static str,
        /// Its bytes.
        stream: Stream,
    },
    /// A member is connected.
    PeerUp(HostId),
    /// A member is connected no more.
    PeerDown(HostId),
    /// What is known of a host changed; ask for its record, which may be gone.
    RecordChanged(HostId),
    /// This host belongs to an overlay from now on.
    Joined(OverlayKey),
    /// A key was put out: a host's (its own included) or an invitation's.
    Revoked(Key),
    /// A document of this kind holds from now on, or none does; ask for it.
    DocumentChanged(String),
    /// A peer offered a document that is not taken.
    DocumentRefused {
        /// Its kind.
        kind: String,
        /// Its version.
        version: u64,
        /// Who offered it.
        from: Option<HostId>,
        /// Why, in a sentence.
        reason: String,
    },
    /// Write this down.
    StateChanged(Box<OverlayState>),
}

/// Where node takes events from.
#[derive(Debug)]
pub struct EventReceiver {
    events: mpsc::Receiver<Event>,
}

impl EventReceiver {
    pub(crate) fn new(events: mpsc::Receiver<Event>) -> Self {
        Self { events }
    }

    /// The next event; `None` once the overlay was shut down. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

/// Answers one request. Dropped unused, the peer learns that it was not answered.
#[derive(Debug)]
pub struct Reply {
    answer: oneshot::Sender<RpcResponse>,
}

impl Reply {
    pub(crate) fn new() -> (Self, oneshot::Receiver<RpcResponse>) {
        let (answer, answered) = oneshot::channel();
        (Self { answer }, answered)
    }

    /// Answers. That the peer or its patience is gone by now is no error of node's.
    pub fn send(self, body: Vec<u8>) {
        self.answer.send(Ok(body)).ok();
    }

    /// Tells the peer that its request could not be read.
    pub fn refuse_malformed(self) {
        self.answer.send(Err(RpcRefusal::Malformed)).ok();
    }
}

/// Events that node has not taken yet.
#[derive(Debug)]
pub(crate) struct Outbox {
    events: VecDeque<Event>,
    bulky_max: usize,
    bulky: usize,
}

impl Outbox {
    /// At most `bulky_max` requests and streams wait.
    pub(crate) fn new(bulky_max: usize) -> Self {
        Self { events: VecDeque::new(), bulky_max, bulky: 0 }
    }

    /// Puts in an event; gives back a request or stream for which there is no room.
    pub(crate) fn push(&mut self, event: Event) -> Result<(), Box<Event>> {
        match &event {
            Event::Request { .. } | Event::Stream { .. } => {
                if self.bulky >= self.bulky_max {
                    return Err(Box::new(event));
                }
                self.bulky += 1;
            }
            Event::PeerUp(host) | Event::PeerDown(host) => {
                let host = *host;
                self.events.retain(|waiting| !matches!(waiting, Event::PeerUp(other) | Event::PeerDown(other) if *other == host));
            }
            Event::RecordChanged(host) => {
                if self
                    .events
                    .iter()
                    .any(|waiting| matches!(waiting, Event::RecordChanged(other) if other == host))
                {
                    return Ok(());
                }
            }
            Event::StateChanged(_) => {
                self.events.retain(|waiting| !matches!(waiting, Event::StateChanged(_)))
            }
            Event::DocumentChanged(kind) => {
                let is_same =
                    |waiting: &Event| matches!(waiting, Event::DocumentChanged(other) if other == kind);
                if self.events.iter().any(is_same) {
                    return Ok(());
                }
            }
            // The latest is enough: each is in the log, and counted.
            Event::DocumentRefused { .. } => {
                self.events.retain(|waiting| !matches!(waiting, Event::DocumentRefused { .. }))
            }
            Event::Joined(_) | Event::Revoked(_) => {}
        }
        self.events.push_back(event);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if matches!(event, Event::Request { .. } | Event::Stream { .. }) {
            self.bulky -= 1;
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Event {
        Event::Request { from: HostId::random(), protocol: "p", body: Vec::new(), reply: Reply::new().0 }
    }

    #[test]
    fn requests_beyond_the_bound_come_back_to_their_sender() {
        let mut outbox = Outbox::new(2);
        assert!(outbox.push(request()).is_ok());
        assert!(outbox.push(request()).is_ok());
        assert!(outbox.push(request()).is_err());
        assert!(outbox.pop().is_some());
        assert!(outbox.push(request()).is_ok());
    }

    #[test]
    fn states_of_one_thing_are_kept_once_in_their_latest_form() {
        let mut outbox = Outbox::new(2);
        let (a, b) = (HostId::random(), HostId::random());
        for _ in 0..1000 {
            for event in [
                Event::PeerUp(a),
                Event::PeerDown(a),
                Event::RecordChanged(b),
                Event::StateChanged(Box::default()),
            ] {
                outbox.push(event).unwrap();
            }
        }
        let mut left = Vec::new();
        while let Some(event) = outbox.pop() {
            left.push(event);
        }
        assert_eq!(left.len(), 3);
        assert!(left.iter().any(|event| matches!(event, Event::PeerDown(host) if *host == a)));
    }
}
