//! The control connection to a host: what stands, or why nothing does.

use consort_overlay::{
    FailureReason, HostId, Knock, OverlayStatus, PeerState, PeerStatus, Refusal, RefusedHost, Transport,
};

use crate::why::{Control, ControlFailure};

/// What the overlay and, where the host did not answer, a knock at its door say of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// This host: two homes may use the same private addresses, so that a host finds itself at another's.
    pub(super) me: HostId,
    pub(super) peer: Option<&'a PeerStatus>,
    pub(super) refused: Option<&'a RefusedHost>,
    pub(super) knock: Option<Knock>,
}

impl<'a> Known<'a> {
    pub(super) fn of(
        me: HostId,
        host: HostId,
        peers: &'a [PeerStatus],
        status: Option<&'a OverlayStatus>,
        knock: Option<Knock>,
    ) -> Self {
        let refused = status.and_then(|status| status.refused.iter().find(|refused| refused.host == host));
        Self { me, peer: peers.iter().find(|peer| peer.host == host), refused, knock }
    }

    /// The connection, and whether it was the other that refused this host.
    pub(super) fn control(self) -> (Control, bool) {
        let is_knocked_at = self.knock.is_some_and(|knock| knock != Knock::NoAddress);
        if let Some(PeerStatus { state: PeerState::Connected { transport, round_trip, .. }, .. }) = self.peer
            && !is_knocked_at
        {
            let micros = round_trip.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
            let control =
                Control::Connected { quic: *transport == Transport::Quic, round_trip_micros: micros };
            return (control, false);
        }
        let (failure, by_other) = self.failure();
        (Control::Failed(failure), by_other)
    }

    fn failure(self) -> (ControlFailure, bool) {
        let dialled = self.peer.and_then(|peer| peer.failure.as_ref()).map(|failure| &failure.reason);
        let came = self.refused.map(|refused| &refused.failure.reason);
        // Whoever was reached and said why is believed before a port that is open or closed.
        let said = [dialled, came].into_iter().flatten().find_map(|reason| self.of_membership(reason));
        if let Some(said) = said {
            return said;
        }
        let knocked = match self.knock {
            Some(Knock::Refused) => Some(ControlFailure::ConnectionRefused),
            Some(Knock::NoWay) => Some(ControlFailure::NetworkUnreachable),
            Some(Knock::Silent) => Some(ControlFailure::NoAnswer),
            Some(Knock::Other(_)) => Some(ControlFailure::WrongIdentity),
            Some(Knock::Foreign) => Some(ControlFailure::Version),
            Some(Knock::Answered) => Some(ControlFailure::Unresponsive),
            // Whoever is searched for in vain is in the table, too.
            Some(Knock::NoAddress) => Some(ControlFailure::NoAddress),
            None => None,
        };
        let told = match (self.peer, dialled) {
            (None, _) => ControlFailure::NoAddress,
            (Some(_), None) => ControlFailure::NotTried,
            (Some(_), Some(reason)) => of_dial(reason),
        };
        (knocked.unwrap_or(told), false)
    }

    /// What somebody who was reached said of a membership.
    fn of_membership(self, reason: &FailureReason) -> Option<(ControlFailure, bool)> {
        match reason {
            FailureReason::RefusedByPeer { refusal } => refused(*refusal).map(|failure| (failure, true)),
            FailureReason::RefusedHere { refusal } => refused(*refusal).map(|failure| (failure, false)),
            FailureReason::WrongIdentity { found } if *found != self.me => {
                Some((ControlFailure::WrongIdentity, false))
            }
            _ => None,
        }
    }
}

fn of_dial(reason: &FailureReason) -> ControlFailure {
    match reason {
        FailureReason::NoAddress => ControlFailure::NoAddress,
        FailureReason::Unreachable { detail } => unreachable(detail),
        FailureReason::Timeout | FailureReason::WrongIdentity { .. } => ControlFailure::NoAnswer,
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

fn refused(refusal: Refusal) -> Option<ControlFailure> {
    match refusal {
        Refusal::Malformed => Some(ControlFailure::Version),
        Refusal::OtherOverlay => Some(ControlFailure::OtherOverlay),
        Refusal::Signature | Refusal::Holder | Refusal::Standing | Refusal::Claim => {
            Some(ControlFailure::Forged)
        }
        Refusal::Expired => Some(ControlFailure::Expired),
        Refusal::NotYet => Some(ControlFailure::FromTheFuture),
        Refusal::Revoked => Some(ControlFailure::Revoked),
        Refusal::Full | Refusal::TooDeep => Some(ControlFailure::Full),
        // The other connection stays, or the host is on its way in.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use consort_overlay::{Direction, Failure, UnixSeconds};

    use super::*;

    fn failed(reason: FailureReason) -> Option<Failure> {
        Some(Failure { reason, at: UnixSeconds(1), attempts: 1 })
    }

    fn down(reason: FailureReason) -> PeerStatus {
        PeerStatus {
            host: HostId::random(),
            state: PeerState::Down { retry_in: Duration::ZERO },
            addresses: Vec::new(),
            last_seen: None,
            failure: failed(reason),
        }
    }

    fn connected() -> PeerStatus {
        let state = PeerState::Connected {
            address: "192.0.2.1:7440".parse().unwrap(),
            transport: Transport::Quic,
            direction: Direction::Inbound,
            since: UnixSeconds(0),
            round_trip: None,
        };
        PeerStatus { state, failure: None, ..down(FailureReason::Timeout) }
    }

    fn control(peer: &PeerStatus, knock: Option<Knock>) -> (Control, bool) {
        Known { me: HostId::random(), peer: Some(peer), refused: None, knock }.control()
    }

    #[test]
    fn a_connection_that_stands_is_believed_until_the_door_is_knocked_at() {
        let standing = (Control::Connected { quic: true, round_trip_micros: None }, false);
        assert_eq!(control(&connected(), None), standing);
        assert_eq!(control(&connected(), Some(Knock::NoAddress)), standing);
        for (knock, failure) in [
            (Knock::Refused, ControlFailure::ConnectionRefused),
            (Knock::Silent, ControlFailure::NoAnswer),
            (Knock::NoWay, ControlFailure::NetworkUnreachable),
            (Knock::Other(HostId::random()), ControlFailure::WrongIdentity),
            (Knock::Answered, ControlFailure::Unresponsive),
        ] {
            assert_eq!(control(&connected(), Some(knock)), (Control::Failed(failure), false));
        }
    }

    #[test]
    fn what_was_said_at_the_door_goes_before_whether_it_is_open_and_who_said_it_is_kept() {
        let refusal = Refusal::Revoked;
        let by_other = down(FailureReason::RefusedByPeer { refusal });
        let here = down(FailureReason::RefusedHere { refusal });
        let revoked = Control::Failed(ControlFailure::Revoked);
        assert_eq!(control(&by_other, Some(Knock::Answered)), (revoked, true));
        assert_eq!(control(&here, Some(Knock::Answered)), (revoked, false));
        // It came by itself and was not let in, while a connection to its former life still seems to stand.
        let peer = connected();
        let reason = FailureReason::RefusedHere { refusal: Refusal::Expired };
        let refused = RefusedHost { host: peer.host, address: None, failure: failed(reason).unwrap() };
        let me = HostId::random();
        let known = Known { me, peer: Some(&peer), refused: Some(&refused), knock: Some(Knock::Answered) };
        assert_eq!(known.control(), (Control::Failed(ControlFailure::Expired), false));
    }

    #[test]
    fn a_host_that_was_only_searched_for_has_no_address() {
        let searched = PeerStatus { failure: None, ..down(FailureReason::Timeout) };
        let nowhere = (Control::Failed(ControlFailure::NoAddress), false);
        assert_eq!(control(&searched, Some(Knock::NoAddress)), nowhere);
    }

    #[test]
    fn a_host_that_finds_itself_at_the_others_address_has_found_nobody() {
        let me = HostId::random();
        let nobody = (Control::Failed(ControlFailure::NoAnswer), false);
        let dialled = down(FailureReason::WrongIdentity { found: me });
        assert_eq!(Known { me, peer: Some(&dialled), refused: None, knock: None }.control(), nobody);
        let other = down(FailureReason::WrongIdentity { found: HostId::random() });
        let wrong = (Control::Failed(ControlFailure::WrongIdentity), false);
        assert_eq!(Known { me, peer: Some(&other), refused: None, knock: None }.control(), wrong);
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
