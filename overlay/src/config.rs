//! What node says when it starts an overlay's member, with the limits that hold by default.

use crate::{
    clock::{Clock, SystemClock},
    document::{DocumentKind, KINDS_MAX, is_kind},
    identity::{Keypair, OverlayKey},
    protocol::rpc::{BODY_BYTES_MAX, NAME_BYTES_MAX, RpcProtocol},
    state::OverlayState,
    ticket::Ticket,
};
use std::{fmt, net::SocketAddr, sync::Arc};

/// Which transports a host listens and dials with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transports {
    /// QUIC first, TCP when that does not answer at once.
    #[default]
    Both,
    /// Only QUIC.
    Quic,
    /// Only TCP.
    Tcp,
}

/// What strangers and members together may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections that stand at once. At 60 to 140 kB each (notes/control-plane.md, 1).
    pub connections_max: u32,
    /// Connections whose peer has not proved itself yet, at once. A burst of that many restarting members is served in one round trip.
    pub connections_pending_max: u32,
    /// No connection is taken while the whole process holds more memory than this.
    pub process_memory_bytes_max: usize,
    /// Requests from peers that node has not answered yet.
    pub requests_open_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 128,
            connections_pending_max: 32,
            process_memory_bytes_max: 512 << 20,
            requests_open_max: 256,
        }
    }
}

/// Everything [`start`](crate::start) needs.
#[derive(Clone)]
pub struct OverlayConfig {
    /// The host's identity.
    pub keypair: Keypair,
    /// What was kept from an earlier life; empty at first.
    pub state: OverlayState,
    /// Records of others that node kept from an earlier life, as [`HostRecord::bytes`](crate::HostRecord::bytes) gave them. Those that are still good are
    /// taken: the host knows from its first moment who and where these are.
    pub records: Vec<Vec<u8>>,
    /// Tickets: if the host belongs nowhere yet, the way in (each is tried until one leads in); else further addresses to try.
    pub bootstrap: Vec<Ticket>,
    /// Refuse any overlay but this.
    pub pinned: Option<OverlayKey>,
    /// Where to listen: QUIC and TCP on each address; port 0 takes any that is free for both.
    pub listen: Vec<SocketAddr>,
    /// Addresses under which others reach this host beside those it listens on (a mapped port).
    pub advertise: Vec<SocketAddr>,
    /// QUIC, TCP or both.
    pub transports: Transports,
    /// Bounds.
    pub limits: Limits,
    /// Node's request protocols.
    pub protocols: Vec<RpcProtocol>,
    /// Names of node's stream protocols; same alphabet as those of requests.
    pub streams: Vec<&'static str>,
    /// Whether members are looked for, and answered, on the local link (multicast DNS). Never on loopback.
    pub local_link: bool,
    /// Kinds of documents node wants to hear of.
    pub documents: Vec<DocumentKind>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

impl OverlayConfig {
    /// A member on `listen` with defaults for all else: it founds an overlay of its own.
    pub fn new(keypair: Keypair, listen: Vec<SocketAddr>) -> Self {
        Self {
            keypair,
            state: OverlayState::default(),
            records: Vec::new(),
            bootstrap: Vec::new(),
            pinned: None,
            listen,
            advertise: Vec::new(),
            transports: Transports::default(),
            limits: Limits::default(),
            protocols: Vec::new(),
            streams: Vec::new(),
            local_link: false,
            documents: Vec::new(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Protocols are written by programmers: a wrong one is a fault of ours and stops the start.
    pub(crate) fn check_protocols(&self) {
        let names = self.protocols.iter().map(|protocol| protocol.name).chain(self.streams.iter().copied());
        for name in names {
            assert!(is_name(name) && !name.starts_with("overlay/"), "\"{name}\" is no protocol name");
        }
        assert!(
            self.documents.len() < KINDS_MAX,
            "at most {KINDS_MAX} kinds of documents, with this crate's own"
        );
        for kind in &self.documents {
            assert!(is_kind(kind.name) && !kind.name.starts_with("overlay/"), "\"{}\" is no kind", kind.name);
        }
        for protocol in &self.protocols {
            let largest = protocol.request_bytes_max.max(protocol.response_bytes_max);
            assert!(
                largest <= BODY_BYTES_MAX,
                "{} allows bodies above {BODY_BYTES_MAX} bytes",
                protocol.name
            );
        }
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'.'))
}

impl fmt::Debug for OverlayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OverlayConfig")
            .field("listen", &self.listen)
            .field("transports", &self.transports)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
