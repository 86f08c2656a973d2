//! The emulated wide network: one subnet for each host, and a router between them.
//!
//! Owns: the plan of addresses, the cables, the router's settings. The router is the network namespace of the lab's body itself, so
//! everything that hosts say to each other crosses links that the body can capture and cut. Refuses to know what hosts say.
//!
//! | host | IPv4 (RFC 5737) | IPv6 (RFC 3849) | link in the router |
//! |---|---|---|---|
//! | 0 | 198.51.100.2/30 | `2001:db8:0::2/64` | `wan0` |
//! | 63 | 198.51.100.254/30 | `2001:db8:3f::2/64` | `wan63` |
//! | 64 | 203.0.113.2/30 | `2001:db8:40::2/64` | `wan64` |
//! | 128 | 192.0.2.2/30 | `2001:db8:80::2/64` | `wan128` |
//!
//! Address 1 of each subnet is the router's. A gateway has address 2 of its subnet; its LAN has `2001:db8:8000+N::/64` and, without a NAT,
//! 198.18.N.0/24.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::host::Host;
use crate::middlebox::{Impairment, MiddleBox};
use crate::netlink::{Hop, Packets, TABLES};
use crate::sysctl::{self, SysctlError};
use crate::{Netlink, NetlinkError, Netns};

/// Subnets of four addresses in three documentation ranges.
pub const HOSTS_MAX: usize = 3 * SUBNETS_PER_RANGE;
const SUBNETS_PER_RANGE: usize = 64;
const RANGES: [[u8; 3]; 3] = [[198, 51, 100], [203, 0, 113], [192, 0, 2]];
/// The third number of a gateway's IPv6 LAN is this much above that of its subnet.
const LAN_IPV6: u16 = 0x8000;
/// What crosses the cable to a gateway; its own limit may be lower.
const GATEWAY_MTU: u32 = 1500;
/// The name of a host's link to the wide network.
pub const HOST_LINK: &str = "eth0";

/// The wide network could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WideError {
    /// The plan of addresses is used up.
    #[error("the emulated wide network has room for {HOSTS_MAX} hosts")]
    Full,
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A setting was refused.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// A LAN has as many hosts as it has addresses for.
    #[error("a LAN has room for {} hosts and gateways", crate::gateway::PORTS_MAX)]
    LanFull,
    /// A gateway is not cabled as this needs it.
    #[error("the gateway is not cabled to what this needs: the wide network, or a LAN with IPv4")]
    NotCabled,
    /// A namespace could not be entered, or the middle box not started.
    #[error("cable a host: {0}")]
    System(#[from] io::Error),
}

/// How a host is cabled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cable {
    /// Largest packet.
    pub mtu: u32,
    /// Only finished frames of at most the MTU cross, as on a wire.
    pub real_wire: bool,
    /// What a middle box on the cable does, in both directions; it wants a real wire.
    pub impairment: Option<Impairment>,
}

impl Default for Cable {
    fn default() -> Self {
        Self { mtu: 1500, real_wire: false, impairment: None }
    }
}

/// A host's place in the wide network.
#[derive(Debug)]
pub struct Place {
    /// The host's IPv4 address.
    pub ipv4: Ipv4Addr,
    /// The host's IPv6 address.
    pub ipv6: Ipv6Addr,
    /// The link in the router that leads to the host.
    pub router_link: String,
    /// The middle box on the cable.
    pub middlebox: Option<MiddleBox>,
}

/// The wide network. Its router is the namespace of the thread that made it.
#[derive(Debug)]
pub struct Wide {
    router: Netlink,
    /// Subnets given away.
    hosts: usize,
    /// Addresses led to a gateway's link beside that of its subnet.
    led: BTreeMap<String, Ipv4Addr>,
    /// Tables of the router's that lead detours.
    tables: std::ops::Range<u8>,
}

/// A host in the open, as the router sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed<'a> {
    pub(crate) host: &'a Host,
    pub(crate) link: &'a str,
    pub(crate) ipv4: Ipv4Addr,
}

/// What of a gateway's LAN has addresses of the wide network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Routed {
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
}

/// A gateway's place in the wide network.
#[derive(Debug)]
pub(crate) struct GatewayPlace {
    pub(crate) next_hop: [u8; 6],
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Ipv6Addr,
    pub(crate) lan_ipv4: Option<Ipv4Addr>,
    pub(crate) lan_ipv6: Option<Ipv6Addr>,
    pub(crate) router_link: String,
}

impl Wide {
    /// Makes the calling thread's namespace the router.
    pub fn new() -> Result<Self, WideError> {
        sysctl::set_forwarding()?;
        Ok(Self { router: Netlink::open()?, hosts: 0, led: BTreeMap::new(), tables: TABLES })
    }

    /// Gives a host a subnet, a cable, addresses and default routes.
    pub fn attach(&mut self, host: &Host, cable: Cable) -> Result<Place, WideError> {
        let plan = Plan::of(self.hosts).ok_or(WideError::Full)?;
        self.hosts += 1;
        let mut inside = Netlink::open_in(host.netns())?;
        let wire = cable.real_wire || cable.impairment.is_some();
        let middlebox = match cable.impairment {
            None => {
                self.router.create_veth(&plan.router_link, HOST_LINK, Some(host.netns()), cable.mtu)?;
                None
            }
            Some(impairment) => {
                let seed = plan.host as u64;
                Some(MiddleBox::on_cable(
                    &mut self.router,
                    &plan.router_link,
                    host,
                    cable.mtu,
                    impairment,
                    seed,
                )?)
            }
        };
        if wire {
            self.router.set_real_wire(&plan.router_link)?;
            inside.set_real_wire(HOST_LINK)?;
        }
        self.router.set_up(&plan.router_link)?;
        inside.set_up(HOST_LINK)?;
        for (ours, theirs, prefix_len, default) in plan.addresses() {
            self.router.add_address(&plan.router_link, ours, prefix_len)?;
            inside.add_address(HOST_LINK, theirs, prefix_len)?;
            inside.add_route(default, 0, Hop::Via(ours))?;
        }
        Ok(Place { ipv4: plan.ipv4(2), ipv6: plan.ipv6(2), router_link: plan.router_link, middlebox })
    }

    /// Gives a gateway a subnet and a cable, and leads to it what its LAN wants led there.
    pub(crate) fn attach_gateway(
        &mut self,
        namespace: &Netns,
        link: &str,
        routed: Routed,
    ) -> Result<GatewayPlace, WideError> {
        let plan = Plan::of(self.hosts).ok_or(WideError::Full)?;
        self.hosts += 1;
        self.router.create_veth(&plan.router_link, link, Some(namespace), GATEWAY_MTU)?;
        self.router.set_real_wire(&plan.router_link)?;
        self.router.set_up(&plan.router_link)?;
        for (ours, _, prefix_len, _) in plan.addresses() {
            self.router.add_address(&plan.router_link, ours, prefix_len)?;
        }
        let lan_ipv4 = routed.ipv4.then(|| plan.lan_ipv4()).transpose()?;
        if let Some(prefix) = lan_ipv4 {
            self.router.add_route(prefix.into(), 24, Hop::Via(plan.ipv4(2).into()))?;
        }
        let lan_ipv6 = routed.ipv6.then(|| plan.lan_ipv6());
        if let Some(prefix) = lan_ipv6 {
            self.router.add_route(prefix.into(), 64, Hop::Via(plan.ipv6(2).into()))?;
        }
        Ok(GatewayPlace {
            next_hop: self.router.link_address(&plan.router_link)?,
            ipv4: plan.ipv4(2),
            ipv6: plan.ipv6(2),
            lan_ipv4,
            lan_ipv6,
            router_link: plan.router_link,
        })
    }

    /// Another address for the gateway behind a link: each time one that nobody had before.
    pub(crate) fn another_address(&mut self, link: &str, old: Ipv4Addr) -> Result<Ipv4Addr, WideError> {
        let plan = Plan::of(self.hosts).ok_or(WideError::Full)?;
        self.hosts += 1;
        let new = plan.ipv4(2);
        // The subnet of a gateway's first address stays: its router has an address there.
        if self.led.get(link) == Some(&old) {
            self.router.remove_route(old.into(), 32, Hop::Device(link))?;
        }
        self.router.add_route(new.into(), 32, Hop::Device(link))?;
        self.led.insert(link.to_owned(), new);
        Ok(new)
    }

    /// Gives a host one more address. What another host says to it there, and is answered from there, goes over a third, whose kernel forwards it.
    pub(crate) fn detour(
        &mut self,
        from: Placed<'_>,
        to: Placed<'_>,
        over: Placed<'_>,
    ) -> Result<Ipv4Addr, WideError> {
        let address = Plan::of(self.hosts).ok_or(WideError::Full)?.ipv4(2);
        let table = self.tables.next().ok_or(WideError::Full)?;
        self.hosts += 1;
        Netlink::open_in(to.host.netns())?.add_address(HOST_LINK, address.into(), 32)?;
        self.router.add_route(address.into(), 32, Hop::Via(to.ipv4.into()))?;
        self.router.add_default_route(table, over.ipv4)?;
        self.router.add_rule(from.link, Packets::To(address), table)?;
        self.router.add_rule(to.link, Packets::From(address), table)?;
        // They come to the router a second time, by a link that does not lead to where they are from.
        sysctl::set("net/ipv4/conf/all/rp_filter", "0")?;
        sysctl::set(&format!("net/ipv4/conf/{}/rp_filter", over.link), "0")?;
        over.host.netns().enter(|| {
            sysctl::set("net/ipv4/ip_forward", "1")?;
            // They leave by the link they came in by: nobody is to be told of a shorter way.
            sysctl::set("net/ipv4/conf/all/send_redirects", "0")?;
            sysctl::set(&format!("net/ipv4/conf/{HOST_LINK}/send_redirects"), "0")
        })??;
        Ok(address)
    }

    /// Takes a host's cable away, with its addresses and routes; the host may be cabled elsewhere then.
    pub fn detach(&mut self, host: &Host) -> Result<(), WideError> {
        Ok(Netlink::open_in(host.netns())?.delete_link(HOST_LINK)?)
    }

    /// Pulls a host's cable out of the router.
    pub fn unplug(&mut self, place: &Place) -> Result<(), WideError> {
        Ok(self.router.set_down(&place.router_link)?)
    }

    /// Puts it back.
    pub fn plug(&mut self, place: &Place) -> Result<(), WideError> {
        Ok(self.router.set_up(&place.router_link)?)
    }

    /// The router's own client, for settings that a test wants.
    pub fn router(&mut self) -> &mut Netlink {
        &mut self.router
    }
}

impl Drop for Wide {
    /// Takes the cables away: a host's namespace, and its end of a cable with it, goes only some time after the host, and the next wide network of the same
    /// router has cables of the same names.
    fn drop(&mut self) {
        for link in (0..self.hosts).filter_map(|index| Plan::of(index).map(|plan| plan.router_link)) {
            // Some are gone already, with a gateway or a middle box.
            let _gone_already = self.router.delete_link(&link);
        }
    }
}

/// The addresses of one host's subnet.
#[derive(Debug)]
struct Plan {
    host: u16,
    range: [u8; 3],
    base: u8,
    router_link: String,
}

impl Plan {
    fn of(index: usize) -> Option<Self> {
        let range = *RANGES.get(index / SUBNETS_PER_RANGE)?;
        let base = u8::try_from(4 * (index % SUBNETS_PER_RANGE)).ok()?;
        Some(Self { host: u16::try_from(index).ok()?, range, base, router_link: format!("wan{index}") })
    }

    fn ipv4(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.range;
        Ipv4Addr::new(a, b, c, self.base + last)
    }

    fn ipv6(&self, last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, self.host, 0, 0, 0, 0, last)
    }

    /// The addresses of a gateway's LAN where they are routed: from the range for benchmarks (RFC 2544), the only other one that nobody has.
    fn lan_ipv4(&self) -> Result<Ipv4Addr, WideError> {
        let third = u8::try_from(self.host).map_err(|_| WideError::Full)?;
        Ok(Ipv4Addr::new(198, 18, third, 0))
    }

    fn lan_ipv6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, LAN_IPV6 + self.host, 0, 0, 0, 0, 0)
    }

    /// For each IP version: the router's address, the host's, the subnet's prefix length, and what stands for "everywhere".
    fn addresses(&self) -> [(IpAddr, IpAddr, u8, IpAddr); 2] {
        [
            (self.ipv4(1).into(), self.ipv4(2).into(), 30, Ipv4Addr::UNSPECIFIED.into()),
            (self.ipv6(1).into(), self.ipv6(2).into(), 64, Ipv6Addr::UNSPECIFIED.into()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_addresses_of_its_own_until_the_plan_is_full() {
        let plans: Vec<_> = (0..HOSTS_MAX).map(|index| Plan::of(index).unwrap()).collect();
        let addresses: std::collections::HashSet<_> =
            plans.iter().flat_map(|plan| [plan.ipv4(1), plan.ipv4(2)]).collect();
        assert_eq!(addresses.len(), 2 * HOSTS_MAX);
        assert_eq!(plans[64].ipv4(2), Ipv4Addr::new(203, 0, 113, 2));
        assert_eq!(plans[64].ipv6(2), "2001:db8:40::2".parse::<Ipv6Addr>().unwrap());
        assert!(Plan::of(HOSTS_MAX).is_none());
    }
}
