//! Members that cannot reach each other meet through a third: here one speaks only TCP and the other only QUIC.

use crate::world::{ECHO, Node, PATIENCE, PIPE, config};
use consort_overlay::{Event, HostId, OverlayConfig, PeerState, PeerStatus, Transport, Transports};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn requests_and_streams_pass_between_members_that_only_a_third_can_reach() {
    let middle = Node::start(config(Transports::Both)).await;
    let mut asker = Node::joined_to(&middle, config(Transports::Tcp)).await;
    let mut asked = Node::joined_to(&middle, config(Transports::Quic)).await;
    asker.until_record_of(asked.id()).await;
    let host = asked.id();
    connect(&asker, host).await;
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

/// Waits for a connection; the other's reservation may still be on its way.
async fn connect(asker: &Node, host: HostId) {
    tokio::time::timeout(PATIENCE, async {
        while asker.overlay.connect(host).await.unwrap().is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("there is a circuit");
}

/// Waits until a host's record, as a member knows it, names members that take connections for it.
async fn until_named(node: &mut Node, host: HostId) -> Vec<HostId> {
    loop {
        let record = node.overlay.record(host).await.unwrap();
        match record.map(|record| record.relays.clone()) {
            Some(relays) if !relays.is_empty() => return relays,
            _ => {
                let is_its = |event: &Event| matches!(event, Event::RecordChanged(of) if *of == host);
                node.until("its next record", is_its).await;
            }
        }
    }
}

/// As with two homes that number their hosts alike. Here it is the same number for TCP and for UDP.
#[tokio::test]
async fn a_member_whose_every_address_is_this_hosts_too_is_reached_through_a_third() {
    let middle = Node::start(config(Transports::Both)).await;
    let mut asker = Node::joined_to(&middle, config(Transports::Tcp)).await;
    let listen = asker.overlay.listen_addrs().to_vec();
    let asked = Node::joined_to(&middle, OverlayConfig { listen, ..config(Transports::Quic) }).await;
    let host = asked.id();
    until_named(&mut asker, host).await;
    connect(&asker, host).await;
    let is_connected = |peer: &PeerStatus| matches!(peer.state, PeerState::Connected { .. });
    let peer = asker.peer_until(host, "connected", is_connected).await;
    assert_eq!(peer.addresses, asker.overlay.listen_addrs());
    assert!(matches!(peer.state, PeerState::Connected { transport: Transport::Relayed, .. }), "{peer:?}");
}

#[tokio::test]
async fn a_record_names_the_members_through_which_its_host_is_reached() {
    let mut middle = Node::start(config(Transports::Both)).await;
    let asked = Node::joined_to(&middle, config(Transports::Quic)).await;
    let (host, relay) = (asked.id(), middle.id());
    let relays = until_named(&mut middle, host).await;
    assert_eq!(relays, [relay]);
}
