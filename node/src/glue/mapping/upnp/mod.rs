//! A port at the router by UPnP IGD: found on the LAN, described over HTTP, asked by SOAP.
//!
//! ```text
//!  search: UDP 239.255.255.250:1900 ─▶ answer of the router ─▶ GET description ─▶ control URL ─▶ AddPortMapping, GetExternalIPAddress, DeletePortMapping
//! ```
//! | file | owns |
//! |---|---|
//! | [`search`] | the search's bytes, and where an answer points |
//! | [`http`] | one request, one answer, as bytes |
//! | [`description`] | the control URL in a description |
//! | [`soap`] | the actions, and what is said to them |
//! | this | the sockets, and in which order |
//!
//! All that a router says is hostile until it is read: an answer counts only from the default route's router, every URL must lead to that same address,
//! nothing is followed elsewhere (no redirects), an answer has at most [`http::BYTES_MAX`] bytes and `EXCHANGE_WITHIN`, and XML is read without a DTD and with
//! a bound on its nodes. Sources: UPnP Device Architecture 1.1; WANIPConnection:1 and :2, WANPPPConnection:1.

pub mod description;
pub mod http;
pub mod search;
pub mod soap;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::Gateway;
use description::Control;
use soap::Action;

/// How long a router has for its answer to the search; it is asked twice, and told to take at most one second.
const SEARCH_WITHIN: Duration = Duration::from_millis(1_200);

/// One request and its answer, from the first packet to the last.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(3);

/// Outside ports tried where another host has the wanted one.
const PORTS_TRIED: u16 = 4;

/// A mapping that stands.
#[derive(Debug)]
pub struct UpnpMapping {
    gateway: Gateway,
    control: Control,
    inside: u16,
    address: SocketAddr,
    life: Duration,
}

impl UpnpMapping {
    /// Finds the router's device and asks it for a port.
    ///
    /// # Errors
    /// In words.
    pub async fn obtain(gateway: Gateway, inside: u16, life: Duration) -> Result<Self, String> {
        let location = find(gateway).await?;
        let page = exchange(gateway, location.address, &http::get(&location)).await?;
        let control = description::control(&page.body_of_success()?, &location)?;
        let mut mapping =
            Self { gateway, control, inside, address: (Ipv4Addr::UNSPECIFIED, inside).into(), life };
        mapping.ask().await?;
        Ok(mapping)
    }

    /// The outside address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How long the router keeps it, or is believed to.
    #[must_use]
    pub fn life(&self) -> Duration {
        self.life
    }

    /// Asks for more time.
    ///
    /// # Errors
    /// In words, if it is not given.
    pub async fn renew(&mut self) -> Result<(), String> {
        self.ask().await
    }

    /// Gives it back.
    ///
    /// # Errors
    /// In words, if the router does not take it.
    pub async fn give_back(self) -> Result<(), String> {
        self.perform(&Action::Delete { outside: self.address.port() }).await?;
        Ok(())
    }

    async fn ask(&mut self) -> Result<(), String> {
        let port = self.map().await?;
        let said = self.perform(&Action::Address).await?;
        let ip = said.address().ok_or("the router does not say its outside address")?;
        self.address = SocketAddr::new(IpAddr::V4(ip), port);
        Ok(())
    }

    /// The port that was given: the one held, else those that follow the inside one.
    async fn map(&self) -> Result<u16, String> {
        let mut refused = String::new();
        for turn in 0..PORTS_TRIED {
            let outside = self.address.port().wrapping_add(turn).max(1);
            let mut seconds = u32::try_from(self.life.as_secs()).unwrap_or(u32::MAX);
            loop {
                let action = Action::Add { outside, inside: self.inside, host: self.gateway.host, seconds };
                match self.perform(&action).await {
                    Ok(_) => return Ok(outside),
                    // It is taken back when the node ends, and asked for again as if it ended.
                    Err(error) if error.is_only_permanent() && seconds != 0 => seconds = 0,
                    Err(error) if error.is_conflict() => {
                        refused = error.to_string();
                        break;
                    }
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
        Err(refused)
    }

    async fn perform(&self, action: &Action) -> Result<soap::Said, soap::Refused> {
        let request = soap::request(&self.control, action);
        let answer = exchange(self.gateway, self.control.url.address, &request).await;
        soap::read(&answer.map_err(soap::Refused::Broken)?)
    }
}

/// Where the router's description is.
async fn find(gateway: Gateway) -> Result<search::Url, String> {
    let failed = |error: std::io::Error| format!("UPnP: the LAN cannot be searched: {error}");
    let socket = UdpSocket::bind((gateway.host, 0)).await.map_err(failed)?;
    socket.set_multicast_ttl_v4(search::HOPS).map_err(failed)?;
    let group = SocketAddrV4::new(search::GROUP, search::PORT);
    let mut bytes = vec![0; search::BYTES_MAX];
    let answered = async {
        loop {
            let (length, from) = socket.recv_from(&mut bytes).await.map_err(failed)?;
            // Televisions and printers answer too.
            if from.ip() == IpAddr::V4(gateway.router)
                && let Some(url) = search::location(&bytes[..length], gateway.router)
            {
                return Ok(url);
            }
        }
    };
    let asked = async {
        for target in search::TARGETS {
            socket.send_to(&search::message(target), group).await.map_err(failed)?;
        }
        std::future::pending::<Result<search::Url, String>>().await
    };
    let found = async {
        tokio::select! {
            found = answered => found,
            failed = asked => failed,
        }
    };
    tokio::time::timeout(SEARCH_WITHIN, found)
        .await
        .unwrap_or_else(|_| Err("UPnP: the router is no gateway device".to_owned()))
}

/// One request to the router, and its answer, within bounds of time and size.
async fn exchange(gateway: Gateway, to: SocketAddrV4, request: &[u8]) -> Result<http::Answer, String> {
    if *to.ip() != gateway.router {
        return Err(format!("UPnP: {to} is not the router"));
    }
    let exchanged = async {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(request).await?;
        let mut bytes = Vec::new();
        while !http::is_whole(&bytes) && bytes.len() <= http::BYTES_MAX {
            if stream.read_buf(&mut bytes).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(bytes)
    };
    match tokio::time::timeout(EXCHANGE_WITHIN, exchanged).await {
        Ok(Ok(bytes)) => http::Answer::read(&bytes).map_err(|error| format!("UPnP: {error}")),
        Ok(Err(error)) => Err(format!("UPnP: the router breaks off: {error}")),
        Err(_) => Err("UPnP: the router takes too long".to_owned()),
    }
}
