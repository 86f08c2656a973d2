//! Which members the data plane asks what they see of this host.

use std::collections::BTreeMap;

use consort_overlay::{Direction, HostId, PeerState, PeerStatus};
use consort_vswitch::path::NatKind;

use super::Known;

/// Members that are asked: two tell kinds of NAT apart, two more may be out of reach.
const OBSERVERS_MAX: usize = 4;

/// The best first: those with an address of their own before those behind something, those this host has dialled before those that came to it. What was
/// chosen before has no preference, and the order is that of names, so the choice is steady while the connections are.
pub(super) fn choose(peers: &[PeerStatus], known: &BTreeMap<HostId, Known>) -> Vec<HostId> {
    let mut fit: Vec<(u8, bool, HostId)> = peers
        .iter()
        .filter_map(|peer| {
            let PeerState::Connected { direction, .. } = peer.state else { return None };
            // Over a stream it would see a socket of its own.
            let known = known.get(&peer.host).filter(|known| known.stream.is_none())?;
            let openness = match known.whereabouts.nat.kind {
                NatKind::None => 0,
                NatKind::Unknown => 1,
                NatKind::EndpointIndependent => 2,
                NatKind::AddressDependent | NatKind::AddressAndPortDependent => 3,
                // Answers nobody.
                NatKind::Blocked => return None,
            };
            Some((openness, direction == Direction::Inbound, peer.host))
        })
        .collect();
    fit.sort_unstable();
    fit.truncate(OBSERVERS_MAX);
    fit.into_iter().map(|(.., host)| host).collect()
}

#[cfg(test)]
mod tests {
    use consort_overlay::{Transport, UnixSeconds};
    use consort_scheduler::bounded::List;
    use consort_vswitch::path::NatView;

    use super::*;
    use crate::glue::meet::whereabouts::Whereabouts;

    fn peer(host: HostId, direction: Direction) -> PeerStatus {
        let state = PeerState::Connected {
            address: "192.0.2.1:7440".parse().unwrap(),
            transport: Transport::Quic,
            direction,
            since: UnixSeconds(0),
            round_trip: None,
        };
        PeerStatus { host, state, addresses: Vec::new(), last_seen: None, failure: None }
    }

    fn known(kind: NatKind) -> Known {
        let nat = NatView { kind, ..NatView::default() };
        let whereabouts = Whereabouts { data_key: [0; 32], candidates: List::new(), nat, relays: false };
        Known { whereabouts, via: Vec::new(), stream: None }
    }

    #[test]
    fn observers_are_those_that_can_answer_and_bootstrap_peers_first() {
        let hosts: Vec<HostId> = (0..6).map(|_| HostId::random()).collect();
        let kinds = [
            NatKind::AddressAndPortDependent,
            NatKind::Blocked,
            NatKind::None,
            NatKind::None,
            NatKind::EndpointIndependent,
            NatKind::Unknown,
        ];
        let all: BTreeMap<HostId, Known> =
            hosts.iter().zip(kinds).map(|(host, kind)| (*host, known(kind))).collect();
        let mut peers: Vec<PeerStatus> = hosts.iter().map(|host| peer(*host, Direction::Inbound)).collect();
        peers[3] = peer(hosts[3], Direction::Outbound);
        peers.push(peer(HostId::random(), Direction::Outbound));
        let chosen = choose(&peers, &all);
        assert_eq!(
            chosen,
            [hosts[3], hosts[2], hosts[5], hosts[4]],
            "none blocked, none of which nothing is known"
        );
        peers[3].state = PeerState::Dialling;
        assert_eq!(choose(&peers, &all)[..2], [hosts[2], hosts[5]]);
    }
}
