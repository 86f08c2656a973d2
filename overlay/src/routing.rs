//! Kademlia's routing table, filled by hand, and silent unless somebody searches.
//!
//! By itself libp2p's behaviour looks around whenever a peer enters a table of less than twenty: it asks for the nearest of its own and of other keys, and
//! dials each host on the way; and it dials old entries before new ones take their places. In an overlay of a hundred that was a connection from each to
//! each after every start. Here the table is filled from verified records, so looking around has nothing to find: such searches are ended at once, and a dial
//! is let through only while a search of the [driver](crate::driver) is under way. Any other is told as failed without having been tried.
//!
//! Owns nothing but the behaviour it wraps.

use crate::identity::HostId;
use libp2p::{
    Multiaddr,
    core::{Endpoint, transport::PortUse},
    kad::{self, QueryId, QueryInfo, store::MemoryStore},
    swarm::{
        ConnectionDenied, ConnectionId, DialError, DialFailure, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};
use std::task::{Context, Poll};

type Kademlia = kad::Behaviour<MemoryStore>;

/// See the module.
pub(crate) struct Behaviour {
    kademlia: Kademlia,
}

impl Behaviour {
    pub(crate) fn new(kademlia: Kademlia) -> Self {
        Self { kademlia }
    }

    /// Enters an address of `host`.
    pub(crate) fn add_address(&mut self, host: &HostId, address: Multiaddr) {
        self.kademlia.add_address(host, address);
    }

    /// Forgets `host`.
    pub(crate) fn remove_peer(&mut self, host: &HostId) {
        self.kademlia.remove_peer(host);
    }

    /// Looks for the hosts nearest to `host`, itself first.
    pub(crate) fn search(&mut self, host: HostId) -> QueryId {
        self.kademlia.get_closest_peers(host)
    }

    fn is_searching(&self) -> bool {
        self.kademlia.iter_queries().any(|query| !looks_around(query.info()))
    }

    /// Ends what was not asked for; true if there was any.
    fn end_looking_around(&mut self) -> bool {
        let mut ended = false;
        for mut query in self.kademlia.iter_queries_mut() {
            if looks_around(query.info()) {
                query.finish();
                ended = true;
            }
        }
        ended
    }
}

fn looks_around(query: &QueryInfo) -> bool {
    matches!(query, QueryInfo::Bootstrap { .. })
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <Kademlia as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = kad::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        host: HostId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kademlia.handle_established_inbound_connection(connection, host, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        host: HostId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kademlia.handle_established_outbound_connection(connection, host, address, role, port)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        host: Option<HostId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.kademlia.handle_pending_outbound_connection(connection, host, addresses, role)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.kademlia.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        host: HostId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.kademlia.on_connection_handler_event(host, connection, event);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            match self.kademlia.poll(context) {
                Poll::Ready(ToSwarm::Dial { opts }) if !self.is_searching() => {
                    self.kademlia.on_swarm_event(FromSwarm::DialFailure(DialFailure {
                        peer_id: opts.get_peer_id(),
                        error: &DialError::Aborted,
                        connection_id: opts.connection_id(),
                    }));
                }
                // Each that ends lets the next of its kind begin, one for each part of the table, which is the last.
                Poll::Pending if self.end_looking_around() => {}
                other => return other,
            }
        }
    }
}
