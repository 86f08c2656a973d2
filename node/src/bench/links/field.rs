//! Two emulated hosts, one wire between them, and the contenders that carry frames over it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use consort_lab::Netlink;
use consort_lab::host::Host;
use consort_lab::netlink::Vxlan;

use super::plane::Planes;
use super::traffic::Ends;
use crate::demo::stage::lab_failure;
use crate::failure::Failure;

/// The wire's ends and their addresses (RFC 5737).
const WIRE: &str = "wire";
const WIRE_MTU: u32 = 1500;
const WIRE_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 2)];
const VXLAN: &str = "vxlan";
const VXLAN_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 98, 0, 1), Ipv4Addr::new(10, 98, 0, 2)];
/// What IPv4, UDP, VXLAN and the inner Ethernet header leave of the wire's MTU.
const VXLAN_MTU: u32 = WIRE_MTU - 50;
/// IANA's port of VXLAN.
const VXLAN_PORT: u16 = 4789;

/// Who carries the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contender {
    /// Nobody: the wire itself.
    Bare,
    /// The kernel's tunnel, without encryption.
    Vxlan,
    /// Two of our data planes.
    Consort,
}

impl Contender {
    pub(super) const ALL: [Self; 3] = [Self::Bare, Self::Vxlan, Self::Consort];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare wire",
            Self::Vxlan => "kernel VXLAN",
            Self::Consort => "consort",
        }
    }
}

/// The hosts with everything set up.
#[derive(Debug)]
pub(super) struct Field {
    hosts: [Host; 2],
    planes: Planes,
}

impl Field {
    /// Sets everything up inside a lab.
    pub(super) fn build(real_wire: bool) -> Result<Self, Failure> {
        let hosts = [Host::start("a").map_err(lab_failure)?, Host::start("b").map_err(lab_failure)?];
        let mut links = [client(&hosts[0])?, client(&hosts[1])?];
        links[0].create_veth(WIRE, WIRE, Some(hosts[1].netns()), WIRE_MTU).map_err(lab_failure)?;
        for (side, link) in links.iter_mut().enumerate() {
            if real_wire {
                link.set_real_wire(WIRE).map_err(lab_failure)?;
            }
            bring_up(link, WIRE, WIRE_ADDRESSES[side], 30)?;
            let vxlan = Vxlan {
                id: 42,
                local: WIRE_ADDRESSES[side],
                remote: WIRE_ADDRESSES[1 - side],
                port: VXLAN_PORT,
            };
            link.create_vxlan(VXLAN, vxlan).map_err(lab_failure)?;
            link.set_mtu(VXLAN, VXLAN_MTU).map_err(lab_failure)?;
            bring_up(link, VXLAN, VXLAN_ADDRESSES[side], 24)?;
        }
        let planes = Planes::start(&hosts, &mut links, WIRE_ADDRESSES)?;
        Ok(Self { hosts, planes })
    }

    /// The two ends of a contender.
    pub(super) fn ends(&self, contender: Contender) -> Ends<'_> {
        let addresses = match contender {
            Contender::Bare => WIRE_ADDRESSES,
            Contender::Vxlan => VXLAN_ADDRESSES,
            Contender::Consort => super::plane::ADDRESSES,
        };
        Ends { namespaces: [self.hosts[0].netns(), self.hosts[1].netns()], addresses }
    }

    /// Processor time of a contender's own processes so far, both ends.
    pub(super) fn cpu(&self, contender: Contender) -> Result<Duration, Failure> {
        match contender {
            Contender::Bare | Contender::Vxlan => Ok(Duration::ZERO),
            Contender::Consort => self.planes.cpu(),
        }
    }

    /// Resident memory of our larger data plane.
    pub(super) fn resident_bytes(&self) -> Result<u64, Failure> {
        self.planes.resident_bytes()
    }
}

fn client(host: &Host) -> Result<Netlink, Failure> {
    Netlink::open_in(host.netns()).map_err(lab_failure)
}

/// Switches a link on and gives it an address.
pub(super) fn bring_up(
    link: &mut Netlink,
    name: &str,
    address: Ipv4Addr,
    prefix_len: u8,
) -> Result<(), Failure> {
    link.set_up(name).map_err(lab_failure)?;
    link.add_address(name, IpAddr::V4(address), prefix_len).map_err(lab_failure)
}
