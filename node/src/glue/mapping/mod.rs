//! A port at the router: asked for by PCP, NAT-PMP or UPnP, told to the data plane as a candidate, renewed, and given back at the end.
//!
//! ```text
//!  gateway of the default route ─▶ PCP, which falls back to NAT-PMP ─▶ UPnP IGD ─▶ mapped: renewed at half its life
//!                                                                        └─▶ none: asked again after RETRY (another network, another router)
//! ```
//! Owns: the mapping. Refuses to know: what the address is used for. What a router says is tried by the data plane like any candidate; a router that
//! lies wins nothing. Sources: RFC 6887, RFC 6886, and [`upnp`]'s. IPv4 only: IPv6 needs no mapping, and firewalls that
//! would open by PCP are met by both sides probing at once.

mod gateway;
mod lease;
pub mod upnp;

use std::net::SocketAddr;
use std::time::Duration;

use consort_vswitch::DataPlane;
use tokio::sync::watch;

pub use gateway::Gateway;
pub use lease::{Lease, Method, obtain_by_datagram, obtain_by_upnp};

/// How long a mapping is asked for. RFC 6886 section 3.3 recommends two hours; a router that restarts forgets it anyway, and half of this
/// bounds how long this host believes in one that is gone.
pub const LIFE: Duration = Duration::from_secs(1_800);

/// After so long without a mapping the router is asked again; it may be another one by then.
const RETRY: Duration = Duration::from_secs(300);

/// How long giving a mapping back may take when the node ends; it ends by itself after [`LIFE`].
const GIVE_BACK_WITHIN: Duration = Duration::from_millis(500);

/// What became of asking.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mapped {
    /// Not asked yet, or not to be asked.
    #[default]
    Unasked,
    /// No router answers, or it does not want to.
    Refused {
        /// What each way said.
        why: String,
    },
    /// There is a port.
    Open {
        /// The outside address.
        address: SocketAddr,
        /// By which protocol.
        method: Method,
    },
}

/// The way to the task. Clones share it.
#[derive(Debug, Clone)]
pub struct Mapping {
    state: watch::Receiver<Mapped>,
    end: watch::Sender<bool>,
}

/// The task.
#[derive(Debug)]
pub struct MappingTask {
    data: DataPlane,
    state: watch::Sender<Mapped>,
    ends: watch::Receiver<bool>,
}

impl Mapping {
    /// The task for `data`'s port, and the way to it.
    #[must_use]
    pub fn new(data: DataPlane) -> (Self, MappingTask) {
        let (state, states) = watch::channel(Mapped::default());
        let (end, ends) = watch::channel(false);
        (Self { state: states, end }, MappingTask { data, state, ends })
    }

    /// What became of asking.
    #[must_use]
    pub fn state(&self) -> Mapped {
        self.state.borrow().clone()
    }

    /// Ends the task, and waits a moment until the mapping was given back.
    pub async fn end(&self) {
        self.end.send_replace(true);
        let mut state = self.state.clone();
        let given_back = async { while state.changed().await.is_ok() {} };
        if tokio::time::timeout(GIVE_BACK_WITHIN, given_back).await.is_err() {
            tracing::debug!("the router did not confirm in time that the mapping is given back");
        }
    }
}

impl MappingTask {
    /// Runs until it is ended.
    pub async fn run(mut self) {
        let first = self.data.local_addr();
        // Routers give ports of IPv4.
        let second = self.data.local_addr_second().filter(SocketAddr::is_ipv4);
        let local = second.unwrap_or(first);
        if local.ip().is_loopback() || local.is_ipv6() && !local.ip().is_unspecified() {
            return;
        }
        loop {
            let lease = tokio::select! {
                lease = obtain(local.port()) => lease,
                () = ended(&mut self.ends) => return,
            };
            match lease {
                Ok(lease) => {
                    if self.hold(lease).await {
                        return;
                    }
                    // It was lost: another router, perhaps, and at once.
                }
                Err(why) => {
                    tracing::debug!(%why, "no port is mapped");
                    self.state.send_replace(Mapped::Refused { why });
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => {}
                        () = ended(&mut self.ends) => return,
                    }
                }
            }
        }
    }

    /// Renews a mapping until it is lost (false) or the node ends (true).
    async fn hold(&mut self, mut lease: Lease) -> bool {
        loop {
            let (address, method) = (lease.address(), lease.method());
            let open = Mapped::Open { address, method };
            if *self.state.borrow() != open {
                tracing::info!(%address, ?method, "the router maps a port to the data plane");
                self.state.send_replace(open);
                self.data.set_mapped(vec![address]);
            }
            tokio::select! {
                () = tokio::time::sleep(lease.life() / 2) => {}
                () = ended(&mut self.ends) => {
                    self.data.set_mapped(Vec::new());
                    lease.give_back().await;
                    return true;
                }
            }
            if let Err(why) = lease.renew().await {
                tracing::info!(%address, %why, "the router does not renew the mapping");
                self.data.set_mapped(Vec::new());
                self.state.send_replace(Mapped::Refused { why });
                return false;
            }
        }
    }
}

async fn ended(ends: &mut watch::Receiver<bool>) {
    // The sender lives as long as the member.
    let _daemon_ends = ends.wait_for(|ends| *ends).await;
}

/// A mapping by whichever protocol the router speaks.
async fn obtain(port: u16) -> Result<Lease, String> {
    let gateway = Gateway::of_default_route()?;
    match obtain_by_datagram(gateway, port).await {
        Ok(lease) => Ok(lease),
        Err(why) => obtain_by_upnp(gateway, port).await.map_err(|also| format!("{why}; {also}")),
    }
}
