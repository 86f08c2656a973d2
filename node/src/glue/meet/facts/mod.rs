//! What this host knows of itself and of the way to another, gathered for [`crate::why`]; and the questions between nodes about it.
//!
//! `why/1`: version (1 byte), then postcard.
//!
//! | request | answer |
//! |---|---|
//! | [`Ask::Side`] of the asking host | what the asked one knows of the way to it ([`Side`]) |
//! | [`Ask::Explain`] the way to a third | an [`Explanation`] as JSON, made there |
//!
//! Any member may ask: what is told are addresses of hosts he can meet himself, and how they were tried.

use std::time::Duration;

use consort_overlay::{FailureReason, HostId, Overlay, PeerState, PeerStatus, Refusal, Transport};
use consort_scheduler::bounded::List;
use consort_vswitch::path::{CandidateKind as Kind, NatKind, PathResult, PathView, PeerPaths, TriedPath};
use consort_vswitch::{LinkDownReason, LinkSnapshot, LinkState, Snapshot};
use serde::{Deserialize, Serialize};

use super::Meet;
use crate::glue::clock;
use crate::glue::protocols;
use crate::glue::ways::Between;
use crate::why::facts::ATTEMPTS_MAX;
use crate::why::{
    Attempt, CandidateKind, Control, ControlFailure, Explanation, Facts, LinkFact, Nat, Outcome, Path,
    RelayAttempt, RelayOutcome, Side, Standing, TopologyFact, explain,
};

/// The longest question.
pub const REQUEST_BYTES_MAX: usize = 64;

/// The longest answer: an explanation with all it tried, as JSON.
pub const RESPONSE_BYTES_MAX: usize = 16 * 1024;

/// Something authenticated that came within this is "lately".
const LATELY_MS: u64 = 60_000;

/// How long the resolver may take; it is asked only when somebody asks why.
const LOOKUP_WITHIN: Duration = Duration::from_millis(1_500);

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

impl Meet {
    /// Answers a message of `why/1`; none if it cannot be read.
    pub async fn answer_why(&self, from: HostId, body: &[u8]) -> Option<Vec<u8>> {
        match Ask::decode(body)? {
            Ask::Side => postcard::to_stdvec(&self.side(from).await).ok(),
            Ask::Explain { to } => serde_json::to_vec(&self.explain(to).await).ok(),
        }
    }

    /// Why the way from this host to `host` is as it is.
    pub async fn explain(&self, host: HostId) -> Explanation {
        let me = self.overlay.local_id();
        let near = self.side(host).await;
        let far = if host == me { None } else { self.ask_side(host).await };
        let (near_name, far_name) = (self.ways.name_of(me), self.ways.name_of(host));
        explain(&Facts { near_name, far_name, same: host == me, near, far })
    }

    /// Why the way from `from` to `to` is as it is, as `from` sees it.
    ///
    /// # Errors
    /// In words, if `from` cannot be asked.
    pub async fn explain_between(&self, from: HostId, to: HostId) -> Result<Explanation, String> {
        if from == self.overlay.local_id() {
            return Ok(self.explain(to).await);
        }
        let answer = self.overlay.call(from, protocols::WHY, Ask::Explain { to }.encode()).await;
        let bytes = answer.map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes)
            .map_err(|error| format!("{from} gave an answer of another form: {error}"))
    }

    async fn ask_side(&self, host: HostId) -> Option<Side> {
        let answer = self.overlay.call(host, protocols::WHY, Ask::Side.encode()).await.ok()?;
        match postcard::take_from_bytes(&answer) {
            Ok((side, [])) => Some(side),
            Ok(_) | Err(_) => None,
        }
    }

    /// What this host knows of itself and of the way to `host`.
    pub async fn side(&self, host: HostId) -> Side {
        let snapshot = self.data.snapshot();
        let peers = self.overlay.peers().await.unwrap_or_default();
        let peer = peers.iter().find(|peer| peer.host == host);
        let paths = snapshot.paths.peers.iter().find(|paths| paths.peer == host);
        let link = snapshot.links.iter().find(|link| link.peer == host);
        let (has_ipv4, has_ipv6) = own_families();
        let mut relays = self.relays.attempts(host);
        mark_silent(&mut relays, paths);
        let relays_known = self.peers.relays().iter().filter(|relay| **relay != host).count();
        Side {
            unix_seconds: clock::wall_s(),
            standing: standing(&self.overlay).await,
            nat: nat(snapshot.paths.local.nat.kind),
            hairpin: None,
            observed: List::first_of(snapshot.paths.local.observed.iter().map(|(address, _)| *address)),
            has_ipv4,
            has_ipv6,
            dns: names_can_be_looked_up().await,
            members_connected: few(peers.iter().filter(|peer| is_connected(peer)).count()),
            quic_somewhere: peers
                .iter()
                .any(|peer| matches!(peer.state, PeerState::Connected { transport: Transport::Quic, .. })),
            receive_drops: snapshot.receive_queue_drops,
            control: control(peer),
            link: link_fact(&snapshot, link, paths),
            tried: tried(paths),
            relays: List::first_of(relays),
            relays_known: few(relays_known),
            meeting: self.outcome(host),
            topology: self.topology(host),
            record_age_s: self.record_age_s(host).await,
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

    async fn record_age_s(&self, host: HostId) -> Option<u32> {
        let record = self.overlay.record(host).await.ok().flatten()?;
        let now = u32::try_from(clock::wall_s()).unwrap_or(u32::MAX);
        Some(now.saturating_sub(record.issued.0))
    }
}

fn few(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// A relay that gave a leg through which nothing comes.
fn mark_silent(relays: &mut [RelayAttempt], paths: Option<&PeerPaths>) {
    let Some(paths) = paths else { return };
    for attempt in relays.iter_mut().filter(|attempt| attempt.outcome == RelayOutcome::Ready) {
        let is_its = |tried: &&TriedPath| matches!(tried.path, PathView::Relay { relay, .. } if relay == attempt.relay);
        let is_silent = |tried: &TriedPath| tried.result == PathResult::Unanswered;
        if paths.tried.iter().find(is_its).is_some_and(is_silent) {
            attempt.outcome = RelayOutcome::Silent;
        }
    }
}

async fn standing(overlay: &Overlay) -> Standing {
    match overlay.status().await {
        Ok(status) if status.revoked => Standing::Revoked,
        Ok(status) if status.overlay.is_some() => Standing::Member,
        Ok(_) | Err(_) => Standing::NotYet,
    }
}

fn is_connected(peer: &PeerStatus) -> bool {
    matches!(peer.state, PeerState::Connected { .. })
}

/// Whether something wants a link in that state: one that went down is tried again while it is wanted.
#[must_use]
pub fn is_wanted(state: LinkState) -> bool {
    match state {
        LinkState::Idle | LinkState::Down(LinkDownReason::Unused | LinkDownReason::Removed) => false,
        LinkState::Connecting | LinkState::Up | LinkState::Down(_) => true,
    }
}

/// The kind of NAT in the words of `why`.
#[must_use]
pub fn nat(kind: NatKind) -> Nat {
    match kind {
        NatKind::Unknown => Nat::Unknown,
        NatKind::None => Nat::None,
        NatKind::EndpointIndependent => Nat::EndpointIndependent,
        NatKind::AddressDependent => Nat::AddressDependent,
        NatKind::AddressAndPortDependent => Nat::AddressAndPortDependent,
        NatKind::Blocked => Nat::Blocked,
    }
}

/// How a link's datagrams go, in the words of `why`.
#[must_use]
pub fn path(view: Option<&PathView>) -> Path {
    match view {
        None => Path::None,
        Some(PathView::Relay { .. }) => Path::Relay,
        Some(PathView::Direct { kind: Some(Kind::Stream), .. }) => Path::RelayStream,
        Some(PathView::Direct { .. }) => Path::Direct,
    }
}

fn control(peer: Option<&PeerStatus>) -> Control {
    let Some(peer) = peer else { return Control::Failed(ControlFailure::NoAddress) };
    if let PeerState::Connected { transport, round_trip, .. } = &peer.state {
        let micros = round_trip.map(|round_trip| u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX));
        return Control::Connected { quic: *transport == Transport::Quic, round_trip_micros: micros };
    }
    Control::Failed(match &peer.failure {
        None => ControlFailure::NotTried,
        Some(failure) => control_failure(&failure.reason),
    })
}

fn control_failure(reason: &FailureReason) -> ControlFailure {
    match reason {
        FailureReason::NoAddress => ControlFailure::NoAddress,
        FailureReason::Unreachable { detail } => unreachable(detail),
        FailureReason::Timeout => ControlFailure::NoAnswer,
        FailureReason::WrongIdentity { .. } => ControlFailure::WrongIdentity,
        FailureReason::RefusedByPeer { refusal } | FailureReason::RefusedHere { refusal } => {
            refused(*refusal)
        }
        FailureReason::Lost { .. } | FailureReason::Silent => ControlFailure::Lost,
        FailureReason::Busy => ControlFailure::Full,
        // Closed because it was not needed, by one side or the other; and whatever is added later.
        _ => ControlFailure::NotTried,
    }
}

/// The system's words (strerror) for what it would not do; anything else is silence.
fn unreachable(detail: &str) -> ControlFailure {
    let detail = detail.to_lowercase();
    if detail.contains("connection refused") {
        ControlFailure::ConnectionRefused
    } else if detail.contains("network is unreachable") || detail.contains("cannot assign requested address")
    {
        ControlFailure::NetworkUnreachable
    } else {
        ControlFailure::NoAnswer
    }
}

fn refused(refusal: Refusal) -> ControlFailure {
    match refusal {
        Refusal::Malformed => ControlFailure::Version,
        Refusal::OtherOverlay => ControlFailure::OtherOverlay,
        Refusal::Signature | Refusal::Holder | Refusal::Standing | Refusal::Claim => ControlFailure::Forged,
        Refusal::Expired => ControlFailure::Expired,
        Refusal::NotYet => ControlFailure::FromTheFuture,
        Refusal::Revoked => ControlFailure::Revoked,
        Refusal::Full | Refusal::TooDeep => ControlFailure::Full,
        // The other connection stays, or the host is on its way in.
        _ => ControlFailure::NotTried,
    }
}

fn link_fact(snapshot: &Snapshot, link: Option<&LinkSnapshot>, paths: Option<&PeerPaths>) -> LinkFact {
    let Some(link) = link else { return LinkFact::NONE };
    let is_wanted = is_wanted(link.state);
    let up = link.state == LinkState::Up;
    let way = path(paths.and_then(|paths| paths.chosen.as_ref()));
    let tried = paths.map(|paths| &paths.tried[..]).unwrap_or_default();
    let is_heard = tried.iter().any(|tried| tried.heard_millis_ago.is_some_and(|ago| ago <= LATELY_MS));
    let has_answer = tried.iter().any(|tried| tried.result == PathResult::Alive);
    LinkFact {
        wanted: is_wanted,
        up,
        path: if up { way } else { Path::None },
        address: link.address,
        hops: u8::from(way == Path::Relay),
        round_trip_micros: link.round_trip_micros,
        loss_permille: permille(link.loss),
        datagram_bytes: link.datagram_bytes,
        black_holes: clamp(link.counts.black_holes),
        heard: up || is_heard,
        // Probes are authenticated with the same keys as handshakes: no probe answered, and handshakes that did not open.
        key_refused: !up && is_wanted && !has_answer && snapshot.refused.handshake_forged > 0,
        roamed: clamp(link.counts.roamed),
        session_seconds: link.session_seconds,
        grants_refused: few(link.channels.iter().filter(|channel| channel.outbound == "refused").count()),
        searching: !up && is_wanted && tried.iter().any(|tried| tried.result == PathResult::Probing),
        search_spent: paths.is_some_and(|paths| paths.search.searches > 0) && way != Path::Direct,
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1000")]
fn permille(part: f64) -> u16 {
    (part * 1_000.0).clamp(0.0, 1_000.0) as u16
}

fn clamp(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn tried(paths: Option<&PeerPaths>) -> List<Attempt, ATTEMPTS_MAX> {
    let all = paths.map(|paths| &paths.tried[..]).unwrap_or_default();
    List::first_of(all.iter().filter_map(|tried| {
        let PathView::Direct { address, kind } = &tried.path else { return None };
        let kind = match kind {
            Some(Kind::Local) => CandidateKind::Local,
            Some(Kind::Observed) => CandidateKind::Observed,
            Some(Kind::Mapped) => CandidateKind::Mapped,
            Some(Kind::Told) | None => CandidateKind::Told,
            // A socket of this host; nobody's address.
            Some(Kind::Stream) => return None,
        };
        let outcome = match tried.result {
            PathResult::Untried => Outcome::LeftOut,
            PathResult::Probing => Outcome::Waiting,
            PathResult::Alive => Outcome::Answered,
            PathResult::Unanswered => Outcome::Silent,
        };
        Some(Attempt { address: *address, kind, outcome, round_trip_micros: tried.round_trip_micros })
    }))
}

/// Whether an interface that is up has an address others could know, by family.
fn own_families() -> (bool, bool) {
    use nix::net::if_::InterfaceFlags;
    let (mut ipv4, mut ipv6) = (false, false);
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let is_on = interface.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING);
        let Some(address) = interface.address.filter(|_| is_on) else { continue };
        let (four, six) = (address.as_sockaddr_in(), address.as_sockaddr_in6());
        ipv4 |= four.is_some_and(|four| !four.ip().is_loopback() && !four.ip().is_link_local());
        ipv6 |= six.is_some_and(|six| !six.ip().is_loopback() && !six.ip().is_unicast_link_local());
    }
    (ipv4, ipv6)
}

/// Whether the system's resolver answers at all: a name that does not exist (RFC 6761 section 6.4) is answered by every one that works. None where there is
/// nothing to ask.
pub async fn names_can_be_looked_up() -> Option<bool> {
    let resolver = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if !resolver.lines().any(|line| line.trim_start().starts_with("nameserver")) {
        return None;
    }
    let asked = tokio::net::lookup_host(("consort.invalid", 0));
    match tokio::time::timeout(LOOKUP_WITHIN, asked).await {
        Ok(Ok(_)) => Some(true),
        // "Name or service not known" is an answer; "Temporary failure in name resolution" is none.
        Ok(Err(error)) => Some(!error.to_string().to_lowercase().contains("temporary failure")),
        Err(_) => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_come_out_as_they_went_in_and_nothing_else_does() {
        for ask in [Ask::Side, Ask::Explain { to: HostId::random() }] {
            let bytes = ask.encode();
            assert!(bytes.len() <= REQUEST_BYTES_MAX);
            assert_eq!(Ask::decode(&bytes), Some(ask));
            assert_eq!(Ask::decode(&[&bytes[..], &[0]].concat()), None);
            assert_eq!(Ask::decode(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn what_the_system_says_of_an_address_becomes_a_cause() {
        for (said, cause) in [
            ("Connection refused (os error 111)", ControlFailure::ConnectionRefused),
            ("Network is unreachable (os error 101)", ControlFailure::NetworkUnreachable),
            ("No route to host (os error 113)", ControlFailure::NoAnswer),
            ("Handshake with the remote timed out", ControlFailure::NoAnswer),
        ] {
            assert_eq!(unreachable(said), cause, "{said}");
        }
    }
}
