//! This host's own side of paths, as node publishes it.

use std::net::{IpAddr, SocketAddr};

use super::{Candidate, CandidateKind, nat::NatView};
use crate::HostId;

/// Of what members saw, so much is told of a host whose NAT shows each of them another port: the address, and two ports for the case that the NAT lets everybody
/// in. Each is probed by everybody who wants a link, from the rate of the port search that is wanted there instead.
const OBSERVED_BEYOND_HARD: usize = 2;

/// What is known of where this host can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct LocalPaths {
    /// Addresses of interfaces, with the data plane's port.
    pub local: Vec<SocketAddr>,
    /// What members saw, the newest first, and who saw it.
    pub observed: Vec<(SocketAddr, HostId)>,
    /// What node had mapped at a router.
    pub mapped: Vec<SocketAddr>,
    /// What kind of NAT is in the way.
    pub nat: NatView,
    /// The IPv4 address of that NAT, where members agree.
    pub outside: Option<IpAddr>,
}

impl LocalPaths {
    /// The candidates to publish, at most [`CANDIDATES_MAX`](super::CANDIDATES_MAX), each address once.
    pub fn candidates(&self) -> Vec<Candidate> {
        let of = |kind| move |address: &SocketAddr| Candidate { address: *address, kind };
        let mapped = self.mapped.iter().map(of(CandidateKind::Mapped));
        let local = self.local.iter().map(of(CandidateKind::Local));
        let mut seen: Vec<SocketAddr> = self.observed.iter().map(|(address, _)| *address).collect();
        if self.nat.kind.is_hard() {
            // Always the same, whoever has seen this host last: other candidates are news to everybody it has a link with.
            seen.sort_unstable();
            seen.truncate(OBSERVED_BEYOND_HARD);
        }
        let observed = seen.iter().map(of(CandidateKind::Observed));
        let mut all: Vec<Candidate> = Vec::new();
        // Observed ones are few and none may be lost behind many interfaces.
        for candidate in mapped.chain(observed.take(super::CANDIDATES_MAX / 2)).chain(local) {
            if candidate.usable() && all.iter().all(|other| other.address != candidate.address) {
                all.push(candidate);
            }
        }
        all.truncate(super::CANDIDATES_MAX);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::NatKind;

    fn seen_by_six(kind: NatKind) -> LocalPaths {
        let observed =
            (1..=6).map(|port| (SocketAddr::from(([198, 51, 100, 1], port * 1000)), HostId::random()));
        LocalPaths {
            observed: observed.collect(),
            nat: NatView { kind, ..NatView::default() },
            ..LocalPaths::default()
        }
    }

    #[test]
    fn of_ports_that_only_members_may_use_few_are_told_and_always_the_same() {
        let mut hard = seen_by_six(NatKind::AddressAndPortDependent);
        let told = hard.candidates();
        assert_eq!(told.len(), OBSERVED_BEYOND_HARD);
        hard.observed.reverse();
        assert_eq!(hard.candidates(), told);
        assert_eq!(seen_by_six(NatKind::EndpointIndependent).candidates().len(), 6);
    }
}
