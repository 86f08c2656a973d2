//! This host's own side of paths, as node publishes it.

use std::net::SocketAddr;

use super::{Candidate, CandidateKind, nat::NatView};
use crate::HostId;

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
}

impl LocalPaths {
    /// The candidates to publish, at most [`CANDIDATES_MAX`](super::CANDIDATES_MAX), each address once.
    pub fn candidates(&self) -> Vec<Candidate> {
        let of = |kind| move |address: &SocketAddr| Candidate { address: *address, kind };
        let mapped = self.mapped.iter().map(of(CandidateKind::Mapped));
        let local = self.local.iter().map(of(CandidateKind::Local));
        let observed = self
            .observed
            .iter()
            .map(|(address, _)| Candidate { address: *address, kind: CandidateKind::Observed });
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
