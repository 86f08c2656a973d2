//! The questions rules ask of the facts.

use crate::why::facts::{
    CandidateKind, Control, ControlFailure, Facts, Nat, Outcome, Path, RelayOutcome, Side,
};

/// Loss worth a word: TCP halves its rate well below it, radio links often stand at a fraction of it.
const LOSS_PERMILLE: u16 = 20;

pub(super) fn far(facts: &Facts, holds: impl Fn(&Side) -> bool) -> bool {
    facts.far.as_ref().is_some_and(holds)
}

pub(super) fn dead(facts: &Facts) -> bool {
    !facts.same && facts.path() == Path::None
}

pub(super) fn detour(facts: &Facts) -> bool {
    !facts.same && facts.path() != Path::Direct
}

/// No relay carries datagrams; a stream of the control plane may.
pub(super) fn unrelayed(facts: &Facts) -> bool {
    !facts.same && matches!(facts.path(), Path::None | Path::RelayStream)
}

/// What is known of the NATs lets no direct path be found.
pub(super) fn needs_relay(facts: &Facts) -> bool {
    let both = facts.near.nat.is_hard() && facts.far.as_ref().is_none_or(|far| far.nat.is_hard());
    both || one_hard(facts) && facts.near.link.search_spent
}

/// No datagram comes back, and it is not only the data port.
pub(super) fn udp_blocked(side: &Side) -> bool {
    // The data plane says so after a minute; before it, that nothing answers, and that no connection is over UDP though that is tried first.
    let silent = side.nat == Nat::Unknown && side.observed.is_empty() && tried_in_vain(side);
    let by_stream = side.link.up && side.link.path == Path::RelayStream;
    let said = side.nat == Nat::Blocked || side.members_connected > 0 && (silent || by_stream);
    !side.quic_somewhere && said
}

/// No datagram comes back to the data port, though UDP passes elsewhere.
pub(super) fn data_port_blocked(side: &Side) -> bool {
    side.nat == Nat::Blocked && side.quic_somewhere
}

pub(super) fn wanted(facts: &Facts) -> bool {
    facts.near.link.wanted || far(facts, |far| far.link.wanted)
}

pub(super) fn failure(side: &Side) -> Option<ControlFailure> {
    match side.control {
        Control::Connected { .. } => None,
        Control::Failed(failure) => Some(failure),
    }
}

pub(super) fn control_failed(side: &Side) -> bool {
    failure(side).is_some()
}

pub(super) fn is_connected(side: &Side) -> bool {
    failure(side).is_none()
}

/// Whose membership was refused: of a refusal that both know, this end's word counts.
pub(super) fn is_about_near(facts: &Facts) -> bool {
    let is_refusal = |side: &Side| {
        use ControlFailure::{Expired, Forged, FromTheFuture, Revoked};
        matches!(failure(side), Some(Expired | Forged | FromTheFuture | Revoked))
    };
    if is_refusal(&facts.near) {
        return facts.near.refused_by_other;
    }
    far(facts, |far| is_refusal(far) && !far.refused_by_other)
}

/// Either end's word: what one is refused with, the other may not know.
pub(super) fn any_control(facts: &Facts, wanted: ControlFailure) -> bool {
    failure(&facts.near) == Some(wanted) || far(facts, |far| failure(far) == Some(wanted))
}

/// Of the relays that either end has asked, one said so and none is ready: an end whose link stood before it had to ask knows of none.
pub(super) fn any_relay(facts: &Facts, outcome: RelayOutcome) -> bool {
    let any = |wanted: RelayOutcome| {
        [Some(&facts.near), facts.far.as_ref()]
            .into_iter()
            .flatten()
            .flat_map(|side| side.relays.iter())
            .any(|relay| relay.outcome == wanted)
    };
    any(outcome) && !any(RelayOutcome::Ready)
}

pub(super) fn clock_difference(facts: &Facts) -> u64 {
    facts.far.as_ref().map_or(0, |far| far.unix_seconds.abs_diff(facts.near.unix_seconds))
}

pub(super) fn nothing_known(facts: &Facts) -> bool {
    facts.near.record_age_s.is_none()
        && facts.far.is_none()
        && matches!(failure(&facts.near), Some(ControlFailure::NoAddress))
}

/// Something was tried, and nothing answered.
pub(super) fn tried_in_vain(side: &Side) -> bool {
    let answered = side.tried.iter().any(|attempt| attempt.outcome == Outcome::Answered);
    let failed = side.tried.iter().any(|attempt| attempt.outcome == Outcome::Silent);
    let control = matches!(failure(side), Some(ControlFailure::NoAnswer | ControlFailure::Lost));
    !answered && (failed || control)
}

pub(super) fn waiting(side: &Side) -> bool {
    side.tried.iter().any(|attempt| attempt.outcome == Outcome::Waiting)
}

pub(super) fn families_differ(near: &Side, far: &Side) -> bool {
    !(near.has_ipv4 && far.has_ipv4 || near.has_ipv6 && far.has_ipv6)
}

pub(super) fn share_outside(near: &Side, far: &Side) -> bool {
    let inside = |side: &Side| side.nat != Nat::None;
    inside(near)
        && inside(far)
        && near.observed.iter().any(|here| far.observed.iter().any(|there| here.ip() == there.ip()))
}

pub(super) fn locals_silent(side: &Side) -> bool {
    let mut locals = side.tried.iter().filter(|attempt| attempt.kind == CandidateKind::Local).peekable();
    locals.peek().is_some() && locals.all(|attempt| attempt.outcome == Outcome::Silent)
}

pub(super) fn one_hard(facts: &Facts) -> bool {
    facts.near.nat.is_hard() != far(facts, |far| far.nat.is_hard())
}

pub(super) fn worst_loss(facts: &Facts) -> u16 {
    facts.near.link.loss_permille.max(facts.far.as_ref().map_or(0, |far| far.link.loss_permille))
}

/// How often an address changed, and whether it was this end's: each end sees the other's changes.
pub(super) fn roamed(facts: &Facts) -> (u32, bool) {
    let (far_moved, near_moved) =
        (facts.near.link.roamed, facts.far.as_ref().map_or(0, |far| far.link.roamed));
    (far_moved.max(near_moved), near_moved > far_moved)
}

pub(super) fn lossy(facts: &Facts) -> bool {
    worst_loss(facts) >= LOSS_PERMILLE
}

pub(super) fn used_kind(facts: &Facts) -> Option<CandidateKind> {
    let address = facts.near.link.address?;
    facts.near.tried.iter().find(|attempt| attempt.address == address).map(|attempt| attempt.kind)
}

pub(super) fn is_private(facts: &Facts) -> bool {
    facts.near.link.address.is_some_and(|address| match address.ip() {
        std::net::IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        std::net::IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    })
}
