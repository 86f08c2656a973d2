//! Links that follow the traffic: what this host's links carried, told to [`crate::topology::adapt`], and what that decides, done.
//!
//! Each second the bytes of frames that went to and came from each host since the last look become the traffic of the pair (this host, the other). Both ends of a
//! pair see the same frames; which of their pairs come first each judges by itself, so they say to each other what they want (`adapt/1`):
//!
//! | message | layout | answer |
//! |---|---|---|
//! | a link is wanted | 1 | 1: here too, or there is room for it; 0: not now |
//! | it is wanted no more | 0 | 1 |
//!
//! So a place is never kept for a link that the other end has no place for. Who asks gains nothing that he would not have had: the other judges by its own
//! counts and the operator's topology. A link that is added is told to all who act by the topology here, and the two hosts meet at once; one that does not go
//! directly for long is given up, whoever has lost it.
//!
//! Owns: the adapter of this host's pairs, the counts of the last look. Refuses to know: when a link is worth it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use consort_overlay::{HostId, Overlay, Reply};
use consort_vswitch::{DataPlane, Snapshot};
use tokio::sync::mpsc;

use super::meet::{Meet, facts};
use super::protocols;
use super::topology::Topologies;
use crate::topology::adapt::{Action, Adapter, Why};
use crate::topology::model::Adaptation;
use crate::topology::{Pair, State, Topology};
use crate::why::Path;

/// How often the counters are read. A hot pair has its link within some of these; reading costs a snapshot of the links.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A link that was added and has not gone directly for so long is one no more.
const ASTRAY_MAX: Duration = Duration::from_secs(10);

/// What other hosts want that waits to be looked at. Those beyond are not answered, and ask again.
const ASKED_MAX: usize = 64;

/// Bytes of a request, and of an answer.
pub const MESSAGE_BYTES: usize = 1;

const WANTED: u8 = 1;
const NO_MORE: u8 = 0;
const YES: u8 = 1;
const NOT_NOW: u8 = 0;

/// What the task hears.
#[derive(Debug)]
enum News {
    /// Another host wants a link, or no more.
    Asked { from: HostId, wants: bool, reply: Reply },
    /// What another host said to this one's wish.
    Said { host: HostId, yes: bool },
}

/// Brings requests of `adapt/1` to the task.
#[derive(Debug, Clone)]
pub struct AdaptingHandle(mpsc::Sender<News>);

impl AdaptingHandle {
    /// A request; one that cannot be taken is dropped, and the peer learns that.
    pub fn request(&self, from: HostId, body: &[u8], reply: Reply) {
        let wants = match body {
            [WANTED] => true,
            [NO_MORE] => false,
            _ => return reply.refuse_malformed(),
        };
        let _full_or_ending = self.0.try_send(News::Asked { from, wants, reply });
    }
}

/// The task.
#[derive(Debug)]
pub struct Adapting {
    overlay: Overlay,
    me: HostId,
    data: DataPlane,
    topologies: Topologies,
    meet: Meet,
    began: Instant,
    adapter: Option<(Adaptation, Adapter)>,
    /// Bytes of each link at the last look. As many as there are links.
    carried: BTreeMap<HostId, u64>,
    /// Links of which the other end has not said yet whether it has a place: nobody acts by them. Among those the adapter has.
    asking: BTreeSet<Pair>,
    /// Links that were added and do not go directly, and since when. Among those the adapter has.
    astray: BTreeMap<Pair, Duration>,
    news: mpsc::Receiver<News>,
    said: mpsc::Sender<News>,
}

impl Adapting {
    /// Nothing seen yet; and the way to the task.
    #[must_use]
    pub fn new(
        overlay: Overlay,
        data: DataPlane,
        topologies: Topologies,
        meet: Meet,
    ) -> (Self, AdaptingHandle) {
        let (said, news) = mpsc::channel(ASKED_MAX);
        let handle = AdaptingHandle(said.clone());
        let task = Self {
            me: overlay.local_id(),
            overlay,
            data,
            topologies,
            meet,
            began: Instant::now(),
            adapter: None,
            carried: BTreeMap::new(),
            asking: BTreeSet::new(),
            astray: BTreeMap::new(),
            news,
            said,
        };
        (task, handle)
    }

    /// Runs until the daemon ends.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.look(),
                // It holds a sender itself, so there is always one.
                Some(news) = self.news.recv() => self.hear(news),
            }
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
            (self.asking, self.astray) = Default::default();
            return;
        }
        let snapshot = self.data.snapshot();
        let bytes = self.carried_since(&snapshot);
        let state = self.state(&topology);
        let Some((_, adapter)) = &mut self.adapter else { return };
        let added = adapter.added();
        self.astray.retain(|pair, _| added.contains(pair));
        let mut gone = Vec::new();
        for pair in added {
            // Before the other end has agreed, what goes directly is not the link's doing.
            if !self.asking.contains(&pair) && is_direct(&snapshot, other(self.me, pair)) {
                self.astray.remove(&pair);
                adapter.up(pair, now);
            } else if now.saturating_sub(*self.astray.entry(pair).or_insert(now)) > ASTRAY_MAX {
                adapter.failed(pair, now);
                gone.push(Action::Drop(pair, Why::NotUp));
            }
        }
        gone.extend(adapter.observe(now, &bytes, &topology, &state));
        let added = adapter.added();
        self.asking.retain(|pair| added.contains(pair));
        for action in gone {
            match action {
                Action::Add(pair) => {
                    let host = other(self.me, pair);
                    tracing::info!(%host, "a direct link is wanted to follow the traffic");
                    self.asking.insert(pair);
                    self.ask(host);
                }
                Action::Drop(pair, why) => self.let_go(pair, why),
            }
        }
        // Also without an action: another topology with the same limits forgot them.
        self.publish();
    }

    /// One end's word is enough.
    fn let_go(&self, pair: Pair, why: Why) {
        let host = other(self.me, pair);
        tracing::info!(%host, %why, "a direct link is not worth it any more");
        self.tell_gone(host);
    }

    /// The other end agrees: whoever had to yield goes.
    fn agreed(&mut self, pair: Pair, now: Duration) {
        let Some((_, adapter)) = &mut self.adapter else { return };
        if let Some(Action::Drop(yielding, why)) = adapter.agreed(pair, now) {
            self.let_go(yielding, why);
        }
    }

    /// Tells all who act by the topology which links there are.
    fn publish(&self) {
        let Some((_, adapter)) = &self.adapter else { return };
        let added = adapter.added().into_iter().filter(|pair| !self.asking.contains(pair));
        self.topologies.set_added(added.collect());
    }

    fn hear(&mut self, news: News) {
        let now = self.began.elapsed();
        match news {
            News::Asked { from, wants, reply } => {
                let topology = self.topologies.current();
                let (pair, state) = (Pair::new(self.me, from), self.state(&topology));
                let Some((_, adapter)) = &mut self.adapter else { return reply.send(vec![NOT_NOW]) };
                if !wants {
                    adapter.gone(pair, now);
                    self.publish();
                    return reply.send(vec![YES]);
                }
                let had = adapter.added().contains(&pair) && !self.asking.contains(&pair);
                let takes = adapter.accept(pair, now, &topology, &state);
                if takes {
                    // Whoever asks has a place.
                    self.asking.remove(&pair);
                    self.agreed(pair, now);
                }
                self.publish();
                reply.send(vec![if takes { YES } else { NOT_NOW }]);
                if takes && !had {
                    tracing::info!(host = %from, "a direct link is added, as the other end wants it");
                    self.meet.introduce(from);
                }
            }
            News::Said { host, yes } => {
                let pair = Pair::new(self.me, host);
                if !self.asking.remove(&pair) {
                    // The other end asked meanwhile, or it is not wanted any more.
                    return;
                }
                let Some((_, adapter)) = &mut self.adapter else { return };
                if yes {
                    tracing::info!(%host, "a direct link is added to follow the traffic");
                    self.agreed(pair, now);
                } else {
                    tracing::info!(%host, "the other end has no place for a direct link");
                    adapter.declined(pair, now);
                }
                self.publish();
                if yes {
                    self.meet.introduce(host);
                }
            }
        }
    }

    /// Whether the other end has a place for the link, too.
    fn ask(&self, host: HostId) {
        let (overlay, said) = (self.overlay.clone(), self.said.clone());
        tokio::spawn(async move {
            let answer = overlay.call(host, protocols::ADAPT, vec![WANTED]).await;
            let yes = answer.is_ok_and(|answer| answer == [YES]);
            let _daemon_ends = said.send(News::Said { host, yes }).await;
        });
    }

    /// The other end may use the place for another. If it does not hear of it, it finds that the link goes astray.
    fn tell_gone(&self, host: HostId) {
        let overlay = self.overlay.clone();
        tokio::spawn(async move {
            if let Err(error) = overlay.call(host, protocols::ADAPT, vec![NO_MORE]).await {
                tracing::debug!(%host, %error, "the other end was not told that a link is gone");
            }
        });
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
