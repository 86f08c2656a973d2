//! QUIC and TCP, each with the door behind it; listening; addresses in libp2p's form and back.

use super::StartError;
use crate::{
    behaviour::Behaviour,
    config::{OverlayConfig, Transports},
    gate::{
        SharedDoor,
        upgrade::{GateFailure, pass},
    },
    identity::HostId,
    peers::Transport,
};
use libp2p::{
    Multiaddr, Swarm, Transport as _,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, ListenerId, OptionalTransport},
        upgrade::Version,
    },
    futures::StreamExt,
    multiaddr::Protocol,
    noise, quic, relay,
    swarm::{Config, SwarmEvent},
    tcp, yamux,
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Streams of one connection at once, both ways; each has a window of 256 KiB at least.
const STREAMS_MAX: u32 = 128;
/// What one QUIC stream and one connection may have in flight: 4 MiB carry 300 Mb/s over 100 ms, and bound what a peer makes this host buffer.
const QUIC_STREAM_WINDOW: u32 = 1 << 20;
const QUIC_CONNECTION_WINDOW: u32 = 4 << 20;
/// Longer than two pings that were lost, so that a short outage does not cost the connection. Must end it where the other end is gone: see
/// [`pinging`](crate::pinging).
const QUIC_IDLE_MAX: Duration = Duration::from_secs(45);
/// Longer than between pings: only a connection that does not ping needs it.
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Encryption and multiplexing over TCP, without the door's own time.
const TCP_SETUP_MAX: Duration = Duration::from_secs(5);
/// The same over a circuit: two legs, and a relay that asks the other end first.
const CIRCUIT_SETUP_MAX: Duration = Duration::from_secs(10);
/// How often port 0 is tried until a port is free for both transports.
const PORT_TRIES: usize = 16;
/// Connections are closed by the rules of [`Peers`](crate::peers::Peers), not by libp2p's idleness; so this is a day.
const IDLE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Streams a peer may be opening at once on one connection.
const NEGOTIATING_MAX: usize = 64;

/// 32 bytes from the system's generator.
pub(super) fn entropy() -> [u8; 32] {
    let secret = libp2p_identity::ed25519::SecretKey::generate();
    secret.as_ref().try_into().expect("an Ed25519 secret has 32 bytes")
}

pub(super) fn swarm(
    config: &OverlayConfig,
    door: SharedDoor,
    circuits: relay::client::Transport,
    behaviour: Behaviour,
) -> Result<Swarm<Behaviour>, StartError> {
    let transport = transport(config, circuits)?
        .and_then(move |connection, endpoint| pass(door.clone(), connection, endpoint))
        .boxed();
    let keypair = libp2p_identity::Keypair::from(config.keypair.clone());
    let swarm_config = Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE_MAX)
        .with_max_negotiating_inbound_streams(NEGOTIATING_MAX)
        .with_smart_dial();
    Ok(Swarm::new(transport, behaviour, keypair.public().to_peer_id(), swarm_config))
}

fn transport(
    config: &OverlayConfig,
    circuits: relay::client::Transport,
) -> Result<Boxed<(HostId, StreamMuxerBox)>, StartError> {
    let keypair = libp2p_identity::Keypair::from(config.keypair.clone());
    let noise = || noise::Config::new(&keypair).map_err(|error| StartError::Transport(error.to_string()));
    let multiplexed = || {
        let mut yamux = yamux::Config::default();
        yamux.set_max_num_streams(usize::try_from(STREAMS_MAX).expect("usize has 32 bits at least"));
        yamux
    };
    let circuits = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(noise()?)
        .multiplex(multiplexed())
        .timeout(CIRCUIT_SETUP_MAX)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let quic = (config.transports != Transports::Tcp).then(|| {
        let mut settings = quic::Config::new(&keypair);
        settings.max_idle_timeout = u32::try_from(QUIC_IDLE_MAX.as_millis()).expect("seconds fit");
        settings.keep_alive_interval = QUIC_KEEP_ALIVE;
        settings.max_concurrent_stream_limit = STREAMS_MAX;
        settings.max_stream_data = QUIC_STREAM_WINDOW;
        settings.max_connection_data = QUIC_CONNECTION_WINDOW;
        quic::tokio::Transport::new(settings).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
    });
    let tcp = match config.transports {
        Transports::Quic => None,
        Transports::Both | Transports::Tcp => {
            let upgraded = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
                .upgrade(Version::V1Lazy)
                .authenticate(noise()?)
                .multiplex(multiplexed())
                .timeout(TCP_SETUP_MAX);
            Some(upgraded.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))))
        }
    };
    let quic = quic.map_or_else(OptionalTransport::none, OptionalTransport::some);
    let tcp = tcp.map_or_else(OptionalTransport::none, OptionalTransport::some);
    let direct = quic.or_transport(tcp).map(|either, _| either.into_inner());
    Ok(circuits.or_transport(direct).map(|either, _| either.into_inner()).boxed())
}

/// Binds QUIC and TCP on each address and waits until each is reported.
pub(super) async fn listen(
    swarm: &mut Swarm<Behaviour>,
    addresses: &[SocketAddr],
    transports: Transports,
) -> Result<Vec<SocketAddr>, StartError> {
    let mut bound = Vec::new();
    for address in addresses {
        bound.push(listen_on_both(swarm, *address, transports).await?);
    }
    Ok(bound)
}

async fn listen_on_both(
    swarm: &mut Swarm<Behaviour>,
    address: SocketAddr,
    transports: Transports,
) -> Result<SocketAddr, StartError> {
    if transports != Transports::Both {
        let transport = if transports == Transports::Tcp { Transport::Tcp } else { Transport::Quic };
        return bind(swarm, address, transport).await.map(|(_, bound)| bound);
    }
    let mut tries = 0;
    loop {
        let (listener, bound) = bind(swarm, address, Transport::Tcp).await?;
        match bind(swarm, bound, Transport::Quic).await {
            Ok(_) => return Ok(bound),
            Err(_) if address.port() == 0 && tries < PORT_TRIES => {
                tries += 1;
                swarm.remove_listener(listener);
            }
            Err(error) => return Err(error),
        }
    }
}

async fn bind(
    swarm: &mut Swarm<Behaviour>,
    address: SocketAddr,
    transport: Transport,
) -> Result<(ListenerId, SocketAddr), StartError> {
    let failed = |reason: String| StartError::Listen {
        address,
        transport: match transport {
            Transport::Quic => "QUIC over UDP",
            Transport::Tcp => "TCP",
            Transport::Relayed => "a circuit",
        },
        reason,
    };
    let listener =
        swarm.listen_on(to_multiaddr(address, transport)).map_err(|error| failed(innermost(&error)))?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { listener_id, address: reported } if listener_id == listener => {
                let (reported, _) =
                    from_multiaddr(&reported).ok_or_else(|| failed(format!("bound to {reported}")))?;
                return Ok((listener, SocketAddr::new(address.ip(), reported.port())));
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == listener => {
                return Err(failed(
                    reason.err().map_or_else(|| "closed".to_owned(), |error| innermost(&error)),
                ));
            }
            _ => {}
        }
    }
}

/// What went wrong at the bottom, in one line.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(deeper) = deeper(innermost) {
        innermost = deeper;
    }
    innermost.to_string()
}

/// `source`, and what an `io::Error` wraps (its own `source` skips the wrapped error itself).
fn deeper<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a (dyn std::error::Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// What the door said, if it was the door that ended a connection.
pub(super) fn gate_failure<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a GateFailure> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(gate) = error.downcast_ref::<GateFailure>() {
            return Some(gate);
        }
        next = deeper(error);
    }
    None
}

/// Where TCP is knocked at.
pub(crate) fn tcp_address(address: SocketAddr) -> Multiaddr {
    to_multiaddr(address, Transport::Tcp)
}

/// `/ip4/…/tcp/…` or `/ip4/…/udp/…/quic-v1`.
pub(super) fn to_multiaddr(address: SocketAddr, transport: Transport) -> Multiaddr {
    let base = Multiaddr::from(address.ip());
    match transport {
        // A circuit's address is its relay's: see `super::circuits`.
        Transport::Tcp | Transport::Relayed => base.with(Protocol::Tcp(address.port())),
        Transport::Quic => base.with(Protocol::Udp(address.port())).with(Protocol::QuicV1),
    }
}

/// All ways to dial `addresses` with these transports.
pub(super) fn dial_addresses(addresses: &[SocketAddr], transports: Transports) -> Vec<Multiaddr> {
    let kinds: &[Transport] = match transports {
        Transports::Both => &[Transport::Quic, Transport::Tcp],
        Transports::Quic => &[Transport::Quic],
        Transports::Tcp => &[Transport::Tcp],
    };
    kinds.iter().flat_map(|kind| addresses.iter().map(|address| to_multiaddr(*address, *kind))).collect()
}

/// The reverse; `None` for forms this crate does not make, and for circuits.
pub(super) fn from_multiaddr(address: &Multiaddr) -> Option<(SocketAddr, Transport)> {
    let is_circuit = address.iter().any(|part| part == Protocol::P2pCircuit);
    if is_circuit { None } else { first_hop(address) }
}

/// Where a connection's first datagram or segment goes: to the peer, or to the relay of a circuit.
pub(super) fn first_hop(address: &Multiaddr) -> Option<(SocketAddr, Transport)> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some((SocketAddr::new(ip, port), Transport::Tcp)),
        Protocol::Udp(port) => Some((SocketAddr::new(ip, port), Transport::Quic)),
        _ => None,
    }
}
