//! The rules of the table of peers and of dialling.

use super::{schedule::*, *};
use crate::{
    protocol::member::Refusal,
    testing::{NOW, chain, seeded},
};
use proptest::prelude::*;

const T: Duration = Duration::from_secs(1000);

fn address(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], n))
}

fn connection(id: usize, direction: Direction) -> Connection {
    Connection {
        id: ConnectionId::new_unchecked(id),
        direction,
        transport: Transport::Quic,
        address: address(4001),
        since: NOW,
    }
}

fn failure() -> Failure {
    Failure { reason: FailureReason::Timeout, at: NOW, attempts: 1 }
}

fn with_peers(count: u16) -> (Peers, Vec<HostId>) {
    let mut peers = Peers::default();
    let hosts: Vec<HostId> = (0..count).map(|_| HostId::random()).collect();
    for (port, host) in (1..).zip(&hosts) {
        peers.learn(*host, &[address(port)]);
    }
    (peers, hosts)
}

#[test]
fn dials_are_few_at_once_and_stop_when_there_are_neighbours_enough() {
    let (mut peers, _) = with_peers(50);
    let mut rng = seeded(1);
    let first = peers.choose_dials(T, &mut rng);
    assert_eq!(first.len(), DIALS_MAX);
    assert_eq!(peers.choose_dials(T, &mut rng), []);
    for (id, (host, _)) in first.iter().enumerate() {
        peers.established(*host, connection(id, Direction::Outbound), chain(&[1]), T);
    }
    assert_eq!(peers.choose_dials(T, &mut rng).len(), NEIGHBOURS_WANTED - DIALS_MAX);
}

#[test]
fn a_failing_peer_is_tried_less_and_less_often() {
    let (mut peers, hosts) = with_peers(2);
    let mut rng = seeded(2);
    // One connection stands, so that the long backoff holds.
    peers.established(hosts[1], connection(1, Direction::Inbound), chain(&[1]), T);
    let mut now = T;
    let mut waits = Vec::new();
    for _ in 0..12 {
        let dialled_at = now;
        assert_eq!(peers.choose_dials(now, &mut rng).len(), 1);
        peers.failed(&hosts[0], failure(), now, &mut rng);
        while peers.choose_dials(now, &mut rng).is_empty() {
            now += Duration::from_millis(50);
        }
        peers.retry_now(&hosts[0]);
        waits.push(now - dialled_at);
    }
    for (attempt, wait) in waits.iter().enumerate() {
        let nominal = BACKOFF_MIN.saturating_mul(1 << attempt).min(BACKOFF_MAX);
        assert!(
            *wait >= nominal * 3 / 4 && *wait <= nominal * 5 / 4 + Duration::from_millis(50),
            "{attempt}: {wait:?}"
        );
    }
    assert_eq!(
        peers
            .statuses(now)
            .iter()
            .find(|peer| peer.host == hosts[0])
            .unwrap()
            .failure
            .as_ref()
            .unwrap()
            .attempts,
        12
    );
}

#[test]
fn who_is_alone_keeps_trying() {
    assert_eq!(backoff(30, true), BACKOFF_ALONE_MAX);
    assert_eq!(backoff(30, false), BACKOFF_MAX);
    assert_eq!(backoff(1, true), BACKOFF_MIN);
}

#[test]
fn who_is_asked_for_is_dialled_in_spite_of_its_backoff_but_not_in_a_storm() {
    let (mut peers, hosts) = with_peers(1);
    let mut rng = seeded(3);
    assert_eq!(peers.ask_for(&hosts[0], T), Reach::Dial(vec![address(1)]));
    assert_eq!(peers.ask_for(&hosts[0], T), Reach::Dialling);
    peers.failed(&hosts[0], failure(), T, &mut rng);
    assert_eq!(peers.ask_for(&hosts[0], T), Reach::Failed(FailureReason::Timeout));
    assert_eq!(peers.ask_for(&hosts[0], T + ASKED_AGAIN_MIN), Reach::Dial(vec![address(1)]));
    assert_eq!(peers.ask_for(&HostId::random(), T), Reach::Failed(FailureReason::NoAddress));
}

#[test]
fn a_second_connection_replaces_the_first() {
    let (mut peers, hosts) = with_peers(1);
    let mut rng = seeded(4);
    let id = ConnectionId::new_unchecked;
    assert_eq!(
        peers.established(hosts[0], connection(1, Direction::Outbound), chain(&[1]), T),
        Established::First
    );
    assert_eq!(
        peers.established(hosts[0], connection(2, Direction::Inbound), chain(&[1]), T),
        Established::Replaces(vec![id(1)])
    );
    assert!(!peers.closed(&hosts[0], id(1), failure(), T, &mut rng), "one still stands");
    assert!(peers.is_up(&hosts[0]));
    assert!(peers.closed(&hosts[0], id(2), failure(), T, &mut rng));
    assert!(!peers.is_up(&hosts[0]));
}

#[test]
fn the_address_that_worked_stays_first_when_others_are_learned() {
    let (mut peers, hosts) = with_peers(1);
    peers.established(hosts[0], connection(1, Direction::Outbound), chain(&[1]), T);
    peers.learn(hosts[0], &[address(7), address(8)]);
    assert_eq!(peers.addresses(&hosts[0]), [address(4001), address(7), address(8)]);
    peers.learn(hosts[0], &[]);
    assert_eq!(peers.addresses(&hosts[0]).len(), 3, "knowing nothing new forgets nothing");
}

#[test]
fn above_the_bound_the_longest_unused_connections_go() {
    let (mut peers, hosts) = with_peers(u16::try_from(NEIGHBOURS_MAX).unwrap() + 3);
    for (id, host) in hosts.iter().enumerate() {
        let at = T + Duration::from_secs(u64::try_from(id).unwrap());
        peers.established(*host, connection(id, Direction::Inbound), chain(&[1]), at);
    }
    let first = T + UNUSED_AFTER;
    assert_eq!(
        peers.choose_close(&[], |_| false, first - Duration::from_secs(1)),
        None,
        "none was unused for long"
    );
    assert_eq!(peers.choose_close(&[], |_| false, first), Some(hosts[0]));
    let later = first + Duration::from_secs(100);
    peers.used(&hosts[0], later);
    let mut rng = seeded(6);
    let mut closed = Vec::new();
    while let Some(host) = peers.choose_close(&[], |_| false, later) {
        for id in peers.connections(&host) {
            assert!(peers.closed(&host, id, failure(), later, &mut rng));
        }
        closed.push(host);
    }
    assert_eq!(closed, hosts[1..4], "no more than the surplus, and not the one that was used");
}

/// A host with so many connections, the first of them to a member through which the last leads.
fn with_connections(count: usize) -> (Peers, Vec<HostId>) {
    let (mut peers, hosts) = with_peers(u16::try_from(count).unwrap());
    for (id, host) in hosts.iter().enumerate() {
        let transport = if id + 1 == count { Transport::Relayed } else { Transport::Quic };
        let port = if id + 1 == count { 0 } else { u16::try_from(id).unwrap() };
        let connection =
            Connection { transport, address: address(port), ..connection(id, Direction::Inbound) };
        peers.established(*host, connection, chain(&[1]), T);
    }
    (peers, hosts)
}

#[test]
fn unused_connections_through_others_go_before_direct_ones_and_sooner() {
    let later = T + UNUSED_AFTER;
    for count in [NEIGHBOURS_WANTED, NEIGHBOURS_WANTED + 1, NEIGHBOURS_MAX + 1] {
        let (peers, hosts) = with_connections(count);
        let relayed = hosts[count - 1];
        let goes = peers.choose_close(&[], |_| false, later);
        assert_eq!(goes, (count > NEIGHBOURS_WANTED).then_some(relayed), "{count}");
    }
    let (peers, hosts) = with_connections(NEIGHBOURS_MAX + 1);
    let relayed = hosts[NEIGHBOURS_MAX];
    let goes = peers.choose_close(&[], |host| *host == relayed, later);
    assert_ne!(goes, Some(relayed), "it is kept");
    assert_ne!(goes, Some(hosts[0]), "the other one leads through it");
    let kept = peers.choose_close(&[], |host| *host == relayed || Some(*host) == goes, later);
    assert!(kept.is_some_and(|host| Some(host) != goes && host != hosts[0]));
}

#[test]
fn a_connection_is_used_as_long_as_a_stream_runs_over_it() {
    let (peers, hosts) = with_connections(NEIGHBOURS_WANTED + 1);
    let relayed = hosts[NEIGHBOURS_WANTED];
    let stream = peers.hold(&relayed);
    assert_eq!(peers.choose_close(&[], |_| false, T + 10 * UNUSED_AFTER), None);
    drop(stream);
    assert_eq!(peers.choose_close(&[], |_| false, T + 10 * UNUSED_AFTER), Some(relayed));
}

#[test]
fn connections_to_near_hosts_are_not_closed_and_three_of_the_nearest_are_wanted() {
    let (mut peers, hosts) = with_peers(u16::try_from(NEIGHBOURS_MAX).unwrap() + 5);
    let (near, far) = hosts.split_at(5);
    for (id, host) in hosts.iter().enumerate().skip(1) {
        peers.established(*host, connection(id, Direction::Inbound), chain(&[1]), T);
    }
    assert_eq!(peers.choose_close(&hosts, |_| false, T + UNUSED_AFTER), None);
    assert!(far.contains(&peers.choose_close(near, |_| false, T + UNUSED_AFTER).unwrap()));
    assert_eq!(peers.choose_near(near, T), [], "four of them are connected");
    let mut rng = seeded(8);
    for (id, host) in hosts.iter().enumerate().take(4).skip(1) {
        peers.closed(host, ConnectionId::new_unchecked(id), failure(), T, &mut rng);
    }
    let later = T + Duration::from_secs(10);
    let chosen: Vec<HostId> = peers.choose_near(near, later).into_iter().map(|(host, _)| host).collect();
    assert_eq!(chosen, hosts[..2], "with the one that is connected it is three, the nearest first");
    assert_eq!(peers.choose_near(near, later), [], "they are being dialled");
}

#[test]
fn who_was_put_out_is_listed_and_not_dialled_until_it_proves_itself_anew() {
    let (mut peers, hosts) = with_peers(1);
    let mut rng = seeded(5);
    let reason = FailureReason::RefusedHere { refusal: Refusal::Revoked };
    peers.bar(&hosts[0], &reason, NOW);
    assert_eq!(peers.choose_dials(T, &mut rng), []);
    assert_eq!(peers.ask_for(&hosts[0], T), Reach::Failed(reason.clone()));
    assert_eq!(peers.statuses(T)[0].failure.as_ref().unwrap().reason, reason);
    peers.established(hosts[0], connection(1, Direction::Inbound), chain(&[1]), T);
    assert_eq!(peers.ask_for(&hosts[0], T), Reach::Connected);
}

#[test]
fn those_met_last_are_kept_for_the_next_life() {
    let (mut peers, hosts) = with_peers(5);
    for (at, host) in (0..).zip(&hosts[..3]) {
        peers.restore(*host, &[address(9)], Some(UnixSeconds(at)));
    }
    let kept: Vec<HostId> = peers.worth_keeping(2).into_iter().map(|(host, ..)| host).collect();
    assert_eq!(kept, [hosts[2], hosts[1]], "those never met are not worth it");
}

#[derive(Debug, Clone)]
enum Step {
    Learn(usize),
    Dial,
    Establish(usize),
    Fail(usize),
    Close(usize),
    Ask(usize),
    Yield(usize),
    Bar(usize),
    Wait(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let host = 0usize..700;
    let step = prop_oneof![
        6 => host.clone().prop_map(Step::Learn),
        3 => Just(Step::Dial),
        2 => host.clone().prop_map(Step::Establish),
        2 => host.clone().prop_map(Step::Fail),
        1 => host.clone().prop_map(Step::Close),
        2 => host.clone().prop_map(Step::Ask),
        1 => host.clone().prop_map(Step::Yield),
        1 => host.prop_map(Step::Bar),
        1 => any::<u16>().prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..1500)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever happens in whatever order: the table keeps its bound, dials keep theirs, and a connected peer is never lost or dialled.
    #[test]
    fn no_sequence_of_events_breaks_a_bound(steps in steps(), seed: u64) {
        let hosts: Vec<HostId> = (0..700).map(|_| HostId::random()).collect();
        let (mut peers, mut rng, mut now) = (Peers::default(), seeded(seed), T);
        let mut asked = 0;
        let mut up = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Learn(n) => peers.learn(hosts[n], &[address(1)]),
                Step::Dial => {
                    for (host, addresses) in peers.choose_dials(now, &mut rng) {
                        prop_assert!(!up.contains(&host) && !addresses.is_empty());
                    }
                }
                // The door's own bound keeps connections below the table's.
                Step::Establish(n) if up.len() < 256 => {
                    peers.established(hosts[n], connection(n, Direction::Inbound), chain(&[1]), now);
                    up.insert(hosts[n]);
                }
                Step::Establish(_) => {}
                Step::Fail(n) => peers.failed(&hosts[n], failure(), now, &mut rng),
                Step::Close(n) => {
                    for id in peers.connections(&hosts[n]) {
                        peers.closed(&hosts[n], id, failure(), now, &mut rng);
                    }
                    up.remove(&hosts[n]);
                }
                Step::Ask(n) => {
                    if let Reach::Dial(_) = peers.ask_for(&hosts[n], now) {
                        asked += 1;
                        prop_assert!(!up.contains(&hosts[n]));
                    }
                }
                Step::Yield(n) => peers.yielded(&hosts[n], now, &mut rng),
                Step::Bar(n) => peers.bar(&hosts[n], &FailureReason::Timeout, NOW),
                Step::Wait(ms) => now += Duration::from_millis(u64::from(ms)),
            }
            prop_assert!(peers.peers.len() <= PEERS_MAX);
            prop_assert!(peers.dialling() <= DIALS_MAX + asked);
            prop_assert!(up.iter().all(|host| peers.is_up(host)));
            prop_assert_eq!(peers.connected(), up.len());
        }
    }
}
