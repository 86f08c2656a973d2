//! Connections that come, go and fail; when to dial; entering an overlay.

use super::{
    Driver, WAITING_MAX, Waiting,
    transport::{dial_addresses, from_multiaddr, gate_failure, innermost},
};
use crate::{
    behaviour::BehaviourEvent,
    counters::count,
    event::Event,
    gate::upgrade::GateError,
    handle::{CallError, OpenError},
    identity::HostId,
    peers::{Connection, Direction, Established, Failure, FailureReason, NEAR_TRIED, Reach},
    protocol::member::Refusal,
    view::NEAREST_KEPT,
};
use libp2p::{
    Multiaddr,
    core::ConnectedPoint,
    ping,
    swarm::{
        ConnectionId, DialError, ListenError, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use std::{io, net::SocketAddr};

/// Text about a failure that people see; the rest of a long chain of causes helps nobody.
const DETAIL_CHARS_MAX: usize = 160;

impl Driver {
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                let cause = cause.map(|error| innermost(&error));
                self.on_closed(peer_id, connection_id, num_established, cause);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(host), connection_id, error, .. } => {
                self.on_dial_ended(host, connection_id, error);
            }
            SwarmEvent::IncomingConnectionError { error, send_back_addr, peer_id, .. } => {
                self.on_refused(&error, &send_back_addr, peer_id);
            }
            SwarmEvent::Dialing { peer_id: Some(host), .. } => self.peers.dialling_began(host),
            SwarmEvent::NewListenAddr { .. } => {
                self.close_dead_connections();
                self.on_address_new();
                self.addresses_changed();
            }
            SwarmEvent::ExpiredListenAddr { .. } => {
                self.close_dead_connections();
                self.addresses_changed();
            }
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                match self.circuits.withdrawn(listener_id) {
                    Some(stood) => self.on_withdrawn(stood),
                    None => tracing::error!(
                        ?addresses,
                        ?reason,
                        "a listener closed: this host is not reachable there any more"
                    ),
                }
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener reported an error"),
            _ => {}
        }
    }

    fn addresses_changed(&mut self) {
        self.tell_relayed();
        self.tell_link();
        self.renew_record();
        self.spread_record();
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Ping(ping::Event { peer, result: Ok(round_trip), .. }) => {
                let unix = self.clock.unix();
                self.peers.measured(&peer, round_trip, unix);
            }
            // Not every implementation answers pings, but every member's does.
            BehaviourEvent::Ping(ping::Event { connection, result: Err(_), .. }) => {
                self.close(connection, FailureReason::Silent);
            }
            BehaviourEvent::Rpc(event) => self.on_rpc_event(event),
            BehaviourEvent::Kad(event) => self.on_kad_event(event),
            BehaviourEvent::Gossip(event) => self.on_gossip_event(event),
            BehaviourEvent::Streams(incoming) => self.on_stream(incoming),
            BehaviourEvent::Relay(event) => self.on_relay_event(&event),
            BehaviourEvent::Circuits(event) => self.on_circuit_event(&event),
            BehaviourEvent::Identify(_) => {}
        }
    }

    fn failure(&self, reason: FailureReason) -> Failure {
        Failure { reason, at: self.clock.unix(), attempts: 1 }
    }

    pub(super) fn close(&mut self, connection: ConnectionId, reason: FailureReason) {
        if self.swarm.close_connection(connection) {
            self.closing.insert(connection, reason);
        }
    }

    /// Closes all connections of one peer.
    pub(super) fn close_peer(&mut self, host: &HostId, reason: &FailureReason) {
        for connection in self.peers.connections(host) {
            self.close(connection, reason.clone());
        }
    }

    pub(super) async fn close_all(&mut self) {
        use libp2p::futures::StreamExt;
        let hosts: Vec<HostId> = self.peers.up().collect();
        for host in hosts {
            self.close_peer(&host, &FailureReason::ClosedHere);
        }
        // Peers hear of it at once instead of by a timeout, if they can be told within the time that a stop may take.
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        tokio::time::timeout(super::STOP_MAX, closed).await.ok();
    }

    fn on_established(&mut self, host: HostId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let direction = if endpoint.is_dialer() { Direction::Outbound } else { Direction::Inbound };
        let now = self.now();
        let (chain, overlay) = {
            let mut door = self.door.lock();
            (door.established(host, direction, now), door.overlay())
        };
        if overlay != self.overlay && !self.entering {
            // Admitted over one transport, and connected over the other within the same dial.
            self.on_admitted(host);
        }
        let (Some(chain), Some((address, transport)), false) =
            (chain, super::circuits::remote_of(endpoint), self.entering)
        else {
            self.close(id, FailureReason::ClosedHere);
            return;
        };
        self.counters.connections_opened += 1;
        self.refused.forget(&host);
        self.circuits.ended(&host);
        self.moving.established(host, id, address);
        let connection = Connection { id, direction, transport, address, since: self.clock.unix() };
        match self.peers.established(host, connection, chain, now) {
            Established::Replaces(old) => {
                for old in old {
                    self.close(old, FailureReason::ClosedHere);
                }
            }
            Established::First => {
                tracing::info!(%host, %address, ?transport, ?direction, "peer is connected");
                self.announce(Event::PeerUp(host));
                self.enter_directory(&host);
                self.exchange_with(host);
                self.upkeep_circuits();
            }
        }
        for waiting in self.waiting.remove(&host).unwrap_or_default() {
            self.fulfil(host, waiting);
        }
    }

    fn on_closed(&mut self, host: HostId, id: ConnectionId, left: u32, cause: Option<String>) {
        let reason = self.closing.remove(&id).unwrap_or_else(|| {
            cause.map_or(FailureReason::ClosedByPeer, |detail| FailureReason::Lost { detail: cut(detail) })
        });
        if left == 0 {
            self.door.lock().arbiter.closed(&host);
        }
        let (failure, now) = (self.failure(reason), self.now());
        let was_lost = self.moving.closed(&host, id);
        if self.peers.closed(&host, id, failure.clone(), now, &mut self.rng) {
            self.counters.connections_closed += 1;
            tracing::info!(%host, reason = %failure.reason, "peer is disconnected");
            self.told.remove(&host);
            self.announce(Event::PeerDown(host));
            if was_lost {
                self.redial(&host);
            }
        }
        if self.entering {
            self.enter_when_alone();
        }
    }

    pub(super) fn on_dial_failed(&mut self, host: HostId, error: &DialError) {
        let reason = match error {
            DialError::NoAddresses => FailureReason::NoAddress,
            DialError::WrongPeerId { obtained, .. } => FailureReason::WrongIdentity { found: *obtained },
            // Somebody else's dial to the same host goes on.
            DialError::DialPeerConditionFalse(_) => return,
            DialError::Transport(tries) => {
                let gate =
                    tries.iter().filter_map(|(_, error)| gate_failure(error)).map(|failure| &failure.cause);
                match gate.min_by_key(|cause| weight(cause)) {
                    Some(GateError::Admitted) => return self.on_admitted(host),
                    Some(
                        GateError::RefusedByPeer(Refusal::Redundant)
                        | GateError::RefusedHere(Refusal::Redundant),
                    ) => {
                        let now = self.now();
                        return self.peers.yielded(&host, now, &mut self.rng);
                    }
                    Some(GateError::RefusedByPeer(refusal)) => {
                        count(&mut self.counters.refused_by_peers, *refusal);
                        FailureReason::RefusedByPeer { refusal: *refusal }
                    }
                    Some(GateError::RefusedHere(refusal)) => {
                        count(&mut self.counters.refused_here, *refusal);
                        FailureReason::RefusedHere { refusal: *refusal }
                    }
                    Some(GateError::Timeout) => FailureReason::Timeout,
                    _ => unreachable_by(tries),
                }
            }
            other => FailureReason::Unreachable { detail: cut(innermost(other)) },
        };
        self.counters.dials_failed += 1;
        tracing::debug!(%host, %reason, "a dial failed");
        let (failure, now) = (self.failure(reason.clone()), self.now());
        self.peers.failed(&host, failure, now, &mut self.rng);
        for waiting in self.waiting.remove(&host).unwrap_or_default() {
            reject(host, waiting, &reason);
        }
        self.on_join_failed(host, reason);
    }

    fn on_refused(&mut self, error: &ListenError, from: &Multiaddr, peer: Option<HostId>) {
        if let (ListenError::Denied { .. }, Some(host)) = (error, peer) {
            self.door.lock().arbiter.ended(host, Direction::Inbound);
        }
        let failure = match error {
            ListenError::Transport(error) => gate_failure(error),
            _ => None,
        };
        let Some(failure) = failure else {
            self.counters.handshakes_broken += 1;
            tracing::debug!(%from, error = innermost(error), "a connection broke before it stood");
            return;
        };
        let reason = match &failure.cause {
            GateError::RefusedHere(refusal) => {
                count(&mut self.counters.refused_here, *refusal);
                FailureReason::RefusedHere { refusal: *refusal }
            }
            GateError::RefusedByPeer(refusal) => {
                count(&mut self.counters.refused_by_peers, *refusal);
                FailureReason::RefusedByPeer { refusal: *refusal }
            }
            GateError::HasAdmitted => {
                tracing::info!(host = %failure.peer, "a newcomer was admitted");
                self.counters.admitted += 1;
                self.state_changed = true;
                return;
            }
            GateError::Admitted | GateError::Timeout | GateError::Io(_) => {
                self.counters.handshakes_broken += 1;
                return;
            }
        };
        if !matches!(
            failure.cause,
            GateError::RefusedHere(Refusal::Redundant) | GateError::RefusedByPeer(Refusal::Redundant)
        ) {
            tracing::debug!(host = %failure.peer, %from, %reason, "a host was not let in");
            let address = from_multiaddr(from).map(|(address, _)| address);
            self.refused.note(failure.peer, address, reason, self.clock.unix());
        }
    }

    /// Dials, drops what is too much, and looks after those who wait.
    pub(super) fn upkeep_connections(&mut self) {
        let now = self.now();
        let near = self.view.nearest(NEAREST_KEPT);
        let kept = |host: &HostId| self.circuits.keep(host);
        if let Some(host) = self.peers.choose_close(&near, kept, now) {
            self.close_peer(&host, &FailureReason::ClosedHere);
        }
        if !self.entering {
            for (host, addresses) in self.peers.choose_near(&near[..NEAR_TRIED.min(near.len())], now) {
                self.dial(host, &addresses);
            }
            for (host, addresses) in self.peers.choose_dials(now, &mut self.rng) {
                self.dial(host, &addresses);
            }
        }
        // Who waits for a dial that yielded to the peer's own waits on, or dials again.
        let hosts: Vec<HostId> = self.waiting.keys().copied().collect();
        for host in hosts {
            let searched = self.searches.values().any(|sought| *sought == host);
            match self.peers.ask_for(&host, now) {
                Reach::Dial(addresses) => self.dial(host, &addresses),
                Reach::Failed(reason) if !searched => {
                    for waiting in self.waiting.remove(&host).unwrap_or_default() {
                        reject(host, waiting, &reason);
                    }
                }
                Reach::Failed(_) | Reach::Dialling | Reach::Connected => {}
            }
        }
    }

    pub(super) fn dial(&mut self, host: HostId, addresses: &[SocketAddr]) {
        let options = DialOpts::peer_id(host)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(dial_addresses(addresses, self.config.transports))
            .build();
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => self.circuits.began(host, self.now()),
            // This host listens at all of them too, as where two homes number their hosts alike: others may reach it.
            Err(error @ DialError::NoAddresses) => self.on_dial_ended(host, id, error),
            Err(error) => self.on_dial_failed(host, &error),
        }
    }

    /// Does what `waiting` wants of `host` as soon as there is a connection.
    pub(super) fn when_connected(&mut self, host: HostId, waiting: Waiting) {
        let now = self.now();
        let mut reach = self.peers.ask_for(&host, now);
        if reach == Reach::Failed(FailureReason::NoAddress)
            && let Some(record) = self.view.get(&host)
        {
            self.peers.learn(host, &record.addresses);
            reach = self.peers.ask_for(&host, now);
        }
        match reach {
            Reach::Connected => return self.fulfil(host, waiting),
            Reach::Failed(FailureReason::NoAddress)
                if host != *self.swarm.local_peer_id() && self.search(host) => {}
            Reach::Failed(reason) => return reject(host, waiting, &reason),
            Reach::Dialling | Reach::Dial(_) => {}
        }
        if self.waiting.values().map(Vec::len).sum::<usize>() >= WAITING_MAX {
            reject(host, waiting, &FailureReason::Busy);
        } else {
            self.waiting.entry(host).or_default().push(waiting);
        }
        if let Reach::Dial(addresses) = reach {
            self.dial(host, &addresses);
        }
    }

    fn fulfil(&mut self, host: HostId, waiting: Waiting) {
        match waiting {
            Waiting::Connect(answer) => drop(answer.send(Ok(()))),
            Waiting::Call { protocol, body, answer } => {
                self.send_call(host, protocol, body, super::Call::Node(answer))
            }
            Waiting::Stream(name, answer) => self.send_stream(host, name, answer),
        }
    }
}

/// Several tries of one dial may fail for several reasons; the least is the one that matters.
fn weight(cause: &GateError) -> u8 {
    match cause {
        GateError::Admitted => 0,
        GateError::RefusedByPeer(Refusal::Redundant) | GateError::RefusedHere(Refusal::Redundant) => 1,
        GateError::RefusedByPeer(_) => 2,
        GateError::RefusedHere(_) => 3,
        GateError::Timeout => 4,
        GateError::Io(_) | GateError::HasAdmitted => 5,
    }
}

fn unreachable_by(tries: &[(Multiaddr, libp2p::TransportError<io::Error>)]) -> FailureReason {
    let mut details: Vec<String> =
        tries.iter().map(|(address, error)| format!("{address}: {}", innermost(error))).collect();
    details.dedup();
    FailureReason::Unreachable { detail: cut(details.join("; ")) }
}

fn cut(mut detail: String) -> String {
    if let Some((end, _)) = detail.char_indices().nth(DETAIL_CHARS_MAX) {
        detail.truncate(end);
        detail.push('…');
    }
    detail
}

pub(super) fn reject(host: HostId, waiting: Waiting, reason: &FailureReason) {
    let reason = reason.clone();
    // Who does not wait any more need not know.
    match waiting {
        Waiting::Connect(answer) => drop(answer.send(Err(reason))),
        Waiting::Call { answer, .. } => drop(answer.send(Err(CallError::Unreachable { host, reason }))),
        Waiting::Stream(_, answer) => drop(answer.send(Err(OpenError::Unreachable { host, reason }))),
    }
}
