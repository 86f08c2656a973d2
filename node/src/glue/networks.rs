//! What the switch is told of slices, and who may open a channel.
//!
//! For each slice with machines here the engine gives one view ([`SliceNetworks`]); it replaces the one before. From it follow the networks and
//! machines the switch knows, the hosts it may be linked with, the grants this host presents, and the answer to a peer that wants to open
//! a channel: a grant is good if a steward signed it for that peer and network, and this host's own view is fresh
//! ([`verify_grant`]). A peer may be quicker than the record: a request for a network that is not known yet waits a moment.
//!
//! Owns: the views, and the requests that wait. Refuses to know: frames, and how a view came about. No clock of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use consort_overlay::HostId;
use consort_scheduler::identity::TenantId;
use consort_scheduler::slice::grant::{self, verify_grant};
use consort_scheduler::slice::id::{NetworkId as SliceNetworkId, SliceId};
use consort_scheduler::slice::view::{NetworkView, SliceNetworks};
use consort_scheduler::units::Millis;
use consort_vswitch::{
    ChannelRequest, DataPlane, Event, GrantRefusal, MacAddr, MachineBinding, NetworkConfig, NetworkId,
};
use tokio::sync::watch;

/// How long a request for an unknown network waits for the record to arrive. A host reads the record at once when it is told of it; a
/// second covers the slowest of them, and a stranger's request costs us no more than a place in the queue.
const WAIT_FOR_RECORD: Millis = Millis(1_000);

/// Requests waiting at once; beyond it they are refused at once.
const WAITING_MAX: usize = 256;

/// What is known of a network of this host.
#[derive(Debug, Clone)]
pub struct NetworkInfo {
    /// Its slice.
    pub slice: SliceId,
    /// Its slice's name.
    pub slice_name: String,
    /// What the record says.
    pub view: NetworkView,
}

/// Who may do something with a machine of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The slice's tenant.
    pub tenant: TenantId,
    /// The machine's name on this host.
    pub id: String,
}

/// This host's part of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// How many of its machines are here.
    pub machines: usize,
    /// Its networks, each with the other hosts on it.
    pub networks: Vec<(NetworkId, Vec<HostId>)>,
}

#[derive(Debug)]
struct Waiting {
    request: ChannelRequest,
    peer: HostId,
    network: NetworkId,
    grant: Vec<u8>,
    until: Millis,
}

/// What the switch has been told.
#[derive(Debug)]
pub struct Networks {
    data: DataPlane,
    me: HostId,
    mtu: u16,
    slices: BTreeMap<SliceId, SliceNetworks>,
    waiting: VecDeque<Waiting>,
    /// The hosts the data plane should know: [`super::peers`] sees to it.
    hosts: watch::Sender<BTreeSet<HostId>>,
}

impl Networks {
    /// Nothing told yet; `hosts` is kept at the hosts that share a network with this one.
    #[must_use]
    pub fn new(data: DataPlane, me: HostId, mtu: u16, hosts: watch::Sender<BTreeSet<HostId>>) -> Self {
        Self { data, me, mtu, slices: BTreeMap::new(), waiting: VecDeque::new(), hosts }
    }

    /// Tells the switch what of a slice is so now.
    pub fn apply(&mut self, now: Millis, view: SliceNetworks) {
        let before = self.slices.insert(view.slice, view.clone());
        for gone in before.iter().flat_map(|before| &before.networks) {
            if !view.networks.iter().any(|network| network.id == gone.id) {
                self.data.remove_network(NetworkId(gone.id.0));
            }
        }
        self.tell_hosts();
        for network in &view.networks {
            if let Err(error) = self.data.set_network(network_config(network, self.mtu)) {
                tracing::error!(network = %network.id, %error, "the switch does not take the network");
                continue;
            }
            if let Some(grant) = &network.grant {
                for host in &network.hosts {
                    if let Err(error) = self.data.offer_grant(NetworkId(network.id.0), *host, grant.to_vec())
                    {
                        tracing::error!(network = %network.id, %host, %error, "no channel can be opened to the host");
                    }
                }
            }
        }
        self.answer_waiting(now);
    }

    /// The switch forgets a slice.
    pub fn gone(&mut self, slice: SliceId) {
        let Some(view) = self.slices.remove(&slice) else { return };
        for network in &view.networks {
            self.data.remove_network(NetworkId(network.id.0));
        }
        self.tell_hosts();
    }

    fn tell_hosts(&self) {
        let hosts: BTreeSet<HostId> =
            self.networks().flat_map(|(_, network)| network.hosts.iter().copied()).collect();
        self.hosts.send_if_modified(|told| {
            let changed = *told != hosts;
            if changed {
                *told = hosts;
            }
            changed
        });
    }

    fn networks(&self) -> impl Iterator<Item = (&SliceNetworks, &NetworkView)> {
        self.slices.values().flat_map(|slice| slice.networks.iter().map(move |network| (slice, network)))
    }

    /// Takes what the data plane reports.
    pub fn handle_event(&mut self, now: Millis, event: Event) {
        match event {
            Event::ChannelRequested { request, peer, network, grant } => {
                let waiting = Waiting { request, peer, network, grant, until: now.plus(WAIT_FOR_RECORD) };
                if !self.knows(network) && self.waiting.len() < WAITING_MAX {
                    self.waiting.push_back(waiting);
                } else {
                    self.answer(now, waiting);
                }
            }
            Event::ChannelRefused { peer, network, reason } => {
                tracing::warn!(%peer, %network, ?reason, "the peer does not let this host into the network");
            }
            Event::LinkUp { peer } => tracing::info!(%peer, "link up"),
            Event::LinkDown { peer, reason } => tracing::info!(%peer, ?reason, "link down"),
            Event::Roamed { peer, from, to } => tracing::info!(%peer, %from, %to, "link moved"),
            _ => {}
        }
    }

    fn knows(&self, network: NetworkId) -> bool {
        self.networks().any(|(_, known)| known.id.0 == network.0)
    }

    fn answer_waiting(&mut self, now: Millis) {
        for waiting in std::mem::take(&mut self.waiting) {
            if self.knows(waiting.network) || waiting.until <= now {
                self.answer(now, waiting);
            } else {
                self.waiting.push_back(waiting);
            }
        }
    }

    fn answer(&self, now: Millis, waiting: Waiting) {
        let Waiting { request, peer, network, grant, .. } = waiting;
        let verdict = self.judge(now, peer, network, &grant);
        if let Err(refusal) = &verdict {
            tracing::warn!(%peer, %network, ?refusal, "a peer's channel is refused");
        }
        self.data.answer_channel(request, verdict);
    }

    fn judge(
        &self,
        now: Millis,
        peer: HostId,
        network: NetworkId,
        grant: &[u8],
    ) -> Result<std::time::Duration, GrantRefusal> {
        let id = SliceNetworkId(network.0);
        let (slice, _) =
            self.networks().find(|(_, known)| known.id == id).ok_or(GrantRefusal::NetworkUnknown)?;
        verify_grant(&slice.record, slice.valid_until, peer, id, grant, now)
            .map(|valid| std::time::Duration::from_millis(valid.0))
            .map_err(|refusal| match refusal {
                grant::GrantRefusal::ViewExpired | grant::GrantRefusal::NotActive => GrantRefusal::Expired,
                grant::GrantRefusal::NotForThis | grant::GrantRefusal::NotAMember => GrantRefusal::NotYours,
                _ => GrantRefusal::Invalid,
            })
    }

    /// When waiting requests want to be answered at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    /// Answers the requests whose time is over.
    pub fn handle_timeout(&mut self, now: Millis) {
        self.answer_waiting(now);
    }

    /// All networks of this host.
    #[must_use]
    pub fn list(&self) -> Vec<NetworkInfo> {
        self.networks()
            .map(|(slice, network)| NetworkInfo {
                slice: slice.slice,
                slice_name: slice.name.to_string(),
                view: network.clone(),
            })
            .collect()
    }

    /// This host's part of a slice.
    #[must_use]
    pub fn part(&self, slice: SliceId) -> Option<Part> {
        let view = self.slices.get(&slice)?;
        Some(Part {
            machines: view.record.machines.iter().filter(|machine| machine.host == self.me).count(),
            networks: view
                .networks
                .iter()
                .map(|network| (NetworkId(network.id.0), network.hosts.clone()))
                .collect(),
        })
    }

    /// Who may do something with a machine of this host.
    #[must_use]
    pub fn authority(&self, slice: SliceId, machine: &str) -> Option<Authority> {
        let view = self.slices.get(&slice)?;
        let here = |placed: &&consort_scheduler::slice::record::Machine| {
            placed.host == self.me && placed.name.as_str() == machine
        };
        let placed = view.record.machines.iter().find(here)?;
        let id = consort_scheduler::slice::view::machine_id(slice, placed.name.as_str());
        Some(Authority { tenant: view.record.tenant, id })
    }
}

fn network_config(network: &NetworkView, mtu: u16) -> NetworkConfig {
    NetworkConfig {
        id: NetworkId(network.id.0),
        mtu,
        machines: network
            .machines
            .iter()
            .map(|machine| MachineBinding {
                mac: MacAddr(machine.mac),
                ipv4: machine.ipv4.into_iter().collect(),
                ipv6: machine.ipv6.into_iter().collect(),
                host: machine.host,
            })
            .collect(),
        hosts: network.hosts.clone(),
        allow_unknown: false,
    }
}
