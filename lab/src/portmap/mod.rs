//! How a host asks a gateway for an outside port: PCP (RFC 6887), NAT-PMP (RFC 6886), UPnP IGD. Pure but for `serve`: a message in, the answer out, the port
//! in the gateway's [`Nat`].
//!
//! | room | what it owns |
//! |---|---|
//! | `pcp`, `natpmp` | datagrams to port 5351 |
//! | `igd` | the search on the LAN, the description, SOAP |
//! | `serve` | the sockets in the gateway's namespace |
//!
//! Owns: nonces of PCP's mappings. Refuses to know frames. A gateway that maps ports has its LAN address in the kernel of its namespace too, for these sockets alone.

mod igd;
mod natpmp;
mod pcp;
pub(crate) mod serve;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::nat::{Nat, NotPinned, PINS_MAX, Protocol};

/// A protocol a gateway speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortMapping {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// UPnP Internet Gateway Device.
    Upnp,
}

/// The port of PCP and NAT-PMP.
const PORT: u16 = 5351;
/// The longest time a port is given for, as the RFCs recommend for a first request.
const LIFE_MAX: Duration = Duration::from_secs(7200);

/// The side of a gateway that answers.
#[derive(Debug)]
pub(crate) struct Desk {
    speaks: Vec<PortMapping>,
    /// Who made a mapping may change it (RFC 6887 section 11.2): by inside endpoint.
    nonces: BTreeMap<(Protocol, SocketAddrV4), [u8; 12]>,
}

impl Desk {
    pub(crate) fn new(speaks: Vec<PortMapping>) -> Self {
        Self { speaks, nonces: BTreeMap::new() }
    }

    fn does(&self, what: PortMapping) -> bool {
        self.speaks.contains(&what)
    }

    /// The answer to a datagram to port 5351. `now` is since the gateway began, which is the epoch that both protocols tell.
    fn answer(&mut self, now: Duration, from: Ipv4Addr, asked: &[u8], nat: &mut Nat) -> Option<Vec<u8>> {
        match *asked.first()? {
            pcp::VERSION if self.does(PortMapping::Pcp) => pcp::answer(self, now, from, asked, nat),
            natpmp::VERSION if self.does(PortMapping::NatPmp) => natpmp::answer(now, from, asked, nat),
            _ if self.does(PortMapping::Pcp) => Some(pcp::unsupported_version(now, asked)),
            _ if self.does(PortMapping::NatPmp) => Some(natpmp::unsupported_version(now, asked)),
            _ => None,
        }
    }

    /// Remembers who made a mapping; false if it was another.
    fn is_its_maker(&mut self, of: (Protocol, SocketAddrV4), nonce: [u8; 12], is_held: bool) -> bool {
        if let (Some(known), true) = (self.nonces.get(&of), is_held) {
            return *known == nonce;
        }
        if self.nonces.len() >= PINS_MAX {
            self.nonces.clear();
        }
        self.nonces.insert(of, nonce);
        true
    }
}

/// Gives a port for a time no longer than [`LIFE_MAX`], or takes it back where the time is zero. The outside endpoint and the time.
fn change(
    nat: &mut Nat,
    now: Duration,
    of: (Protocol, SocketAddrV4),
    wanted: (u16, bool),
    life_s: u32,
) -> Result<(SocketAddrV4, u32), NotPinned> {
    if life_s == 0 {
        let held = nat.pinned(now, of);
        if let Some(held) = held {
            nat.unpin(of.0, held);
        }
        return Ok((held.unwrap_or(SocketAddrV4::new(nat.address(), 0)), 0));
    }
    let life = Duration::from_secs(life_s.into()).min(LIFE_MAX);
    let outside = nat.pin(now, of, wanted, life)?;
    Ok((outside, u32::try_from(life.as_secs()).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::{Behaviour, Flow, Side, Signal};

    pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
    pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 10);
    pub(super) const NOW: Duration = Duration::from_secs(9);

    pub(super) fn nat(kind: &str) -> Nat {
        Nat::new(Behaviour::named(kind).unwrap(), vec![OUTSIDE], 1)
    }

    #[test]
    fn a_port_given_is_the_hosts_for_everybody_and_both_ways_until_its_time_is_over() {
        let mut nat = nat("symmetric-random");
        let host = SocketAddrV4::new(HOST, 7441);
        let (outside, life) = change(&mut nat, NOW, (Protocol::Udp, host), (7441, false), 100).unwrap();
        assert_eq!((outside, life), (SocketAddrV4::new(OUTSIDE, 7441), 100));
        let peer = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 5), 40_000);
        let inward = Flow { protocol: Protocol::Udp, source: peer, destination: outside };
        assert_eq!(nat.inbound(NOW, inward, Signal::Data).unwrap().destination, host);
        let outward = Flow { protocol: Protocol::Udp, source: host, destination: peer };
        assert_eq!(
            nat.outbound(NOW, outward, Signal::Data).unwrap(),
            (Side::Outside, Flow { source: outside, ..outward })
        );
        // Another host gets another port, and none at all where it must be this one.
        let other = (Protocol::Udp, SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 11), 7441));
        assert_eq!(change(&mut nat, NOW, other, (7441, true), 100), Err(NotPinned::Taken));
        assert_ne!(change(&mut nat, NOW, other, (7441, false), 100).unwrap().0.port(), 7441);
        let later = NOW + Duration::from_secs(100);
        assert!(nat.inbound(later, inward, Signal::Data).is_err());
    }

    #[test]
    fn more_than_the_table_holds_are_refused() {
        let mut nat = nat("port-cone");
        let given = (0..100).filter(|number| {
            let host = SocketAddrV4::new(HOST, 10_000 + number);
            change(&mut nat, NOW, (Protocol::Udp, host), (0, false), 100).is_ok()
        });
        assert_eq!(given.count(), PINS_MAX);
    }

    #[test]
    fn a_gateway_answers_what_it_speaks_and_says_so_of_what_it_does_not() {
        let mut nat = nat("port-cone");
        let pcp_announce = [[2, 0, 0, 0, 0, 0, 0, 0].as_slice(), &HOST.to_ipv6_mapped().octets()].concat();
        let mut desk = Desk::new(vec![PortMapping::NatPmp]);
        // RFC 6886 section 3.5: the version it has, and result 1.
        assert_eq!(desk.answer(NOW, HOST, &pcp_announce, &mut nat), Some(vec![0, 128, 0, 1, 0, 0, 0, 9]));
        let mut desk = Desk::new(vec![PortMapping::Pcp]);
        let said = desk.answer(NOW, HOST, &[0, 0], &mut nat).unwrap();
        assert_eq!((said[0], said[3], said.len()), (2, 1, 24), "RFC 6887 section 9");
        assert_eq!(Desk::new(vec![PortMapping::Upnp]).answer(NOW, HOST, &[0, 0], &mut nat), None);
    }
}
