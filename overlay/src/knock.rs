//! A knock: who listens at a host's addresses right now, whatever is remembered of it.
//!
//! The story: somebody asks why a host does not answer. A connection that stands may be to a process that is gone (nothing says so before two pings are
//! lost), and a dial waits for the slowest of its ways. So each address is tried by itself over TCP, with the encryption's handshake, in which the
//! listener proves its name; then the connection is closed. The knocking side uses a key of the moment: no membership is shown and none is learned,
//! and the listener counts a connection that broke before it stood.
//!
//! Owns nothing: a function. It refuses to know what follows from the answer.

use crate::identity::HostId;
use libp2p::{
    Transport as _,
    core::{Endpoint, transport::DialOpts, transport::PortUse, upgrade::Version},
    futures::{StreamExt, stream::FuturesUnordered},
    noise, tcp, yamux,
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Addresses tried: the proven one comes first, and a host with more than some has the others for other networks.
const KNOCKS_MAX: usize = 4;

/// What became of it; of several addresses, the answer that says most, which is the least in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Knock {
    /// The host itself listens.
    Answered,
    /// Another host listens there.
    Other(HostId),
    /// Something listens, and does not prove a name.
    Foreign,
    /// The computer answers, and nothing listens.
    Refused,
    /// Nothing came back in time.
    Silent,
    /// This computer has no way to any of the addresses.
    NoWay,
    /// No address is known.
    NoAddress,
}

/// Knocks at all `addresses` of `host` at once, the first of which is the one that was right last.
pub async fn knock(host: HostId, addresses: &[SocketAddr], within: Duration) -> Knock {
    let tried = addresses.iter().take(KNOCKS_MAX).enumerate();
    let tries: FuturesUnordered<_> = tried
        .map(async |(place, address)| match knock_at(host, *address, within).await {
            // Every second home has the same private addresses: whoever has this one here is no news.
            Knock::Other(_) if place > 0 && is_private(address.ip()) => Knock::Silent,
            knock => knock,
        })
        .collect();
    tries.fold(Knock::NoAddress, async |best, knock| best.min(knock)).await
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}

async fn knock_at(host: HostId, address: SocketAddr, within: Duration) -> Knock {
    let key = libp2p_identity::Keypair::generate_ed25519();
    let noise = noise::Config::new(&key).expect("a new Ed25519 key signs");
    let mut transport = tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default());
    let address = crate::driver::tcp_address(address);
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let Ok(dial) = transport.dial(address, options) else { return Knock::NoWay };
    match tokio::time::timeout(within, dial).await {
        Ok(Ok((found, _))) if found == host => Knock::Answered,
        Ok(Ok((found, _))) => Knock::Other(found),
        // TCP failed; or it stood, and the encryption or what follows it did not.
        Ok(Err(error)) => {
            error.left().and_then(|error| error.left()).map_or(Knock::Foreign, |error| failed(&error))
        }
        Err(_) => Knock::Silent,
    }
}

/// What the system's error means.
fn failed(error: &io::Error) -> Knock {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, NetworkUnreachable};
    match error.kind() {
        ConnectionRefused => Knock::Refused,
        NetworkUnreachable | AddrNotAvailable => Knock::NoWay,
        // The last router, or this host's own link, finds nobody there; or the system has waited long enough.
        _ => Knock::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_port_where_nothing_listens_refuses_and_no_address_is_none() {
        // Bound and not listening: nobody else takes the port meanwhile.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(knock(HostId::random(), &[address], PATIENCE).await, Knock::Refused);
        assert_eq!(knock(HostId::random(), &[], PATIENCE).await, Knock::NoAddress);
    }

    #[tokio::test]
    async fn what_listens_and_hangs_up_is_foreign_and_what_says_nothing_is_silent() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(knock(HostId::random(), &[address], Duration::from_millis(50)).await, Knock::Silent);
        let hangs_up = std::thread::spawn(move || {
            for _ in 0..2 {
                drop(listener.accept().unwrap());
            }
        });
        assert_eq!(knock(HostId::random(), &[address], PATIENCE).await, Knock::Foreign);
        hangs_up.join().unwrap();
    }
}
