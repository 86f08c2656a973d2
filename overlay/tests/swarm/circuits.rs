//! Members that cannot reach each other meet through a third: here one speaks only TCP and the other only QUIC.

use crate::world::{ECHO, Node, PATIENCE, PIPE, config};
use consort_overlay::{Event, PeerState, Transport, Transports};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn requests_and_streams_pass_between_members_that_only_a_third_can_reach() {
    let middle = Node::start(config(Transports::Both)).await;
    let mut asker = Node::joined_to(&middle, config(Transports::Tcp)).await;
    let mut asked = Node::joined_to(&middle, config(Transports::Quic)).await;
    asker.until_record_of(asked.id()).await;
    let host = asked.id();
    tokio::time::timeout(PATIENCE, async {
        // The asked member's reservation may still be on its way.
        while asker.overlay.connect(host).await.unwrap().is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("there is a circuit");
    let peer =
        asker.peer_until(host, "connected", |peer| matches!(peer.state, PeerState::Connected { .. })).await;
    assert!(matches!(peer.state, PeerState::Connected { transport: Transport::Relayed, .. }), "{peer:?}");
    let relay = middle.overlay.listen_addrs()[0];
    assert!(!peer.addresses.contains(&relay), "the relay's address is not the peer's: {peer:?}");
    let mut stream = asker.overlay.open_stream(host, PIPE).await.unwrap();
    let from = asker.id();
    let event = asked
        .until("a stream", |event| matches!(event, Event::Stream { from: who, .. } if *who == from))
        .await;
    let Event::Stream { stream: mut theirs, .. } = event else { unreachable!("it was asked for") };
    stream.write_all(b"through").await.unwrap();
    stream.flush().await.unwrap();
    let mut read = [0; 7];
    theirs.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"through");
    let _asked = asked.echo();
    let body = vec![7; ECHO.request_bytes_max];
    assert_eq!(asker.overlay.call(host, ECHO.name, body.clone()).await, Ok(body));
}

#[tokio::test]
async fn a_record_names_the_members_through_which_its_host_is_reached() {
    let mut middle = Node::start(config(Transports::Both)).await;
    let asked = Node::joined_to(&middle, config(Transports::Quic)).await;
    let (host, relay) = (asked.id(), middle.id());
    let relays = loop {
        let record = middle.overlay.record(host).await.unwrap();
        match record.map(|record| record.relays.clone()) {
            Some(relays) if !relays.is_empty() => break relays,
            _ => {
                let is_its = |event: &Event| matches!(event, Event::RecordChanged(of) if *of == host);
                middle.until("its next record", is_its).await;
            }
        }
    };
    assert_eq!(relays, [relay]);
}
