//! A case built: gateways and hosts running, and what can be done to them afterwards.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Case, CaseHost};
use crate::Netlink;
use crate::gateway::{Gateway, Uplink};
use crate::host::{Host, StartHostError};
use crate::middlebox::MiddleBox;
use crate::netlink::LinkStatistics;
use crate::wide::{Cable, HOST_LINK, Placed, Wide, WideError};

/// Destination, source and type.
const ETHERNET_BYTES: u64 = 14;

/// A world could not be built, or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// A host could not be started.
    #[error(transparent)]
    Host(#[from] StartHostError),
    /// Something could not be cabled.
    #[error(transparent)]
    Wide(#[from] WideError),
    /// Nothing has this name.
    #[error("the case has no site or host `{0}`")]
    Unknown(String),
}

/// Where a host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// In the open.
    Open,
    /// On a site's LAN.
    Site(String),
}

/// A running host.
#[derive(Debug)]
pub struct WorldHost {
    /// The emulated computer.
    pub host: Host,
    /// Where it is.
    pub home: Home,
    /// Its own address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its own address.
    pub ipv6: Option<Ipv6Addr>,
    /// What the case says for whoever starts something there.
    pub config: String,
    /// The box on its cable, if it is in the open and impaired.
    pub middlebox: Option<MiddleBox>,
    /// Its link in the router, if it is in the open.
    pub router_link: Option<String>,
}

/// A running lab.
#[derive(Debug)]
pub struct World {
    // Hosts end before the gateways that carry them, and those before what they are behind.
    hosts: BTreeMap<String, WorldHost>,
    gateways: BTreeMap<String, Gateway>,
    wide: Wide,
}

impl World {
    /// Builds a case. The calling thread's namespace becomes the wide network's router.
    ///
    /// # Errors
    /// If the system refuses a process, a namespace or a link.
    pub fn build(case: &Case) -> Result<Self, WorldError> {
        let wide = Wide::new()?;
        let mut world = Self { hosts: BTreeMap::new(), gateways: BTreeMap::new(), wide };
        for site in &case.sites {
            let uplink = match &site.behind {
                None => Uplink::Wide(&mut world.wide),
                Some(name) => Uplink::Behind(
                    world.gateways.get_mut(name).ok_or_else(|| WorldError::Unknown(name.clone()))?,
                ),
            };
            let gateway = Gateway::start(&site.plan, uplink)?;
            world.gateways.insert(site.name.clone(), gateway);
        }
        for host in &case.hosts {
            world.add(host)?;
        }
        Ok(world)
    }

    /// Starts one more host.
    ///
    /// # Errors
    /// As [`World::build`].
    pub fn add(&mut self, described: &CaseHost) -> Result<(), WorldError> {
        let host = WorldHost {
            host: Host::start(&described.name)?,
            home: Home::Open,
            ipv4: None,
            ipv6: None,
            config: described.config.clone(),
            middlebox: None,
            router_link: None,
        };
        let home = described.site.clone().map_or(Home::Open, Home::Site);
        let cable = Cable { impairment: described.impairment, real_wire: true, ..Cable::default() };
        let host = self.cable(host, home, cable)?;
        self.hosts.insert(described.name.clone(), host);
        Ok(())
    }

    /// Takes a host to another place, as a notebook that changes its network: the cable is pulled, and put in there. Sockets stay.
    ///
    /// # Errors
    /// If there is no such host or site.
    pub fn move_host(&mut self, name: &str, home: Home) -> Result<(), WorldError> {
        let host = self.hosts.remove(name).ok_or_else(|| WorldError::Unknown(name.to_owned()))?;
        self.wide.detach(&host.host)?;
        let host = self.cable(host, home, Cable { real_wire: true, ..Cable::default() })?;
        self.hosts.insert(name.to_owned(), host);
        Ok(())
    }

    /// A host.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn host(&mut self, name: &str) -> Result<&mut WorldHost, WorldError> {
        self.hosts.get_mut(name).ok_or_else(|| WorldError::Unknown(name.to_owned()))
    }

    /// All hosts, by name.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, &WorldHost)> {
        self.hosts.iter().map(|(name, host)| (name.as_str(), host))
    }

    /// A site's gateway.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn gateway(&mut self, site: &str) -> Result<&mut Gateway, WorldError> {
        self.gateways.get_mut(site).ok_or_else(|| WorldError::Unknown(site.to_owned()))
    }

    /// Gives a site's NAT another outside address.
    ///
    /// # Errors
    /// If there is no such site, or it is behind another.
    pub fn readdress(&mut self, site: &str) -> Result<Ipv4Addr, WorldError> {
        let gateway = self.gateways.get_mut(site).ok_or_else(|| WorldError::Unknown(site.to_owned()))?;
        Ok(gateway.readdress(&mut self.wide)?)
    }

    /// The wide network.
    pub fn wide(&mut self) -> &mut Wide {
        &mut self.wide
    }

    /// Pulls the cable of a host in the open out of the router, or puts it back: a partition. The host's addresses and routes stay.
    ///
    /// # Errors
    /// If the host is on a site's LAN, or the system refuses.
    pub fn plug(&mut self, name: &str, plugged: bool) -> Result<(), WorldError> {
        let host = self.hosts.get(name).ok_or_else(|| WorldError::Unknown(name.to_owned()))?;
        let link = host.router_link.as_deref().ok_or(WideError::NotCabled)?;
        let router = self.wide.router();
        match plugged {
            true => router.set_up(link),
            false => router.set_down(link),
        }
        .map_err(WideError::from)?;
        Ok(())
    }

    /// Gives a host in the open one more address; what another says to it there, and the answers, go over a third, whose kernel forwards them: the baseline of whoever
    /// forwards by a program.
    ///
    /// # Errors
    /// If one of them is not in the open, or the system refuses.
    pub fn detour(&mut self, from: &str, to: &str, over: &str) -> Result<Ipv4Addr, WorldError> {
        let placed = |name: &str| {
            let host = self.hosts.get(name).ok_or_else(|| WorldError::Unknown(name.to_owned()))?;
            host.placed().ok_or(WorldError::Wide(WideError::NotCabled))
        };
        let (from, to, over) = (placed(from)?, placed(to)?, placed(over)?);
        Ok(self.wide.detour(from, to, over)?)
    }

    /// What a host's cable carried: what arrived at the host as received, what arrived at the router as sent, behind whatever box is in between.
    ///
    /// # Errors
    /// If the host is not in the open, or the system refuses.
    pub fn carried(&mut self, name: &str) -> Result<LinkStatistics, WorldError> {
        let host = self.hosts.get(name).ok_or_else(|| WorldError::Unknown(name.to_owned()))?;
        let link = host.router_link.as_deref().ok_or(WideError::NotCabled)?;
        let read = |netlink: &mut Netlink, link: &str| netlink.link_statistics(link).map_err(WideError::from);
        let there = read(&mut Netlink::open_in(host.host.netns()).map_err(WideError::from)?, HOST_LINK)?;
        let here = read(self.wide.router(), link)?;
        // What arrives at a link with receive offload is counted without its Ethernet header.
        let bytes = |end: LinkStatistics| end.rx_bytes + ETHERNET_BYTES * end.rx_packets;
        Ok(LinkStatistics {
            rx_packets: there.rx_packets,
            rx_bytes: bytes(there),
            tx_packets: here.rx_packets,
            tx_bytes: bytes(here),
        })
    }

    /// Switches a host's link off or on; its addresses stay, its default routes go.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn set_link(&mut self, name: &str, up: bool) -> Result<(), WorldError> {
        let host = self.hosts.get(name).ok_or_else(|| WorldError::Unknown(name.to_owned()))?;
        let mut netlink = Netlink::open_in(host.host.netns()).map_err(WideError::from)?;
        match up {
            true => netlink.set_up(HOST_LINK),
            false => netlink.set_down(HOST_LINK),
        }
        .map_err(WideError::from)?;
        Ok(())
    }

    fn cable(&mut self, host: WorldHost, home: Home, cable: Cable) -> Result<WorldHost, WorldError> {
        match home {
            Home::Open => {
                let place = self.wide.attach(&host.host, cable)?;
                Ok(WorldHost {
                    home,
                    ipv4: Some(place.ipv4),
                    ipv6: Some(place.ipv6),
                    middlebox: place.middlebox,
                    router_link: Some(place.router_link),
                    ..host
                })
            }
            Home::Site(site) => {
                let gateway = self.gateways.get_mut(&site).ok_or(WorldError::Unknown(site.clone()))?;
                let lease = gateway.attach(&host.host)?;
                Ok(WorldHost {
                    home: Home::Site(site),
                    ipv4: lease.ipv4,
                    ipv6: lease.ipv6,
                    middlebox: None,
                    router_link: None,
                    ..host
                })
            }
        }
    }
}

impl WorldHost {
    fn placed(&self) -> Option<Placed<'_>> {
        Some(Placed { host: &self.host, link: self.router_link.as_deref()?, ipv4: self.ipv4? })
    }

    /// Its own addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        [self.ipv4.map(IpAddr::from), self.ipv6.map(IpAddr::from)].into_iter().flatten()
    }
}
