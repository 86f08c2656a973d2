//! What the operator's topology says to the parts of this node: whether a direct link is allowed, and which ways lead around where it is not.
//!
//! Where no operator has said anything, every link is allowed and any member that relays may stand between. Owns: nothing but the latest
//! topology, which a task of its own receives and checks. Refuses to know: where it came from.

use std::collections::BTreeSet;
use std::sync::Arc;

use consort_overlay::HostId;
use tokio::sync::watch;

use crate::topology::{LinkKind, Route, State, Topology};

/// The topology as one host sees it. Clones share it.
#[derive(Debug, Clone)]
pub struct Ways {
    me: HostId,
    topology: watch::Receiver<Arc<Topology>>,
}

/// What stands between two hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Between {
    /// A direct link is allowed.
    Direct,
    /// No direct link; these lead around, the best first. None: they cannot reach each other.
    Around(Vec<Vec<HostId>>),
}

impl Ways {
    /// As `me` sees it.
    #[must_use]
    pub fn new(me: HostId, topology: watch::Receiver<Arc<Topology>>) -> Self {
        Self { me, topology }
    }

    /// Waits for another topology. One that nobody can change any more stays.
    pub async fn changed(&mut self) {
        if self.topology.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether this host may have a direct link to `host`.
    #[must_use]
    pub fn allows_direct(&self, host: HostId) -> bool {
        self.allows(self.me, host)
    }

    /// Whether `a` and `b` may have a direct link.
    #[must_use]
    pub fn allows(&self, a: HostId, b: HostId) -> bool {
        self.topology.borrow().link(a, b) != LinkKind::Forbidden
    }

    /// Whether the topology wants a link of this host with `host` at all times.
    #[must_use]
    pub fn keeps(&self, host: HostId) -> bool {
        host != self.me && self.topology.borrow().link(self.me, host) == LinkKind::Static
    }

    /// The hosts that the topology names and wants a link of this host with at all times.
    #[must_use]
    pub fn kept(&self) -> Vec<HostId> {
        let topology = self.topology.borrow();
        let named = topology.hosts().iter().map(|host| host.id);
        named.filter(|host| *host != self.me && topology.link(self.me, *host) == LinkKind::Static).collect()
    }

    /// The most, in bits a second, that this host's direct link to `host` may carry.
    #[must_use]
    pub fn link_rate(&self, host: HostId) -> Option<u64> {
        self.topology.borrow().rate(self.me, host).map(|rate| rate.0)
    }

    /// The most, in bits a second, that this host may forward for others.
    #[must_use]
    pub fn transit_rate(&self) -> Option<u64> {
        self.topology.borrow().transit_rate(self.me).map(|rate| rate.0)
    }

    /// Whether others' datagrams may go over `host`.
    #[must_use]
    pub fn may_relay(&self, host: HostId) -> bool {
        self.topology.borrow().may_transit(host)
    }

    /// Whether others' datagrams may go over these hosts, each linked to the next.
    #[must_use]
    pub fn allows_route(&self, from: HostId, route: &[HostId], to: HostId) -> bool {
        let topology = self.topology.borrow();
        let stations = std::iter::once(from).chain(route.iter().copied());
        let next = route.iter().copied().chain([to]);
        stations.zip(next).all(|(a, b)| topology.link(a, b) != LinkKind::Forbidden)
            && route.iter().all(|host| topology.may_transit(*host))
    }

    /// What leads from `from` to `to`, over members known to relay where they may not have a direct link.
    #[must_use]
    pub fn between(&self, from: HostId, to: HostId, relays: BTreeSet<HostId>) -> Between {
        let topology = self.topology.borrow();
        if topology.link(from, to) != LinkKind::Forbidden {
            return Between::Direct;
        }
        let hosts = topology.hosts().iter().map(|host| host.id).chain(relays.iter().copied()).collect();
        let state = State { hosts, relays: Some(relays), ..State::default() };
        let around = topology.routes(from, to, &state).into_iter().filter(|route| !route.is_direct());
        Between::Around(around.map(|Route { hops, .. }| hops).collect())
    }

    /// What people call `host`.
    #[must_use]
    pub fn name_of(&self, host: HostId) -> String {
        self.topology.borrow().name_of(host)
    }
}
