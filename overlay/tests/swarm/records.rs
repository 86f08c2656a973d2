//! Records: who knows whom, and for how long.

use crate::world::{ECHO, MovedClock, Node, config, moved_clock};
use consort_overlay::{
    Event, HostId, OverlayConfig, PAYLOAD_BYTES_MAX, PublishError, RECORD_LIFETIME, Transports,
};
use std::sync::Arc;

async fn waits_for_payload(node: &mut Node, host: HostId, payload: &[u8]) {
    loop {
        if node.overlay.record(host).await.unwrap().is_some_and(|record| record.payload == payload) {
            return;
        }
        node.until(
            "a changed record",
            |event| matches!(event, Event::RecordChanged(changed) if *changed == host),
        )
        .await;
    }
}

#[tokio::test]
async fn what_a_host_publishes_reaches_those_it_never_told() {
    let founder = Node::start(config(Transports::Both)).await;
    let first = Node::joined_to(&founder, config(Transports::Both)).await;
    first.overlay.publish_record(b"first".to_vec()).await.unwrap();
    let mut second = Node::joined_to(&founder, config(Transports::Both)).await;
    waits_for_payload(&mut second, first.id(), b"first").await;
    let record = second.overlay.record(first.id()).await.unwrap().unwrap();
    assert_eq!(record.addresses, first.overlay.listen_addrs());
    first.overlay.publish_record(b"changed".to_vec()).await.unwrap();
    waits_for_payload(&mut second, first.id(), b"changed").await;
    assert!(second.overlay.view().await.unwrap().iter().any(|record| record.host == first.id()));
    assert_eq!(second.overlay.record(second.id()).await.unwrap().unwrap().host, second.id());
}

#[tokio::test]
async fn a_description_above_the_size_is_refused() {
    let alone = Node::start(config(Transports::Both)).await;
    let refused = alone.overlay.publish_record(vec![0; PAYLOAD_BYTES_MAX + 1]).await;
    assert_eq!(refused, Err(PublishError::TooLarge(PAYLOAD_BYTES_MAX + 1)));
    alone.overlay.publish_record(vec![0; PAYLOAD_BYTES_MAX]).await.unwrap();
}

/// All share one clock, so that its move makes no other record invalid.
fn clocked(clock: &Arc<MovedClock>) -> OverlayConfig {
    OverlayConfig { clock: Arc::<MovedClock>::clone(clock), ..config(Transports::Both) }
}

#[tokio::test]
async fn the_record_of_a_host_that_is_gone_expires_and_those_of_others_are_renewed() {
    let mut founding = config(Transports::Both);
    let clock = moved_clock(&mut founding);
    let mut founder = Node::start(founding).await;
    let gone = Node::joined_to(&founder, clocked(&clock)).await;
    let stays = Node::joined_to(&founder, clocked(&clock)).await;
    gone.overlay.publish_record(b"gone".to_vec()).await.unwrap();
    stays.overlay.publish_record(b"stays".to_vec()).await.unwrap();
    waits_for_payload(&mut founder, gone.id(), b"gone").await;
    waits_for_payload(&mut founder, stays.id(), b"stays").await;
    let id = gone.id();
    gone.overlay.shutdown().await;
    clock.advance(RECORD_LIFETIME);
    loop {
        founder.until("a changed record", |event| matches!(event, Event::RecordChanged(_))).await;
        let view = founder.overlay.view().await.unwrap();
        if view.iter().all(|record| record.host != id) && view.iter().any(|record| record.host == stays.id())
        {
            break;
        }
    }
}

/// Nobody tells everybody: exchanges do.
#[tokio::test]
async fn all_of_ten_members_come_to_know_each_other() {
    let founder = Node::start(config(Transports::Both)).await;
    let mut all = vec![founder];
    for _ in 1..10 {
        let joined = Node::joined_to(&all[0], config(Transports::Both)).await;
        all.push(joined);
    }
    let hosts: Vec<HostId> = all.iter().map(Node::id).collect();
    for node in &mut all {
        let own = node.id();
        for host in hosts.iter().filter(|host| **host != own) {
            node.until_record_of(*host).await;
        }
        assert_eq!(node.overlay.members().await.unwrap().len(), 10);
    }
}

/// The caller has neither a record nor an address of the host it calls: the routing tables of others do.
#[tokio::test]
async fn a_host_without_a_record_is_found_through_others() {
    let mut founder = Node::start(config(Transports::Both)).await;
    let member = Node::joined_to(&founder, config(Transports::Both)).await;
    let sought = Node::joined_to(&founder, config(Transports::Both)).await;
    let id = sought.id();
    founder.until_record_of(id).await;
    let _sought = sought.echo();
    // Whether the record or the search is faster, the call must arrive.
    assert_eq!(member.overlay.call(id, ECHO.name, b"found".to_vec()).await, Ok(b"found".to_vec()));
}
