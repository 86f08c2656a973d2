//! What a data plane is started with, what it is told of peers, and why it refuses.

use std::{io, net::SocketAddr, time::Duration};

use crate::{
    HostId,
    driver::tap::{QUEUES_MAX, TapError},
    link::{DATAGRAM_PROBED_MAX, LinksFull},
    path::{Candidate, RelayedPath},
    session::{SessionLimits, SharedSecret, StaticSecret},
    switch::{AttachError as SwitchAttachError, PeersFull},
    wire::control::GRANT_BYTES_MAX,
};

/// Workers of one data plane; they are numbered in a byte, the last number is the keeper's.
pub const WORKERS_MAX: usize = 64;

/// What a data plane is started with.
#[derive(Debug)]
pub struct DataPlaneConfig {
    /// This host.
    pub host: HostId,
    /// Its static key, whose public half the host's record names.
    pub static_secret: StaticSecret,
    /// The overlay's link secret.
    pub psk: SharedSecret,
    /// Where datagrams come in. Port 0: any.
    pub listen: SocketAddr,
    /// The same, of the other IP version. All addresses of a version that this computer does not have are left out.
    pub listen_second: Option<SocketAddr>,
    /// Threads that move frames; 0: one for each core.
    pub workers: usize,
    /// How long a worker looks for more after the last frame before it sleeps. Zero: not at all. It spares a round trip the wake-ups
    /// (some 30 µs each on a virtual processor), and takes a core as long as frames come.
    pub busy_poll: Duration,
    /// Entropy drawn for this start. It is mixed with the system's own, so that a repeated seed does not repeat a key.
    pub seed: [u8; 32],
    /// How long a session's keys serve.
    pub limits: SessionLimits,
    /// The largest datagram (UDP payload) that is probed for or sent; above what the interface takes it does no harm.
    pub datagram_bytes_max: u16,
}

impl DataPlaneConfig {
    /// The usual settings.
    pub fn new(
        host: HostId,
        static_secret: StaticSecret,
        psk: SharedSecret,
        listen: SocketAddr,
        seed: [u8; 32],
    ) -> Self {
        Self {
            host,
            static_secret,
            psk,
            listen,
            listen_second: None,
            workers: 0,
            busy_poll: Duration::ZERO,
            seed,
            limits: SessionLimits::default(),
            datagram_bytes_max: DATAGRAM_PROBED_MAX,
        }
    }
}

/// A host that has a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Who.
    pub host: HostId,
    /// Its static public key, proved by its signed record.
    pub static_key: [u8; 32],
    /// Where it may be reached; the best first, at most [`CANDIDATES_MAX`](crate::path::CANDIDATES_MAX).
    pub candidates: Vec<Candidate>,
    /// Ways through relays, at most [`RELAYED_MAX`](crate::path::RELAYED_MAX).
    pub via: Vec<RelayedPath>,
    /// Whether the topology allows a direct path.
    pub direct: bool,
    /// Whether the link is kept up, frames or not: probed, and made again when it breaks.
    pub keep: bool,
}

impl PeerConfig {
    /// A host that may be reached directly at addresses of its own.
    pub fn at(host: HostId, static_key: [u8; 32], addresses: &[SocketAddr]) -> Self {
        let candidates = addresses.iter().map(|address| Candidate::local(*address)).collect();
        Self { host, static_key, candidates, via: Vec::new(), direct: true, keep: false }
    }
}

/// Why a data plane does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The UDP port.
    #[error("cannot listen on UDP {listen}: {source}")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The number of workers.
    #[error("at most {WORKERS_MAX} workers, not {0}")]
    Workers(usize),
    /// A descriptor or thread the data plane needs for itself.
    #[error("cannot {what}: {source}")]
    Resource {
        /// What was attempted.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Why a machine is not attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The switch does not take it.
    #[error(transparent)]
    Switch(#[from] SwitchAttachError),
    /// The TAP cannot be used.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The TAP was opened without virtio headers.
    #[error("TAP {0:?} must be opened with IFF_VNET_HDR")]
    NoVnetHeader(String),
    /// The number of descriptors.
    #[error(
        "a port has 1 to {QUEUES_MAX} TAP queues to read and one more to write to if there are several, not {0} in all"
    )]
    Queues(usize),
}

/// Why a peer or grant is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The switch names no more hosts.
    #[error(transparent)]
    PeersFull(#[from] PeersFull),
    /// There are as many links as a host may have.
    #[error(transparent)]
    LinksFull(#[from] LinksFull),
    /// The grant is empty, or longer than a channel message takes, or the link has as many networks as it may.
    #[error("a grant has 1 to {GRANT_BYTES_MAX} bytes, and a link carries a bounded number of networks")]
    Grant,
}
