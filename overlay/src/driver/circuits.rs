//! Control connections through a third member, where there is no direct way: libp2p's circuit relay v2.
//!
//! The story: a host asks up to [`RELAYS_MAX`] members it has dialled itself (they can be reached, so they serve as relays) to take
//! connections for it, keeps that up, and names them in its record. Who dials a host and has no connection after [`DIRECT_FIRST`] ([`WAITED_FIRST`] where node waits for
//! it, [`LOST_FIRST`] where it was lost because this host moved), or fails, asks those that the host's record names for a circuit to it, and if they refuse, members it is
//! connected with; one who has a reservation of that host joins the two. A neighbour more is worth no circuit where there are some already: members that all others can
//! reach are few, and each serves only so many. On the circuit run the same encryption and the same proof of membership as on any connection, end to end: the relay
//! sees lengths and times. Frames of networks never go this way by themselves; see node's last resort.
//!
//! Owns: reservations, dials over circuits that are under way, and how many circuits lead through this host to whom. A dial has failed when its direct and its circuit
//! part have. Bounded by the peers: at most one entry for each.

use super::{
    Driver,
    transport::{first_hop, from_multiaddr, to_multiaddr},
};
use crate::{
    config::Transports,
    identity::HostId,
    peers::{NEIGHBOURS_BY_CIRCUIT, PEERS_MAX, Transport},
    record::RELAYS_MAX,
};
use libp2p::{
    Multiaddr,
    core::{ConnectedPoint, transport::ListenerId},
    multiaddr::Protocol,
    relay,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use std::{collections::HashMap, net::SocketAddr, time::Duration};

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
    Both { circuit: Asked },
    /// The direct one has failed.
    Circuit { circuit: Asked, direct: DialError },
}

/// A circuit that some members were asked for, and the ways to those that are asked if all of them refuse.
#[derive(Debug)]
struct Asked {
    id: ConnectionId,
    others: Vec<Multiaddr>,
}

/// A member that was asked to take connections for this host.
#[derive(Debug)]
struct Reservation {
    relay: HostId,
    /// It has agreed.
    stands: bool,
}

/// A member and a way to it.
type Way = (HostId, SocketAddr, Transport);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Circuits {
    reservations: HashMap<ListenerId, Reservation>,
    tries: HashMap<HostId, Try>,
    /// How many lead through this host to each.
    carried: HashMap<HostId, usize>,
}

impl Circuits {
    /// A listener is gone; if it was a reservation, whether that stood.
    pub(super) fn withdrawn(&mut self, listener: ListenerId) -> Option<bool> {
        self.reservations.remove(&listener).map(|reservation| reservation.stands)
    }

    /// A member takes connections for this host; true if that is news.
    fn reserved(&mut self, relay: &HostId) -> bool {
        let mut pending = self.reservations.values_mut().filter(|held| held.relay == *relay && !held.stands);
        pending.next().map(|reservation| reservation.stands = true).is_some()
    }

    /// The members that take connections for this host.
    pub(super) fn relays(&self) -> Vec<HostId> {
        let standing = self.reservations.values().filter(|reservation| reservation.stands);
        let mut relays: Vec<HostId> = standing.map(|reservation| reservation.relay).collect();
        relays.sort_unstable();
        relays
    }

    fn is_asked(&self, relay: &HostId) -> bool {
        self.reservations.values().any(|reservation| reservation.relay == *relay)
    }

    /// A circuit through this host begins.
    fn carries(&mut self, ends: [HostId; 2]) {
        for end in ends {
            *self.carried.entry(end).or_default() += 1;
        }
    }

    /// One has ended.
    fn carries_no_more(&mut self, ends: [HostId; 2]) {
        for end in ends {
            if let Some(count) = self.carried.get_mut(&end) {
                *count -= 1;
                if *count == 0 {
                    self.carried.remove(&end);
                }
            }
        }
    }

    /// Whether more than what node asks runs over the connection to a host.
    pub(super) fn keep(&self, host: &HostId) -> bool {
        self.carried.contains_key(host) || self.is_asked(host)
    }

    /// Dials with a circuit beside them.
    fn under_way(&self) -> usize {
        let has_circuit = |part: &&Try| matches!(part, Try::Both { .. } | Try::Circuit { .. });
        self.tries.values().filter(has_circuit).count()
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
        self.under_way() >= AT_ONCE
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

fn through((relay, address, transport): Way) -> Multiaddr {
    to_multiaddr(address, transport).with(Protocol::P2p(relay)).with(Protocol::P2pCircuit)
}

/// Whom to ask for a circuit, and whom if they refuse: those whom the host names, if it names any; the others in their order, but those first who take connections for
/// this host too, since hosts that were invited together share them.
fn whom_to_ask(mut ways: Vec<Way>, named: &[HostId], own: &[HostId]) -> (Vec<Way>, Vec<Way>) {
    ways.sort_by_key(|(relay, ..)| (!named.contains(relay), !own.contains(relay)));
    ways.truncate(ASKED_MAX);
    let others = ways.iter().position(|(relay, ..)| !named.contains(relay)).unwrap_or(ways.len());
    match others {
        0 => (ways, Vec::new()),
        _ => {
            let others = ways.split_off(others);
            (ways, others)
        }
    }
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
            let is_early = now.saturating_sub(since) < self.head_start(&host);
            if is_early || self.circuits.are_enough() || !self.is_worth_others_work(&host) {
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
        if self.circuits.reservations.len() >= RELAYS_MAX {
            return;
        }
        let mut free: Vec<Way> =
            self.peers.dialled().filter(|(relay, ..)| !self.circuits.is_asked(relay)).collect();
        if free.is_empty() {
            return;
        }
        // The map's order is random; sorting makes one seed give one choice. Any will do: the record says which it is.
        free.sort_unstable_by_key(|(relay, ..)| *relay);
        let way = free[crate::view::below(&mut self.rng, free.len())];
        let relay = way.0;
        match self.swarm.listen_on(through(way)) {
            Ok(listener) => {
                let reservation = Reservation { relay, stands: false };
                self.circuits.reservations.insert(listener, reservation);
            }
            Err(error) => tracing::debug!(%relay, %error, "no reservation can be asked for"),
        }
    }

    /// Others must learn through whom this host is reached.
    pub(super) fn on_circuit_event(&mut self, event: &relay::client::Event) {
        if let relay::client::Event::ReservationReqAccepted { relay_peer_id, .. } = event
            && self.circuits.reserved(relay_peer_id)
        {
            self.renew_record();
            self.spread_record();
        }
    }

    /// And that they reach it there no more.
    pub(super) fn on_withdrawn(&mut self, stood: bool) {
        if stood {
            self.renew_record();
            self.spread_record();
        }
    }

    pub(super) fn on_relay_event(&mut self, event: &relay::Event) {
        match event {
            relay::Event::CircuitReqAccepted { src_peer_id, dst_peer_id } => {
                self.circuits.carries([*src_peer_id, *dst_peer_id]);
            }
            relay::Event::CircuitClosed { src_peer_id, dst_peer_id, .. } => {
                self.circuits.carries_no_more([*src_peer_id, *dst_peer_id]);
            }
            _ => {}
        }
    }

    /// Whether a connection is wanted so much that others shall carry it.
    fn is_worth_others_work(&self, host: &HostId) -> bool {
        let is_wanted = self.waiting.contains_key(host) || self.moving.is_lost(host);
        is_wanted || self.peers.connected() + self.circuits.under_way() < NEIGHBOURS_BY_CIRCUIT
    }

    /// Asks members for a circuit to `host`; none if there is nobody to ask.
    fn dial_through(&mut self, host: HostId) -> Option<Asked> {
        let mut ways: Vec<Way> = self.peers.through().filter(|(relay, ..)| *relay != host).collect();
        ways.sort_unstable_by_key(|(relay, ..)| *relay);
        if !ways.is_empty() {
            let start = crate::view::below(&mut self.rng, ways.len());
            ways.rotate_left(start);
        }
        let named = self.view.get(&host).map(|record| record.relays.clone()).unwrap_or_default();
        let transport = match self.config.transports {
            Transports::Quic => Transport::Quic,
            // Passes where QUIC does not.
            Transports::Both | Transports::Tcp => Transport::Tcp,
        };
        let local = *self.swarm.local_peer_id();
        for relay in named.iter().filter(|relay| **relay != host && **relay != local) {
            let is_connected = ways.iter().any(|(connected, ..)| connected == relay);
            if let (false, Some(address)) = (is_connected, self.peers.addresses(relay).first()) {
                ways.push((*relay, *address, transport));
            }
        }
        let (likely, others) = whom_to_ask(ways, &named, &self.circuits.relays());
        let to = |way: Way| through(way).with(Protocol::P2p(host));
        self.ask_for_circuit(host, likely.into_iter().map(to).collect(), others.into_iter().map(to).collect())
    }

    fn ask_for_circuit(
        &mut self,
        host: HostId,
        ways: Vec<Multiaddr>,
        others: Vec<Multiaddr>,
    ) -> Option<Asked> {
        if ways.is_empty() {
            return None;
        }
        // The direct dial may be under way.
        let options = DialOpts::peer_id(host).condition(PeerCondition::Disconnected).addresses(ways).build();
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => Some(Asked { id, others }),
            Err(error) => {
                tracing::debug!(%host, %error, "no circuit can be asked for");
                None
            }
        }
    }

    /// One part of a dial ended badly.
    pub(super) fn on_dial_ended(&mut self, host: HostId, id: ConnectionId, error: DialError) {
        match self.circuits.tries.remove(&host) {
            Some(Try::Both { circuit }) if circuit.id == id => {
                tracing::debug!(%host, error = %super::transport::innermost(&error), "no circuit");
                let part = match self.ask_for_circuit(host, circuit.others, Vec::new()) {
                    Some(circuit) => Try::Both { circuit },
                    // Nobody is asked again before the direct dial has ended as well.
                    None => Try::Direct { since: Duration::MAX },
                };
                self.circuits.tries.insert(host, part);
            }
            Some(Try::Both { circuit }) if is_worth_a_circuit(&host, &error) => {
                self.circuits.tries.insert(host, Try::Circuit { circuit, direct: error });
            }
            // What the host itself said over the circuit is better to know than that there was no direct way.
            Some(Try::Circuit { circuit, .. }) if circuit.id == id && !is_worth_a_circuit(&host, &error) => {
                self.on_dial_failed(host, &error);
            }
            Some(Try::Circuit { circuit, direct }) if circuit.id == id => {
                tracing::debug!(%host, error = %super::transport::innermost(&error), "no circuit");
                match self.ask_for_circuit(host, circuit.others, Vec::new()) {
                    Some(circuit) => drop(self.circuits.tries.insert(host, Try::Circuit { circuit, direct })),
                    None => self.on_dial_failed(host, &direct),
                }
            }
            Some(Try::Direct { since }) if since == Duration::MAX => self.on_dial_failed(host, &error),
            None | Some(Try::Direct { .. })
                if is_worth_a_circuit(&host, &error)
                    && self.is_worth_others_work(&host)
                    && !self.circuits.are_enough() =>
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
            let circuit = Asked { id: ConnectionId::new_unchecked(id), others: Vec::new() };
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

    #[test]
    fn those_whom_a_host_names_are_asked_first_and_the_others_if_they_refuse() {
        let relays: Vec<HostId> = (0..6).map(|_| HostId::random()).collect();
        let address = "192.0.2.1:7440".parse().unwrap();
        let ways: Vec<Way> = relays.iter().map(|relay| (*relay, address, Transport::Tcp)).collect();
        let of = |ways: Vec<Way>| ways.into_iter().map(|(relay, ..)| relay).collect::<Vec<_>>();
        let (likely, others) = whom_to_ask(ways.clone(), &relays[4..], &relays[2..4]);
        assert_eq!((of(likely), of(others)), (relays[4..].to_vec(), relays[2..4].to_vec()));
        let (likely, others) = whom_to_ask(ways.clone(), &[HostId::random()], &relays[3..4]);
        assert_eq!(of(likely), [relays[3], relays[0], relays[1], relays[2]], "nobody knows the one it names");
        assert!(others.is_empty());
        let (likely, others) = whom_to_ask(ways[..1].to_vec(), &relays[..1], &[]);
        assert_eq!((of(likely), of(others)), (relays[..1].to_vec(), Vec::new()));
    }

    #[test]
    fn relays_are_named_once_they_have_agreed_and_until_they_are_gone() {
        let (mut circuits, relay) = (Circuits::default(), HostId::random());
        let listener = ListenerId::next();
        circuits.reservations.insert(listener, Reservation { relay, stands: false });
        assert!(circuits.relays().is_empty());
        assert!(circuits.reserved(&relay) && !circuits.reserved(&relay), "a renewal is no news");
        assert_eq!(circuits.relays(), [relay]);
        assert!(circuits.keep(&relay));
        assert_eq!(circuits.withdrawn(listener), Some(true));
        assert_eq!(circuits.withdrawn(listener), None);
        assert!(circuits.relays().is_empty() && !circuits.keep(&relay));
    }

    #[test]
    fn connections_are_kept_as_long_as_circuits_lead_through_this_host_to_them() {
        let (mut circuits, one, other) = (Circuits::default(), HostId::random(), HostId::random());
        circuits.carries([one, other]);
        circuits.carries([other, one]);
        circuits.carries_no_more([one, other]);
        assert!(circuits.keep(&one) && circuits.keep(&other));
        circuits.carries_no_more([one, other]);
        circuits.carries_no_more([one, other]);
        assert!(!circuits.keep(&one) && !circuits.keep(&other));
    }
}
