//! The data plane's part: the link, the ways that were tried, in the words of [`crate::why`].

use consort_scheduler::bounded::List;
use consort_vswitch::path::{CandidateKind as Kind, NatKind, PathResult, PathView, PeerPaths, TriedPath};
use consort_vswitch::{LinkDownReason, LinkSnapshot, LinkState};

use crate::why::facts::ATTEMPTS_MAX;
use crate::why::{Attempt, CandidateKind, LinkFact, Nat, Outcome, Path, RelayAttempt, RelayOutcome};

/// Something authenticated that came within this is "lately": longer than between two meetings of hosts that find no way, in each of which both probe.
const LATELY_MS: u64 = 40_000;

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

/// A relay that gave a leg through which nothing comes.
pub(super) fn mark_silent(relays: &mut [RelayAttempt], paths: Option<&PeerPaths>) {
    let Some(paths) = paths else { return };
    for attempt in relays.iter_mut().filter(|attempt| attempt.outcome == RelayOutcome::Ready) {
        let is_its = |tried: &&TriedPath| matches!(tried.path, PathView::Relay { relay, .. } if relay == attempt.relay);
        let is_silent = |tried: &TriedPath| tried.result == PathResult::Unanswered;
        if paths.tried.iter().find(is_its).is_some_and(is_silent) {
            attempt.outcome = RelayOutcome::Silent;
        }
    }
}

pub(super) fn link_fact(link: Option<&LinkSnapshot>, paths: Option<&PeerPaths>) -> LinkFact {
    let Some(link) = link else { return LinkFact::NONE };
    let is_wanted = is_wanted(link.state);
    let tried = paths.map(|paths| &paths.tried[..]).unwrap_or_default();
    let chosen = paths.and_then(|paths| paths.chosen.as_ref());
    let way = path(chosen);
    // A link says that it is gone after some seconds of silence; that its way does not answer is known before.
    let answers = |tried: &TriedPath| Some(&tried.path) == chosen && tried.result == PathResult::Alive;
    let up = link.state == LinkState::Up && tried.iter().any(answers);
    // What came through a relay or a stream says nothing of the way between the two.
    let is_heard = tried
        .iter()
        .filter(|tried| path(Some(&tried.path)) == Path::Direct)
        .any(|tried| tried.heard_millis_ago.is_some_and(|ago| ago <= LATELY_MS));
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
        heard: up && way == Path::Direct || is_heard,
        key_refused: !up && is_wanted && link.counts.handshakes_forged > 0,
        roamed: clamp(link.counts.roamed),
        session_seconds: link.session_seconds,
        grants_refused: few(link.channels.iter().filter(|channel| channel.outbound == "refused").count()),
        searching: !up && is_wanted && tried.iter().any(|tried| tried.result == PathResult::Probing),
        search_spent: paths.is_some_and(|paths| paths.search.searches > 0) && way != Path::Direct,
    }
}

pub(super) fn few(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1000")]
fn permille(part: f64) -> u16 {
    (part * 1_000.0).clamp(0.0, 1_000.0) as u16
}

fn clamp(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(super) fn tried(paths: Option<&PeerPaths>) -> List<Attempt, ATTEMPTS_MAX> {
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
