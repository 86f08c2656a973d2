//! What this host knows of itself and of the way to another, gathered for [`crate::why`]; and the questions between nodes about it.
//!
//! `why/1`: version (1 byte), then postcard.
//!
//! | request | answer |
//! |---|---|
//! | [`Ask::Side`] of the asking host | what the asked one knows of the way to it ([`Side`]) |
//! | [`Ask::Explain`] the way to a third | an [`Explanation`] as JSON, made there |
//! | [`Ask::Alive`] | nothing: that it comes is the answer, and so is a refusal |
//!
//! Any member may ask: what is told are addresses of hosts he can meet himself, and how they were tried.
//!
//! A host that does not answer is knocked at ([`consort_overlay::knock`]): whether its computer, its node, or another host is there makes the difference
//! between the causes, and a connection that stands says nothing of it for half a minute after its other end has died. If the host itself opens, that
//! connection was to a former life of it, and is made anew.
//!
//! | file | owns |
//! |---|---|
//! | `own` | this host's networks, resolver and standing |
//! | `control` | the control connection, or why there is none |
//! | `link` | the data plane's link and what was tried |
//! | this | who is asked, and in what order |

mod control;
mod link;
mod own;

use std::time::Duration;

use consort_overlay::{
    CallError, Direction, HostId, Knock, Overlay, OverlayStatus, PeerState, PeerStatus, Transport, knock,
};
use consort_scheduler::bounded::List;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::Meet;
use crate::glue::clock;
use crate::glue::protocols;
use crate::glue::ways::Between;
use crate::why::{Explanation, Facts, LinkFact, Meeting, Names, Nat, Path, Side, TopologyFact, explain};

pub use link::{is_wanted, nat, path};
pub use own::names_can_be_looked_up;

/// The longest question.
pub const REQUEST_BYTES_MAX: usize = 64;

/// The longest answer: an explanation with all it tried, as JSON.
pub const RESPONSE_BYTES_MAX: usize = 16 * 1024;

/// A host that has not said what it knows after this is knocked at: longer than a round trip around the world.
const KNOCK_AFTER: Duration = Duration::from_secs(1);

/// How long it may take then, and the knock: four round trips around the world. All of it together must fit into the time of a call between nodes.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Until a connection that was taken for dead is gone, and the overlay dials anew instead of telling that it has just failed.
const CLOSED_WITHIN: Duration = Duration::from_millis(600);

/// Other members that are knocked at, to tell one host's silence from that of all.
const OTHERS_MAX: usize = 3;

/// How long a member has to answer over a connection that stands, where it is asked whether any datagram passes: a round trip around the world, and less than
/// [`KNOCK_AFTER`], since it may be another host that waits for it.
const ALIVE_WITHIN: Duration = Duration::from_millis(700);

/// Explanations made for other members at once: each may cost some knocks, so what a member can cause is bounded beside his rate.
pub(super) const EXPLAINING_MAX: usize = 2;

const VERSION: u8 = 1;

/// A question to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// What do you know of the way to me?
    Side,
    /// Why is the way from you to this host as it is?
    Explain {
        /// To whom.
        to: HostId,
    },
    /// Does this arrive?
    Alive,
}

impl Ask {
    /// As it travels.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let body = postcard::to_stdvec(&self).expect("a question holds nothing postcard cannot write");
        [&[VERSION], &body[..]].concat()
    }

    /// From the bytes of a question; none if they are not one of this version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let body = bytes.strip_prefix(&[VERSION])?;
        match postcard::take_from_bytes(body) {
            Ok((ask, [])) => Some(ask),
            Ok(_) | Err(_) => None,
        }
    }
}

/// Who wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The host's own owner.
    Owner,
    /// Another member. For him no connection is taken for dead.
    Member,
}

/// What was heard of a host when it was asked.
#[derive(Debug, Default)]
struct Heard {
    side: Option<Side>,
    doors: Doors,
}

/// What came of knocking, where the host did not answer.
#[derive(Debug, Clone, Copy, Default)]
struct Doors {
    /// At the host.
    host: Option<Knock>,
    /// At other members, where the host is silent: whether one of them opened.
    others: Option<bool>,
}

impl Meet {
    /// Answers a message of `why/1`; none if it cannot be read.
    pub async fn answer_why(&self, from: HostId, body: &[u8]) -> Option<Vec<u8>> {
        match Ask::decode(body)? {
            Ask::Side => postcard::to_stdvec(&self.side(from, Doors::default(), None).await).ok(),
            Ask::Explain { to } => {
                let _one_of_few = self.explaining.try_acquire().ok()?;
                serde_json::to_vec(&self.explain(to, Asker::Member).await).ok()
            }
            Ask::Alive => Some(Vec::new()),
        }
    }

    /// Why the way from this host to `host` is as it is.
    pub async fn explain(&self, host: HostId, asker: Asker) -> Explanation {
        let me = self.overlay.local_id();
        let (heard, dns) = tokio::join!(heard_of(&self.overlay, host, asker), names_can_be_looked_up());
        let near = self.side(host, heard.doors, dns).await;
        let names = Names {
            near_id: me.to_string(),
            far_id: host.to_string(),
            near: self.called(me),
            far: self.called(host),
        };
        explain(&Facts { names, same: host == me, near, far: heard.side })
    }

    /// What people call a host: the operator's name, else the end of its id, by which every command finds it.
    fn called(&self, host: HostId) -> String {
        let name = self.ways.name_of(host);
        if name == host.to_string() { short(host) } else { name }
    }

    /// Why the way from `from` to `to` is as it is, as `from` sees it.
    ///
    /// # Errors
    /// In words, if `from` cannot be asked.
    pub async fn explain_between(&self, from: HostId, to: HostId) -> Result<Explanation, String> {
        if from == self.overlay.local_id() {
            return Ok(self.explain(to, Asker::Owner).await);
        }
        let answer = self.overlay.call(from, protocols::WHY, Ask::Explain { to }.encode()).await;
        let bytes = answer.map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes)
            .map_err(|error| format!("{from} gave an answer of another form: {error}"))
    }

    /// What this host knows of itself and of the way to `host`.
    async fn side(&self, host: HostId, doors: Doors, dns: Option<bool>) -> Side {
        let base = side_of(&self.overlay, host, doors, dns, |ip| self.data.is_inside(ip)).await;
        let snapshot = self.data.snapshot();
        let paths = snapshot.paths.peers.iter().find(|paths| paths.peer == host);
        let link = snapshot.links.iter().find(|link| link.peer == host);
        let mut relays = self.relays.attempts(host);
        link::mark_silent(&mut relays, paths);
        relays.extend(self.relays.forbidden(host));
        let relays_known = self.peers.relays().iter().filter(|relay| **relay != host).count();
        let nat = nat(snapshot.paths.local.nat.kind);
        let link = link::link_fact(link, paths);
        // A connection whose datagrams are dropped stands for most of a minute.
        let is_mute = nat == Nat::Blocked || nat == Nat::Unknown || link.path == Path::RelayStream;
        let quic_somewhere = base.quic_somewhere && (!is_mute || quic_answers(&self.overlay).await);
        Side {
            nat,
            quic_somewhere,
            observed: List::first_of(snapshot.paths.local.observed.iter().map(|(address, _)| *address)),
            receive_drops: snapshot.receive_queue_drops,
            link,
            tried: link::tried(paths),
            relays: List::first_of(relays),
            relays_known: link::few(relays_known),
            meeting: self.outcome(host),
            topology: self.topology(host),
            ..base
        }
    }

    fn topology(&self, host: HostId) -> TopologyFact {
        let relays = self.peers.relays().into_iter().collect();
        match self.ways.between(self.overlay.local_id(), host, relays) {
            Between::Direct => TopologyFact::Allowed,
            Between::Around(routes) => match routes.first() {
                Some(route) => TopologyFact::Routed(u8::try_from(route.len()).unwrap_or(u8::MAX)),
                None => TopologyFact::NoRoute,
            },
        }
    }
}

/// Why the way from this host to `host` is as it is, while this host belongs to no overlay: there is no data plane yet.
pub async fn explain_outside(overlay: &Overlay, host: HostId) -> Explanation {
    let me = overlay.local_id();
    let (heard, dns) = tokio::join!(heard_of(overlay, host, Asker::Owner), names_can_be_looked_up());
    let near = side_of(overlay, host, heard.doors, dns, |_| false).await;
    let names =
        Names { near_id: me.to_string(), far_id: host.to_string(), near: short(me), far: short(host) };
    explain(&Facts { names, same: host == me, near, far: heard.side })
}

/// The end of an id: the beginnings are alike.
fn short(host: HostId) -> String {
    let id = host.to_string();
    let tail = id.len().saturating_sub(NAME_CHARS);
    format!("host …{}", id.get(tail..).unwrap_or(&id))
}

/// Characters of an id that tell hosts apart for people; the commands take as many.
const NAME_CHARS: usize = 8;

/// Asks a host what it knows; what does not answer is knocked at.
async fn heard_of(overlay: &Overlay, host: HostId, asker: Asker) -> Heard {
    if host == overlay.local_id() {
        return Heard::default();
    }
    let mut asked = std::pin::pin!(ask_side(overlay, host));
    let at_once = tokio::time::timeout(KNOCK_AFTER, &mut asked).await;
    if let Ok(Some(side)) = at_once {
        return Heard { side: Some(side), doors: Doors::default() };
    }
    let later = async {
        match at_once {
            Ok(none) => none,
            Err(_) => tokio::time::timeout(ANSWER_WITHIN, asked).await.ok().flatten(),
        }
    };
    // Others are knocked at beside it: whoever asks waits for the slower of the two, not for both.
    let doors = async { tokio::join!(knock_at(overlay, host), others_open(overlay, host)) };
    let (mut later, mut doors) = (std::pin::pin!(later), std::pin::pin!(doors));
    let first = tokio::select! {
        side = &mut later => Ok(side),
        found = &mut doors => Err(found),
    };
    let (side, (knocked, others)) = match first {
        Ok(Some(side)) => return Heard { side: Some(side), doors: Doors::default() },
        Ok(None) => (None, doors.await),
        Err(found) => (later.await, found),
    };
    if side.is_some() {
        return Heard { side, doors: Doors::default() };
    }
    let others = others.filter(|_| matches!(knocked, Knock::Silent | Knock::NoWay));
    let silent = Heard { side: None, doors: Doors { host: Some(knocked), others } };
    // It is there, or behind something that lets no knock in while this host's own network is well: the connection that stands may be to a process, or over a
    // path, that is gone.
    let is_worth = knocked == Knock::Answered || knocked == Knock::Silent && others == Some(true);
    if !is_worth || asker == Asker::Member {
        return silent;
    }
    // If the overlay ends meanwhile, the next call says so.
    let _overlay_ends = overlay.doubt(host).await;
    tokio::time::sleep(CLOSED_WITHIN).await;
    match tokio::time::timeout(ANSWER_WITHIN, ask_side(overlay, host)).await {
        Ok(Some(side)) => Heard { side: Some(side), doors: Doors::default() },
        Ok(None) | Err(_) => silent,
    }
}

/// Whether one of some other members opens, of those this host has dialled itself: they can be knocked at.
async fn others_open(overlay: &Overlay, but: HostId) -> Option<bool> {
    let peers = overlay.peers().await.unwrap_or_default();
    let is_dialled = |peer: &&PeerStatus| {
        matches!(peer.state, PeerState::Connected { direction: Direction::Outbound, transport, .. }
            if transport != Transport::Relayed)
    };
    let others = peers.iter().filter(|peer| peer.host != but).filter(is_dialled).take(OTHERS_MAX);
    let mut knocks: JoinSet<Knock> = others
        .cloned()
        .map(|peer| async move { knock(peer.host, &peer.addresses, ANSWER_WITHIN).await })
        .collect();
    if knocks.is_empty() {
        return None;
    }
    while let Some(found) = knocks.join_next().await {
        if found.is_ok_and(|found| found == Knock::Answered) {
            return Some(true);
        }
    }
    Some(false)
}

/// Whether one of some members that are connected over QUIC answers over it.
async fn quic_answers(overlay: &Overlay) -> bool {
    let peers = overlay.peers().await.unwrap_or_default();
    let mut calls: JoinSet<bool> = peers
        .iter()
        .filter(|peer| is_over_quic(peer))
        .take(OTHERS_MAX)
        .map(|peer| (overlay.clone(), peer.host))
        .map(|(overlay, host)| async move {
            let asked = overlay.call(host, protocols::WHY, Ask::Alive.encode());
            let answer = tokio::time::timeout(ALIVE_WITHIN, asked).await;
            matches!(answer, Ok(Ok(_) | Err(CallError::Refused { .. })))
        })
        .collect();
    while let Some(answers) = calls.join_next().await {
        if answers.unwrap_or(false) {
            return true;
        }
    }
    false
}

async fn ask_side(overlay: &Overlay, host: HostId) -> Option<Side> {
    let answer = overlay.call(host, protocols::WHY, Ask::Side.encode()).await.ok()?;
    match postcard::take_from_bytes(&answer) {
        Ok((side, [])) => Some(side),
        Ok(_) | Err(_) => None,
    }
}

async fn knock_at(overlay: &Overlay, host: HostId) -> Knock {
    let peers = overlay.peers().await.unwrap_or_default();
    let mut addresses =
        peers.into_iter().find(|peer| peer.host == host).map(|peer| peer.addresses).unwrap_or_default();
    if addresses.is_empty()
        && let Ok(Some(record)) = overlay.record(host).await
    {
        addresses.clone_from(&record.addresses);
    }
    match knock(host, &addresses, ANSWER_WITHIN).await {
        // The other's private address is this host's own, too: it found itself, and nobody else.
        Knock::Other(found) if found == overlay.local_id() => Knock::Silent,
        knocked => knocked,
    }
}

/// What the overlay alone lets a host know of itself and of another; the data plane's part is empty.
async fn side_of(
    overlay: &Overlay,
    host: HostId,
    doors: Doors,
    dns: Option<bool>,
    is_inside: impl Fn(std::net::IpAddr) -> bool,
) -> Side {
    let status: Option<OverlayStatus> = overlay.status().await.ok();
    let peers = overlay.peers().await.unwrap_or_default();
    let (control, refused_by_other) =
        control::Known::of(overlay.local_id(), host, &peers, status.as_ref(), doors.host).control();
    let (has_ipv4, has_ipv6) = own::families(is_inside);
    // A connection to a host that does not answer is none.
    let counts = |peer: &&PeerStatus| is_connected(peer) && (doors.host.is_none() || peer.host != host);
    Side {
        unix_seconds: clock::wall_s(),
        standing: own::standing(status.as_ref()),
        nat: Nat::Unknown,
        observed: List::new(),
        has_ipv4,
        has_ipv6,
        dns,
        members_connected: link::few(peers.iter().filter(counts).count()),
        quic_somewhere: peers.iter().filter(counts).any(is_over_quic),
        receive_drops: 0,
        others_answer: doors.others,
        control,
        refused_by_other,
        link: LinkFact::NONE,
        tried: List::new(),
        relays: List::new(),
        relays_known: 0,
        meeting: Meeting::NotTried,
        topology: TopologyFact::Allowed,
        record_age_s: record_age_s(overlay, host).await,
    }
}

fn is_over_quic(peer: &PeerStatus) -> bool {
    matches!(peer.state, PeerState::Connected { transport: Transport::Quic, .. })
}

fn is_connected(peer: &PeerStatus) -> bool {
    matches!(peer.state, PeerState::Connected { .. })
}

async fn record_age_s(overlay: &Overlay, host: HostId) -> Option<u32> {
    let record = overlay.record(host).await.ok().flatten()?;
    let now = u32::try_from(clock::wall_s()).unwrap_or(u32::MAX);
    Some(now.saturating_sub(record.issued.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_come_out_as_they_went_in_and_nothing_else_does() {
        for ask in [Ask::Side, Ask::Explain { to: HostId::random() }, Ask::Alive] {
            let bytes = ask.encode();
            assert!(bytes.len() <= REQUEST_BYTES_MAX);
            assert_eq!(Ask::decode(&bytes), Some(ask));
            assert_eq!(Ask::decode(&[&bytes[..], &[0]].concat()), None);
            assert_eq!(Ask::decode(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn a_host_without_a_name_is_called_by_the_end_of_its_id() {
        let host = HostId::random();
        assert!(short(host).strip_prefix("host …").is_some_and(|end| host.to_string().ends_with(end)));
    }
}
