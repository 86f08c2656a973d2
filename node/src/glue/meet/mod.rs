//! Meeting: two hosts tell each other where they are, so that both probe at once; and what is done where that leads to no path.
//!
//! ```text
//!  data plane: a link wants a path to B ─▶ meet/1 ⇄ B (over whatever way the control plane has) ─▶ candidates to both data planes
//!        └── no path after DIRECT_FIRST, or none can be expected ─▶ relays ─▶ none after RELAYS_FIRST ─▶ a stream of the control plane
//! ```
//! | file | owns |
//! |---|---|
//! | `outside` | the address of the NAT before this host, and when it is another |
//! | [`whereabouts`] | what a host says of where it is, and what of it is tried |
//! | [`message`] | the bytes |
//! | [`stream`] | the last resort |
//! | [`facts`] | what of all this `why` is told |
//! | this | who meets whom, and when the next means is taken |
//!
//! A meeting is asked for by the data plane, ever more seldom while none succeeds, and again when this host's own candidates change: those it has links
//! with learn at once where it is now. At most `MEETINGS_MAX` at a time, one for each host. Refuses to know: probes, NATs, choice of paths.

pub mod facts;
pub mod message;
mod outside;
pub mod stream;
pub mod whereabouts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use consort_overlay::{CallError, HostId, Overlay, RpcRefusal, Stream};
use consort_vswitch::path::{CandidateKind, NatKind, PathReason, PathView};
use consort_vswitch::{DataPlane, Event};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::mapping::Mapping;
use super::peers::PeerNews;
use super::protocols;
use super::relay::Relays;
use super::ways::{Between, Ways};
use crate::why::Meeting;
use outside::Outside;
use stream::Streams;
use whereabouts::Whereabouts;

/// Meetings at once: a host that starts with that many links in its slices meets them all within a round trip or two.
const MEETINGS_MAX: usize = 64;

/// Meetings that the data plane asks for and that have just begun: each may be a dial, and where many hosts start together, or lie in an overrun network, all
/// of them at once would keep each other from succeeding.
const TURNS: usize = 6;

/// For how long a meeting keeps its turn: an answer takes a round trip or four, and a host that is away must not keep others waiting.
const TURN: Duration = Duration::from_secs(2);

/// Until a meeting that failed is tried again though the data plane has asked again meanwhile.
const MEET_PAUSE: Duration = Duration::from_secs(1);

/// Hosts of which it is remembered how the last meeting went, for `why`; beyond, the memory starts anew.
const REMEMBERED_MAX: usize = 1_024;

/// How long a direct path has after a meeting before relays are asked: the round trips of two probes around the world.
const DIRECT_FIRST: Duration = Duration::from_millis(700);

/// How long a way through a relay has before the last resort is taken.
const RELAYS_FIRST: Duration = Duration::from_millis(1_500);

/// How long a direct path that can be expected has before the last resort is taken: a port search may take longer, but frames wait for nobody so long.
const STREAM_AFTER: Duration = Duration::from_secs(3);

/// Notes of peers that are being taken at once. What is more is said again, or comes over the control plane.
const NOTES_MAX: usize = 64;

/// Hosts told at once when this host's candidates change.
const TOLD_MAX: usize = 32;

/// How often it is looked whether a stream is still needed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The meetings. Clones share them.
#[derive(Debug, Clone)]
pub struct Meet {
    overlay: Overlay,
    data: DataPlane,
    /// What is known of other hosts.
    pub peers: PeerNews,
    /// Ways through others.
    pub relays: Relays,
    /// Last resorts.
    pub streams: Streams,
    /// The port at the router.
    pub mapping: Mapping,
    /// What the topology says.
    pub ways: Ways,
    state: Arc<Mutex<State>>,
    turns: Arc<Semaphore>,
    own: watch::Sender<Whereabouts>,
    /// Explanations for other members.
    explaining: Arc<Semaphore>,
    /// Notes of peers.
    hearing: Arc<Semaphore>,
}

/// How a meeting is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// Something has changed that the other must know.
    AtOnce,
    /// After some others: the data plane has found no way by itself yet, and goes on trying.
    InTurn,
}

/// What UDP may come to between two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prospect {
    Direct,
    /// Directly, but after a port search of seconds; frames take a relay until then.
    Search,
    Relay,
    Nothing,
}

#[derive(Debug, Default)]
struct State {
    /// Meetings that are under way, and whether another is wanted since: what the first one tells may be old.
    meeting: BTreeMap<HostId, bool>,
    /// Hosts to which a way by other means is sought.
    under_way: BTreeSet<HostId>,
    outcomes: BTreeMap<HostId, Meeting>,
    outside: Outside,
}

impl Meet {
    /// Nobody met yet.
    #[must_use]
    pub fn new(
        overlay: Overlay,
        data: DataPlane,
        peers: PeerNews,
        relays: Relays,
        mapping: Mapping,
        ways: Ways,
    ) -> Self {
        let own = Whereabouts::own(data.static_public(), &data.own_paths(), relays.serves());
        let streams = Streams::new(overlay.clone(), data.clone(), peers.clone());
        let (own, _) = watch::channel(own);
        Self {
            overlay,
            data,
            peers,
            relays,
            streams,
            mapping,
            ways,
            state: Arc::default(),
            turns: Arc::new(Semaphore::new(TURNS)),
            own,
            explaining: Arc::new(Semaphore::new(facts::EXPLAINING_MAX)),
            hearing: Arc::new(Semaphore::new(NOTES_MAX)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where this host is.
    #[must_use]
    pub fn own(&self) -> Whereabouts {
        self.own.borrow().clone()
    }

    /// Tells of each change of where this host is.
    #[must_use]
    pub fn own_changes(&self) -> watch::Receiver<Whereabouts> {
        self.own.subscribe()
    }

    /// How the last meeting with `host` went.
    #[must_use]
    pub fn outcome(&self, host: HostId) -> Meeting {
        self.state().outcomes.get(&host).copied().unwrap_or(Meeting::NotTried)
    }

    /// Takes what the data plane reports, as far as it is about paths.
    pub fn handle_event(&self, event: &Event) {
        match event {
            Event::MeetWanted { peer } => self.reach(*peer, Haste::InTurn),
            Event::CandidatesChanged => self.candidates_changed(),
            Event::Said { peer, body } => self.hear(*peer, body),
            Event::PathChanged { peer, path, reason } => {
                tracing::info!(%peer, ?path, ?reason, "the path of a link changed");
                if *reason == PathReason::Failover && !matches!(path, Some(PathView::Direct { .. })) {
                    self.relays.doubt(*peer);
                }
                if path.is_none() {
                    self.reach(*peer, Haste::AtOnce);
                }
            }
            _ => {}
        }
    }

    /// The peer says over the link where it is. Both probe now.
    fn hear(&self, peer: HostId, body: &[u8]) {
        let (Some((wants_answer, whereabouts)), Ok(permit)) =
            (message::decode_note(body), Arc::clone(&self.hearing).try_acquire_owned())
        else {
            return tracing::debug!(%peer, "a note is left out");
        };
        let this = self.clone();
        tokio::spawn(async move {
            if this.peers.met(peer, whereabouts).await {
                this.remember(peer, Meeting::Answered);
            }
            if wants_answer {
                this.data.say(peer, &message::encode_note(false, &this.own()));
            }
            drop(permit);
        });
    }

    /// A direct link to `host` is allowed from now on: the two meet at once.
    pub fn introduce(&self, host: HostId) {
        self.reach(host, Haste::AtOnce);
    }

    /// Does what it takes to have a path to `host`, in a task of its own. The two meet again if something has changed while they met.
    fn reach(&self, host: HostId, haste: Haste) {
        // Where any way of the link works this is there at once; a control connection may have to be made first.
        self.data.say(host, &message::encode_note(true, &self.own()));
        {
            let mut state = self.state();
            if let Some(again) = state.meeting.get_mut(&host) {
                *again = true;
                return;
            }
            if state.meeting.len() >= MEETINGS_MAX {
                return;
            }
            state.meeting.insert(host, false);
        }
        let this = self.clone();
        tokio::spawn(async move {
            let is_met = loop {
                let is_met = match haste {
                    Haste::AtOnce => this.meet(host).await,
                    Haste::InTurn => this.meet_in_turn(host).await,
                };
                if !this.is_wanted_again(host) {
                    break is_met;
                }
                if !is_met {
                    tokio::time::sleep(MEET_PAUSE).await;
                }
            };
            if this.state().under_way.insert(host) {
                this.go_on_by_other_means(host, is_met).await;
                this.state().under_way.remove(&host);
                // By the way that was found where each is can be told now: a relay's would be used for the better part of a minute before the next meeting.
                if !is_met && this.is_wanted(host) {
                    this.data.say(host, &message::encode_note(true, &this.own()));
                }
            }
        });
    }

    /// Whether another meeting was wanted during the one that has just ended; if not, none is under way any more.
    fn is_wanted_again(&self, host: HostId) -> bool {
        let mut state = self.state();
        let again = state.meeting.get_mut(&host).is_some_and(std::mem::take);
        if !again {
            state.meeting.remove(&host);
        }
        again
    }

    async fn go_on_by_other_means(&self, host: HostId, is_met: bool) {
        let relays = self.peers.relays().into_iter().collect();
        let is_around = self.ways.between(self.overlay.local_id(), host, relays) != Between::Direct;
        let prospect = self.prospect(host);
        if !is_around && is_met && prospect == Prospect::Direct {
            tokio::time::sleep(DIRECT_FIRST).await;
        }
        // A stream is better than nothing and worse than all else.
        if self.has_another_way(host) {
            return;
        }
        if prospect != Prospect::Nothing {
            // None of those that are held works.
            self.relays.doubt(host);
            self.relays.search(host).await;
        }
        // The topology's word holds for the last resort too: it would be a direct link by other means.
        if is_around {
            return;
        }
        let has_relay = !self.relays.routes(host).is_empty();
        match prospect {
            Prospect::Nothing => {}
            // One that is held and does not carry shows that UDP does not pass.
            _ if has_relay => tokio::time::sleep(RELAYS_FIRST).await,
            Prospect::Direct | Prospect::Search => tokio::time::sleep(STREAM_AFTER).await,
            Prospect::Relay => {}
        }
        if self.chosen(host).is_none() && self.is_wanted(host) {
            self.streams.open_to(host).await;
        }
    }

    /// The same when it is this one's turn, unless a way was found meanwhile without it.
    async fn meet_in_turn(&self, host: HostId) -> bool {
        let had_a_way = self.has_another_way(host);
        // The semaphore is never closed.
        let turn = self.turns.acquire().await.ok();
        if !had_a_way && self.has_another_way(host) {
            return true;
        }
        let mut meeting = std::pin::pin!(self.meet(host));
        if let Ok(is_met) = tokio::time::timeout(TURN, &mut meeting).await {
            return is_met;
        }
        drop(turn);
        meeting.await
    }

    /// The two tell each other where they are; true if both data planes know now.
    async fn meet(&self, host: HostId) -> bool {
        let answer = match self.call(host).await {
            // One of the two is elsewhere now, which is when a meeting is wanted: a connection is being made anew, and to be met twice does no harm.
            Err(CallError::Lost(_)) => self.call(host).await,
            answer => answer,
        };
        let outcome = match answer.as_deref().map(message::decode) {
            Ok(Some(whereabouts)) => {
                let is_taken = self.peers.met(host, whereabouts).await;
                if is_taken { Meeting::Answered } else { Meeting::Unanswered }
            }
            Ok(None) => Meeting::Unanswered,
            Err(CallError::Refused { refusal: RpcRefusal::TooOften, .. }) => Meeting::TooOften,
            Err(error) => {
                tracing::debug!(%host, %error, "the host was not met");
                Meeting::Unanswered
            }
        };
        self.remember(host, outcome);
        outcome == Meeting::Answered
    }

    async fn call(&self, host: HostId) -> Result<Vec<u8>, CallError> {
        self.overlay.call(host, protocols::MEET, message::encode(&self.own())).await
    }

    fn remember(&self, host: HostId, outcome: Meeting) {
        let mut state = self.state();
        if state.outcomes.len() >= REMEMBERED_MAX && !state.outcomes.contains_key(&host) {
            state.outcomes.clear();
        }
        state.outcomes.insert(host, outcome);
    }

    /// Answers a message of `meet/1`; none if it cannot be read.
    pub async fn answer(&self, from: HostId, body: &[u8]) -> Option<Vec<u8>> {
        let whereabouts = message::decode(body)?;
        if self.peers.met(from, whereabouts).await {
            self.remember(from, Meeting::Answered);
        }
        Some(message::encode(&self.own()))
    }

    /// A stream for datagrams came.
    pub async fn stream(&self, from: HostId, stream: Stream) {
        if self.ways.allows_direct(from) {
            self.streams.accept(from, stream).await;
        }
    }

    /// Where this host is has changed: its record says so, and those it has links with hear of it at once.
    fn candidates_changed(&self) {
        let paths = self.data.own_paths();
        if self.state().outside.changed(Instant::now(), &paths) {
            tracing::info!(outside = ?paths.outside, "the NAT before this host has another address");
            let overlay = self.overlay.clone();
            tokio::spawn(async move { overlay.outside_changed().await });
        }
        let own = Whereabouts::own(self.data.static_public(), &paths, self.relays.serves());
        let is_new = self.own.send_if_modified(|known| {
            let is_new = *known != own;
            *known = own;
            is_new
        });
        if !is_new {
            return;
        }
        let links = self.data.snapshot().links;
        let concerned = links
            .into_iter()
            .filter(|link| facts::is_wanted(link.state))
            .map(|link| link.peer)
            .take(TOLD_MAX);
        for host in concerned {
            self.reach(host, Haste::AtOnce);
        }
    }

    /// What can be expected from what is known of the two NATs.
    fn prospect(&self, host: HostId) -> Prospect {
        let here = self.own().nat.kind;
        let there = self.peers.known(host).map_or(NatKind::Unknown, |known| known.whereabouts.nat.kind);
        match (here, there) {
            (NatKind::Blocked, _) | (_, NatKind::Blocked) => Prospect::Nothing,
            (here, there) if here.is_hard() && there.is_hard() => Prospect::Relay,
            (NatKind::EndpointIndependent, there) if there.is_hard() => Prospect::Search,
            (here, NatKind::EndpointIndependent) if here.is_hard() => Prospect::Search,
            _ => Prospect::Direct,
        }
    }

    fn chosen(&self, host: HostId) -> Option<PathView> {
        let paths = self.data.snapshot().paths.peers;
        paths.into_iter().find(|paths| paths.peer == host).and_then(|paths| paths.chosen)
    }

    fn is_wanted(&self, host: HostId) -> bool {
        let links = self.data.snapshot().links;
        links.iter().any(|link| link.peer == host && facts::is_wanted(link.state))
    }

    /// Ends streams that are not needed any more, and asks for hosts of static links that nothing is known of. Runs until the daemon ends.
    pub async fn run(self) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut learning: Option<JoinHandle<()>> = None;
        loop {
            tick.tick().await;
            if learning.as_ref().is_none_or(JoinHandle::is_finished) {
                let this = self.clone();
                learning = Some(tokio::spawn(async move { this.learn_kept().await }));
            }
            for host in self.streams.hosts() {
                if !self.is_wanted(host) || self.has_another_way(host) {
                    self.streams.end(host).await;
                }
            }
        }
    }

    /// One after the other: a host that is away keeps nobody waiting but the next.
    async fn learn_kept(&self) {
        for host in self.ways.kept() {
            if self.peers.known(host).is_none() && !self.peers.learn(host).await {
                tracing::debug!(%host, "nothing is known of a host that a static link leads to");
            }
        }
    }

    fn has_another_way(&self, host: HostId) -> bool {
        match self.chosen(host) {
            Some(PathView::Direct { kind, .. }) => kind != Some(CandidateKind::Stream),
            Some(PathView::Relay { .. }) => true,
            None => false,
        }
    }
}
