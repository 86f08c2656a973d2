//! Coming back without a ticket.

use crate::world::{Node, config, config_of};
use consort_overlay::{Event, Keypair, OverlayConfig, PeerState, StartError, Transports};

#[tokio::test]
async fn a_restarted_member_rejoins_without_a_ticket() {
    for transports in [Transports::Quic, Transports::Tcp] {
        let founder = Node::start(config(transports)).await;
        let member = Node::joined_to(&founder, config(transports)).await;
        let (id, keypair, state) = (member.id(), member.keypair.clone(), member.state().await);
        let overlay = member.overlay.membership().unwrap().overlay;
        member.overlay.shutdown().await;
        let mut again = Node::start(OverlayConfig { state, ..config_of(keypair, transports) }).await;
        assert_eq!((again.id(), again.overlay.membership().unwrap().overlay), (id, overlay));
        again
            .until("connected again", |event| matches!(event, Event::PeerUp(host) if *host == founder.id()))
            .await;
    }
}

#[tokio::test]
async fn members_find_a_restarted_founder_again() {
    let founder = Node::start(config(Transports::Both)).await;
    let mut member = Node::joined_to(&founder, config(Transports::Both)).await;
    let (id, keypair, state) = (founder.id(), founder.keypair.clone(), founder.state().await);
    let listen = founder.overlay.listen_addrs().to_vec();
    founder.overlay.shutdown().await;
    member.until("gone", |event| matches!(event, Event::PeerDown(host) if *host == id)).await;
    let again =
        Node::start_again(OverlayConfig { state, listen, ..config_of(keypair, Transports::Both) }).await;
    again
        .peer_until(member.id(), "connected", |peer| matches!(peer.state, PeerState::Connected { .. }))
        .await;
}

#[tokio::test]
async fn a_peer_that_is_gone_is_listed_with_the_cause_and_tried_again() {
    let founder = Node::start(config(Transports::Both)).await;
    let mut member = Node::joined_to(&founder, config(Transports::Both)).await;
    let id = founder.id();
    founder.overlay.shutdown().await;
    member.until("gone", |event| matches!(event, Event::PeerDown(host) if *host == id)).await;
    let peer = member.peer_until(id, "failed again", |peer| {
        peer.failure.as_ref().is_some_and(|failure| failure.attempts >= 2)
    });
    assert!(matches!(peer.await.state, PeerState::Down { .. } | PeerState::Dialling));
}

/// One bit of one signature in the kept chain: the file was damaged or changed.
#[tokio::test]
async fn a_state_whose_chain_was_changed_is_refused() {
    let founder = Node::start(config(Transports::Both)).await;
    let mut state = serde_json::to_value(founder.state().await).unwrap();
    let byte = &mut state["membership"]["chain"][60];
    *byte = serde_json::json!(byte.as_u64().unwrap() ^ 1);
    let state = serde_json::from_value(state).unwrap();
    let changed = OverlayConfig { state, ..config_of(founder.keypair.clone(), Transports::Both) };
    assert!(matches!(Node::try_start(changed).await.err(), Some(StartError::ForeignState)));
}

#[tokio::test]
async fn a_state_of_another_host_is_refused() {
    let founder = Node::start(config(Transports::Both)).await;
    let state = founder.state().await;
    let thief = OverlayConfig { state, ..config_of(Keypair::generate(), Transports::Both) };
    assert!(matches!(Node::try_start(thief).await.err(), Some(StartError::ForeignState)));
}

/// The other is gone for good: nobody could have told of it.
#[tokio::test]
async fn records_that_were_kept_are_known_before_anybody_is_connected() {
    let founder = Node::start(config(Transports::Both)).await;
    let mut member = Node::joined_to(&founder, config(Transports::Both)).await;
    let id = founder.id();
    founder.overlay.publish_record(b"here I am".to_vec()).await.unwrap();
    member.until("heard", |event| matches!(event, Event::RecordChanged(host) if *host == id)).await;
    let view = member.overlay.view().await.unwrap();
    let records = view.iter().map(|record| record.bytes().to_vec()).collect();
    let (keypair, state) = (member.keypair.clone(), member.state().await);
    member.overlay.shutdown().await;
    founder.overlay.shutdown().await;
    let again = Node::start(OverlayConfig { state, records, ..config_of(keypair, Transports::Both) }).await;
    assert_eq!(again.overlay.view().await.unwrap().len(), view.len());
    assert!(again.overlay.members().await.unwrap().iter().any(|member| member.host == id));
}

#[tokio::test]
async fn a_kept_record_that_was_damaged_is_left_out() {
    let mut founder = Node::start(config(Transports::Both)).await;
    let member = Node::joined_to(&founder, config(Transports::Both)).await;
    let id = member.id();
    founder.until("heard", |event| matches!(event, Event::RecordChanged(host) if *host == id)).await;
    let view = founder.overlay.view().await.unwrap();
    let mut records: Vec<Vec<u8>> = view.iter().map(|record| record.bytes().to_vec()).collect();
    for record in &mut records {
        record[40] ^= 1;
    }
    let (keypair, state) = (founder.keypair.clone(), founder.state().await);
    founder.overlay.shutdown().await;
    member.overlay.shutdown().await;
    let again = Node::start(OverlayConfig { state, records, ..config_of(keypair, Transports::Both) }).await;
    assert!(again.overlay.view().await.unwrap().is_empty());
}
