//! The last resort: datagrams of a link inside a stream of the control plane, where UDP does not pass or nothing else is left.
//!
//! ```text
//!  data plane ⇄ UDP socket of this file ⇄ stream `datagrams/1` (TCP, QUIC or a circuit) ⇄ the same at the other end ⇄ data plane
//! ```
//! On the stream: length (2 bytes, big-endian), datagram. The data plane takes the socket's address for a candidate of the peer and sends there what it
//! would send to the peer; sealed as ever, so neither the stream nor a relay of the control plane sees a frame. A stream stalls on each loss, so this way
//! is used while there is no other, and ends when another was found.
//!
//! Owns: the streams, at most [`STREAMS_MAX`], one for each peer: the newest. What a peer sends is bounded by its length field, and goes to this host's
//! data plane only, which judges it like any datagram.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
            Ok(stream) => self.carry(host, stream).await,
            Err(error) => tracing::debug!(%host, %error, "no stream for datagrams"),
        }
    }

    /// Carries datagrams over a stream from or to `host`; it takes the place of an older one.
    pub async fn carry(&self, host: HostId, stream: Stream) {
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
        tracing::info!(%host, "datagrams go inside a stream of the control plane");
        let this = self.clone();
        let task = tokio::spawn(async move {
            let why = pump(socket, stream).await;
            tracing::info!(%host, %why, "the stream of datagrams has ended");
            if this.take(host, |open| open.here == here).is_some() {
                this.peers.set_stream(host, None).await;
            }
        });
        let before = self.open().insert(host, Open { task: task.abort_handle(), here });
        if let Some(before) = before {
            before.task.abort();
        }
        self.peers.set_stream(host, Some(here)).await;
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
