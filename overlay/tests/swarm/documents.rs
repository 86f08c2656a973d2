//! What operators say to all.

use crate::world::{Node, config, config_of};
use consort_overlay::{DocumentKind, Event, Key, OverlayConfig, PublishDocumentError, Transports};

const KIND: &str = "test/plan";

fn strict(body: &[u8]) -> Result<(), String> {
    if body == b"bad" { Err("it is bad".to_owned()) } else { Ok(()) }
}

fn lax(_: &[u8]) -> Result<(), String> {
    Ok(())
}

fn listening(check: fn(&[u8]) -> Result<(), String>) -> OverlayConfig {
    OverlayConfig { documents: vec![DocumentKind { name: KIND, check }], ..config(Transports::Both) }
}

async fn until_holds(node: &mut Node, body: Option<&[u8]>) {
    while node.overlay.document(KIND).await.unwrap().as_ref().map(|held| held.body()) != body {
        node.until("told", |event| matches!(event, Event::DocumentChanged(kind) if kind == KIND)).await;
    }
}

#[tokio::test]
async fn a_document_reaches_all_members_and_the_newest_wins() {
    let mut founder = Node::start(listening(strict)).await;
    let mut a = Node::joined_to(&founder, listening(strict)).await;
    let mut b = Node::joined_to(&a, listening(strict)).await;
    founder.overlay.publish_document(KIND, 1, b"one".to_vec()).await.unwrap();
    founder.overlay.publish_document(KIND, 2, b"two".to_vec()).await.unwrap();
    for node in [&mut founder, &mut a, &mut b] {
        until_holds(node, Some(b"two")).await;
    }
    let old = founder.overlay.publish_document(KIND, 2, b"again".to_vec()).await;
    assert_eq!(old, Err(PublishDocumentError::NotNewer { version: 2, held: 2 }));
    // Who comes later hears of it by its first exchange.
    let mut late = Node::joined_to(&b, listening(strict)).await;
    until_holds(&mut late, Some(b"two")).await;
}

#[tokio::test]
async fn a_document_is_kept_over_a_restart() {
    let founder = Node::start(listening(strict)).await;
    founder.overlay.publish_document(KIND, 7, b"seven".to_vec()).await.unwrap();
    let (keypair, state) = (founder.keypair.clone(), founder.state().await);
    founder.overlay.shutdown().await;
    let again = OverlayConfig {
        state,
        documents: vec![DocumentKind { name: KIND, check: strict }],
        ..config_of(keypair, Transports::Both)
    };
    let founder = Node::start(again).await;
    let held = founder.overlay.document(KIND).await.unwrap().unwrap();
    assert_eq!((held.version(), held.body()), (7, b"seven".as_slice()));
}

#[tokio::test]
async fn only_the_founder_and_its_operators_may_publish() {
    let mut founder = Node::start(listening(strict)).await;
    let mut member = Node::joined_to(&founder, listening(strict)).await;
    let refused = member.overlay.publish_document(KIND, 1, b"x".to_vec()).await;
    assert_eq!(refused, Err(PublishDocumentError::NotAnOperator { operators: Vec::new() }));
    let key = Key::of(&member.keypair);
    assert!(matches!(
        member.overlay.appoint(vec![key]).await,
        Err(PublishDocumentError::NotAnOperator { .. })
    ));

    founder.overlay.appoint(vec![key]).await.unwrap();
    member
        .until(
            "appointed",
            |event| matches!(event, Event::DocumentChanged(kind) if kind == consort_overlay::OPERATORS),
        )
        .await;
    assert_eq!(member.overlay.operators().await.unwrap(), [key]);
    member.overlay.publish_document(KIND, 1, b"x".to_vec()).await.unwrap();
    until_holds(&mut founder, Some(b"x")).await;

    // Put out, it has said nothing.
    founder.overlay.revoke(key).await.unwrap();
    until_holds(&mut founder, None).await;
}

#[tokio::test]
async fn each_host_refuses_a_bad_document_by_itself_and_passes_it_to_nobody() {
    let founder = Node::start(listening(lax)).await;
    let mut careful = Node::joined_to(&founder, listening(strict)).await;
    founder.overlay.publish_document(KIND, 1, b"good".to_vec()).await.unwrap();
    until_holds(&mut careful, Some(b"good")).await;
    founder.overlay.publish_document(KIND, 2, b"bad".to_vec()).await.unwrap();
    let refused =
        careful.until("refused", |event| matches!(event, Event::DocumentRefused { version: 2, .. })).await;
    let Event::DocumentRefused { from, reason, .. } = refused else { unreachable!() };
    assert_eq!((from, reason.as_str()), (Some(founder.id()), "it is bad"));
    assert_eq!(careful.overlay.document(KIND).await.unwrap().unwrap().body(), b"good");
    let counters = careful.overlay.status().await.unwrap().counters;
    assert_eq!(counters.documents_refused.get("content"), Some(&1));
    // A good one after it holds everywhere again.
    founder.overlay.publish_document(KIND, 3, b"better".to_vec()).await.unwrap();
    until_holds(&mut careful, Some(b"better")).await;
    let own = careful.overlay.publish_document(KIND, 9, b"bad".to_vec()).await;
    assert!(matches!(own, Err(PublishDocumentError::NotAnOperator { .. })));
}
