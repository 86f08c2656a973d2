//! Where a host's data plane is and how it may be reached: in its record, and in each `meet` message.
//!
//! | field | meaning |
//! |---|---|
//! | data key | X25519 public key of its links |
//! | candidates | where it may be reached and how each is known, at most [`CANDIDATES_MAX`] |
//! | NAT | what is before it |
//! | relays | whether its owner lets it forward for others |
//!
//! Who receives it knows by the overlay who said it. What it claims is tried and no more: candidates that are nobody's address, or would have
//! this host probe itself, are left out ([`Whereabouts::to_try`]), so that a member cannot turn another into a prober of third parties beyond the
//! data plane's own budget.

use std::net::IpAddr;

use consort_scheduler::bounded::List;
use consort_vswitch::path::{CANDIDATES_MAX, Candidate, CandidateKind, LocalPaths, NatView};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// X25519 public key of its links.
    pub data_key: [u8; 32],
    /// Where it may be reached.
    pub candidates: List<Candidate, CANDIDATES_MAX>,
    /// What is before it.
    pub nat: NatView,
    /// Whether it forwards for others.
    pub relays: bool,
}

impl Whereabouts {
    /// This host's own, as its data plane knows them now.
    #[must_use]
    pub fn own(data_key: [u8; 32], paths: &LocalPaths, relays: bool) -> Self {
        Self { data_key, candidates: List::first_of(paths.candidates()), nat: paths.nat, relays }
    }

    /// The candidates worth trying from a host that `is_near` the one that named them (on this computer), and how many were left out.
    #[must_use]
    pub fn to_try(&self, is_near: bool) -> (Vec<Candidate>, usize) {
        let kept: Vec<Candidate> =
            self.candidates.iter().filter(|candidate| is_worth_trying(candidate, is_near)).copied().collect();
        let left_out = self.candidates.len() - kept.len();
        (kept, left_out)
    }
}

fn is_worth_trying(candidate: &Candidate, is_near: bool) -> bool {
    // A stream's end is a socket of this host; nobody else has one to name.
    if candidate.kind == CandidateKind::Stream || candidate.address.port() == 0 {
        return false;
    }
    let ip = candidate.address.ip();
    let is_nobodys = ip.is_unspecified()
        || ip.is_multicast()
        || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
        // Means nothing without an interface, which the two do not share a name for.
        || matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    !is_nobodys && (is_near || !ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whereabouts(addresses: &[&str]) -> Whereabouts {
        let candidates =
            addresses.iter().map(|address| Candidate::local(address.parse().unwrap())).collect::<Vec<_>>();
        Whereabouts {
            data_key: [7; 32],
            candidates: List::first_of(candidates),
            nat: NatView::default(),
            relays: false,
        }
    }

    #[test]
    fn nobodys_addresses_and_ones_own_are_left_out() {
        let named = whereabouts(&[
            "10.0.0.1:7441",
            "127.0.0.1:22",
            "224.0.0.1:1",
            "255.255.255.255:1",
            "0.0.0.0:1",
            "10.0.0.1:0",
            "[::1]:7",
            "[fe80::1]:7",
            "[fd00::1]:7",
        ]);
        let (kept, left_out) = named.to_try(false);
        let kept: Vec<String> = kept.iter().map(|candidate| candidate.address.to_string()).collect();
        assert_eq!(kept, ["10.0.0.1:7441", "[fd00::1]:7"]);
        assert_eq!(left_out, 7);
        // On one computer, loopback is where the other is.
        assert_eq!(named.to_try(true).1, 5);
    }

    #[test]
    fn a_stream_is_no_address_to_tell() {
        let mut named = whereabouts(&[]);
        let address = "10.0.0.1:7441".parse().unwrap();
        named.candidates = List::first_of([Candidate { address, kind: CandidateKind::Stream }]);
        assert_eq!(named.to_try(true), (vec![], 1));
    }
}
