//! A gateway: the box between a LAN and the world, with a NAT, a firewall, an MTU and an impaired cable as it is told.
//!
//! ```text
//!   host eth0 ══ port0 ┐                            ┌──────────────┐
//!   host eth0 ══ port1 ┤ bridge `lan` ── router ────┤ line ── up0 ═╪══ wanN of the wide network,
//!   gateway up0 ══ …   ┘  (switch)    NAT, firewall │              │   or a port of another gateway's LAN
//!                                                   └──────────────┘
//! ```
//! Owns: the LAN's switch (a bridge of the kernel), the process that routes (`process`, with the pure `router`), LAN addresses. Two gateways in
//! a row are a carrier's NAT over a home's. Refuses to know what hosts are for.
//!
//! The process needs no program but this one, and no privilege beyond the lab's: it takes frames from packet sockets, and the kernel in its
//! namespace has neither addresses nor anything to say, except where hosts may ask for ports ([`crate::portmap`]).

mod neighbour;
pub(crate) mod process;
mod router;

pub use router::{Inside, Outside, Setup};

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Child, ChildStdin, Stdio};

use serde::{Deserialize, Serialize};

use crate::firewall::Rules;
use crate::host::Host;
use crate::middlebox::Impairment;
use crate::nat::Behaviour;
use crate::netlink::Hop;
use crate::portmap::PortMapping;
use crate::process::subcommand;
use crate::wide::{HOST_LINK, Wide, WideError};
use crate::{Netlink, Netns, reexec};

/// The gateway's links, in its own namespace.
const LAN: &str = "lan";
const UPLINK: &str = "up0";
/// The gateway has the first address of its LAN, hosts those from here on, in the order they come.
const FIRST_HOST: u16 = 10;
/// Hosts and gateways on one LAN, ever: addresses of those that left are not given again.
pub const PORTS_MAX: u16 = 200;
/// A Wi-Fi or Ethernet LAN.
const LAN_MTU: u32 = 1500;

/// What a gateway shall be.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What its NAT does; none: the LAN's addresses are routed.
    pub nat: Option<Behaviour>,
    /// The LAN's IPv4 prefix (24 bits) where there is a NAT; none: no IPv4 on the LAN. Without a NAT it is given by the wide network.
    pub lan: Option<Ipv4Addr>,
    /// Whether the LAN has IPv6, routed.
    pub ipv6: bool,
    /// By what hosts on the LAN may ask the NAT for a port.
    pub port_mapping: Vec<PortMapping>,
    /// What passes.
    pub firewall: Rules,
    /// The longest packet that goes out or in.
    pub mtu: u16,
    /// What happens on the cable to the world.
    pub impairment: Impairment,
    /// Decides all that is drawn at random.
    pub seed: u64,
}

/// What the process is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    setup: Setup,
    impairment: Impairment,
}

/// Where a gateway's cable leads.
#[derive(Debug)]
pub enum Uplink<'a> {
    /// To the wide network.
    Wide(&'a mut Wide),
    /// To another gateway's LAN; IPv4 alone.
    Behind(&'a mut Gateway),
}

/// Addresses of a host on a LAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// With the LAN's prefix of 24 bits.
    pub ipv4: Option<Ipv4Addr>,
    /// With the LAN's prefix of 64 bits.
    pub ipv6: Option<Ipv6Addr>,
}

/// A running gateway. Dropped, it ends, and all its cables with it.
#[derive(Debug)]
pub struct Gateway {
    process: Child,
    control: ChildStdin,
    netlink: Netlink,
    order: Order,
    ports: u16,
    /// Its link in the router, where it is cabled to the wide network.
    router_link: Option<String>,
}

impl Gateway {
    /// Starts a gateway and cables it.
    pub fn start(plan: &Plan, uplink: Uplink<'_>) -> Result<Self, WideError> {
        let mut process = subcommand(reexec::program(), reexec::GATEWAY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let control = process.stdin.take().expect("its input is piped");
        let mut lines = BufReader::new(process.stdout.take().expect("its output is piped")).lines();
        let mut process = Ending(Some(process));
        let mut expect = |wanted: &str| match lines.next().transpose()? {
            Some(line) if line == wanted => Ok(()),
            _ => Err(io::Error::other("a gateway did not come up")),
        };
        expect("ready")?;
        let netns = Netns::of_process(process.id())?;
        let mut netlink = Netlink::open_in(&netns)?;
        netlink.create_bridge(LAN)?;
        netlink.set_up(LAN)?;
        let cabled = uplink.cable(&netns, plan)?;
        netlink.set_wire_through(UPLINK)?;
        netlink.set_up(UPLINK)?;
        // A bridge takes its first port's address unless it was given one.
        let lan_mac = netlink.link_address(LAN)?;
        netlink.set_link_address(LAN, lan_mac)?;
        if let (Some((own, length)), false) = (cabled.lan_ipv4, plan.port_mapping.is_empty()) {
            netlink.add_address(LAN, own.into(), length)?;
        }
        let setup = Setup {
            nat: plan.nat,
            seed: plan.seed,
            restarts: 0,
            port_mapping: plan.port_mapping.clone(),
            firewall: plan.firewall.clone(),
            mtu: plan.mtu,
            inside: Inside { mac: lan_mac, ipv4: cabled.lan_ipv4, ipv6: cabled.lan_ipv6 },
            outside: Outside {
                mac: netlink.link_address(UPLINK)?,
                next_hop: cabled.next_hop,
                ipv4: vec![cabled.ipv4],
                ipv6: cabled.ipv6,
            },
        };
        let order = Order { setup, impairment: plan.impairment };
        let mut made = Self {
            process: process.0.take().expect("not taken before"),
            control,
            netlink,
            order,
            ports: 0,
            router_link: cabled.router_link,
        };
        made.tell()?;
        expect("running")?;
        Ok(made)
    }

    /// Cables a host to the LAN: its link `eth0`, addresses, default routes.
    pub fn attach(&mut self, host: &Host) -> Result<Lease, WideError> {
        let number = self.port(host.netns(), HOST_LINK)?;
        let mut inside = Netlink::open_in(host.netns())?;
        inside.set_real_wire(HOST_LINK)?;
        inside.set_up(HOST_LINK)?;
        let Inside { ipv4, ipv6, .. } = self.order.setup.inside;
        let last = FIRST_HOST + number;
        let lease = Lease {
            ipv4: ipv4.map(|(own, _)| on_lan_ipv4(own, last)),
            ipv6: ipv6.map(|(own, _)| on_lan_ipv6(own, last)),
        };
        let pairs = [
            ipv4.zip(lease.ipv4).map(|((own, length), its)| (IpAddr::from(own), IpAddr::from(its), length)),
            ipv6.zip(lease.ipv6).map(|((own, length), its)| (IpAddr::from(own), IpAddr::from(its), length)),
        ];
        let mac = self.order.setup.inside.mac;
        for (own, its, length) in pairs.into_iter().flatten() {
            // A host that was given its address on a link has heard of its gateway there. Without that its first question is asked before the switch
            // forwards, and the next a second later.
            inside.add_neighbour(HOST_LINK, own, mac)?;
            inside.add_address(HOST_LINK, its, length)?;
            inside.add_route(everywhere(own), 0, Hop::Via(own))?;
        }
        Ok(lease)
    }

    /// Makes another firewall of it; mappings and memory stay.
    pub fn set_firewall(&mut self, firewall: Rules) -> io::Result<()> {
        self.order.setup.firewall = firewall;
        self.tell()
    }

    /// Makes another NAT of it.
    pub fn set_nat(&mut self, nat: Option<Behaviour>) -> io::Result<()> {
        self.order.setup.nat = nat;
        self.tell()
    }

    /// Switches its NAT off and on: all mappings are forgotten.
    pub fn restart_nat(&mut self) -> io::Result<()> {
        self.order.setup.restarts += 1;
        self.tell()
    }

    /// Changes what happens on its cable to the world.
    pub fn set_impairment(&mut self, impairment: Impairment) -> io::Result<()> {
        self.order.impairment = impairment;
        self.tell()
    }

    /// Sets the longest packet that goes out or in.
    pub fn set_mtu(&mut self, mtu: u16) -> io::Result<()> {
        self.order.setup.mtu = mtu;
        self.tell()
    }

    /// Gives its NAT another outside address, which the wide network leads here from now on: what providers do overnight.
    pub fn readdress(&mut self, wide: &mut Wide) -> Result<Ipv4Addr, WideError> {
        let link = self.router_link.clone().ok_or(WideError::NotCabled)?;
        let address = wide.another_address(&link, self.order.setup.outside.ipv4[0])?;
        self.order.setup.outside.ipv4 = vec![address];
        self.tell()?;
        Ok(address)
    }

    /// Its address outside.
    pub fn outside(&self) -> Ipv4Addr {
        self.order.setup.outside.ipv4[0]
    }

    /// Its addresses on the LAN.
    pub fn inside(&self) -> &Inside {
        &self.order.setup.inside
    }

    /// Its link in the router, where it is cabled to the wide network.
    pub fn router_link(&self) -> Option<&str> {
        self.router_link.as_deref()
    }

    /// Its process, for measurements.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A port of the LAN's switch, its other end a new link of another namespace. Its number.
    fn port(&mut self, namespace: &Netns, link: &str) -> Result<u16, WideError> {
        if self.ports >= PORTS_MAX {
            return Err(WideError::LanFull);
        }
        let number = self.ports;
        self.ports += 1;
        let port = format!("port{number}");
        self.netlink.create_veth(&port, link, Some(namespace), LAN_MTU)?;
        self.netlink.set_wire_through(&port)?;
        self.netlink.set_bridge(&port, LAN)?;
        self.netlink.set_up(&port)?;
        Ok(number)
    }

    fn tell(&mut self) -> io::Result<()> {
        let order = serde_json::to_string(&self.order).map_err(io::Error::other)?;
        writeln!(self.control, "{order}")?;
        self.control.flush()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A process that ends unless it is taken out: between its start and its place in a [`Gateway`] much may fail.
struct Ending(Option<Child>);

impl Ending {
    fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(process) = &mut self.0 {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// What a gateway got where its cable leads.
struct Cabled {
    next_hop: [u8; 6],
    ipv4: Ipv4Addr,
    ipv6: Option<Ipv6Addr>,
    lan_ipv4: Option<(Ipv4Addr, u8)>,
    lan_ipv6: Option<(Ipv6Addr, u8)>,
    router_link: Option<String>,
}

impl Uplink<'_> {
    fn cable(self, namespace: &Netns, plan: &Plan) -> Result<Cabled, WideError> {
        let own_lan = plan.lan.map(|prefix| (on_lan_ipv4(prefix, 1), 24));
        match self {
            Self::Wide(wide) => {
                let wanted =
                    crate::wide::Routed { ipv4: plan.nat.is_none() && plan.lan.is_some(), ipv6: plan.ipv6 };
                let place = wide.attach_gateway(namespace, UPLINK, wanted)?;
                Ok(Cabled {
                    next_hop: place.next_hop,
                    ipv4: place.ipv4,
                    ipv6: plan.ipv6.then_some(place.ipv6),
                    lan_ipv4: place.lan_ipv4.map(|prefix| (on_lan_ipv4(prefix, 1), 24)).or(own_lan),
                    lan_ipv6: place.lan_ipv6.map(|prefix| (on_lan_ipv6(prefix, 1), 64)),
                    router_link: Some(place.router_link),
                })
            }
            Self::Behind(gateway) => {
                let number = gateway.port(namespace, UPLINK)?;
                let (own, _) = gateway.order.setup.inside.ipv4.ok_or(WideError::NotCabled)?;
                Ok(Cabled {
                    next_hop: gateway.order.setup.inside.mac,
                    ipv4: on_lan_ipv4(own, FIRST_HOST + number),
                    ipv6: None,
                    lan_ipv4: own_lan,
                    lan_ipv6: None,
                    router_link: None,
                })
            }
        }
    }
}

fn on_lan_ipv4(prefix: Ipv4Addr, last: u16) -> Ipv4Addr {
    let [a, b, c, _] = prefix.octets();
    Ipv4Addr::new(a, b, c, u8::try_from(last).unwrap_or(u8::MAX))
}

fn on_lan_ipv6(prefix: Ipv6Addr, last: u16) -> Ipv6Addr {
    let [a, b, c, d, ..] = prefix.segments();
    Ipv6Addr::new(a, b, c, d, 0, 0, 0, last)
}

fn everywhere(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
