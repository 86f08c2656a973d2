//! As many connections as allowed, and one per pair of hosts.

use crate::world::{Node, config};
use consort_overlay::{Event, FailureReason, Limits, OverlayConfig, PeerState, Refusal, Transports};

#[tokio::test]
async fn above_its_connections_a_host_refuses_with_a_reason_both_sides_see() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let founder = Node::start(OverlayConfig { limits, ..config(Transports::Tcp) }).await;
    let first = Node::joined_to(&founder, config(Transports::Tcp)).await;
    // Admission itself is no connection that stays, so the second becomes a member and is refused as such.
    let second =
        Node::start(OverlayConfig { bootstrap: vec![founder.ticket().await], ..config(Transports::Tcp) })
            .await;
    let refusal = Refusal::Full;
    let peer = second.peer_until(founder.id(), "refused", |peer| {
        peer.failure
            .as_ref()
            .is_some_and(|failure| failure.reason == FailureReason::RefusedByPeer { refusal })
    });
    assert!(!matches!(peer.await.state, PeerState::Connected { .. }));
    let status = founder.overlay.status().await.unwrap();
    assert_eq!(status.connected, 1);
    assert!(status.counters.refused_here[&refusal] >= 1);
    assert!(founder.is_connected_to(first.id()).await);
}

/// Both know each other and dial at the same moment, again and again.
#[tokio::test]
async fn two_that_dial_each_other_at_once_end_up_with_one_connection() {
    for _ in 0..5 {
        let founder = Node::start(config(Transports::Both)).await;
        let mut left = Node::joined_to(&founder, config(Transports::Both)).await;
        let mut right = Node::joined_to(&founder, config(Transports::Both)).await;
        let (left_id, right_id) = (left.id(), right.id());
        left.until_record_of(right_id).await;
        right.until_record_of(left_id).await;
        let (one, other) = tokio::join!(left.overlay.connect(right_id), right.overlay.connect(left_id));
        one.unwrap().unwrap();
        other.unwrap().unwrap();
        left.until("up", |event| matches!(event, Event::PeerUp(host) if *host == right_id)).await;
        right.until("up", |event| matches!(event, Event::PeerUp(host) if *host == left_id)).await;
        for (node, peer) in [(&left, right_id), (&right, left_id)] {
            node.peer_until(peer, "connected", |peer| matches!(peer.state, PeerState::Connected { .. }))
                .await;
        }
    }
}
