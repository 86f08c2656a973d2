//! One mapping, by whichever protocol the router speaks.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use crab_nat::{InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig};

use super::upnp::UpnpMapping;
use super::{Gateway, LIFE};

/// How long a router may take to answer PCP or NAT-PMP; it is one hop away.
const ASK: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: Some(Duration::from_millis(500)),
};

/// A router that says less is asked again after a minute, not more often.
const LIFE_MIN: Duration = Duration::from_secs(120);

/// By which protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// UPnP Internet Gateway Device.
    Upnp,
}

/// One mapping.
#[derive(Debug)]
pub struct Lease {
    address: SocketAddr,
    mapping: Held,
}

#[derive(Debug)]
enum Held {
    ByDatagram(PortMapping),
    Upnp(UpnpMapping),
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
    Ok(Lease { address, mapping: Held::ByDatagram(mapping) })
}

/// UPnP, for routers that speak neither.
///
/// # Errors
/// In words, if the router does not answer or does not want to.
pub async fn obtain_by_upnp(gateway: Gateway, port: u16) -> Result<Lease, String> {
    let mapping = UpnpMapping::obtain(gateway, port, LIFE).await?;
    Ok(Lease { address: mapping.address(), mapping: Held::Upnp(mapping) })
}

fn life_s() -> u32 {
    u32::try_from(LIFE.as_secs()).unwrap_or(u32::MAX)
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
        match &self.mapping {
            Held::Upnp(_) => Method::Upnp,
            Held::ByDatagram(mapping) => match mapping.mapping_type() {
                PortMappingType::NatPmp => Method::NatPmp,
                PortMappingType::Pcp { .. } => Method::Pcp,
            },
        }
    }

    /// How long the router will keep it.
    #[must_use]
    pub fn life(&self) -> Duration {
        let said = match &self.mapping {
            Held::ByDatagram(mapping) => Duration::from_secs(mapping.lifetime().into()),
            Held::Upnp(mapping) => mapping.life(),
        };
        said.clamp(LIFE_MIN, LIFE)
    }

    /// Asks for more time; the router may give another port.
    ///
    /// # Errors
    /// In words, if it gives none.
    pub async fn renew(&mut self) -> Result<(), String> {
        self.address = match &mut self.mapping {
            Held::Upnp(mapping) => {
                mapping.renew().await?;
                mapping.address()
            }
            Held::ByDatagram(mapping) => {
                mapping.renew().await.map_err(|error| error.to_string())?;
                let ip = match mapping.mapping_type() {
                    PortMappingType::Pcp { external_ip, .. } => external_ip.to_canonical(),
                    PortMappingType::NatPmp => self.address.ip(),
                };
                SocketAddr::new(ip, mapping.external_port().get())
            }
        };
        Ok(())
    }

    /// Gives it back; where that fails it ends by itself.
    pub async fn give_back(self) {
        let given_back = match self.mapping {
            Held::ByDatagram(mapping) => mapping.try_drop().await.map_err(|(why, _)| why.to_string()),
            Held::Upnp(mapping) => mapping.give_back().await,
        };
        if let Err(why) = given_back {
            tracing::debug!(%why, "the mapping was not given back");
        }
    }
}
