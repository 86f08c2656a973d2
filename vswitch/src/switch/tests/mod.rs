//! Each rule of the switch, its guards and its neighbour answers, by name. Three hosts see one network `LAN`:
//! ```text
//!   here:  A (10.7.0.1), B (10.7.0.2)      there: C (10.7.0.3)      far: D (10.7.0.4)
//! ```

#![expect(
    clippy::disallowed_methods,
    reason = "a test drives the core: it reads the clock once and passes it on"
)]

mod forwarding;
mod guards;
mod neighbours;
mod networks;

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    frame::{
        arp::{Arp, Operation},
        ethernet::Ethernet,
        ip::protocol,
        neighbour_discovery as nd,
    },
    specimen::{self, solicited_node},
};

const LAN: NetworkId = NetworkId([1; 16]);
const DMZ: NetworkId = NetworkId([2; 16]);

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
const C: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xc]);
const D: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xd]);
const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);
const NOBODY: MacAddr = MacAddr([0; 6]);

fn ip4(mac: MacAddr) -> Ipv4Addr {
    Ipv4Addr::new(10, 7, mac.0[4], mac.0[5])
}

fn ip6(mac: MacAddr) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, u16::from(mac.0[4]), u16::from(mac.0[5]))
}

struct World {
    switch: Arc<Switch>,
    worker: Worker,
    now: Instant,
    there: PeerIndex,
    far: PeerIndex,
    a: PortId,
    b: PortId,
}

fn binding(mac: MacAddr, host: HostId) -> MachineBinding {
    MachineBinding { mac, ipv4: vec![ip4(mac)], ipv6: vec![ip6(mac)], host }
}

fn port_config(mac: MacAddr, guard: Guard) -> PortConfig {
    PortConfig { mac, ipv4: vec![ip4(mac)], ipv6: vec![ip6(mac)], guard, vnet_hdr: true }
}

/// The network of the module doc: every address in the record, strict guards.
fn recorded() -> World {
    world(false, Guard::Strict)
}

/// The same, but unknown addresses are allowed.
fn open() -> World {
    world(true, Guard::AllowUnknown)
}

fn world(allow_unknown: bool, guard: Guard) -> World {
    let (here, there, far) = (HostId::random(), HostId::random(), HostId::random());
    let now = Instant::now();
    let switch = Switch::new(here, now, 42);
    switch
        .set_network(&NetworkConfig {
            id: LAN,
            mtu: 1500,
            machines: vec![binding(A, here), binding(B, here), binding(C, there), binding(D, far)],
            hosts: vec![there, far],
            allow_unknown,
        })
        .unwrap();
    let a = switch.attach(LAN, port_config(A, guard)).unwrap();
    let b = switch.attach(LAN, port_config(B, guard)).unwrap();
    World {
        worker: switch.worker(),
        now,
        there: switch.peer(there).unwrap(),
        far: switch.peer(far).unwrap(),
        a,
        b,
        switch,
    }
}

/// What a decision says, in a form that compares.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Port(PortId),
    Peer(PeerIndex),
    Many { ports: Vec<PortId>, peers: Vec<PeerIndex> },
    Answer(Vec<u8>),
    Drop(DropReason),
}

impl From<Decision<'_>> for Fate {
    fn from(decision: Decision<'_>) -> Self {
        match decision {
            Decision::Port(port) => Self::Port(port),
            Decision::Peer(network, peer) => {
                assert_eq!(network, LAN);
                Self::Peer(peer)
            }
            Decision::Many(egress) => {
                Self::Many { ports: egress.ports().collect(), peers: egress.peers.to_vec() }
            }
            Decision::Answer(answer) => Self::Answer(answer.frame().to_vec()),
            Decision::Drop(reason) => Self::Drop(reason),
        }
    }
}

impl World {
    fn sent_by_a(&self, frame: &[u8]) -> Fate {
        self.worker.from_port(self.now, self.a, frame).into()
    }

    fn sent_by_there(&self, frame: &[u8]) -> Fate {
        self.worker.from_peer(self.now, self.there, LAN, frame).into()
    }

    fn peers(&self) -> Vec<PeerIndex> {
        let mut peers = vec![self.there, self.far];
        peers.sort_unstable();
        peers
    }

    /// The switch drops the frame and its counter moves by one.
    #[track_caller]
    fn refuses_from_a(&self, frame: &[u8], reason: DropReason) {
        let before = self.switch.counts().dropped(reason);
        assert_eq!(self.sent_by_a(frame), Fate::Drop(reason));
        assert_eq!(self.switch.counts().dropped(reason), before + 1);
    }

    #[track_caller]
    fn refuses_from_there(&self, frame: &[u8], reason: DropReason) {
        let before = self.switch.counts().dropped(reason);
        assert_eq!(self.sent_by_there(frame), Fate::Drop(reason));
        assert_eq!(self.switch.counts().dropped(reason), before + 1);
    }
}

/// An IPv4 frame between machines, with their own addresses.
fn frame4(to: MacAddr, from: MacAddr) -> Vec<u8> {
    packet4(to, from, ip4(from))
}

fn packet4(to: MacAddr, from: MacAddr, source: Ipv4Addr) -> Vec<u8> {
    let packet = specimen::ipv4(source, ip4(to), protocol::UDP, &specimen::udp(1000, 2000, b"hello"));
    specimen::ethernet(to, from, &[], 0x0800, &packet)
}

fn frame6(to: MacAddr, from: MacAddr, source: Ipv6Addr) -> Vec<u8> {
    let packet = specimen::ipv6(source, ip6(to), protocol::UDP, 64, &specimen::udp(1000, 2000, b"hello"));
    specimen::ethernet(to, from, &[], 0x86dd, &packet)
}

fn arp_question(from: MacAddr, target: Ipv4Addr) -> Vec<u8> {
    specimen::arp(MacAddr::BROADCAST, Operation::Request, (from, ip4(from)), (NOBODY, target))
}

fn solicitation(from: MacAddr, target: Ipv6Addr) -> Vec<u8> {
    specimen::neighbour(
        solicited_node(target),
        (from, ip6(from)),
        nd::NEIGHBOUR_SOLICITATION,
        target,
        Some(from),
    )
}
