//! What a gateway does with a frame. Pure: time is an argument, and what it says is returned.
//!
//! ```text
//!  from inside: hop taken ─▶ firewall ─▶ too long? ─▶ NAT ─▶ outside (or inside again, by a hairpin)
//!  from outside: hop taken ─▶ NAT ─▶ firewall ─▶ too long? ─▶ inside
//! ```
//! IPv4 is translated where there is a NAT and routed where there is none; IPv6 is routed. Where a router speaks up (a hop limit, a packet
//! too long), so does this one, unless its firewall says otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::neighbour::{
    self, ETHERNET_BYTES, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Mac, Neighbours,
};
use crate::firewall::{Direction, Firewall, Rules};
use crate::nat::{Behaviour, Nat, Side, Verdict};
use crate::packet::icmp::{Complaint, take_hop};
use crate::packet::{View, number_at};
use crate::portmap::PortMapping;

/// What a gateway is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// What its NAT does; none: IPv4 is routed.
    pub nat: Option<Behaviour>,
    /// Decides what the NAT draws at random.
    pub seed: u64,
    /// How often the NAT was switched off and on.
    pub restarts: u32,
    /// By what hosts inside may ask the NAT for a port.
    pub port_mapping: Vec<PortMapping>,
    /// What passes.
    pub firewall: Rules,
    /// The longest packet that goes out or in.
    pub mtu: u16,
    /// Its side of the LAN.
    pub inside: Inside,
    /// Its side of the cable to the world.
    pub outside: Outside,
}

/// A gateway's side of the LAN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its address and the length of the LAN's prefix.
    pub ipv4: Option<(Ipv4Addr, u8)>,
    /// The same.
    pub ipv6: Option<(Ipv6Addr, u8)>,
}

/// A gateway's side of the cable to the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// That of the router at the other end.
    pub next_hop: [u8; 6],
    /// Its addresses; those of its NAT.
    pub ipv4: Vec<Ipv4Addr>,
    /// Its address.
    pub ipv6: Option<Ipv6Addr>,
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It was changed where it is, and goes out on that side.
    Forward(Side),
    /// This goes out on that side instead.
    Say(Side, Vec<u8>),
    Nothing,
}

#[derive(Debug)]
pub(super) struct Router {
    setup: Setup,
    nat: Option<Nat>,
    firewall: Firewall,
    neighbours: Neighbours,
}

impl Router {
    pub(super) fn new(setup: Setup) -> Self {
        let nat = nat(&setup);
        let firewall = Firewall::new(setup.firewall.clone());
        Self { setup, nat, firewall, neighbours: Neighbours::default() }
    }

    /// Takes another set-up. A NAT that stays what it was keeps its mappings; a firewall keeps its memory; the LAN is known.
    pub(super) fn change(&mut self, setup: Setup) {
        match &mut self.nat {
            Some(nat) if setup.nat == self.setup.nat => {
                if setup.outside.ipv4 != self.setup.outside.ipv4 {
                    nat.readdress(setup.outside.ipv4.clone());
                } else if setup.restarts != self.setup.restarts {
                    nat.restart();
                }
            }
            _ => self.nat = nat(&setup),
        }
        self.firewall.change(setup.firewall.clone());
        self.setup = setup;
    }

    /// The NAT, for those who ask it for ports.
    pub(super) fn nat(&mut self) -> Option<&mut Nat> {
        self.nat.as_mut()
    }

    pub(super) fn handle_frame(&mut self, now: Duration, from: Side, frame: &mut [u8]) -> Action {
        let Some((header, packet)) = frame.split_at_mut_checked(ETHERNET_BYTES) else {
            return Action::Nothing;
        };
        let sender: Mac = [header[6], header[7], header[8], header[9], header[10], header[11]];
        match number_at(header, 12) {
            ETHERTYPE_ARP => self.asked(from, neighbour::read_arp(packet)),
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => match neighbour::read_discovery(packet, sender) {
                Some(asked) => self.asked(from, Some(asked)),
                None => self.handle_packet(now, from, sender, frame),
            },
            _ => Action::Nothing,
        }
    }

    fn asked(&mut self, from: Side, asked: Option<neighbour::Asked>) -> Action {
        let Some(asked) = asked else { return Action::Nothing };
        if from == Side::Inside {
            self.neighbours.learn(asked.who, asked.at);
        }
        let is_ours = asked.is_question && !asked.who.is_unspecified() && self.has(from, asked.wanted);
        match is_ours.then(|| neighbour::answer(self.mac(from), &asked)).flatten() {
            Some(frame) => Action::Say(from, frame),
            None => Action::Nothing,
        }
    }

    fn handle_packet(&mut self, now: Duration, from: Side, sender: Mac, frame: &mut [u8]) -> Action {
        let packet = &mut frame[ETHERNET_BYTES..];
        let Some(view) = View::of(packet).filter(|view| is_routed(view.destination)) else {
            return Action::Nothing;
        };
        if from == Side::Inside && self.is_on_lan(view.source) {
            self.neighbours.learn(view.source, sender);
        }
        if view.hops <= 1 {
            return self.complain(from, packet, &view, Complaint::HopsUsedUp);
        }
        if view.length > usize::from(self.setup.mtu) {
            let mtu = self.setup.mtu;
            return match view.whole {
                true => self.complain(from, packet, &view, Complaint::TooBig { mtu }),
                false => Action::Nothing,
            };
        }
        let to = match from {
            Side::Inside => self.outward(now, packet, &view),
            Side::Outside => self.inward(now, packet, &view),
        };
        match to {
            Ok(to) => self.forward(to, frame),
            Err(action) => action,
        }
    }

    /// On its way out: to which side it goes on, or what is done instead.
    fn outward(&mut self, now: Duration, packet: &mut [u8], view: &View) -> Result<Side, Action> {
        if self.is_on_lan(view.destination) || !self.firewall.passes(now, Direction::Out, view) {
            return Err(Action::Nothing);
        }
        match &mut self.nat {
            Some(nat) if view.is_ipv4() => {
                let verdict = nat.translate_out(now, packet);
                self.verdict(Side::Inside, verdict)
            }
            _ => Ok(Side::Outside),
        }
    }

    fn inward(&mut self, now: Duration, packet: &mut [u8], view: &View) -> Result<Side, Action> {
        match &mut self.nat {
            Some(nat) if view.is_ipv4() => {
                let verdict = nat.translate_in(now, packet);
                self.verdict(Side::Outside, verdict)?;
            }
            _ => {}
        }
        let translated = View::of(packet).ok_or(Action::Nothing)?;
        let passes =
            self.is_on_lan(translated.destination) && self.firewall.passes(now, Direction::In, &translated);
        if passes { Ok(Side::Inside) } else { Err(Action::Nothing) }
    }

    fn verdict(&self, from: Side, verdict: Verdict) -> Result<Side, Action> {
        match verdict {
            Verdict::Forward(to) => Ok(to),
            Verdict::Refused(_) => Err(Action::Nothing),
            Verdict::Rejected(_, said) => Err(self.say(from, &said)),
        }
    }

    fn forward(&self, to: Side, frame: &mut [u8]) -> Action {
        let (header, packet) = frame.split_at_mut(ETHERNET_BYTES);
        let Some(view) = View::of(packet) else { return Action::Nothing };
        let Some(mac) = self.next_hop(to, view.destination) else {
            let own = self.address(to, view.destination);
            let question = own.and_then(|own| neighbour::question(self.mac(to), own, view.destination));
            // The packet is lost; its sender sends again.
            return question.map_or(Action::Nothing, |frame| Action::Say(to, frame));
        };
        take_hop(packet, &view);
        header[..6].copy_from_slice(&mac);
        header[6..12].copy_from_slice(&self.mac(to));
        Action::Forward(to)
    }

    /// Tells a packet's sender, on the side it came from, unless the firewall keeps that in or out.
    fn complain(&mut self, from: Side, packet: &[u8], view: &View, complaint: Complaint) -> Action {
        let own = self.address(from, view.source);
        match own.and_then(|own| complaint.packet(packet, view, own)) {
            Some(said) if self.may_complain(from) => self.say(from, &said),
            _ => Action::Nothing,
        }
    }

    /// A firewall that drops complaints drops its own router's too: that is the hole.
    fn may_complain(&self, to: Side) -> bool {
        use crate::firewall::{Action as Done, Protocols};
        let direction = match to {
            Side::Inside => Direction::In,
            Side::Outside => Direction::Out,
        };
        !self.setup.firewall.rules.iter().any(|rule| {
            rule.action == Done::Deny
                && rule.direction == direction
                && matches!(rule.matches.protocols, Protocols::Icmp | Protocols::IcmpErrors | Protocols::Any)
                && rule.matches.ports.is_empty()
        })
    }

    fn say(&self, to: Side, packet: &[u8]) -> Action {
        let Some(view) = View::of(packet) else { return Action::Nothing };
        let ethertype = if view.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        match self.next_hop(to, view.destination) {
            Some(mac) => Action::Say(
                to,
                [neighbour::ethernet(mac, self.mac(to), ethertype).as_slice(), packet].concat(),
            ),
            None => Action::Nothing,
        }
    }

    fn next_hop(&self, to: Side, destination: IpAddr) -> Option<Mac> {
        match to {
            Side::Inside => self.neighbours.find(destination),
            Side::Outside => Some(self.setup.outside.next_hop),
        }
    }

    fn mac(&self, side: Side) -> Mac {
        match side {
            Side::Inside => self.setup.inside.mac,
            Side::Outside => self.setup.outside.mac,
        }
    }

    /// The gateway's address on a side, of the IP version of another.
    fn address(&self, side: Side, like: IpAddr) -> Option<IpAddr> {
        let Setup { inside, outside, .. } = &self.setup;
        match (side, like) {
            (Side::Inside, IpAddr::V4(_)) => inside.ipv4.map(|(own, _)| own.into()),
            (Side::Inside, IpAddr::V6(_)) => inside.ipv6.map(|(own, _)| own.into()),
            (Side::Outside, IpAddr::V4(_)) => outside.ipv4.first().map(|own| (*own).into()),
            (Side::Outside, IpAddr::V6(_)) => outside.ipv6.map(Into::into),
        }
    }

    fn has(&self, side: Side, address: IpAddr) -> bool {
        match (side, address) {
            (Side::Outside, IpAddr::V4(address)) => self.setup.outside.ipv4.contains(&address),
            _ => self.address(side, address) == Some(address),
        }
    }

    fn is_on_lan(&self, address: IpAddr) -> bool {
        let shares = |own: u128, other: u128, bits: u32, length: u8| {
            let shift = bits.saturating_sub(u32::from(length));
            shift >= u128::BITS || own >> shift == other >> shift
        };
        match address {
            IpAddr::V4(address) => self.setup.inside.ipv4.is_some_and(|(own, length)| {
                shares(own.to_bits().into(), address.to_bits().into(), 32, length)
            }),
            IpAddr::V6(address) => self
                .setup
                .inside
                .ipv6
                .is_some_and(|(own, length)| shares(own.to_bits(), address.to_bits(), 128, length)),
        }
    }
}

fn nat(setup: &Setup) -> Option<Nat> {
    setup.nat.map(|behaviour| Nat::new(behaviour, setup.outside.ipv4.clone(), setup.seed))
}

/// What stays on its link: groups, broadcast, link-local addresses, nobody.
fn is_routed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_multicast()
                || address.is_broadcast()
                || address.is_link_local()
                || address.is_unspecified())
        }
        IpAddr::V6(address) => {
            !(address.is_multicast() || address.is_unicast_link_local() || address.is_unspecified())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Transport, udp_packet};

    const SECOND: Duration = Duration::from_secs(1);
    const HOST_MAC: Mac = [2, 0, 0, 0, 0, 9];
    const PEER: &str = "203.0.113.2:7441";
    const HOST: &str = "192.168.1.10:7441";

    fn setup(nat: Option<&str>, firewall: &[&str]) -> Setup {
        Setup {
            nat: nat.map(|name| Behaviour::named(name).unwrap()),
            seed: 1,
            restarts: 0,
            port_mapping: Vec::new(),
            firewall: Rules::parse(firewall.iter().copied()).unwrap(),
            mtu: 1500,
            inside: Inside {
                mac: [2, 0, 0, 0, 0, 1],
                ipv4: Some((Ipv4Addr::new(192, 168, 1, 1), 24)),
                ipv6: Some(("2001:db8:8000::1".parse().unwrap(), 64)),
            },
            outside: Outside {
                mac: [2, 0, 0, 0, 0, 2],
                next_hop: [2, 0, 0, 0, 0, 3],
                ipv4: vec![Ipv4Addr::new(198, 51, 100, 2)],
                ipv6: None,
            },
        }
    }

    fn frame(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
        let packet = udp_packet(from.parse().unwrap(), to.parse().unwrap(), payload);
        [neighbour::ethernet([0; 6], HOST_MAC, ETHERTYPE_IPV4).as_slice(), &packet].concat()
    }

    fn view(frame: &[u8]) -> View {
        View::of(&frame[ETHERNET_BYTES..]).unwrap()
    }

    #[test]
    fn a_datagram_goes_out_translated_with_a_hop_less_and_its_answer_comes_back() {
        let mut router = Router::new(setup(Some("port-cone"), &[]));
        let mut out = frame(HOST, PEER, b"hello");
        assert_eq!(router.handle_frame(SECOND, Side::Inside, &mut out), Action::Forward(Side::Outside));
        assert_eq!(out[..12], [2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 2]);
        assert_eq!((view(&out).source, view(&out).hops), ("198.51.100.2".parse().unwrap(), 63));
        let mut back = frame(PEER, "198.51.100.2:7441", b"hello");
        assert_eq!(router.handle_frame(SECOND, Side::Outside, &mut back), Action::Forward(Side::Inside));
        assert_eq!(back[..6], HOST_MAC, "learned from what it sent");
        assert_eq!(view(&back).destination, "192.168.1.10".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn who_asks_for_the_gateway_is_answered_and_known() {
        let mut router = Router::new(setup(None, &[]));
        let mut asked =
            neighbour::question(HOST_MAC, "192.168.1.10".parse().unwrap(), "192.168.1.1".parse().unwrap())
                .unwrap();
        let Action::Say(Side::Inside, answer) = router.handle_frame(SECOND, Side::Inside, &mut asked) else {
            panic!()
        };
        let read = neighbour::read_arp(&answer[ETHERNET_BYTES..]).unwrap();
        assert_eq!((read.at, read.is_question), ([2, 0, 0, 0, 0, 1], false));
        let own: IpAddr = "2001:db8:8000::a".parse().unwrap();
        let mut asked = neighbour::question(HOST_MAC, own, "2001:db8:8000::1".parse().unwrap()).unwrap();
        let Action::Say(Side::Inside, answer) = router.handle_frame(SECOND, Side::Inside, &mut asked) else {
            panic!()
        };
        let read = neighbour::read_discovery(&answer[ETHERNET_BYTES..], [2, 0, 0, 0, 0, 1]).unwrap();
        assert_eq!((read.who, read.is_question), ("2001:db8:8000::1".parse().unwrap(), false));
        let mut other = neighbour::question(HOST_MAC, own, "2001:db8:8000::7".parse().unwrap()).unwrap();
        assert_eq!(router.handle_frame(SECOND, Side::Inside, &mut other), Action::Nothing);
    }

    #[test]
    fn a_host_not_heard_of_is_asked_for() {
        let mut router = Router::new(setup(None, &[]));
        let mut inward = frame(PEER, HOST, b"hello");
        let Action::Say(Side::Inside, question) = router.handle_frame(SECOND, Side::Outside, &mut inward)
        else {
            panic!()
        };
        assert_eq!(
            neighbour::read_arp(&question[ETHERNET_BYTES..]).unwrap().wanted,
            view(&inward).destination
        );
    }

    #[test]
    fn a_low_hop_limit_and_a_long_packet_are_told_of_unless_the_firewall_eats_that() {
        for (rules, told) in [(&[][..], true), (&["deny in icmp-errors"][..], false)] {
            let mut router = Router::new(Setup { mtu: 1280, ..setup(Some("port-cone"), rules) });
            router.neighbours.learn("192.168.1.10".parse().unwrap(), HOST_MAC);
            let mut low = frame(HOST, PEER, b"probe");
            low[ETHERNET_BYTES + 8] = 1;
            let mut long = frame(HOST, PEER, &[0; 1400]);
            long[ETHERNET_BYTES + 6] = 0x40;
            for (mut sent, kind) in [(low, 11), (long, 3)] {
                match router.handle_frame(SECOND, Side::Inside, &mut sent) {
                    Action::Say(Side::Inside, said) if told => {
                        assert_eq!(view(&said).transport, Transport::IcmpError);
                        assert_eq!(said[ETHERNET_BYTES + 20], kind);
                    }
                    action => assert!(!told && action == Action::Nothing, "{action:?}"),
                }
            }
        }
    }

    #[test]
    fn a_new_firewall_leaves_the_mappings_alone_and_a_restart_or_a_new_address_does_not() {
        let mut router = Router::new(setup(Some("port-cone"), &[]));
        let mut out = frame(HOST, PEER, b"hello");
        router.handle_frame(SECOND, Side::Inside, &mut out);
        let answer = || frame(PEER, "198.51.100.2:7441", b"hello");
        router.change(setup(Some("port-cone"), &["deny out udp"]));
        assert_eq!(router.handle_frame(SECOND, Side::Outside, &mut answer()), Action::Forward(Side::Inside));
        assert_eq!(router.handle_frame(SECOND, Side::Inside, &mut frame(HOST, PEER, b"x")), Action::Nothing);
        router.change(Setup { restarts: 1, ..setup(Some("port-cone"), &[]) });
        assert_eq!(router.handle_frame(SECOND, Side::Outside, &mut answer()), Action::Nothing);
        router.handle_frame(SECOND, Side::Inside, &mut frame(HOST, PEER, b"hello"));
        assert_eq!(router.handle_frame(SECOND, Side::Outside, &mut answer()), Action::Forward(Side::Inside));
        let mut moved = setup(Some("port-cone"), &[]);
        moved.outside.ipv4 = vec![Ipv4Addr::new(198, 51, 100, 6)];
        router.change(moved);
        assert_eq!(router.handle_frame(SECOND, Side::Outside, &mut answer()), Action::Nothing);
    }
}
