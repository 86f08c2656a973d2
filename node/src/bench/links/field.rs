//! Two emulated hosts, what lies between them, and the contenders that carry frames over it.
//!
//! | ground | between the hosts | what ratios refer to |
//! |---|---|---|
//! | real wire, plain veth | one veth pair | the kernel's VXLAN |
//! | bad path | a middle box and a router; beside them one direct veth pair, for the calibration | the kernel's VXLAN |
//! | same host | nothing: both stand for machines on one host | a bridge of the kernel |

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use consort_lab::host::Host;
use consort_lab::middlebox::Impairment;
use consort_lab::netlink::{Hop, Vxlan};
use consort_lab::wide::{Cable, Place, Wide};
use consort_lab::{Netlink, enter};
use serde::Serialize;

use super::args::{Ground, Plan};
use super::contender::{Contender, Layer, Role};
use super::traffic::{Ends, round_trips};
use super::{floor, peers, plane};
use crate::demo::stage::lab_failure;
use crate::failure::Failure;

/// The wire's ends and their addresses (RFC 5737).
const WIRE: &str = "wire";
const WIRE_MTU: u32 = 1500;
const WIRE_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 2)];
/// The direct cable beside a bad path.
const DIRECT: &str = "direct";
const DIRECT_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 97, 0, 1), Ipv4Addr::new(10, 97, 0, 2)];
const VXLAN: &str = "vxlan";
const VXLAN_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 98, 0, 1), Ipv4Addr::new(10, 98, 0, 2)];
/// What IPv4, UDP, VXLAN and the inner Ethernet header leave of the wire's MTU.
const VXLAN_MTU: u32 = WIRE_MTU - 50;
/// IANA's port of VXLAN.
const VXLAN_PORT: u16 = 4789;
const BRIDGE: &str = "bridge";
const BRIDGED: &str = "bridged";
const BRIDGED_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 96, 0, 1), Ipv4Addr::new(10, 96, 0, 2)];

/// On a bad path all use the same segments, which fit every contender's device: a flow's rate under loss goes with the size of its segments,
/// and what is compared is what a tunnel adds to the loss.
const BAD_PATH_SEGMENT_BYTES: u32 = 1300;

/// Handshakes are done and addresses resolved by then, also where the first messages were lost.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// A contender through which so many round trips went is up.
const CONNECTED_TRIPS: usize = 3;

/// The hosts with everything set up. The contenders end before their hosts.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) contenders: Vec<Contender>,
    pub(super) absent: Vec<Absent>,
    hosts: [Host; 2],
    path: Option<BadPath>,
    segment_bytes: Option<u32>,
}

/// Who does not take part, and why.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Absent {
    pub(super) contender: &'static str,
    pub(super) reason: String,
}

/// The middle box's cable.
#[derive(Debug)]
struct BadPath {
    place: Place,
    /// The router; the cables go with it.
    _wide: Wide,
    impairment: Impairment,
}

impl Field {
    /// Sets everything up inside a lab.
    pub(super) fn build(plan: &Plan) -> Result<Self, Failure> {
        let hosts = [Host::start("a").map_err(lab_failure)?, Host::start("b").map_err(lab_failure)?];
        let links = [client(&hosts[0])?, client(&hosts[1])?];
        let mut field =
            Self { contenders: Vec::new(), absent: Vec::new(), hosts, path: None, segment_bytes: None };
        match plan.ground {
            Ground::RealWire => field.cable(plan, links, true),
            Ground::PlainVeth => field.cable(plan, links, false),
            Ground::BadPath(impairment) => field.bad_path(plan, links, impairment),
            Ground::SameHost => field.same_host(plan, links),
        }?;
        Ok(field)
    }

    fn cable(&mut self, plan: &Plan, mut links: [Netlink; 2], real_wire: bool) -> Result<(), Failure> {
        veth(&self.hosts[1], &mut links, WIRE, WIRE_ADDRESSES, real_wire)?;
        for (link, other) in links.iter_mut().zip([WIRE_ADDRESSES[1], WIRE_ADDRESSES[0]]) {
            // Some programs do not start where nothing leads to the rest of the world.
            link.add_route(Ipv4Addr::UNSPECIFIED.into(), 0, Hop::Via(other.into())).map_err(lab_failure)?;
        }
        self.contend(plan, links, WIRE_ADDRESSES)
    }

    /// The cables stand without impairment until [`Field::impair`].
    fn bad_path(
        &mut self,
        plan: &Plan,
        mut links: [Netlink; 2],
        impairment: Impairment,
    ) -> Result<(), Failure> {
        let mut wide = Wide::new().map_err(lab_failure)?;
        let clean = Cable { mtu: WIRE_MTU, real_wire: true, impairment: None };
        let boxed = Cable { impairment: Some(Impairment::default()), ..clean };
        let place = wide.attach(&self.hosts[0], boxed).map_err(lab_failure)?;
        let far = wide.attach(&self.hosts[1], clean).map_err(lab_failure)?;
        let wire = [place.ipv4, far.ipv4];
        self.path = Some(BadPath { place, _wide: wide, impairment });
        self.segment_bytes = Some(BAD_PATH_SEGMENT_BYTES);
        veth(&self.hosts[1], &mut links, DIRECT, DIRECT_ADDRESSES, true)?;
        self.contend(plan, links, wire)
    }

    fn same_host(&mut self, plan: &Plan, mut links: [Netlink; 2]) -> Result<(), Failure> {
        let mut own = Netlink::open().map_err(lab_failure)?;
        own.create_bridge(BRIDGE).map_err(lab_failure)?;
        own.set_up(BRIDGE).map_err(lab_failure)?;
        for (side, link) in links.iter_mut().enumerate() {
            let port = format!("{BRIDGED}{side}");
            own.create_veth(&port, BRIDGED, Some(self.hosts[side].netns()), WIRE_MTU).map_err(lab_failure)?;
            own.set_bridge(&port, BRIDGE).map_err(lab_failure)?;
            own.set_up(&port).map_err(lab_failure)?;
            bring_up(link, BRIDGED, BRIDGED_ADDRESSES[side], 24)?;
        }
        self.contenders = vec![
            Contender::of_the_kernel("kernel bridge", Role::Reference, Layer::Ethernet, BRIDGED_ADDRESSES),
            plane::local(plan, &self.hosts, &mut links, &mut own)?,
        ];
        self.contenders.iter().try_for_each(|contender| self.connected(contender).map_err(lab_failure))
    }

    /// The bare wire, the kernel, the least a tunnel takes, us, and the other programs.
    fn contend(&mut self, plan: &Plan, mut links: [Netlink; 2], wire: [Ipv4Addr; 2]) -> Result<(), Failure> {
        for (side, link) in links.iter_mut().enumerate() {
            let vxlan = Vxlan { id: 42, local: wire[side], remote: wire[1 - side], port: VXLAN_PORT };
            link.create_vxlan(VXLAN, vxlan).map_err(lab_failure)?;
            link.set_mtu(VXLAN, VXLAN_MTU).map_err(lab_failure)?;
            bring_up(link, VXLAN, VXLAN_ADDRESSES[side], 24)?;
        }
        self.contenders = vec![
            Contender::of_the_kernel("bare wire", Role::Bare, Layer::Underlay, wire),
            Contender::of_the_kernel("kernel VXLAN", Role::Reference, Layer::Ethernet, VXLAN_ADDRESSES),
            floor::start(&self.hosts, &mut links, wire)?,
            plane::linked(plan, &self.hosts, &mut links, wire)?,
        ];
        self.contenders.iter().try_for_each(|contender| self.connected(contender).map_err(lab_failure))?;
        let state = enter::directory().ok_or_else(|| lab_failure("the field stands only inside a lab"))?;
        for (number, peer) in (0..).zip(&plan.peers) {
            eprintln!("starting {}", peer.name);
            let started = peer.start(number, &self.hosts, &mut links, wire, &state);
            let up = started.and_then(|contender| match self.connected(&contender) {
                Ok(()) => Ok(contender),
                Err(reason) => Err(format!("{reason}; {}", peer.last_words(&peer.directory(&state)))),
            });
            match up {
                Ok(contender) => self.contenders.push(contender),
                Err(reason) => self.drop_out(peer, reason, plan.peers_required)?,
            }
        }
        Ok(())
    }

    fn drop_out(&mut self, peer: &peers::Peer, reason: String, required: bool) -> Result<(), Failure> {
        if required {
            return Err(Failure::failed(
                "peer_absent",
                format!("{} does not take part: {reason}", peer.name),
            )
            .remedy("leave it out of --peers, or take those that are `installed`"));
        }
        eprintln!("{} does not take part: {reason}", peer.name);
        self.absent.push(Absent { contender: peer.name, reason });
        Ok(())
    }

    /// Waits until datagrams go through a contender, there and back.
    fn connected(&self, contender: &Contender) -> Result<(), String> {
        let began = Instant::now();
        while began.elapsed() < CONNECT_MAX {
            let trips = round_trips(&self.ends(contender), CONNECTED_TRIPS, CONNECT_MAX, Duration::ZERO);
            if trips.map_err(|error| error.to_string())?.len() == CONNECTED_TRIPS {
                return Ok(());
            }
        }
        Err(format!("no datagram went through it within {} s", CONNECT_MAX.as_secs()))
    }

    /// The two ends of a contender.
    pub(super) fn ends(&self, contender: &Contender) -> Ends<'_> {
        self.ends_at(contender.addresses)
    }

    fn ends_at(&self, addresses: [Ipv4Addr; 2]) -> Ends<'_> {
        let namespaces = [self.hosts[0].netns(), self.hosts[1].netns()];
        Ends { namespaces, addresses, segment_bytes: self.segment_bytes }
    }

    /// The direct cable beside the bad path, and the bad path itself; only where there is one.
    pub(super) fn calibration_ends(&self) -> Option<[Ends<'_>; 2]> {
        let bare = self.contenders.iter().find(|contender| contender.role == Role::Bare)?;
        self.path.as_ref().map(|_| [self.ends_at(DIRECT_ADDRESSES), self.ends(bare)])
    }

    /// Lets the middle box do what it was asked to.
    pub(super) fn impair(&mut self) -> Result<(), Failure> {
        let Some(BadPath { place: Place { middlebox: Some(middle_box), .. }, impairment, .. }) =
            &mut self.path
        else {
            return Ok(());
        };
        middle_box.change(*impairment).map_err(lab_failure)
    }
}

/// A veth pair between the two hosts.
fn veth(
    far: &Host,
    links: &mut [Netlink; 2],
    name: &str,
    addresses: [Ipv4Addr; 2],
    real_wire: bool,
) -> Result<(), Failure> {
    links[0].create_veth(name, name, Some(far.netns()), WIRE_MTU).map_err(lab_failure)?;
    for (link, address) in links.iter_mut().zip(addresses) {
        if real_wire {
            link.set_real_wire(name).map_err(lab_failure)?;
        }
        bring_up(link, name, address, 24)?;
    }
    Ok(())
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
