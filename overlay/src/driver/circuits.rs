//! Control connections through a third member, where there is no direct way: libp2p's circuit relay v2.
//!
//! The story: a host asks up to [`RESERVATIONS_WANTED`] members it has dialled itself (they can be reached, so they serve as relays) to take
//! connections for it, and keeps that up. Who dials a host and has no connection after [`DIRECT_FIRST`] ([`WAITED_FIRST`] where node waits for it, [`LOST_FIRST`]
//! where it was lost because this host moved), or fails, asks the members it is connected with for a circuit to it; one who has a reservation of that host joins the two. On the circuit run the same encryption and the
//! same proof of membership as on any connection, end to end: the relay sees lengths and times. Frames of networks never go this way by
//! themselves; see node's last resort.
//!
//! Owns: reservations, and dials over circuits that are under way. A dial has failed when its direct and its circuit part have. Bounded by the
//! peers: at most one entry for each.

use super::{
    Driver,
    transport::{first_hop, from_multiaddr, to_multiaddr},
};
use crate::{
    identity::HostId,
    peers::{PEERS_MAX, Transport},
};
use libp2p::{
    Multiaddr,
    core::{ConnectedPoint, transport::ListenerId},
    multiaddr::Protocol,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use std::{collections::HashMap, net::SocketAddr, time::Duration};

/// Members that take connections for this host: one, and one that may go away.
const RESERVATIONS_WANTED: usize = 2;
/// Members asked for a circuit to one host; more than a few would be a search, for which there is Kademlia.
const ASKED_MAX: usize = 4;
/// Dials that have a circuit beside them at once. Each costs others' work, and a host whose dials all take long is overrun itself: where many start
/// together, circuits for each would keep all of them from their own.
const AT_ONCE: usize = 8;
/// How long a direct dial has the field for itself: a round trip around the world, twice.
const DIRECT_FIRST: Duration = Duration::from_millis(700);
/// The same where node waits for the connection: most round trips, and the usual head start of RFC 8305. A neighbour more is worth no such haste.
const WAITED_FIRST: Duration = Duration::from_millis(250);

/// The same for a host that was connected a moment ago, from another address of this one: what runs on the connection has stopped, and a NAT before the host lets
/// nobody in unasked.
const LOST_FIRST: Duration = Duration::from_millis(80);

#[derive(Debug)]
enum Try {
    /// Only the direct dial is under way.
    Direct { since: Duration },
    /// Both are.
    Both { circuit: ConnectionId },
    /// The direct one has failed.
    Circuit { circuit: ConnectionId, direct: DialError },
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Circuits {
    reservations: HashMap<ListenerId, HostId>,
    tries: HashMap<HostId, Try>,
}

impl Circuits {
    /// A reservation is gone; true if the listener was one.
    pub(super) fn withdrawn(&mut self, listener: ListenerId) -> bool {
        self.reservations.remove(&listener).is_some()
    }

    /// A dial began; the head start of its direct part counts from here.
    pub(super) fn began(&mut self, host: HostId, now: Duration) {
        if self.tries.len() < PEERS_MAX {
            self.tries.entry(host).or_insert(Try::Direct { since: now });
        }
    }

    /// When the next of the dials that have a `head_start` worth a timer is to have a circuit beside it.
    pub(super) fn next_at(&self, head_start: impl Fn(&HostId) -> Option<Duration>) -> Option<Duration> {
        if self.are_enough() {
            // The end of one of them is an event, after which this is asked again.
            return None;
        }
        let at = |(host, part): (&HostId, &Try)| match part {
            Try::Direct { since } if *since != Duration::MAX => Some(*since + head_start(host)?),
            _ => None,
        };
        self.tries.iter().filter_map(at).min()
    }

    /// Whether one more would be too many.
    fn are_enough(&self) -> bool {
        let has_circuit = |part: &&Try| matches!(part, Try::Both { .. } | Try::Circuit { .. });
        self.tries.values().filter(has_circuit).count() >= AT_ONCE
    }

    /// There is a connection, or the dial is over.
    pub(super) fn ended(&mut self, host: &HostId) {
        self.tries.remove(host);
    }
}

/// Where a connection's peer is: itself, or the relay before it.
pub(super) fn remote_of(endpoint: &ConnectedPoint) -> Option<(SocketAddr, Transport)> {
    if !endpoint.is_relayed() {
        return from_multiaddr(endpoint.get_remote_address());
    }
    let relay = match endpoint {
        ConnectedPoint::Dialer { address, .. } => address,
        ConnectedPoint::Listener { local_addr, .. } => local_addr,
    };
    first_hop(relay).map(|(address, _)| (address, Transport::Relayed))
}

fn through(relay: HostId, address: SocketAddr, transport: Transport) -> Multiaddr {
    to_multiaddr(address, transport).with(Protocol::P2p(relay)).with(Protocol::P2pCircuit)
}

impl Driver {
    /// Until [`Self::upkeep_circuits`] has something to do for whoever waits.
    pub(super) fn until_circuit(&self) -> Option<Duration> {
        let in_haste = |host: &HostId| {
            let head_start = self.head_start(host);
            (head_start < DIRECT_FIRST).then_some(head_start)
        };
        let next = self.circuits.next_at(in_haste).filter(|_| !self.entering);
        next.map(|at| at.saturating_sub(self.now()))
    }

    fn head_start(&self, host: &HostId) -> Duration {
        if self.moving.is_lost(host) {
            LOST_FIRST
        } else if self.waiting.contains_key(host) {
            WAITED_FIRST
        } else {
            DIRECT_FIRST
        }
    }

    /// Keeps reservations, and adds circuits to dials that take long.
    pub(super) fn upkeep_circuits(&mut self) {
        if self.entering {
            return;
        }
        self.reserve();
        let now = self.now();
        let dialling: Vec<HostId> = self.peers.being_dialled().collect();
        self.circuits.tries.retain(|host, _| dialling.contains(host));
        for host in dialling {
            if self.circuits.tries.len() >= PEERS_MAX && !self.circuits.tries.contains_key(&host) {
                continue;
            }
            let since = match self.circuits.tries.entry(host).or_insert(Try::Direct { since: now }) {
                Try::Direct { since } => *since,
                Try::Both { .. } | Try::Circuit { .. } => continue,
            };
            if now.saturating_sub(since) < self.head_start(&host) || self.circuits.are_enough() {
                continue;
            }
            // Where nobody can be asked for one, somebody may be a moment later.
            let part = match self.dial_through(host) {
                Some(circuit) => Try::Both { circuit },
                None => Try::Direct { since: now },
            };
            self.circuits.tries.insert(host, part);
        }
    }

    /// A reservation carries where the relay is found; libp2p takes one without for a fault.
    pub(super) fn tell_relayed(&mut self) {
        for address in self.own_addresses() {
            self.swarm.add_external_address(to_multiaddr(address, Transport::Tcp));
        }
    }

    fn reserve(&mut self) {
        if self.circuits.reservations.len() >= RESERVATIONS_WANTED {
            return;
        }
        let free = |(relay, ..): &(HostId, SocketAddr, Transport)| {
            !self.circuits.reservations.values().any(|held| held == relay)
        };
        // The one known longest is not worth more than another, but the same one comes again after a restart.
        let Some((relay, address, transport)) =
            self.peers.dialled().filter(free).min_by_key(|(host, ..)| *host)
        else {
            return;
        };
        match self.swarm.listen_on(through(relay, address, transport)) {
            Ok(listener) => drop(self.circuits.reservations.insert(listener, relay)),
            Err(error) => tracing::debug!(%relay, %error, "no reservation can be asked for"),
        }
    }

    /// Asks members for a circuit to `host`; none if there is nobody to ask.
    fn dial_through(&mut self, host: HostId) -> Option<ConnectionId> {
        let mut relays: Vec<_> = self.peers.through().filter(|(relay, ..)| *relay != host).collect();
        relays.sort_unstable_by_key(|(relay, ..)| *relay);
        if !relays.is_empty() {
            let start = crate::view::below(&mut self.rng, relays.len());
            relays.rotate_left(start);
        }
        // Those that this host itself is reached through are the likeliest: hosts that were invited together share them.
        relays.sort_by_key(|(relay, ..)| !self.circuits.reservations.values().any(|held| held == relay));
        relays.truncate(ASKED_MAX);
        if relays.is_empty() {
            return None;
        }
        let addresses = relays
            .into_iter()
            .map(|(relay, address, transport)| through(relay, address, transport).with(Protocol::P2p(host)))
            .collect();
        // The direct dial may be under way.
        let options =
            DialOpts::peer_id(host).condition(PeerCondition::Disconnected).addresses(addresses).build();
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => Some(id),
            Err(error) => {
                tracing::debug!(%host, %error, "no circuit can be asked for");
                None
            }
        }
    }

    /// One part of a dial ended badly.
    pub(super) fn on_dial_ended(&mut self, host: HostId, id: ConnectionId, error: DialError) {
        match self.circuits.tries.remove(&host) {
            Some(Try::Both { circuit }) if circuit == id => {
                tracing::debug!(%host, error = %super::transport::innermost(&error), "no circuit");
                // Not asked again before the direct dial has ended as well.
                self.circuits.tries.insert(host, Try::Direct { since: Duration::MAX });
            }
            Some(Try::Both { circuit }) if is_worth_a_circuit(&host, &error) => {
                self.circuits.tries.insert(host, Try::Circuit { circuit, direct: error });
            }
            // What the host itself said over the circuit is better to know than that there was no direct way.
            Some(Try::Circuit { circuit, direct }) if circuit == id => {
                let said = if is_worth_a_circuit(&host, &error) { direct } else { error };
                self.on_dial_failed(host, &said);
            }
            Some(Try::Direct { since }) if since == Duration::MAX => self.on_dial_failed(host, &error),
            None | Some(Try::Direct { .. })
                if is_worth_a_circuit(&host, &error) && !self.circuits.are_enough() =>
            {
                match self.dial_through(host) {
                    Some(circuit) => {
                        self.circuits.tries.insert(host, Try::Circuit { circuit, direct: error });
                    }
                    None => self.on_dial_failed(host, &error),
                }
            }
            _ => self.on_dial_failed(host, &error),
        }
    }
}

/// Whether the host itself said nothing: what it has refused it would refuse on a circuit too. That another host answers at its address, or this one, is
/// what private addresses are like.
fn is_worth_a_circuit(host: &HostId, error: &DialError) -> bool {
    match error {
        DialError::NoAddresses | DialError::WrongPeerId { .. } | DialError::LocalPeerId { .. } => true,
        DialError::Transport(tries) => tries
            .iter()
            .filter_map(|(_, error)| super::transport::gate_failure(error))
            .all(|failure| failure.peer != *host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_circuits_are_asked_for_at_once_than_a_host_and_its_relays_bear() {
        let mut circuits = Circuits::default();
        let waiting = HostId::random();
        circuits.began(waiting, Duration::ZERO);
        assert_eq!(circuits.next_at(|_| Some(WAITED_FIRST)), Some(WAITED_FIRST));
        for id in 0..AT_ONCE {
            let circuit = ConnectionId::new_unchecked(id);
            circuits.tries.insert(HostId::random(), Try::Both { circuit });
        }
        assert!(circuits.are_enough());
        assert_eq!(
            circuits.next_at(|_| Some(WAITED_FIRST)),
            None,
            "a time that has passed would be asked for without end"
        );
        let done = *circuits.tries.keys().find(|host| **host != waiting).unwrap();
        circuits.ended(&done);
        assert_eq!(circuits.next_at(|_| Some(WAITED_FIRST)), Some(WAITED_FIRST));
    }
}
