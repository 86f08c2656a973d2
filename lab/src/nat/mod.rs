//! A NAT by RFC 4787, pure: bytes or endpoints in, the same translated or a reason out. Time and randomness are arguments.
//!
//! ```text
//!   inside ──▶ outbound: source  10.0.0.2:7441 ──▶ 198.51.100.2:7441     makes and refreshes mappings
//!          ◀── inbound:  destination back          only what a mapping and its filter let in; makes nothing
//! ```
//! | room | what it owns |
//! |---|---|
//! | [`Behaviour`] | what the NAT does: mapping × filtering × ports × hairpin × timeouts …, and the kinds by name |
//! | `table`, `ports` | the mappings; the choice of an outside port |
//! | `pins` | mappings that hosts asked for: [`Nat::pin`] |
//! | `packet` | IPv4 with UDP, TCP and ICMP as bytes: parts found, addresses changed, checksums kept right, fragments |
//! | [`Refusal`], [`Counters`] | why a packet was not passed on, and how often |
//!
//! Two ways in: [`Nat::outbound`] and [`Nat::inbound`] work on [`Flow`]s, for simulations in memory; [`Nat::translate_out`] and
//! [`Nat::translate_in`] on packets, for the lab's gateways. Both use the same tables.
//!
//! Invariants: what comes from outside makes no mapping and no session (the one that [`Unsolicited::Remember`] describes keeps a port
//! from being chosen, and lets nothing in); outside endpoints are unique, or with [`Ports::Shared`] unique for each other end; every
//! table is bounded. A filter belongs to a mapping, as with connection tracking, also where mappings depend on the other end.
//!
//! Sources: RFC 4787 with the requirements that tests name (REQ-7, overlapping outside addresses, and REQ-10, application gateways, have no
//! part here: there are none), RFC 5382 for TCP, RFC 5508 for ICMP, RFC 1624 for checksums.

mod behaviour;
mod flow;
mod packet;
mod pins;
mod ports;
mod refusal;
mod table;
#[cfg(test)]
mod tests;

pub use behaviour::{
    Behaviour, Dependence, Hairpin, MAPPINGS_MAX, NAMED, Pooling, Ports, Refresh, Timeouts, Unsolicited,
};
pub use flow::{Flow, Protocol, Signal};
pub use packet::Verdict;
pub use pins::{NotPinned, PINS_MAX};
pub use refusal::{Counters, REFUSALS, Refusal};

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use packet::Fragments;
use pins::Pins;
use ports::Allocator;
use table::{Inside, Outside, Remote, Session, Stage, Table};

/// Pairs of endpoints that [`Unsolicited::Remember`] keeps; then no more are.
const REMEMBERED_MAX: usize = 4096;
/// How long it keeps them: Linux' timeout for UDP that was not answered.
const REMEMBERED_FOR: Duration = Duration::from_secs(30);

/// Where a packet goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// To a host behind the NAT.
    Inside,
    /// To the world.
    Outside,
}

/// A NAT. Times are counted from any fixed point.
#[derive(Debug)]
pub struct Nat {
    behaviour: Behaviour,
    outside: Vec<Ipv4Addr>,
    random: ChaCha8Rng,
    allocator: Allocator,
    table: Table,
    pins: Pins,
    remembered: BTreeMap<(Protocol, SocketAddrV4, SocketAddrV4), Duration>,
    fragments: Fragments,
    counters: Counters,
}

impl Nat {
    /// A NAT with these addresses outside, of which there is at least one.
    ///
    /// # Panics
    /// Without an outside address.
    pub fn new(behaviour: Behaviour, outside: Vec<Ipv4Addr>, seed: u64) -> Self {
        assert!(!outside.is_empty(), "a NAT has an outside address");
        Self {
            behaviour,
            outside,
            random: ChaCha8Rng::seed_from_u64(seed),
            allocator: Allocator::default(),
            table: Table::default(),
            pins: Pins::default(),
            remembered: BTreeMap::new(),
            fragments: Fragments::default(),
            counters: Counters::default(),
        }
    }

    /// What it did so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What it does.
    pub fn behaviour(&self) -> &Behaviour {
        &self.behaviour
    }

    /// Mappings in its table; expired ones count until they are cleared away.
    pub fn mappings(&self) -> usize {
        self.table.len()
    }

    /// Forgets every mapping, as a router that was switched off and on.
    pub fn restart(&mut self) {
        self.table.clear();
        self.pins.clear();
        self.remembered.clear();
        self.fragments = Fragments::default();
    }

    /// Gives it other outside addresses, at least one, as a provider does overnight; all mappings are void.
    ///
    /// # Panics
    /// Without an outside address.
    pub fn readdress(&mut self, outside: Vec<Ipv4Addr>) {
        assert!(!outside.is_empty(), "a NAT has an outside address");
        self.outside = outside;
        self.restart();
    }

    /// Gives an inside endpoint an outside port for a time, because the host asks for it: the one it has, else the wanted one, else (unless it has to be `exact`) any.
    ///
    /// # Errors
    /// If there is none to give.
    pub fn pin(
        &mut self,
        now: Duration,
        (protocol, inside): (Protocol, SocketAddrV4),
        (wanted, exact): (u16, bool),
        life: Duration,
    ) -> Result<SocketAddrV4, NotPinned> {
        let address = self.outside_address(*inside.ip());
        let held = self.pins.outside(now, (protocol, inside));
        let outside = match held.filter(|held| !exact || held.port() == wanted) {
            Some(held) => held,
            None => {
                let wanted = SocketAddrV4::new(address, wanted);
                if wanted.port() != 0 && self.may_pin(now, (protocol, inside), wanted) {
                    wanted
                } else if exact {
                    return Err(NotPinned::Taken);
                } else {
                    self.any_port(now, (protocol, inside), address).ok_or(NotPinned::Full)?
                }
            }
        };
        let is_set = self.pins.set(now, (protocol, outside), inside, life);
        if is_set { Ok(outside) } else { Err(NotPinned::Full) }
    }

    /// Takes back what [`Self::pin`] gave to whoever has this outside port; false if nobody has.
    pub fn unpin(&mut self, protocol: Protocol, outside: SocketAddrV4) -> bool {
        self.pins.remove((protocol, outside))
    }

    /// The outside endpoint that was given to an inside one.
    pub fn pinned(&self, now: Duration, of: (Protocol, SocketAddrV4)) -> Option<SocketAddrV4> {
        self.pins.outside(now, of)
    }

    /// Its first outside address.
    pub fn address(&self) -> Ipv4Addr {
        self.outside[0]
    }

    /// Nobody else's, asked for or made by traffic.
    fn may_pin(
        &mut self,
        now: Duration,
        (protocol, inside): (Protocol, SocketAddrV4),
        outside: SocketAddrV4,
    ) -> bool {
        let asked_for = self.pins.inside(now, (protocol, outside));
        let made = self.table.of_outside(now, (protocol, outside), outside).map(|(inside, _)| inside);
        asked_for.into_iter().chain(made).all(|holder| holder == inside)
    }

    fn any_port(
        &mut self,
        now: Duration,
        (protocol, inside): (Protocol, SocketAddrV4),
        address: Ipv4Addr,
    ) -> Option<SocketAddrV4> {
        let (table, pins) = (&self.table, &self.pins);
        let is_free = |port| {
            let endpoint = SocketAddrV4::new(address, port);
            table.is_free(now, Outside { protocol, endpoint, only: None })
                && pins.inside(now, (protocol, endpoint)).is_none()
        };
        let ports = Ports::Random;
        let port =
            self.allocator.choose(&mut self.random, ports, (protocol, address), inside.port(), is_free);
        port.map(|port| SocketAddrV4::new(address, port))
    }

    /// Translates what a host inside sends: the flow as it goes on, and to which side (inside again, if two hosts behind the NAT
    /// meet by their outside addresses).
    pub fn outbound(&mut self, now: Duration, flow: Flow, signal: Signal) -> Result<(Side, Flow), Refusal> {
        let translated = self.outbound_uncounted(now, flow, signal);
        match &translated {
            Ok((Side::Outside, _)) => self.counters.out += 1,
            Ok((Side::Inside, _)) => self.counters.hairpinned += 1,
            Err(reason) => self.counters.refuse(*reason),
        }
        translated
    }

    /// Translates what comes from outside.
    pub fn inbound(&mut self, now: Duration, flow: Flow, signal: Signal) -> Result<Flow, Refusal> {
        let translated = self.inbound_uncounted(now, flow, signal);
        match &translated {
            Ok(_) => self.counters.r#in += 1,
            Err(reason) => self.counters.refuse(*reason),
        }
        translated
    }

    fn outbound_uncounted(
        &mut self,
        now: Duration,
        flow: Flow,
        signal: Signal,
    ) -> Result<(Side, Flow), Refusal> {
        let back_inside = self.outside.contains(flow.destination.ip());
        if back_inside && self.behaviour.hairpin == Hairpin::No {
            return Err(Refusal::NoHairpin);
        }
        self.table.sweep(now);
        let source = self.map(now, flow, signal)?;
        let outside = Flow { source, ..flow };
        match back_inside {
            true => self.inbound_uncounted(now, outside, signal).map(|flow| (Side::Inside, flow)),
            false => Ok((Side::Outside, outside)),
        }
    }

    fn inbound_uncounted(&mut self, now: Duration, flow: Flow, signal: Signal) -> Result<Flow, Refusal> {
        let let_in = self.let_in(now, flow, signal);
        if let_in.is_err() && self.behaviour.unsolicited == Unsolicited::Remember {
            self.remember(now, flow);
        }
        let_in
    }

    /// The outside endpoint for what comes from inside; a mapping and a session with the other end stand afterwards.
    fn map(&mut self, now: Duration, flow: Flow, signal: Signal) -> Result<SocketAddrV4, Refusal> {
        if let Some(outside) = self.pins.outside(now, (flow.protocol, flow.source)) {
            return Ok(outside);
        }
        let key = Inside {
            protocol: flow.protocol,
            endpoint: flow.source,
            remote: Remote::of(self.behaviour.mapping, flow.destination),
        };
        if self.table.of_inside(now, key).is_none() {
            let outside = self.choose(now, flow)?;
            self.counters.mapped += 1;
            self.table.insert(key, outside);
        }
        let timeouts = self.behaviour.timeouts;
        // A fresh one expires at once and is therefore not found by time.
        let mapping = self.table.mapping(key).expect("found or made above");
        let before = mapping.session(now, flow.destination);
        let stage = after_outbound(before, signal);
        let expires = timeouts.next(now, flow.protocol, before, stage);
        mapping.set_session(flow.destination, Session { expires, stage });
        Ok(mapping.outside.endpoint)
    }

    fn choose(&mut self, now: Duration, flow: Flow) -> Result<Outside, Refusal> {
        let host = *flow.source.ip();
        if self.table.len_of(host) >= self.behaviour.mappings_per_host_max {
            return Err(Refusal::HostFull);
        }
        if self.table.len() >= MAPPINGS_MAX {
            return Err(Refusal::TableFull);
        }
        let address = self.outside_address(host);
        let shared = self.behaviour.ports == Ports::Shared
            && self.behaviour.mapping == Dependence::AddressAndPortDependent;
        let (table, pins, remembered) = (&self.table, &self.pins, &self.remembered);
        let outside = |port| Outside {
            protocol: flow.protocol,
            endpoint: SocketAddrV4::new(address, port),
            only: shared.then_some(flow.destination),
        };
        let is_free = |port| {
            let spoiled = (flow.protocol, SocketAddrV4::new(address, port), flow.destination);
            table.is_free(now, outside(port))
                && pins.inside(now, (flow.protocol, SocketAddrV4::new(address, port))).is_none()
                && remembered.get(&spoiled).is_none_or(|until| *until <= now)
        };
        let of = (flow.protocol, address);
        let port =
            self.allocator.choose(&mut self.random, self.behaviour.ports, of, flow.source.port(), is_free);
        port.map(outside).ok_or(Refusal::PortsExhausted)
    }

    /// REQ-2: a host keeps its outside address, unless the NAT does not care.
    fn outside_address(&mut self, host: Ipv4Addr) -> Ipv4Addr {
        let number = match self.behaviour.pooling {
            Pooling::Paired => host.to_bits(),
            Pooling::Arbitrary => self.random.next_u32(),
        };
        let count = u32::try_from(self.outside.len()).expect("far fewer addresses than numbers");
        self.outside[(number % count) as usize]
    }

    fn let_in(&mut self, now: Duration, flow: Flow, signal: Signal) -> Result<Flow, Refusal> {
        if let Some(destination) = self.pins.inside(now, (flow.protocol, flow.destination)) {
            return Ok(Flow { destination, ..flow });
        }
        let Behaviour { filtering, refresh, timeouts, .. } = self.behaviour;
        let (destination, mapping) = self
            .table
            .of_outside(now, (flow.protocol, flow.destination), flow.source)
            .ok_or(Refusal::NotMapped)?;
        let session = mapping.session(now, flow.source);
        let passes = match filtering {
            Dependence::EndpointIndependent => true,
            Dependence::AddressDependent => mapping.talks_with(now, *flow.source.ip()),
            Dependence::AddressAndPortDependent => session.is_some(),
        };
        if !passes {
            return Err(Refusal::Filtered);
        }
        if let Some(session) = session {
            let stage = after_inbound(session, signal);
            let lives_on = refresh == Refresh::Both || (flow.protocol == Protocol::Tcp);
            let expires = match lives_on {
                true => timeouts.next(now, flow.protocol, Some(session), stage),
                false => session.expires,
            };
            mapping.set_session(flow.source, Session { expires, stage });
        }
        Ok(Flow { destination, ..flow })
    }

    /// An inside endpoint that has talked with the other end, for an ICMP error about it; nothing is refreshed (REQ-12).
    fn known(
        &mut self,
        now: Duration,
        (protocol, outside): (Protocol, SocketAddrV4),
        remote: SocketAddrV4,
    ) -> Option<SocketAddrV4> {
        if let Some(inside) = self.pins.inside(now, (protocol, outside)) {
            return Some(inside);
        }
        let (inside, mapping) = self.table.of_outside(now, (protocol, outside), remote)?;
        mapping.session(now, remote).map(|_| inside)
    }

    /// The same from inside: the outside endpoint of a mapping that lives.
    fn known_outside(
        &mut self,
        now: Duration,
        (protocol, inside): (Protocol, SocketAddrV4),
        remote: SocketAddrV4,
    ) -> Option<SocketAddrV4> {
        if let Some(outside) = self.pins.outside(now, (protocol, inside)) {
            return Some(outside);
        }
        let key = Inside { protocol, endpoint: inside, remote: Remote::of(self.behaviour.mapping, remote) };
        self.table.of_inside(now, key).map(|mapping| mapping.outside.endpoint)
    }

    fn remember(&mut self, now: Duration, flow: Flow) {
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.retain(|_, until| *until > now);
        }
        if self.remembered.len() < REMEMBERED_MAX {
            self.remembered.insert((flow.protocol, flow.destination, flow.source), now + REMEMBERED_FOR);
        }
    }
}

impl Timeouts {
    /// When a conversation ends that is at `stage` now; one that is closing does not live longer by what still comes.
    fn next(&self, now: Duration, protocol: Protocol, before: Option<Session>, stage: Stage) -> Duration {
        match before {
            Some(before) if before.stage == Stage::Closing && stage == Stage::Closing => before.expires,
            _ => now + self.of(protocol, stage),
        }
    }

    fn of(&self, protocol: Protocol, stage: Stage) -> Duration {
        match (protocol, stage) {
            (Protocol::Udp, _) => self.udp,
            (Protocol::Echo, _) => self.echo,
            (Protocol::Tcp, Stage::Established) => self.tcp_established,
            (Protocol::Tcp, Stage::Opening | Stage::Closing) => self.tcp_opening,
        }
    }
}

fn after_outbound(session: Option<Session>, signal: Signal) -> Stage {
    match (session.map(|session| session.stage), signal) {
        (_, Signal::Close) => Stage::Closing,
        (None, _) | (Some(Stage::Closing), Signal::Open) => Stage::Opening,
        (Some(stage), _) => stage,
    }
}

fn after_inbound(session: Session, signal: Signal) -> Stage {
    match (session.stage, signal) {
        (_, Signal::Close) | (Stage::Closing, _) => Stage::Closing,
        (Stage::Opening | Stage::Established, _) => Stage::Established,
    }
}
