//! One mapping, by whichever protocol the router speaks.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use crab_nat::{InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig};
use igd_next::aio::Gateway as UpnpGateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{PortMappingProtocol, SearchOptions};

use super::{Gateway, LIFE};

/// How long a router may take to answer PCP or NAT-PMP; it is one hop away.
const ASK: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: Some(Duration::from_millis(500)),
};

/// How long the search for a UPnP router may take with everything it reads: it listens to the whole local network, so it ends soon.
const UPNP_WITHIN: Duration = Duration::from_secs(3);

/// What routers show their owners.
const DESCRIPTION: &str = "consort";

/// A router that says less is asked again after a minute, not more often.
const LIFE_MIN: Duration = Duration::from_secs(120);

/// By which protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// UPnP IGD.
    Upnp,
}

/// One mapping.
#[derive(Debug)]
pub struct Lease {
    address: SocketAddr,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Datagram(PortMapping),
    Upnp { gateway: UpnpGateway<Tokio>, inside: SocketAddr },
}

/// Asks the router, by PCP and NAT-PMP first: they are one datagram each way.
pub(super) async fn obtain(gateway: Gateway, port: u16) -> Result<Lease, String> {
    let first = match obtain_by_datagram(gateway, port).await {
        Ok(lease) => return Ok(lease),
        Err(why) => why,
    };
    obtain_by_upnp(gateway, port).await.map_err(|why| format!("{first}; {why}"))
}

/// PCP, or NAT-PMP where the router says so.
///
/// # Errors
/// In words, if the router does not answer or does not want to.
pub async fn obtain_by_datagram(gateway: Gateway, port: u16) -> Result<Lease, String> {
    let inside = NonZeroU16::new(port).ok_or("the data plane has no port")?;
    let options = PortMappingOptions {
        external_port: Some(inside),
        lifetime_seconds: Some(life_s()),
        timeout_config: Some(ASK),
    };
    let (router, host) = (gateway.router.into(), gateway.host.into());
    let mapping = PortMapping::new(router, host, InternetProtocol::Udp, inside, options)
        .await
        .map_err(|error| format!("PCP and NAT-PMP: {error}"))?;
    let ip = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => external_ip,
        PortMappingType::NatPmp => crab_nat::natpmp::external_address(gateway.router.into(), Some(ASK))
            .await
            .map(IpAddr::V4)
            .map_err(|error| format!("NAT-PMP does not say the outside address: {error}"))?,
    };
    // A PCP server speaks of IPv4 in IPv6's form (RFC 6887 section 5).
    let address = SocketAddr::new(ip.to_canonical(), mapping.external_port().get());
    Ok(Lease { address, held: Held::Datagram(mapping) })
}

fn life_s() -> u32 {
    u32::try_from(LIFE.as_secs()).unwrap_or(u32::MAX)
}

async fn obtain_by_upnp(gateway: Gateway, port: u16) -> Result<Lease, String> {
    let search = SearchOptions {
        bind_addr: SocketAddr::new(gateway.host.into(), 0),
        timeout: Some(UPNP_WITHIN),
        single_search_timeout: Some(UPNP_WITHIN),
        ..SearchOptions::default()
    };
    let inside = SocketAddr::new(gateway.host.into(), port);
    let ask = async {
        let upnp = search_gateway(search).await.map_err(|error| format!("UPnP: {error}"))?;
        // Whoever answers a search may be anybody on the local network; only the router's word is taken.
        if upnp.addr.ip() != IpAddr::V4(gateway.router) {
            return Err(format!("UPnP: {} answers, which is not the router", upnp.addr));
        }
        let ip = upnp.get_external_ip().await.map_err(|error| format!("UPnP: {error}"))?;
        ask_upnp(&upnp, port, inside).await?;
        Ok(Lease { address: SocketAddr::new(ip, port), held: Held::Upnp { gateway: upnp, inside } })
    };
    let in_time = tokio::time::timeout(2 * UPNP_WITHIN, ask).await;
    in_time.unwrap_or_else(|_| Err("UPnP: no answer in time".to_owned()))
}

async fn ask_upnp(gateway: &UpnpGateway<Tokio>, outside: u16, inside: SocketAddr) -> Result<(), String> {
    let asked = gateway.add_port(PortMappingProtocol::UDP, outside, inside, life_s(), DESCRIPTION);
    match tokio::time::timeout(UPNP_WITHIN, asked).await {
        Ok(answer) => answer.map_err(|error| format!("UPnP: {error}")),
        Err(_) => Err("UPnP: no answer in time".to_owned()),
    }
}

impl Lease {
    /// The outside address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// By which protocol.
    #[must_use]
    pub fn method(&self) -> Method {
        match &self.held {
            Held::Upnp { .. } => Method::Upnp,
            Held::Datagram(mapping) => match mapping.mapping_type() {
                PortMappingType::NatPmp => Method::NatPmp,
                PortMappingType::Pcp { .. } => Method::Pcp,
            },
        }
    }

    /// How long the router will keep it.
    #[must_use]
    pub fn life(&self) -> Duration {
        let said = match &self.held {
            Held::Datagram(mapping) => Duration::from_secs(mapping.lifetime().into()),
            Held::Upnp { .. } => LIFE,
        };
        said.clamp(LIFE_MIN, LIFE)
    }

    /// Asks for more time; the router may give another port.
    ///
    /// # Errors
    /// In words, if it gives none.
    pub async fn renew(&mut self) -> Result<(), String> {
        match &mut self.held {
            Held::Datagram(mapping) => {
                mapping.renew().await.map_err(|error| error.to_string())?;
                let ip = match mapping.mapping_type() {
                    PortMappingType::Pcp { external_ip, .. } => external_ip.to_canonical(),
                    PortMappingType::NatPmp => self.address.ip(),
                };
                self.address = SocketAddr::new(ip, mapping.external_port().get());
                Ok(())
            }
            Held::Upnp { gateway, inside } => ask_upnp(gateway, self.address.port(), *inside).await,
        }
    }

    /// Gives it back; where that fails it ends by itself.
    pub async fn give_back(self) {
        let failed = match self.held {
            Held::Datagram(mapping) => mapping.try_drop().await.err().map(|(error, _)| error.to_string()),
            Held::Upnp { gateway, .. } => gateway
                .remove_port(PortMappingProtocol::UDP, self.address.port())
                .await
                .err()
                .map(|error| error.to_string()),
        };
        if let Some(why) = failed {
            tracing::debug!(%why, "the mapping was not given back");
        }
    }
}
