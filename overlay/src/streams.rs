//! Bulk streams of node's protocols, as a libp2p behaviour.
//!
//! Why not libp2p-stream: it drops a stream that comes while another waits to be taken (its queue holds one), which loses streams as soon as
//! several are opened at once, and it opens on a random connection of the peer. Here a stream that was negotiated is handed over by the
//! swarm's own queue, which pushes back on the connection; it is opened on the newest connection; and who opens gets an answer in every case.
//!
//! The behaviour only routes: the [`Handler`] of the connection negotiates, and answers the opener itself.

mod handler;

use crate::{
    handle::{Answer, OpenError, Stream},
    identity::HostId,
    peers::Hold,
};
use handler::Handler;
use libp2p::{
    Multiaddr, StreamProtocol,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
        THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, behaviour::ConnectionEstablished,
    },
};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::{Context, Poll},
};

/// The protocols taken: the name on the wire and node's own.
pub(crate) type Names = Arc<[(StreamProtocol, &'static str)]>;

/// A peer opened a stream.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) host: HostId,
    pub(crate) protocol: &'static str,
    pub(crate) stream: libp2p::Stream,
}

/// Somebody waits for a stream; whatever happens to this, he hears of it.
#[derive(Debug)]
pub(crate) struct Opening {
    host: HostId,
    protocol: StreamProtocol,
    hold: Hold,
    answer: Option<Answer<Result<Stream, OpenError>>>,
}

impl Opening {
    pub(crate) fn new(
        host: HostId,
        protocol: StreamProtocol,
        hold: Hold,
        answer: Answer<Result<Stream, OpenError>>,
    ) -> Self {
        Self { host, protocol, hold, answer: Some(answer) }
    }

    fn answer(mut self, outcome: Result<Stream, OpenError>) {
        if let Some(answer) = self.answer.take() {
            // Who does not wait any more does not need it.
            answer.send(outcome).ok();
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer.send(Err(OpenError::Lost(self.host))).ok();
        }
    }
}

/// Routes between the driver and the connections.
#[derive(Debug)]
pub(crate) struct Behaviour {
    names: Names,
    /// Newest last.
    connections: HashMap<HostId, Vec<ConnectionId>>,
    /// Bounded by what the driver puts in and takes out in one round of its loop.
    waiting: VecDeque<ToSwarm<Incoming, Opening>>,
}

impl Behaviour {
    pub(crate) fn new(names: Names) -> Self {
        Self { names, connections: HashMap::new(), waiting: VecDeque::new() }
    }

    /// Opens a stream over a connection that stands.
    pub(crate) fn open(&mut self, opening: Opening) {
        let newest = self.connections.get(&opening.host).and_then(|connections| connections.last());
        // Without a connection it is dropped, and says so.
        let Some(newest) = newest else { return };
        let handler = NotifyHandler::One(*newest);
        self.waiting.push_back(ToSwarm::NotifyHandler { peer_id: opening.host, handler, event: opening });
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Incoming;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: HostId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(Arc::clone(&self.names)))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: HostId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(Arc::clone(&self.names)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, .. }) => {
                self.connections.entry(peer_id).or_default().push(connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                if let Some(connections) = self.connections.get_mut(&peer_id) {
                    connections.retain(|connection| *connection != connection_id);
                    if connections.is_empty() {
                        self.connections.remove(&peer_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        host: HostId,
        _: ConnectionId,
        (stream, protocol): THandlerOutEvent<Self>,
    ) {
        self.waiting.push_back(ToSwarm::GenerateEvent(Incoming { host, protocol, stream }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // Filled only by calls the swarm or the driver makes, after which the swarm polls again: no waker is needed.
        self.waiting.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
