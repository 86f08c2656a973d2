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
