//! Links that follow the traffic: what this host's links carried, told to [`crate::topology::adapt`], and what that decides, done.
//!
//! Each second the bytes of frames that went to and came from each host since the last look become the traffic of the pair (this host, the other). Both ends of a
//! pair see the same frames and decide alike, so nobody has to agree with anybody; a link that only one end wants does not come up, and its trial ends.
//! A link that is added is one the operator's topology lets adaptation add; it is told to all who act by the topology, and the two hosts meet at once.
//!
//! Owns: the adapter of this host's pairs, the counts of the last look. Refuses to know: when a link is worth it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use consort_overlay::HostId;
use consort_vswitch::{DataPlane, Snapshot};

use super::meet::{Meet, facts};
use super::topology::Topologies;
use crate::topology::adapt::{Action, Adapter};
use crate::topology::model::Adaptation;
use crate::topology::{Pair, State, Topology};
use crate::why::Path;

/// How often the counters are read. A hot pair has its link within some of these; reading costs a snapshot of the links.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The task.
#[derive(Debug)]
pub struct Adapting {
    me: HostId,
    data: DataPlane,
    topologies: Topologies,
    meet: Meet,
    began: Instant,
    adapter: Option<(Adaptation, Adapter)>,
    /// Bytes of each link at the last look. As many as there are links.
    carried: BTreeMap<HostId, u64>,
}

impl Adapting {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(me: HostId, data: DataPlane, topologies: Topologies, meet: Meet) -> Self {
        Self { me, data, topologies, meet, began: Instant::now(), adapter: None, carried: BTreeMap::new() }
    }

    /// Runs until the daemon ends.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.look();
        }
    }

    fn look(&mut self) {
        let topology = self.topologies.current();
        let Some(limits) = topology.adaptation() else {
            self.adapter = None;
            return;
        };
        let now = self.began.elapsed();
        if self.adapter.as_ref().is_none_or(|(held, _)| held != limits) {
            self.adapter = Some((limits.clone(), Adapter::new(limits.clone(), now)));
            // What was carried before says nothing of the rate now.
            self.carried = carried(&self.data.snapshot());
            return;
        }
        let snapshot = self.data.snapshot();
        let bytes = self.carried_since(&snapshot);
        let state = self.state(&topology);
        let Some((_, adapter)) = &mut self.adapter else { return };
        for pair in adapter.added() {
            if is_direct(&snapshot, other(self.me, pair)) {
                adapter.up(pair, now);
            }
        }
        let actions = adapter.observe(now, &bytes, &topology, &state);
        // Also without an action: another topology with the same limits forgot them.
        self.topologies.set_added(adapter.added());
        for action in actions {
            match action {
                Action::Add(pair) => {
                    let host = other(self.me, pair);
                    tracing::info!(%host, "a direct link is added to follow the traffic");
                    self.meet.introduce(host);
                }
                Action::Drop(pair) => {
                    tracing::info!(host = %other(self.me, pair), "a direct link is not worth it any more");
                }
            }
        }
    }

    /// Bytes of each pair since the last look; a link that began anew counts from its beginning.
    fn carried_since(&mut self, snapshot: &Snapshot) -> BTreeMap<Pair, u64> {
        let now = carried(snapshot);
        let before = std::mem::replace(&mut self.carried, now);
        let since = |(host, bytes): (&HostId, &u64)| {
            let before = before.get(host).copied().unwrap_or_default();
            (Pair::new(self.me, *host), bytes.checked_sub(before).unwrap_or(*bytes))
        };
        self.carried.iter().map(since).collect()
    }

    fn state(&self, topology: &Topology) -> State {
        let relays: BTreeSet<HostId> = self.meet.peers.relays().into_iter().collect();
        let hosts = topology.hosts().iter().map(|host| host.id).chain(relays.iter().copied()).collect();
        State { hosts, relays: Some(relays), ..State::default() }
    }
}

fn carried(snapshot: &Snapshot) -> BTreeMap<HostId, u64> {
    let bytes = snapshot.links.iter().map(|link| {
        (link.peer, link.counts.frame_bytes_sent.saturating_add(link.counts.frame_bytes_received))
    });
    bytes.collect()
}

fn other(me: HostId, pair: Pair) -> HostId {
    let [a, b] = pair.hosts();
    if a == me { b } else { a }
}

fn is_direct(snapshot: &Snapshot, host: HostId) -> bool {
    let paths = snapshot.paths.peers.iter().find(|paths| paths.peer == host);
    facts::path(paths.and_then(|paths| paths.chosen.as_ref())) == Path::Direct
}
