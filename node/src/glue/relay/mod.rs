//! Ways through other members: asked for where there is no direct path, kept while they are needed.
//!
//! ```text
//!  A: no direct path to B, or the topology forbids one
//!  A ── leg A→B ──▶ R          (from the far relay to the near one, where there are several)
//!  A ── join(route, token) ──▶ B ── leg B→A ──▶ R
//!  A ◀── token of the way back ── B        both tell their data planes; datagrams go A ⇄ R ⇄ B, sealed end to end
//! ```
//! Each end opens and renews the direction in which it sends; a relay that forgets, or whose owner takes his word back, shows by the renewal. Two ways are
//! kept where there are two relays, so that one may fail: the data plane probes both. A way is given up when the link went direct and
//! stayed so while nothing passed, or is not wanted any more; nobody has to say so, legs end by themselves. A link that goes directly and is in use has one way too,
//! so that a host that moves is never without: the end with the lesser id asks for it. When the data plane had to leave a way, those that are held are
//! asked for at once, and while there is no spare, it is looked for again, ever more seldom. A relay that began a new life gives other tokens: both
//! directions are opened anew then.
//!
//! | file | owns |
//! |---|---|
//! | [`message`] | the bytes |
//! | `held` | what is held to one host, and when more is asked for |
//! | [`serve`] | this host as a relay |
//! | this | this host as an end: which relays are asked, what is held |

mod held;
pub mod message;
pub mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use consort_overlay::{HostId, Overlay, PeerState};
use consort_scheduler::bounded::List;
use consort_vswitch::DataPlane;
use consort_vswitch::path::{CandidateKind, PathView, RelayedPath};
use tokio::task::JoinSet;

use super::meet::facts;
use super::peers::PeerNews;
use super::protocols;
use super::ways::{Between, Ways};
use crate::why::{RelayAttempt, RelayOutcome};
use held::{HELD_DIRECT, HELD_WANTED, Held, Host};
use message::{HOPS_MAX, Refusal, Request, Response};
use serve::{LEG_LIFE, Server};

/// Relays asked for one host in a row.
const ASKED_MAX: usize = 3;

/// Hosts to which ways are held though the links go directly: each costs two requests a renewal, and two probes each keep-alive.
const DIRECT_MAX: usize = 16;

/// Of them, those that are asked for at each look: all links of a network may come up at one time.
const DIRECT_AT_ONCE: usize = 2;

/// How often what is held is renewed: three times in a leg's life.
pub const RENEW_EVERY: Duration = Duration::from_secs(LEG_LIFE.as_secs() / 3);

/// How long an answer may take: one that is dead shows by the control connection's end only after most of a minute. The far end of a way opens its own half,
/// with several relays one after the other, before it answers.
const ANSWER_WAIT: Duration = Duration::from_secs(8);

/// How often it is looked for hosts without a spare way.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Renewals for which a way is kept after the link went direct: it may come back.
const KEPT_AFTER_DIRECT: u8 = 3;

/// Hosts with ways at once: as many links as a busy host has, and each costs two requests a renewal.
const HOSTS_MAX: usize = 512;

/// Added per relay to a way's measured round trip where paths are compared, in milliseconds: a direct path that is a little slower is worth
/// more, since it takes nobody's line.
const COST_PER_HOP: u32 = 5;

/// This host's ways through others, and others' through it. Clones share it.
#[derive(Debug, Clone)]
pub struct Relays {
    overlay: Overlay,
    data: DataPlane,
    peers: PeerNews,
    ways: Ways,
    server: Server,
    hosts: Arc<Mutex<BTreeMap<HostId, Host>>>,
}

impl Relays {
    /// Nothing held yet.
    #[must_use]
    pub fn new(overlay: Overlay, data: DataPlane, peers: PeerNews, ways: Ways, server: Server) -> Self {
        Self { overlay, data, peers, ways, server, hosts: Arc::default() }
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<HostId, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this host relays.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.server.relays()
    }

    /// What came of asking for ways to `host`.
    #[must_use]
    pub fn attempts(&self, host: HostId) -> Vec<RelayAttempt> {
        self.hosts().get(&host).map(|host| host.attempts.clone()).unwrap_or_default()
    }

    /// The relays that the operator's topology does not let relay for this host and `host`: they are not asked.
    #[must_use]
    pub fn forbidden(&self, host: HostId) -> Vec<RelayAttempt> {
        let me = self.overlay.local_id();
        let relays = self.peers.relays().into_iter().filter(|relay| *relay != host && *relay != me);
        relays
            .filter(|relay| !self.may_stand_between(*relay, host))
            .map(|relay| RelayAttempt { relay, outcome: RelayOutcome::Refused })
            .collect()
    }

    fn may_stand_between(&self, relay: HostId, host: HostId) -> bool {
        self.ways.may_relay(relay)
            && self.ways.allows(relay, self.overlay.local_id())
            && self.ways.allows(relay, host)
    }

    /// The relays of the ways held to `host`, each way's in order.
    #[must_use]
    pub fn routes(&self, host: HostId) -> Vec<Vec<HostId>> {
        let hosts = self.hosts();
        hosts
            .get(&host)
            .map(|host| host.held.iter().map(|held| held.route.clone()).collect())
            .unwrap_or_default()
    }

    /// Answers a message of `relay/1`; none if it cannot be read.
    pub async fn answer(&self, from: HostId, body: &[u8]) -> Option<Vec<u8>> {
        let response = match message::decode(body)? {
            Request::Leg { to, route, at, onward } => self.server.leg(from, to, &route, at, onward).await,
            Request::Spare { .. } if self.server.is_half_full() => Response::Refused(Refusal::Full),
            Request::Spare { to, route, at, onward } => self.server.leg(from, to, &route, at, onward).await,
            Request::Join { route, arrives } => self.join(from, route.to_vec(), arrives).await,
        };
        Some(message::encode(&response))
    }

    /// Sees to it that there are ways to `host`; a search that is under way is not doubled.
    pub async fn search(&self, host: HostId) {
        let wanted = match self.goes_directly(host) {
            true => HELD_DIRECT,
            false => HELD_WANTED,
        };
        {
            let mut hosts = self.hosts();
            if hosts.len() >= HOSTS_MAX && !hosts.contains_key(&host) {
                return tracing::warn!(%host, "no relay is asked: ways to {HOSTS_MAX} hosts are held");
            }
            let entry = hosts.entry(host).or_default();
            if entry.searching || entry.held.len() >= wanted {
                return;
            }
            entry.searching = true;
            let held: Vec<HostId> = entry.held.iter().map(|held| held.route[0]).collect();
            entry.attempts.retain(|attempt| held.contains(&attempt.relay));
        }
        let held: BTreeSet<Vec<HostId>> = self.routes(host).into_iter().collect();
        for route in self.routes_to(host).await {
            if held.contains(&route) {
                continue;
            }
            let opened = self.open(host, &route).await;
            if self.note(host, route, opened).await >= wanted {
                break;
            }
        }
        if let Some(entry) = self.hosts().get_mut(&host) {
            entry.searching = false;
            entry.searched(Instant::now());
        }
    }

    fn goes_directly(&self, host: HostId) -> bool {
        let paths = self.data.snapshot().paths.peers;
        is_direct(paths.iter().find(|paths| paths.peer == host).and_then(|paths| paths.chosen.as_ref()))
    }

    /// The data plane left a way to `host`, or has none: those that are held are asked for now, and replaced if they are gone.
    pub fn doubt(&self, host: HostId) {
        if self.hosts().get(&host).is_some_and(|entry| !entry.held.is_empty()) {
            let this = self.clone();
            tokio::spawn(async move { this.renew(host).await });
        }
    }

    /// Remembers how it went, and tells the data plane; how many ways there are now.
    async fn note(
        &self,
        host: HostId,
        route: Vec<HostId>,
        opened: Result<RelayedPath, RelayOutcome>,
    ) -> usize {
        let count = {
            let mut hosts = self.hosts();
            let entry = hosts.entry(host).or_default();
            let outcome = opened.as_ref().err().copied().unwrap_or(RelayOutcome::Ready);
            entry.attempted(route[0], outcome);
            if let Ok(path) = opened {
                entry.hold(Held { route, path });
            }
            entry.held.len()
        };
        self.tell(host).await;
        count
    }

    /// The routes worth asking for: the topology's where it forbids a direct link, else the nearest relays one by one.
    async fn routes_to(&self, host: HostId) -> Vec<Vec<HostId>> {
        let me = self.overlay.local_id();
        let mut relays = self.peers.relays();
        relays.retain(|relay| *relay != host && *relay != me);
        let routes = match self.ways.between(me, host, relays.iter().copied().collect()) {
            Between::Around(routes) => routes,
            Between::Direct => {
                relays.retain(|relay| self.may_stand_between(*relay, host));
                let distances = self.round_trips().await;
                relays.sort_by_key(|relay| (distances.get(relay).copied().unwrap_or(Duration::MAX), *relay));
                relays.into_iter().map(|relay| vec![relay]).collect()
            }
        };
        routes.into_iter().filter(|route| (1..=HOPS_MAX).contains(&route.len())).take(ASKED_MAX).collect()
    }

    async fn round_trips(&self) -> BTreeMap<HostId, Duration> {
        let peers = self.overlay.peers().await.unwrap_or_default();
        let measured = peers.into_iter().filter_map(|peer| match peer.state {
            PeerState::Connected { round_trip, .. } => {
                // Connected and not measured yet is nearer than not connected.
                Some((peer.host, round_trip.unwrap_or(Duration::from_secs(1))))
            }
            _ => None,
        });
        measured.collect()
    }

    /// Both directions of one way.
    async fn open(&self, host: HostId, route: &[HostId]) -> Result<RelayedPath, RelayOutcome> {
        let (sends, arrives) = self.open_forth(host, route, self.goes_directly(host)).await?;
        let join = Request::Join { route: List::first_of(route.iter().copied()), arrives };
        match self.ask(host, &join).await? {
            Response::Joined { arrives } => self.path(route, sends, arrives),
            Response::Refused(refusal) => Err(outcome_of(refusal)),
            Response::Open { .. } => Err(RelayOutcome::Refused),
        }
    }

    /// The direction in which this host sends: what to send with, and what its datagrams arrive with.
    async fn open_forth(
        &self,
        host: HostId,
        route: &[HostId],
        is_spare: bool,
    ) -> Result<(u32, u32), RelayOutcome> {
        let mut onward = None;
        let mut arrives = None;
        for (at, relay) in route.iter().enumerate().rev() {
            if !self.peers.learn(*relay).await {
                return Err(RelayOutcome::Unreachable);
            }
            let at = u8::try_from(at).map_err(|_| RelayOutcome::Refused)?;
            let route = List::first_of(route.iter().copied());
            let leg = match is_spare {
                true => Request::Spare { to: host, route, at, onward },
                false => Request::Leg { to: host, route, at, onward },
            };
            match self.ask(*relay, &leg).await? {
                Response::Open { incoming, outgoing, .. } => {
                    onward = Some(incoming);
                    arrives = arrives.or(Some(outgoing));
                }
                Response::Refused(refusal) => return Err(outcome_of(refusal)),
                Response::Joined { .. } => return Err(RelayOutcome::Refused),
            }
        }
        onward.zip(arrives).ok_or(RelayOutcome::Refused)
    }

    /// The other end's half was opened by itself; this one's is opened here.
    async fn join(&self, from: HostId, route: Vec<HostId>, arrives: u32) -> Response {
        let mut back = route;
        back.reverse();
        let me = self.overlay.local_id();
        let is_route = !back.is_empty() && !back.contains(&me) && !back.contains(&from);
        if !is_route || self.hosts().len() >= HOSTS_MAX {
            return Response::Refused(Refusal::Route);
        }
        if !self.peers.learn(back[0]).await || !self.peers.learn(from).await {
            return Response::Refused(Refusal::Unknown);
        }
        if !self.ways.allows(me, back[0]) || !self.ways.may_relay(back[0]) {
            return Response::Refused(Refusal::Topology);
        }
        let (opened, leaves) = match self.open_forth(from, &back, self.goes_directly(from)).await {
            Ok((sends, leaves)) => (self.path(&back, sends, arrives), leaves),
            Err(outcome) => (Err(outcome), 0),
        };
        let outcome = opened.as_ref().err().copied();
        self.note(from, back, opened).await;
        match outcome {
            None => Response::Joined { arrives: leaves },
            Some(RelayOutcome::Full) => Response::Refused(Refusal::Full),
            Some(RelayOutcome::Unreachable) => Response::Refused(Refusal::Unknown),
            Some(_) => Response::Refused(Refusal::NotAllowed),
        }
    }

    fn path(&self, route: &[HostId], sends: u32, arrives: u32) -> Result<RelayedPath, RelayOutcome> {
        let relay = route[0];
        let address = self.address_of(relay).ok_or(RelayOutcome::Unreachable)?;
        let cost = COST_PER_HOP * u32::try_from(route.len()).unwrap_or(u32::MAX);
        Ok(RelayedPath { relay, address, token: sends, token_back: arrives, cost })
    }

    /// Where a relay is: how the data plane reaches it now, else what it says, the likeliest to be open first.
    fn address_of(&self, relay: HostId) -> Option<SocketAddr> {
        let paths = self.data.snapshot().paths.peers;
        let chosen = paths.into_iter().find(|paths| paths.peer == relay).and_then(|paths| paths.chosen);
        if let Some(PathView::Direct { address, .. }) = chosen {
            return Some(address);
        }
        let candidates = self.peers.known(relay)?.whereabouts.candidates;
        let openness = |kind| match kind {
            CandidateKind::Told => 0,
            CandidateKind::Mapped => 1,
            CandidateKind::Local => 2,
            CandidateKind::Observed => 3,
            CandidateKind::Stream => 4,
        };
        candidates.iter().min_by_key(|candidate| openness(candidate.kind)).map(|candidate| candidate.address)
    }

    async fn ask(&self, host: HostId, request: &Request) -> Result<Response, RelayOutcome> {
        let asked = self.overlay.call(host, protocols::RELAY, message::encode(request));
        let Ok(answer) = tokio::time::timeout(ANSWER_WAIT, asked).await else {
            tracing::debug!(%host, "a question about a relay was not answered in time");
            return Err(RelayOutcome::Unreachable);
        };
        let bytes = answer.map_err(|error| {
            tracing::debug!(%host, %error, "a question about a relay was not answered");
            RelayOutcome::Unreachable
        })?;
        message::decode(&bytes).ok_or(RelayOutcome::Refused)
    }

    async fn tell(&self, host: HostId) {
        let via: Vec<RelayedPath> = {
            let hosts = self.hosts();
            hosts.get(&host).map(|host| host.held.iter().map(|held| held.path).collect()).unwrap_or_default()
        };
        self.peers.set_via(host, via).await;
    }

    /// Renews what is needed and gives up what is not. Runs until the daemon ends.
    pub async fn run(self) {
        let mut renewal = tokio::time::interval(RENEW_EVERY);
        renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ways = self.ways.clone();
        // What was said before this was watched.
        self.server.reshape();
        loop {
            tokio::select! {
                _ = renewal.tick() => {
                    let hosts: Vec<HostId> = self.hosts().keys().copied().collect();
                    for host in hosts {
                        let this = self.clone();
                        tokio::spawn(async move { this.renew(host).await });
                    }
                }
                _ = look.tick() => {
                    self.search_spares(Instant::now());
                    self.prepare_direct(Instant::now());
                }
                () = ways.changed() => {
                    self.server.reshape();
                    self.reshape();
                }
            }
        }
    }

    /// Searches for those that have no spare way, when their time has come.
    fn search_spares(&self, now: Instant) {
        let due: Vec<HostId> = {
            let hosts = self.hosts();
            hosts.iter().filter(|(_, entry)| entry.is_due(now)).map(|(host, _)| *host).collect()
        };
        if due.is_empty() {
            return;
        }
        let snapshot = self.data.snapshot();
        for host in due {
            let link = snapshot.links.iter().find(|link| link.peer == host);
            let paths = snapshot.paths.peers.iter().find(|paths| paths.peer == host);
            let is_wanted = link.is_some_and(|link| facts::is_wanted(link.state));
            if is_wanted && !is_direct(paths.and_then(|paths| paths.chosen.as_ref())) {
                let this = self.clone();
                tokio::spawn(async move { this.search(host).await });
            } else if let Some(entry) = self.hosts().get_mut(&host)
                && !entry.is_direct_due(now)
            {
                entry.search_at = Some(now + RENEW_EVERY);
            }
        }
    }

    /// Asks for ways to hosts with which this one speaks directly, a few at a time: taken when an address changes.
    fn prepare_direct(&self, now: Instant) {
        if self.peers.relays().is_empty() {
            return;
        }
        let snapshot = self.data.snapshot();
        let is_direct = |host: HostId| {
            let paths = snapshot.paths.peers.iter().find(|paths| paths.peer == host);
            is_direct(paths.and_then(|paths| paths.chosen.as_ref()))
        };
        let me = self.overlay.local_id();
        let used = snapshot.links.iter().filter(|link| link.in_use && me < link.peer).map(|link| link.peer);
        let used: Vec<HostId> = used.filter(|host| is_direct(*host)).collect();
        let due: Vec<HostId> = {
            let hosts = self.hosts();
            let room = DIRECT_MAX.saturating_sub(hosts.len());
            used.into_iter()
                .filter(|host| hosts.get(host).map_or(room > 0, |entry| entry.is_direct_due(now)))
                .take(DIRECT_AT_ONCE)
                .collect()
        };
        for host in due {
            let this = self.clone();
            tokio::spawn(async move { this.search(host).await });
        }
    }

    /// Another topology holds: ways that it does not allow are given up, and hosts with a link that may not be direct any more get others.
    fn reshape(&self) {
        let me = self.overlay.local_id();
        let snapshot = self.data.snapshot();
        let links = snapshot.links.iter().filter(|link| facts::is_wanted(link.state)).map(|link| link.peer);
        let around: Vec<HostId> = links.filter(|host| !self.ways.allows_direct(*host)).collect();
        let mut changed: BTreeSet<HostId> = around.into_iter().collect();
        for (host, entry) in self.hosts().iter_mut() {
            let before = entry.held.len();
            entry.held.retain(|held| self.ways.allows_route(me, &held.route, *host));
            (entry.searches, entry.search_at) = (0, None);
            if entry.held.len() < before {
                changed.insert(*host);
            }
        }
        for host in changed {
            let this = self.clone();
            tokio::spawn(async move {
                this.tell(host).await;
                this.search(host).await;
            });
        }
    }

    /// Asks for what is held once more; what is gone, or was opened in a relay's earlier life, is replaced.
    async fn renew(&self, host: HostId) {
        if !self.is_needed(host) {
            self.hosts().remove(&host);
            return self.tell(host).await;
        }
        let held: Vec<Held> = {
            let mut hosts = self.hosts();
            let entry = hosts.entry(host).or_default();
            if std::mem::replace(&mut entry.renewing, true) {
                return;
            }
            entry.held.clone()
        };
        // All at once: one that is gone takes its time, and the spare is needed now.
        let mut renewing = JoinSet::new();
        for way in held {
            let this = self.clone();
            renewing.spawn(async move { this.renew_way(host, way).await });
        }
        while renewing.join_next().await.is_some() {}
        if let Some(entry) = self.hosts().get_mut(&host) {
            entry.renewing = false;
        }
        // Returns at once where there is a spare.
        self.search(host).await;
    }

    async fn renew_way(&self, host: HostId, Held { route, path }: Held) {
        match self.open_forth(host, &route, false).await {
            Ok((sends, _)) if sends == path.token => {}
            Ok(_) => {
                let opened = self.open(host, &route).await;
                if opened.is_err() {
                    self.lose(host, &route);
                }
                self.note(host, route, opened).await;
            }
            Err(outcome) => {
                tracing::info!(%host, relay = %route[0], ?outcome, "a way through a relay is lost");
                self.lose(host, &route);
                self.note(host, route, Err(outcome)).await;
            }
        }
    }

    fn lose(&self, host: HostId, route: &[HostId]) {
        if let Some(entry) = self.hosts().get_mut(&host) {
            entry.held.retain(|held| held.route != route);
        }
    }

    /// While the link is wanted, and in use or not surely direct.
    fn is_needed(&self, host: HostId) -> bool {
        let snapshot = self.data.snapshot();
        let link = snapshot.links.iter().find(|link| link.peer == host);
        let Some(link) = link.filter(|link| facts::is_wanted(link.state)) else { return false };
        let paths = snapshot.paths.peers.iter().find(|paths| paths.peer == host);
        let mut hosts = self.hosts();
        let Some(entry) = hosts.get_mut(&host) else { return false };
        entry.direct_for = match is_direct(paths.and_then(|paths| paths.chosen.as_ref())) {
            true if !link.in_use => entry.direct_for + 1,
            _ => 0,
        };
        entry.direct_for < KEPT_AFTER_DIRECT
    }
}

fn is_direct(path: Option<&PathView>) -> bool {
    matches!(path, Some(PathView::Direct { kind, .. }) if *kind != Some(CandidateKind::Stream))
}

fn outcome_of(refusal: Refusal) -> RelayOutcome {
    match refusal {
        Refusal::Full => RelayOutcome::Full,
        Refusal::Unknown => RelayOutcome::Unreachable,
        Refusal::NotAllowed | Refusal::Topology | Refusal::Route => RelayOutcome::Refused,
    }
}
