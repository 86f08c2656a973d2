//! Grants open channels, and only they.

use std::time::Duration;

use super::{
    super::{route::SendState, *},
    world::*,
};
use crate::{offload::Checksum, wire::control::GrantRefusal};

#[test]
fn a_refused_grant_opens_nothing_either_way() {
    let mut world = World::pair(12);
    world.hosts[0].accepts = None;
    world.run(Duration::from_secs(5));
    assert!(!world.open(0, 1) && !world.open(1, 0));
    assert!(
        world.hosts[1]
            .events
            .iter()
            .any(|event| { matches!(event, Event::ChannelRefused { reason: GrantRefusal::Invalid, .. }) })
    );
    assert!(!world.frame(1, 0, b"in") && !world.frame(0, 1, b"out"));
    world.run(Duration::from_secs(5));
    assert!(world.hosts[0].received.is_empty() && world.hosts[1].received.is_empty());
    assert!(world.counts(1, 0).no_grant_sent > 0);
    // Node learns better: the channel opens without anybody asking for it.
    world.hosts[0].accepts = Some(Duration::from_secs(600));
    world.until("the channel", 60, World::both_open);
}

/// A peer that goes on sending on a channel whose time is over: its frames are dropped and counted.
#[test]
fn a_channel_that_is_not_renewed_ends_by_itself() {
    let mut world = World::pair(13);
    world.hosts[0].accepts = Some(Duration::from_secs(20));
    world.until("the channel", 5, World::both_open);
    world.hosts[0].accepts = None;
    let stale = Arc::clone(&world.hosts[1].routes.peers[&world.hosts[0].peer]);
    world.run(Duration::from_secs(25));
    assert!(!world.open(1, 0) && !world.open(0, 1));
    let Some(SendState::Open { channel, .. }) = stale.send_channel(NETWORK).map(|channel| channel.state)
    else {
        panic!("it was open")
    };
    let current = Arc::clone(&world.hosts[1].routes.peers[&world.hosts[0].peer]);
    let mut wire = Wire::default();
    let egress = &mut world.hosts[1].egress;
    let counter = Egress::reserve(&current, 1).unwrap().start;
    egress.whole(&current, channel, Checksum::Complete, counter, &mut b"....sneak".clone(), &mut wire);
    egress.flush(&mut wire);
    let before = world.counts(0, 1).no_grant_received;
    let from = world.hosts[1].address;
    for (_, datagram) in wire.0 {
        world.arrive(0, from, datagram);
    }
    assert!(world.hosts[0].received.is_empty());
    assert_eq!(world.counts(0, 1).no_grant_received, before + 1);
}

#[test]
fn a_channel_is_renewed_while_node_accepts_it() {
    let mut world = World::pair(14);
    world.hosts[0].accepts = Some(Duration::from_secs(10));
    world.hosts[1].accepts = Some(Duration::from_secs(10));
    world.until("the channel", 5, World::both_open);
    for _ in 0..600 {
        assert!(world.both_open(), "at {:?}", world.now - world.start);
        world.run(Duration::from_millis(100));
    }
}

#[test]
fn a_host_that_is_no_member_any_more_has_no_channel() {
    let mut world = World::pair(20);
    world.until("the channel", 5, World::both_open);
    let now = world.now;
    let peer = world.hosts[1].peer;
    world.hosts[0].links.keep_members(now, NETWORK, &BTreeSet::from([peer]));
    assert!(world.both_open(), "a member keeps it");
    world.hosts[0].links.keep_members(now, NETWORK, &BTreeSet::new());
    world.run(Duration::from_secs(1));
    assert!(!world.open(0, 1) && !world.open(1, 0));
}
