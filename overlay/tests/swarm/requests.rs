//! Requests and streams between members: answers, sizes, rates.

use crate::world::{ECHO, Node, PIPE, SELDOM, config};
use consort_overlay::{
    CallError, Event, FailureReason, HostId, OpenError, RpcProtocol, RpcRefusal, Transports,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn two(transports: Transports) -> (Node, Node) {
    let founder = Node::start(config(transports)).await;
    let member = Node::joined_to(&founder, config(transports)).await;
    (founder, member)
}

#[tokio::test]
async fn a_request_is_answered_over_either_transport() {
    for transports in [Transports::Quic, Transports::Tcp] {
        let (founder, member) = two(transports).await;
        let id = founder.id();
        let _founder = founder.echo();
        let body = vec![7; ECHO.request_bytes_max];
        assert_eq!(member.overlay.call(id, ECHO.name, body.clone()).await, Ok(body));
        assert_eq!(member.overlay.call(id, ECHO.name, Vec::new()).await, Ok(Vec::new()));
    }
}

#[tokio::test]
async fn a_host_may_call_itself() {
    let alone = Node::start(config(Transports::Both)).await;
    let id = alone.id();
    let overlay = alone.echo();
    assert_eq!(overlay.call(id, ECHO.name, b"self".to_vec()).await, Ok(b"self".to_vec()));
}

#[tokio::test]
async fn a_request_above_the_protocols_size_is_not_sent() {
    let (founder, member) = two(Transports::Quic).await;
    let bytes_max = ECHO.request_bytes_max;
    let refused = member.overlay.call(founder.id(), ECHO.name, vec![0; bytes_max + 1]).await;
    assert_eq!(refused, Err(CallError::TooLarge { bytes: bytes_max + 1, bytes_max }));
    let unknown = member.overlay.call(founder.id(), "test/other", Vec::new()).await;
    assert_eq!(unknown, Err(CallError::NotConfigured("test/other")));
}

/// The asker's node allows more than the asked one's: the asked one's limit holds.
#[tokio::test]
async fn a_request_above_the_receivers_size_is_refused_there() {
    let founder = Node::start(config(Transports::Quic)).await;
    let larger = RpcProtocol { request_bytes_max: 4096, response_bytes_max: 4096, ..ECHO };
    let mut generous = config(Transports::Quic);
    generous.protocols = vec![larger];
    let member = Node::joined_to(&founder, generous).await;
    let host = founder.id();
    let refused = member.overlay.call(host, ECHO.name, vec![0; ECHO.request_bytes_max + 1]).await;
    assert_eq!(refused, Err(CallError::Refused { host, refusal: RpcRefusal::RequestTooLarge }));
    let counters = founder.overlay.status().await.unwrap().counters;
    assert_eq!(counters.requests_refused.get(&RpcRefusal::RequestTooLarge), Some(&1));
    assert_eq!(counters.requests_taken, 0);
}

#[tokio::test]
async fn an_answer_above_the_protocols_size_is_refused_on_both_sides() {
    let (mut founder, member) = two(Transports::Quic).await;
    let host = founder.id();
    let asking = member.overlay.clone();
    let asked = tokio::spawn(async move { asking.call(host, ECHO.name, Vec::new()).await });
    let event = founder.until("asked", |event| matches!(event, Event::Request { .. })).await;
    let Event::Request { reply, from, protocol, .. } = event else { unreachable!() };
    assert_eq!((from, protocol), (member.id(), ECHO.name));
    reply.send(vec![0; ECHO.response_bytes_max + 1]);
    assert_eq!(asked.await.unwrap(), Err(CallError::Refused { host, refusal: RpcRefusal::ResponseTooLarge }));
}

#[tokio::test]
async fn a_request_that_node_drops_is_unanswered() {
    let (mut founder, member) = two(Transports::Quic).await;
    let host = founder.id();
    let asking = member.overlay.clone();
    let asked = tokio::spawn(async move { asking.call(host, ECHO.name, Vec::new()).await });
    drop(founder.until("asked", |event| matches!(event, Event::Request { .. })).await);
    assert_eq!(asked.await.unwrap(), Err(CallError::Refused { host, refusal: RpcRefusal::Unanswered }));
}

#[tokio::test]
async fn who_asks_too_often_is_refused_and_others_are_not() {
    let founder = Node::start(config(Transports::Quic)).await;
    let greedy = Node::joined_to(&founder, config(Transports::Quic)).await;
    let modest = Node::joined_to(&founder, config(Transports::Quic)).await;
    let host = founder.id();
    let founder = founder.echo();
    let calls = (0..20).map(|_| {
        let overlay = greedy.overlay.clone();
        async move { overlay.call(host, SELDOM.name, Vec::new()).await }
    });
    let outcomes = futures_of(calls).await;
    let refused = outcomes
        .iter()
        .filter(|outcome| **outcome == Err(CallError::Refused { host, refusal: RpcRefusal::TooOften }));
    // How many pass depends on how long the calls take; those at once are the burst, the rest is refused or comes later.
    assert!(
        outcomes.iter().filter(|outcome| outcome.is_ok()).count()
            >= usize::try_from(SELDOM.rate.burst).unwrap()
    );
    let refused = refused.count();
    assert!(refused > 0, "{outcomes:?}");
    let counters = founder.status().await.unwrap().counters;
    assert_eq!(counters.requests_refused[&RpcRefusal::TooOften], u64::try_from(refused).unwrap());
    assert_eq!(modest.overlay.call(host, SELDOM.name, Vec::new()).await, Ok(Vec::new()));
    assert_eq!(
        greedy.overlay.call(host, ECHO.name, Vec::new()).await,
        Ok(Vec::new()),
        "rates are per protocol"
    );
}

async fn futures_of<F>(futures: impl Iterator<Item = F>) -> Vec<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let mut set = tokio::task::JoinSet::new();
    futures.for_each(|future| drop(set.spawn(future)));
    set.join_all().await
}

#[tokio::test]
async fn a_host_nobody_knows_is_unreachable() {
    let (_founder, member) = two(Transports::Quic).await;
    let host = HostId::random();
    let reason = FailureReason::NoAddress;
    assert_eq!(
        member.overlay.call(host, ECHO.name, Vec::new()).await,
        Err(CallError::Unreachable { host, reason })
    );
}

#[tokio::test]
async fn a_stream_carries_bytes_both_ways_over_either_transport() {
    for transports in [Transports::Quic, Transports::Tcp] {
        let (founder, member) = two(transports).await;
        let id = founder.id();
        let _founder = founder.echo();
        let stream = member.overlay.open_stream(id, PIPE).await.unwrap();
        let sent: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let (mut read, mut write) = tokio::io::split(stream);
        let writing = sent.clone();
        let writer = tokio::spawn(async move {
            write.write_all(&writing).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut back = Vec::new();
        read.read_to_end(&mut back).await.unwrap();
        writer.await.unwrap();
        assert!(back == sent, "the bytes came back changed");
    }
}

/// On several threads, as in a node. libp2p-stream drops streams that come while another waits to be taken, so this crate has its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn streams_opened_at_once_all_arrive() {
    let (founder, member) = two(Transports::Quic).await;
    let id = founder.id();
    let _founder = founder.echo();
    let opened = (0..50).map(|n: u8| {
        let overlay = member.overlay.clone();
        async move {
            let mut stream = overlay.open_stream(id, PIPE).await.unwrap();
            stream.write_all(&[n]).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).await.unwrap();
            back
        }
    });
    let mut back = futures_of(opened).await;
    back.sort_unstable();
    assert_eq!(back, (0..50).map(|n| vec![n]).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_protocol_the_peer_does_not_have_is_named_so() {
    let founder = Node::start({
        let mut config = config(Transports::Quic);
        config.streams = Vec::new();
        config
    })
    .await;
    let member = Node::joined_to(&founder, config(Transports::Quic)).await;
    let refused = member.overlay.open_stream(founder.id(), PIPE).await.err();
    assert_eq!(refused, Some(OpenError::UnknownProtocol(founder.id())));
}
