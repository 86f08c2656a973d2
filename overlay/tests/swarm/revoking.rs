//! Putting out.

use crate::world::{Node, config};
use consort_overlay::{Event, FailureReason, JoinError, Key, Refusal, RevokeError, Transports};

fn key(node: &Node) -> Key {
    Key::of(&node.keypair)
}

#[tokio::test]
async fn a_revocation_reaches_a_third_member_that_was_not_told_by_its_author() {
    let mut founder = Node::start(config(Transports::Both)).await;
    let mut bystander = Node::joined_to(&founder, config(Transports::Both)).await;
    let outcast = Node::joined_to(&founder, config(Transports::Both)).await;
    let (id, target) = (outcast.id(), key(&outcast));
    bystander.until("all know each other", |event| matches!(event, Event::PeerUp(host) if *host == id)).await;

    founder.overlay.revoke(target).await.unwrap();
    for node in [&mut founder, &mut bystander] {
        node.until("told", |event| matches!(event, Event::Revoked(key) if *key == target)).await;
        node.until("gone", |event| matches!(event, Event::PeerDown(host) if *host == id)).await;
        assert!(!node.overlay.members().await.unwrap().iter().any(|member| member.host == id));
        let peer = node.peer_until(id, "listed as revoked", |peer| peer.failure.is_some()).await;
        assert_eq!(peer.failure.unwrap().reason, FailureReason::RefusedHere { refusal: Refusal::Revoked });
    }
    // It tries again, and learns why from either.
    for node in [founder.id(), bystander.id()] {
        outcast
            .peer_until(node, "told why", |peer| {
                let told = FailureReason::RefusedByPeer { refusal: Refusal::Revoked };
                peer.failure.as_ref().is_some_and(|failure| failure.reason == told)
            })
            .await;
    }
    assert!(founder.overlay.status().await.unwrap().counters.refused_here[&Refusal::Revoked] >= 1);
}

/// Not by gossip, which it could not hear: by the exchange on its first connection.
#[tokio::test]
async fn a_member_that_was_away_hears_of_it_when_it_connects() {
    let founder = Node::start(config(Transports::Both)).await;
    let away = Node::joined_to(&founder, config(Transports::Both)).await;
    let outcast = Node::joined_to(&founder, config(Transports::Both)).await;
    let target = key(&outcast);
    let (keypair, state) = (away.keypair.clone(), away.state().await);
    away.overlay.shutdown().await;
    founder.overlay.revoke(target).await.unwrap();
    let mut back = Node::start(consort_overlay::OverlayConfig {
        state,
        ..crate::world::config_of(keypair, Transports::Both)
    })
    .await;
    back.until("told", |event| matches!(event, Event::Revoked(key) if *key == target)).await;
    let kept = serde_json::to_value(back.state().await).unwrap();
    assert_eq!(kept["revocations"].as_array().map(Vec::len), Some(1), "it keeps it over a restart");
}

#[tokio::test]
async fn only_those_above_may_revoke() {
    let founder = Node::start(config(Transports::Both)).await;
    let member = Node::joined_to(&founder, config(Transports::Both)).await;
    let refused = member.overlay.revoke(key(&founder)).await;
    assert!(
        matches!(&refused, Err(RevokeError::NotAbove { target, .. }) if *target == key(&founder)),
        "{refused:?}"
    );
    let nobody = Key::from_bytes([1; 32]);
    assert!(matches!(founder.overlay.revoke(nobody).await, Err(RevokeError::Unknown(_))));
}

#[tokio::test]
async fn revoking_an_invitation_ends_the_ticket_and_puts_out_who_used_it() {
    let mut founder = Node::start(config(Transports::Both)).await;
    let ticket = founder.ticket().await;
    let mut used = config(Transports::Both);
    used.bootstrap = vec![ticket.clone()];
    let mut guest = Node::start(used).await;
    guest.until("in", |event| matches!(event, Event::PeerUp(host) if *host == founder.id())).await;

    founder.until("in", |event| matches!(event, Event::PeerUp(host) if *host == guest.id())).await;
    founder.overlay.revoke(ticket.invitation()).await.unwrap();
    founder.until("out", |event| matches!(event, Event::PeerDown(host) if *host == guest.id())).await;
    let late = Node::start(config(Transports::Both)).await;
    let refused = late.overlay.join(ticket).await;
    let reason = FailureReason::RefusedByPeer { refusal: Refusal::Revoked };
    assert!(
        matches!(&refused, Err(JoinError::Failed { reason: found, .. }) if *found == reason),
        "{refused:?}"
    );
}

#[tokio::test]
async fn who_was_admitted_by_a_revoked_member_goes_with_it() {
    let mut founder = Node::start(config(Transports::Both)).await;
    let member = Node::joined_to(&founder, config(Transports::Both)).await;
    let guest = Node::joined_to(&member, config(Transports::Both)).await;
    founder
        .until("knows the guest", |event| matches!(event, Event::PeerUp(host) if *host == guest.id()))
        .await;
    founder.overlay.revoke(key(&member)).await.unwrap();
    for node in [&member, &guest] {
        founder.until("out", |event| matches!(event, Event::PeerDown(host) if *host == node.id())).await;
    }
    assert_eq!(founder.overlay.members().await.unwrap().len(), 1);
}
