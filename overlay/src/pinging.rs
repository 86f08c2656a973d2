//! Pings, mostly by whoever dialled.
//!
//! libp2p's behaviour pings from both ends of each connection, though one ping and its answer tell both ends that the other lives and keep the mappings of
//! both NATs: of what an idle node sends and receives that was a half. Here the end that was dialled pings rarely where the transport itself ends a
//! connection on which nothing comes (QUIC's idle timeout), only to know the round trip; over TCP and circuits, where nothing else would tell it that the other is
//! gone, as often as the end that dialled. The first ping is sent at once, by both.
//!
//! Owns nothing but the behaviours it wraps: one end's pace each.

use crate::identity::HostId;
use libp2p::{
    Multiaddr,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    ping::{self, Config},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};
use std::{
    task::{Context, Poll},
    time::Duration,
};

/// Keeps NAT mappings alive (RFC 4787 allows 2 min, many take 30 s) and finds the dead.
pub(crate) const INTERVAL: Duration = Duration::from_secs(20);
/// By the end that was dialled, over QUIC.
pub(crate) const INTERVAL_DIALLED: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Behaviour {
    often: ping::Behaviour,
    rarely: ping::Behaviour,
}

impl Behaviour {
    pub(crate) fn new() -> Self {
        let every =
            |interval| ping::Behaviour::new(Config::new().with_interval(interval).with_timeout(TIMEOUT));
        Self { often: every(INTERVAL), rarely: every(INTERVAL_DIALLED) }
    }
}

/// Whether the transport ends a connection by itself on which nothing comes.
fn ends_by_itself(remote: &Multiaddr) -> bool {
    let has = |wanted| remote.iter().any(|part| part == wanted);
    has(Protocol::QuicV1) && !has(Protocol::P2pCircuit)
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <ping::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = ping::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        host: HostId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let pace = if ends_by_itself(remote) { &mut self.rarely } else { &mut self.often };
        pace.handle_established_inbound_connection(connection, host, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        host: HostId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.often.handle_established_outbound_connection(connection, host, address, role, port)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        host: HostId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.often.on_connection_handler_event(host, connection, event);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.often.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_quic_ends_a_silent_connection() {
        let of = |text: &str| ends_by_itself(&text.parse().unwrap());
        assert!(of("/ip4/192.0.2.1/udp/7878/quic-v1"));
        assert!(!of("/ip4/192.0.2.1/tcp/7878"));
        let relay = HostId::random();
        assert!(!of(&format!("/ip4/192.0.2.1/udp/7878/quic-v1/p2p/{relay}/p2p-circuit")));
    }
}
