//! Coming in, and being kept out.

use crate::world::{Node, config, config_of, moved_clock};
use consort_overlay::{
    Event, FailureReason, InviteOptions, JoinError, Keypair, OverlayConfig, OverlayState, PeerState, Refusal,
    StartError, TicketError, Transport, Transports,
};
use std::time::Duration;

async fn joins_over(transports: Transports, allowed: &[Transport]) {
    let founder = Node::start(config(transports)).await;
    let mut newcomer =
        Node::start(OverlayConfig { bootstrap: vec![founder.ticket().await], ..config(transports) }).await;
    let key = founder.overlay.membership().unwrap().overlay;
    newcomer.until("joined", |event| matches!(event, Event::Joined(joined) if *joined == key)).await;
    newcomer.until("connected", |event| matches!(event, Event::PeerUp(host) if *host == founder.id())).await;
    let peer = founder
        .peer_until(newcomer.id(), "connected", |peer| matches!(peer.state, PeerState::Connected { .. }))
        .await;
    assert!(
        matches!(peer.state, PeerState::Connected { transport, .. } if allowed.contains(&transport)),
        "{peer:?}"
    );
    let (ours, theirs) = (newcomer.overlay.membership().unwrap(), founder.overlay.membership().unwrap());
    assert_eq!(ours.link_secret, theirs.link_secret);
    let members = newcomer.overlay.members().await.unwrap();
    assert_eq!(members.len(), 2, "{members:?}");
    let own = members.iter().find(|member| member.local).unwrap();
    assert_eq!(own.admitted_by, Some(founder.id()));
}

#[tokio::test]
async fn a_newcomer_joins_by_ticket_over_quic() {
    joins_over(Transports::Quic, &[Transport::Quic]).await;
}

#[tokio::test]
async fn a_newcomer_joins_by_ticket_over_tcp() {
    joins_over(Transports::Tcp, &[Transport::Tcp]).await;
}

#[tokio::test]
async fn with_both_transports_one_connection_stands() {
    joins_over(Transports::Both, &[Transport::Quic, Transport::Tcp]).await;
}

#[tokio::test]
async fn a_running_node_alone_in_its_overlay_joins_another() {
    let founder = Node::start(config(Transports::Both)).await;
    let mut other = Node::start(config(Transports::Both)).await;
    let before = other.overlay.membership().unwrap().overlay;
    let joined = other.overlay.join(founder.ticket().await).await.unwrap();
    assert_ne!(joined, before);
    assert_eq!(Some(joined), founder.overlay.membership().map(|membership| membership.overlay));
    other.until("connected", |event| matches!(event, Event::PeerUp(host) if *host == founder.id())).await;
    let again = other.overlay.join(founder.ticket().await).await;
    assert_eq!(again.unwrap(), joined, "a second ticket of the same overlay changes nothing");
}

#[tokio::test]
async fn a_founder_with_members_does_not_leave_them() {
    let founder = Node::start(config(Transports::Both)).await;
    let _member = Node::joined_to(&founder, config(Transports::Both)).await;
    let elsewhere = Node::start(config(Transports::Both)).await;
    let refused = founder.overlay.join(elsewhere.ticket().await).await;
    assert!(matches!(refused, Err(JoinError::MemberOfOther(_))), "{refused:?}");
}

/// A node that believes to be in another overlay, and knows where a member of this one listens.
#[tokio::test]
async fn a_node_of_another_overlay_gets_nowhere_and_both_sides_see_why() {
    for transports in [Transports::Quic, Transports::Tcp] {
        let ours = Node::start(config(transports)).await;
        let keypair = Keypair::generate();
        let alone = Node::start(config_of(keypair.clone(), transports)).await;
        // Its state is made to know our member as one of its own.
        let mut state = serde_json::to_value(alone.state().await).unwrap();
        alone.overlay.shutdown().await;
        state["known"] = serde_json::json!([{
            "host": ours.id(), "addresses": ours.overlay.listen_addrs(), "last_seen": 1_700_000_000,
        }]);
        let state: OverlayState = serde_json::from_value(state).unwrap();
        let stranger = Node::start(OverlayConfig { state, ..config_of(keypair, transports) }).await;

        let theirs = stranger.peer_until(ours.id(), "refused", |peer| peer.failure.is_some()).await;
        let refused = FailureReason::RefusedByPeer { refusal: Refusal::OtherOverlay };
        assert_eq!(theirs.failure.unwrap().reason, refused);
        let seen = ours.peer_until(stranger.id(), "listed as refused", |peer| peer.failure.is_some()).await;
        let refusal = Refusal::OtherOverlay;
        assert_eq!(seen.failure.unwrap().reason, FailureReason::RefusedHere { refusal });
        assert_eq!(seen.state, PeerState::Refused);
        let status = ours.overlay.status().await.unwrap();
        assert!(status.counters.refused_here[&refusal] >= 1);
        assert_eq!((status.connected, status.counters.connections_opened), (0, 0));
    }
}

#[tokio::test]
async fn an_expired_ticket_is_refused_by_its_holder() {
    let founder = Node::start(config(Transports::Both)).await;
    let ticket = founder
        .overlay
        .invite(InviteOptions { valid_for: Duration::from_secs(60), ..InviteOptions::default() });
    let ticket = ticket.await.unwrap();
    let mut late = config(Transports::Both);
    moved_clock(&mut late).advance(Duration::from_secs(61));
    late.bootstrap = vec![ticket];
    let refused = Node::try_start(late).await.err().expect("it is too late");
    assert!(matches!(refused, StartError::Ticket(TicketError::Refused(_))), "{refused:?}");
}

/// The newcomer's clock is wrong, or lies: the member's own clock counts.
#[tokio::test]
async fn an_expired_ticket_is_refused_by_the_member_whatever_the_newcomer_believes() {
    let mut founding = config(Transports::Both);
    let clock = moved_clock(&mut founding);
    let founder = Node::start(founding).await;
    let ticket = founder
        .overlay
        .invite(InviteOptions { valid_for: Duration::from_secs(60), ..InviteOptions::default() });
    let ticket = ticket.await.unwrap();
    clock.advance(Duration::from_secs(61));
    let newcomer = Node::start(config(Transports::Both)).await;
    let refused = newcomer.overlay.join(ticket).await;
    let reason = FailureReason::RefusedByPeer { refusal: Refusal::Expired };
    assert!(
        matches!(&refused, Err(JoinError::Failed { reason: found, .. }) if *found == reason),
        "{refused:?}"
    );
    assert!(newcomer.overlay.status().await.unwrap().overlay.is_some(), "it stays in its own overlay");
}

#[tokio::test]
async fn a_pinned_key_allows_no_other_overlay() {
    let founder = Node::start(config(Transports::Both)).await;
    let other = Node::start(config(Transports::Both)).await;
    let pinned = other.overlay.membership().map(|membership| membership.overlay);
    let strict =
        OverlayConfig { pinned, bootstrap: vec![founder.ticket().await], ..config(Transports::Both) };
    assert!(matches!(Node::try_start(strict).await.err(), Some(StartError::OtherThanPinned { .. })));
    let lost = OverlayConfig { pinned, ..config(Transports::Both) };
    assert!(matches!(Node::try_start(lost).await.err(), Some(StartError::PinnedWithoutTicket(_))));
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let first = Node::start(config(Transports::Both)).await;
    let listen = first.overlay.listen_addrs().to_vec();
    let refused = Node::try_start(OverlayConfig { listen: listen.clone(), ..config(Transports::Both) })
        .await
        .err()
        .unwrap();
    assert!(matches!(&refused, StartError::Listen { address, .. } if *address == listen[0]), "{refused:?}");
    assert!(refused.to_string().contains(&listen[0].to_string()));
}

/// A ticket's inviter that cannot be reached is listed with the cause, and joining goes on trying.
#[tokio::test]
async fn an_unreachable_inviter_is_listed_with_its_cause() {
    let founder = Node::start(config(Transports::Tcp)).await;
    let ticket = founder.ticket().await;
    let id = founder.id();
    founder.overlay.shutdown().await;
    let waiting = Node::start(OverlayConfig { bootstrap: vec![ticket], ..config(Transports::Tcp) }).await;
    let peer = waiting.peer_until(id, "failed", |peer| peer.failure.is_some()).await;
    assert!(matches!(peer.failure.unwrap().reason, FailureReason::Unreachable { .. }));
    assert_eq!(waiting.overlay.status().await.unwrap().overlay, None);
}
