//! Which hosts the data plane knows, and where: those that share a network with this host, described by their records and by what they say
//! when they meet.
//!
//! Parts say which hosts are wanted; this task finds each one's whereabouts (the overlay's record, else the host itself is asked) and tells the data
//! plane its key and candidates. The hosts of the overlay's view are told ahead: a link forms only where one is wanted, but the first message of a host
//! that is quicker to want it must not come from a stranger, or it is lost and costs a second. A changed record is told again; a host that is neither
//! wanted nor in view is forgotten. What a host says when it meets this one is newer than its record and holds until its record changes.
//!
//! It also names the observers (`observers`): members whose answers to the data plane's probes say what NAT is before this host.
//!
//! Owns: what the data plane was told of each, ways through relays included. Refuses to know: paths and sessions, and how those ways came about
//! ([`super::relay`], [`super::meet`]).

mod observers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use consort_overlay::{HostId, Overlay, PeerState, PeerStatus};
use consort_vswitch::path::{CANDIDATES_MAX, Candidate, CandidateKind, PathView, PeerPaths, RelayedPath};
use consort_vswitch::{DataPlane, LinkState, PeerConfig, Snapshot};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};

use super::describe::Description;
use super::meet::whereabouts::Whereabouts;
use super::protocols;
use super::ways::Ways;

/// How long until a host of which nothing could be learned is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How often observers are chosen anew while nothing else happens: connections come and go.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Hosts asked at once for what they say of themselves: each may take as long as a dial, and a node that starts anew may want hundreds.
const ASKED_MAX: usize = 16;

/// News waiting. A changed record that is lost is learned at the next change; records change each minute at the most.
const NEWS_MAX: usize = 256;

/// How long a host that came by itself is kept though nobody here wants it yet: longer than its own tries take.
const KEPT_AFTER_MEETING: Duration = Duration::from_secs(300);

/// Hosts kept so at once; beyond, the oldest go: whoever still wants something meets again.
const RECENT_MAX: usize = 1_024;

/// How long a direct path is kept that the topology does not allow any more: as long as it takes to open a way around, so that no frame is lost.
const LEAVING: Duration = Duration::from_secs(2);

/// What is known of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Where it is, as it said last.
    pub whereabouts: Whereabouts,
    /// Ways through relays that stand.
    pub via: Vec<RelayedPath>,
    /// This host's end of a stream of datagrams to it.
    pub stream: Option<SocketAddr>,
}

#[derive(Debug)]
enum News {
    Changed(HostId),
    Met { host: HostId, whereabouts: Box<Whereabouts>, taken: oneshot::Sender<bool> },
    Via { host: HostId, via: Vec<RelayedPath> },
    Stream { host: HostId, end: Option<SocketAddr>, told: oneshot::Sender<()> },
    Described { host: HostId, payload: Vec<u8>, learned: oneshot::Sender<bool> },
}

/// The way to the task. Clones share it.
#[derive(Debug, Clone)]
pub struct PeerNews {
    overlay: Overlay,
    news: mpsc::Sender<News>,
    known: Arc<Mutex<BTreeMap<HostId, Known>>>,
}

impl PeerNews {
    /// The record of a host changed.
    pub fn changed(&self, host: HostId) {
        if self.news.try_send(News::Changed(host)).is_err() {
            tracing::debug!(%host, "the news of a changed record is left out");
        }
    }

    /// A host says where it is now; false if the data plane does not take it.
    pub async fn met(&self, host: HostId, whereabouts: Whereabouts) -> bool {
        let (taken, answer) = oneshot::channel();
        self.put(News::Met { host, whereabouts: Box::new(whereabouts), taken }).await;
        answer.await.unwrap_or(false)
    }

    /// The ways through relays to a host, from now on; none: it has none any more.
    pub async fn set_via(&self, host: HostId, via: Vec<RelayedPath>) {
        self.put(News::Via { host, via }).await;
    }

    /// This host's end of a stream of datagrams to a host, or that there is none any more; returns when the data plane has been told.
    pub async fn set_stream(&self, host: HostId, end: Option<SocketAddr>) {
        let (told, is_told) = oneshot::channel();
        self.put(News::Stream { host, end, told }).await;
        // Without an answer the daemon ends.
        is_told.await.ok();
    }

    /// Makes sure that the data plane knows a host; false if nothing can be learned of it.
    pub async fn learn(&self, host: HostId) -> bool {
        if locked(&self.known).contains_key(&host) {
            return true;
        }
        // Asked here, so that a host that does not answer keeps nobody else waiting.
        let Some(payload) = ask(&self.overlay, host).await else { return false };
        let (learned, answer) = oneshot::channel();
        self.put(News::Described { host, payload, learned }).await;
        answer.await.unwrap_or(false)
    }

    /// What is known of a host.
    #[must_use]
    pub fn known(&self, host: HostId) -> Option<Known> {
        locked(&self.known).get(&host).cloned()
    }

    /// The hosts that forward for others, as they say.
    #[must_use]
    pub fn relays(&self) -> Vec<HostId> {
        let known = locked(&self.known);
        known.iter().filter(|(_, known)| known.whereabouts.relays).map(|(host, _)| *host).collect()
    }

    async fn put(&self, news: News) {
        // The task is gone only when the daemon ends.
        let _daemon_ends = self.news.send(news).await;
    }
}

fn locked(known: &Mutex<BTreeMap<HostId, Known>>) -> MutexGuard<'_, BTreeMap<HostId, Known>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task.
#[derive(Debug)]
pub struct Peers {
    overlay: Overlay,
    data: DataPlane,
    wanted: watch::Receiver<BTreeSet<HostId>>,
    ways: Ways,
    news: mpsc::Receiver<News>,
    /// Those told, with what; the task alone writes it.
    known: Arc<Mutex<BTreeMap<HostId, Known>>>,
    /// Those whose description is of no use, until it changes.
    useless: BTreeSet<HostId>,
    /// Those that came by themselves, and when.
    recent: BTreeMap<HostId, Instant>,
    /// Those that are being asked for their description, and until when none of them is asked again.
    asked: BTreeMap<HostId, Option<Instant>>,
    asking: JoinSet<(HostId, Option<Vec<u8>>)>,
    observers: Vec<HostId>,
    /// Those that the data plane was told it may reach directly.
    direct: BTreeSet<HostId>,
    /// Of them, those that the topology does not allow it any more, and when the data plane is told. As many as there are known.
    leaving: BTreeMap<HostId, Instant>,
}

impl Peers {
    /// The task, and the way to it; `wanted` are the hosts the data plane should know, `ways` which of them it may link to directly.
    #[must_use]
    pub fn new(
        overlay: Overlay,
        data: DataPlane,
        wanted: watch::Receiver<BTreeSet<HostId>>,
        ways: Ways,
    ) -> (Self, PeerNews) {
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let known = Arc::<Mutex<BTreeMap<HostId, Known>>>::default();
        let handle = PeerNews { overlay: overlay.clone(), news: sender, known: Arc::clone(&known) };
        let task = Self {
            overlay,
            data,
            wanted,
            ways,
            news,
            known,
            useless: BTreeSet::new(),
            recent: BTreeMap::new(),
            asked: BTreeMap::new(),
            asking: JoinSet::new(),
            observers: Vec::new(),
            direct: BTreeSet::new(),
            leaving: BTreeMap::new(),
        };
        (task, handle)
    }

    /// Runs until the daemon ends.
    pub async fn run(mut self) {
        loop {
            self.tell().await;
            self.name_observers().await;
            let again = if self.asked.is_empty() { LOOK_AGAIN } else { ASK_AGAIN };
            let leave_at = self.leaving.values().min().copied();
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = self.ways.changed() => {
                    self.note_leaving(Instant::now());
                    self.tell_all_again();
                }
                () = sleep_until(leave_at) => self.leave(Instant::now()),
                news = self.news.recv() => match news {
                    Some(news) => self.on_news(news).await,
                    None => return,
                },
                Some(asked) = self.asking.join_next() => self.on_asked(asked),
                () = tokio::time::sleep(again) => {}
            }
        }
    }

    async fn on_news(&mut self, news: News) {
        match news {
            News::Changed(host) => self.doubt(host).await,
            News::Met { host, whereabouts, taken } => {
                self.remember(host);
                let is_taken = self.on_met(host, *whereabouts).await;
                // Whoever asked may be gone.
                let _asker_is_gone = taken.send(is_taken);
            }
            News::Via { host, via } => self.change(host, |known| known.via = via),
            News::Stream { host, end, told } => {
                self.change(host, |known| known.stream = end);
                // A stream that has ended meanwhile does not wait.
                let _asker_is_gone = told.send(());
            }
            News::Described { host, payload, learned } => {
                self.remember(host);
                self.tell_payload(host, &payload);
                let _asker_is_gone = learned.send(locked(&self.known).contains_key(&host));
            }
        }
    }

    /// What was told of a host may be wrong now; one of which nothing is known any more may have been put out.
    async fn doubt(&mut self, host: HostId) {
        self.useless.remove(&host);
        match self.overlay.record(host).await {
            Ok(None) => self.forget(host),
            Ok(Some(record)) if !record.payload.is_empty() => self.tell_payload(host, &record.payload),
            Ok(Some(_)) | Err(_) => {}
        }
    }

    fn remember(&mut self, host: HostId) {
        self.recent.insert(host, Instant::now());
        if self.recent.len() > RECENT_MAX
            && let Some(oldest) = self.recent.iter().min_by_key(|(_, met)| **met).map(|(host, _)| *host)
        {
            self.recent.remove(&oldest);
        }
    }

    fn forget(&mut self, host: HostId) {
        locked(&self.known).remove(&host);
        self.useless.remove(&host);
        self.direct.remove(&host);
        self.leaving.remove(&host);
        self.data.remove_peer(host);
    }

    async fn on_met(&mut self, host: HostId, whereabouts: Whereabouts) -> bool {
        let is_near = self.is_near(host).await;
        let nat = whereabouts.nat;
        let (candidates, left_out) = whereabouts.to_try(is_near);
        if left_out > 0 {
            tracing::debug!(%host, left_out, "candidates that are nobody's address are left out");
        }
        if !self.tell_whereabouts(host, whereabouts) {
            return false;
        }
        match self.data.set_candidates(host, &self.with_stream(host, candidates), nat) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%host, %error, "the data plane does not take the host's candidates");
                false
            }
        }
    }

    /// Whether a host is on this computer, as its control connection shows: only then are its loopback addresses worth a probe.
    async fn is_near(&self, host: HostId) -> bool {
        if self.data.local_addr().ip().is_loopback() {
            return true;
        }
        let peers = self.overlay.peers().await.unwrap_or_default();
        let on_loopback = |peer: &PeerStatus| matches!(&peer.state, PeerState::Connected { address, .. } if address.ip().is_loopback());
        peers.iter().any(|peer| peer.host == host && on_loopback(peer))
    }

    fn change(&mut self, host: HostId, change: impl FnOnce(&mut Known)) {
        let known = {
            let mut all = locked(&self.known);
            let Some(known) = all.get_mut(&host) else { return };
            let before = known.clone();
            change(known);
            if *known == before {
                return;
            }
            known.clone()
        };
        self.set_peer(host, &known);
    }

    /// A link on a direct path that the topology does not allow any more keeps it until there was time to find another.
    fn note_leaving(&mut self, now: Instant) {
        let ways = &self.ways;
        self.leaving.retain(|host, _| !ways.allows_direct(*host));
        let forbidden = |host: &HostId| self.direct.contains(host) && !ways.allows_direct(*host);
        let Snapshot { links, paths, .. } = self.data.snapshot();
        let up: BTreeSet<HostId> =
            links.iter().filter(|link| link.state == LinkState::Up).map(|link| link.peer).collect();
        let goes_directly = |paths: &&PeerPaths| matches!(paths.chosen, Some(PathView::Direct { .. }));
        let direct = paths.peers.iter().filter(goes_directly).map(|paths| paths.peer);
        for host in direct.filter(forbidden).filter(|host| up.contains(host)) {
            self.leaving.entry(host).or_insert(now + LEAVING);
        }
    }

    fn leave(&mut self, now: Instant) {
        let due: Vec<HostId> =
            self.leaving.iter().filter(|(_, at)| **at <= now).map(|(host, _)| *host).collect();
        for host in due {
            self.leaving.remove(&host);
            let known = locked(&self.known).get(&host).cloned();
            if let Some(known) = known {
                self.set_peer(host, &known);
            }
        }
    }

    fn tell_all_again(&mut self) {
        let all: Vec<(HostId, Known)> =
            locked(&self.known).iter().map(|(host, known)| (*host, known.clone())).collect();
        for (host, known) in all {
            self.set_peer(host, &known);
        }
    }

    /// Tells the data plane what it should know and does not, and has asked whom there is no record of.
    async fn tell(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        let linked: BTreeSet<HostId> = self.ways.kept().into_iter().collect();
        let view = self.overlay.view().await.unwrap_or_default();
        // A host that has just begun has a record before it has described itself.
        let in_view: BTreeMap<HostId, Vec<u8>> = view
            .iter()
            .filter(|record| !record.payload.is_empty())
            .map(|record| (record.host, record.payload.clone()))
            .collect();
        let told: Vec<HostId> = locked(&self.known).keys().copied().collect();
        self.recent.retain(|_, met| met.elapsed() < KEPT_AFTER_MEETING);
        let relays: BTreeSet<HostId> =
            locked(&self.known).values().flat_map(|known| known.via.iter().map(|via| via.relay)).collect();
        for host in told {
            let is_kept = wanted.contains(&host)
                || in_view.contains_key(&host)
                || self.recent.contains_key(&host)
                || relays.contains(&host)
                || linked.contains(&host)
                || self.observers.contains(&host);
            if !is_kept {
                self.forget(host);
            }
        }
        self.useless.retain(|host| in_view.contains_key(host) || wanted.contains(host));
        for (host, payload) in in_view {
            if !self.is_settled(host) {
                self.tell_payload(host, &payload);
            }
        }
        self.ask_those_without_record(&wanted);
    }

    /// A host that does not answer keeps nobody else waiting, and least of all those who say where they are.
    fn ask_those_without_record(&mut self, wanted: &BTreeSet<HostId>) {
        let now = Instant::now();
        self.asked.retain(|host, again| again.is_none_or(|again| again > now) && wanted.contains(host));
        for host in wanted {
            if self.asking.len() >= ASKED_MAX {
                return;
            }
            if self.is_settled(*host) || self.asked.contains_key(host) {
                continue;
            }
            self.asked.insert(*host, None);
            let (overlay, host) = (self.overlay.clone(), *host);
            self.asking.spawn(async move { (host, ask(&overlay, host).await) });
        }
    }

    fn on_asked(&mut self, asked: Result<(HostId, Option<Vec<u8>>), JoinError>) {
        let Ok((host, payload)) = asked.inspect_err(|error| tracing::error!(%error, "a host was not asked"))
        else {
            // Which one is not said: all may be asked again.
            self.asked.clear();
            return;
        };
        match payload {
            Some(payload) => {
                self.asked.remove(&host);
                // Whoever came by itself meanwhile has said something newer.
                if !self.is_settled(host) {
                    self.tell_payload(host, &payload);
                }
            }
            None if self.is_settled(host) => drop(self.asked.remove(&host)),
            None => {
                self.asked.insert(host, Some(Instant::now() + ASK_AGAIN));
                // Nothing is known of it any more: it may have been put out.
                self.data.remove_peer(host);
            }
        }
    }

    fn is_settled(&self, host: HostId) -> bool {
        self.useless.contains(&host) || locked(&self.known).contains_key(&host)
    }

    fn tell_payload(&mut self, host: HostId, payload: &[u8]) {
        match Description::decode(payload) {
            // The record is renewed with nothing new in it each minute.
            Ok(Description { whereabouts, .. })
                if locked(&self.known).get(&host).is_some_and(|known| known.whereabouts == whereabouts) => {}
            Ok(description) => drop(self.tell_whereabouts(host, description.whereabouts)),
            Err(error) => {
                tracing::warn!(%host, %error, "the host's description is of no use");
                // Not told again before it changes.
                self.useless.insert(host);
            }
        }
    }

    fn tell_whereabouts(&mut self, host: HostId, whereabouts: Whereabouts) -> bool {
        let known = {
            let mut all = locked(&self.known);
            let before = all.remove(&host);
            let (via, stream) = before.map(|before| (before.via, before.stream)).unwrap_or_default();
            let known = Known { whereabouts, via, stream };
            all.insert(host, known.clone());
            known
        };
        self.set_peer(host, &known)
    }

    fn set_peer(&mut self, host: HostId, known: &Known) -> bool {
        let is_near = self.data.local_addr().ip().is_loopback();
        let (candidates, _) = known.whereabouts.to_try(is_near);
        let direct = self.ways.allows_direct(host) || self.leaving.contains_key(&host);
        match direct {
            true => self.direct.insert(host),
            false => self.direct.remove(&host),
        };
        let told = PeerConfig {
            host,
            static_key: known.whereabouts.data_key,
            candidates: self.with_stream(host, candidates),
            via: known.via.clone(),
            direct,
            keep: self.ways.keeps(host),
        };
        let rate = self.ways.link_rate(host);
        match self.data.set_peer(told).and_then(|()| self.data.set_link_rate(host, rate)) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%host, %error, "the data plane does not take the host");
                locked(&self.known).remove(&host);
                self.useless.insert(host);
                false
            }
        }
    }

    fn with_stream(&self, host: HostId, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        let stream = locked(&self.known).get(&host).and_then(|known| known.stream);
        if let Some(address) = stream {
            // The last resort must not be the one that is one too many.
            candidates.truncate(CANDIDATES_MAX - 1);
            candidates.push(Candidate { address, kind: CandidateKind::Stream });
        }
        candidates
    }

    /// Says whom the data plane asks what they see: members with a way to them that needs no NAT opened, bootstrap peers first.
    async fn name_observers(&mut self) {
        let peers = self.overlay.peers().await.unwrap_or_default();
        let chosen = observers::choose(&peers, &locked(&self.known));
        if chosen == self.observers {
            return;
        }
        tracing::debug!(observers = chosen.len(), "observers of this host's NAT");
        match self.data.set_observers(&chosen) {
            Ok(()) => self.observers = chosen,
            Err(error) => tracing::warn!(%error, "the data plane does not take the observers"),
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// A host's description: its record, or, where there is none in view, its own word.
async fn ask(overlay: &Overlay, host: HostId) -> Option<Vec<u8>> {
    let record = overlay.record(host).await.ok().flatten();
    if let Some(record) = record.filter(|record| !record.payload.is_empty()) {
        return Some(record.payload.clone());
    }
    match overlay.call(host, protocols::DESCRIBE, Vec::new()).await {
        Ok(payload) => Some(payload),
        Err(error) => {
            tracing::debug!(%host, %error, "the host could not be asked for its description");
            None
        }
    }
}
