//! The last resort: datagrams of a link inside a stream of the control plane, where UDP does not pass or nothing else is left.
//!
//! ```text
//!  data plane ⇄ UDP socket of this file ⇄ stream `datagrams/1` (TCP, QUIC or a circuit) ⇄ the same at the other end ⇄ data plane
//! ```
//! On the stream: length (2 bytes, big-endian), datagram. The data plane takes the socket's address for a candidate of the peer and sends there what it
//! would send to the peer; sealed as ever, so neither the stream nor a relay of the control plane sees a frame. A stream stalls on each loss, so this way
//! is used while there is no other, and ends when another was found.
//!
//! Owns: the streams, at most [`STREAMS_MAX`], one for each peer: the newest, but of two that both ends opened at the same time, that of the host with the lesser
//! id: both ends must keep the same one, or each would end the one that the other has kept. What a peer sends is bounded by its length field, and goes to this host's
//! data plane only, which judges it like any datagram.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use consort_overlay::{HostId, Overlay, Stream};
use consort_vswitch::DataPlane;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use crate::glue::peers::PeerNews;
use crate::glue::protocols;

/// Streams at once: each is a peer that nothing else reaches.
pub const STREAMS_MAX: usize = 64;

/// The longest datagram: what links send at the most (jumbo frames and what seals them fit well).
const DATAGRAM_BYTES_MAX: usize = 10_000;

/// Streams that both ends opened within so long of each other may have crossed: as long as a control connection takes to be made, from one end's first word to the
/// other's. Longer, and a host whose stream has broken, while the peer does not see it yet, would wait for this.
const CROSSED: Duration = Duration::from_secs(3);

/// The streams. Clones share them.
#[derive(Debug, Clone)]
pub struct Streams {
    overlay: Overlay,
    data: DataPlane,
    peers: PeerNews,
    open: Arc<Mutex<BTreeMap<HostId, Open>>>,
}

/// A stream's task, and the socket that tells it from its successor.
#[derive(Debug)]
struct Open {
    task: AbortHandle,
    here: SocketAddr,
    opener: HostId,
    since: Instant,
}

impl Open {
    /// Whether a stream that `opener` has opened and that is there at `now` takes its place; `lesser` is the lesser of the two hosts.
    fn gives_way(&self, opener: HostId, lesser: HostId, now: Instant) -> bool {
        let has_crossed = opener != self.opener && now.saturating_duration_since(self.since) < CROSSED;
        !has_crossed || opener == lesser
    }
}

impl Streams {
    /// None open yet.
    #[must_use]
    pub fn new(overlay: Overlay, data: DataPlane, peers: PeerNews) -> Self {
        Self { overlay, data, peers, open: Arc::default() }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<HostId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a stream to `host`.
    #[must_use]
    pub fn is_open(&self, host: HostId) -> bool {
        self.open().contains_key(&host)
    }

    /// The hosts with a stream.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostId> {
        self.open().keys().copied().collect()
    }

    /// Opens a stream to `host`, unless there is one.
    pub async fn open_to(&self, host: HostId) {
        if self.is_open(host) {
            return;
        }
        match self.overlay.open_stream(host, protocols::DATAGRAMS).await {
            Ok(stream) => self.carry(host, stream, self.overlay.local_id()).await,
            Err(error) => tracing::debug!(%host, %error, "no stream for datagrams"),
        }
    }

    /// Carries datagrams over a stream that `host` has opened.
    pub async fn accept(&self, host: HostId, stream: Stream) {
        self.carry(host, stream, host).await;
    }

    /// Carries datagrams over a stream between this host and `host`, one of which has opened it.
    async fn carry(&self, host: HostId, stream: Stream, opener: HostId) {
        if self.open().len() >= STREAMS_MAX && !self.is_open(host) {
            return tracing::warn!(%host, "a stream for datagrams is refused: {STREAMS_MAX} are open");
        }
        let (socket, here) = match self.socket().await {
            Ok(bound) => bound,
            Err(error) => return tracing::warn!(%error, "no socket for a stream of datagrams"),
        };
        if !self.peers.learn(host).await {
            return;
        }
        let lesser = self.overlay.local_id().min(host);
        {
            let mut open = self.open();
            let now = Instant::now();
            if open.get(&host).is_some_and(|before| !before.gives_way(opener, lesser, now)) {
                return tracing::debug!(%host, "a stream for datagrams is left for the one that crossed it");
            }
            let this = self.clone();
            let task = tokio::spawn(async move {
                // The data plane knows what this socket is before anything comes by it: it would take it for the peer's own address otherwise.
                this.peers.set_stream(host, Some(here)).await;
                let why = pump(socket, stream).await;
                tracing::info!(%host, %why, "the stream of datagrams has ended");
                if this.take(host, |open| open.here == here).is_some() {
                    this.peers.set_stream(host, None).await;
                }
            });
            let opened = Open { task: task.abort_handle(), here, opener, since: now };
            if let Some(before) = open.insert(host, opened) {
                before.task.abort();
            }
        }
        tracing::info!(%host, "datagrams go inside a stream of the control plane");
    }

    /// Ends the stream to `host`: there is another way.
    pub async fn end(&self, host: HostId) {
        if let Some(open) = self.take(host, |_| true) {
            open.task.abort();
            self.peers.set_stream(host, None).await;
        }
    }

    fn take(&self, host: HostId, is_it: impl Fn(&Open) -> bool) -> Option<Open> {
        let mut open = self.open();
        if open.get(&host).is_some_and(is_it) { open.remove(&host) } else { None }
    }

    /// A socket next to the data plane's, that talks with it alone.
    async fn socket(&self) -> io::Result<(UdpSocket, SocketAddr)> {
        let data = self.data.local_addr();
        let ip = match data.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let socket = UdpSocket::bind((ip, 0)).await?;
        socket.connect((ip, data.port())).await?;
        let here = socket.local_addr()?;
        Ok((socket, here))
    }
}

/// Both directions until one ends; says why.
async fn pump(socket: UdpSocket, stream: Stream) -> String {
    let (from_peer, to_peer) = tokio::io::split(stream);
    let ended = tokio::select! {
        ended = send(&socket, to_peer) => ended,
        ended = receive(&socket, from_peer) => ended,
    };
    match ended {
        Ok(()) => "it was closed".to_owned(),
        Err(error) => error.to_string(),
    }
}

async fn send(socket: &UdpSocket, stream: WriteHalf<Stream>) -> io::Result<()> {
    let mut stream = BufWriter::new(stream);
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let length = receive_from_data_plane(socket, &mut datagram).await?;
        put(&mut stream, &datagram[..length]).await?;
        // What is there already goes in one write.
        while let Ok(length) = socket.try_recv(&mut datagram) {
            put(&mut stream, &datagram[..length]).await?;
        }
        stream.flush().await?;
    }
}

/// A socket that once sent to a port where nobody listened yet reports that at the next call; it is no reason to end.
async fn receive_from_data_plane(socket: &UdpSocket, datagram: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.recv(datagram).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            other => return other,
        }
    }
}

async fn put(stream: &mut (impl AsyncWriteExt + Unpin), datagram: &[u8]) -> io::Result<()> {
    let length = u16::try_from(datagram.len()).map_err(io::Error::other)?;
    stream.write_u16(length).await?;
    stream.write_all(datagram).await
}

async fn receive(socket: &UdpSocket, stream: ReadHalf<Stream>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let length = match stream.read_u16().await {
            Ok(length) => usize::from(length),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        if length > DATAGRAM_BYTES_MAX {
            return Err(io::Error::other(format!("the peer announces a datagram of {length} bytes")));
        }
        stream.read_exact(&mut datagram[..length]).await?;
        // A datagram may be lost; the data plane's own queue is what bounds it.
        if let Err(error) = socket.send(&datagram[..length]).await {
            tracing::trace!(%error, "a datagram from a stream is lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The streams that one end holds, as [`Streams::carry`] does, named by who has opened them.
    struct End {
        lesser: HostId,
        open: Option<(HostId, Instant)>,
    }

    impl End {
        /// A stream is there; the one that is held no more, if that is another than before.
        fn carry(&mut self, opener: HostId, now: Instant) -> Option<HostId> {
            let before = self.open.map(|(opener, since)| Open { task: idle(), here: NOWHERE, opener, since });
            if before.is_some_and(|before| !before.gives_way(opener, self.lesser, now)) {
                return Some(opener);
            }
            self.open.replace((opener, now)).map(|(before, _)| before)
        }
    }

    const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

    fn idle() -> AbortHandle {
        tokio::spawn(std::future::pending::<()>()).abort_handle()
    }

    #[tokio::test]
    async fn of_two_streams_that_crossed_both_ends_keep_the_same() {
        let (one, other) = (HostId::random(), HostId::random());
        let lesser = one.min(other);
        let orders = [[one, other], [other, one]];
        for (here, there) in orders.into_iter().flat_map(|here| orders.map(|there| (here, there))) {
            let now = Instant::now();
            let mut ends = [here, there].map(|order| (End { lesser, open: None }, order));
            let ended: Vec<Option<HostId>> =
                ends.iter_mut().flat_map(|(end, order)| order.map(|opener| end.carry(opener, now))).collect();
            assert_eq!(ends.map(|(end, _)| end.open.map(|(opener, _)| opener)), [Some(lesser); 2]);
            assert!(!ended.contains(&Some(lesser)), "the one that both keep is ended by neither");
        }
    }

    #[tokio::test]
    async fn a_stream_that_is_opened_later_takes_the_place_of_one_that_may_be_broken() {
        let (one, other) = (HostId::random(), HostId::random());
        let (lesser, greater) = (one.min(other), one.max(other));
        let (mut end, now) = (End { lesser, open: None }, Instant::now());
        end.carry(lesser, now);
        assert_eq!(end.carry(greater, now + CROSSED), Some(lesser));
        assert_eq!(
            end.carry(greater, now + CROSSED),
            Some(greater),
            "and another of the same host's at once"
        );
    }
}
