//! What the switch is told of slices, and who may open a channel.
//!
//! For each slice with machines here the engine gives one view ([`SliceNetworks`]); it replaces the one before. From it follow the networks and
//! machines the switch knows, the hosts it may be linked with, the grants this host presents, and the answer to a peer that wants to open
//! a channel. The engine judges grants; here a request only waits for it. A peer may be quicker than the record: a request for a network that is not known yet waits a moment.
//!
//! Owns: the views, and the requests that wait. Refuses to know: frames, what makes a grant good, and how a view came about. No clock of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use consort_overlay::HostId;
use consort_scheduler::identity::TenantId;
use consort_scheduler::slice::grant;
use consort_scheduler::slice::id::SliceId;
use consort_scheduler::slice::view::{NetworkView, SliceNetworks};
use consort_scheduler::units::Millis;
use consort_vswitch::{
    ChannelRequest, DataPlane, Event, GrantRefusal, MacAddr, MachineBinding, NetworkConfig, NetworkId,
};

use super::wanted::{Wanted, Wanter};

/// How long a request for an unknown network waits for the record to arrive. A host reads the record at once when it is told of it; a
/// second covers the slowest of them, and a stranger's request costs us no more than a place in the queue.
const WAIT_FOR_RECORD: Millis = Millis(1_000);

/// Requests waiting at once.
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

/// A peer that wants to open a channel.
#[derive(Debug)]
pub struct Question {
    request: ChannelRequest,
    /// Who asks.
    pub peer: HostId,
    /// For which network.
    pub network: NetworkId,
    /// What it presents.
    pub grant: Vec<u8>,
    until: Millis,
}

/// What the switch has been told.
#[derive(Debug)]
pub struct Networks {
    data: DataPlane,
    me: HostId,
    mtu: u16,
    slices: BTreeMap<SliceId, SliceNetworks>,
    waiting: VecDeque<Question>,
    /// The hosts the data plane should know: [`super::peers`] sees to it.
    hosts: Wanted,
}

impl Networks {
    /// Nothing told yet; `hosts` is kept at the hosts that share a network with this one.
    #[must_use]
    pub fn new(data: DataPlane, me: HostId, mtu: u16, hosts: Wanted) -> Self {
        Self { data, me, mtu, slices: BTreeMap::new(), waiting: VecDeque::new(), hosts }
    }

    /// Tells the switch what of a slice is so now.
    pub fn apply(&mut self, view: SliceNetworks) {
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
            network.hosts.iter().for_each(|host| self.offer(network, *host));
        }
    }

    fn offer(&self, network: &NetworkView, host: HostId) {
        let Some(grant) = &network.grant else { return };
        if let Err(error) = self.data.offer_grant(NetworkId(network.id.0), host, grant.to_vec()) {
            tracing::error!(network = %network.id, %host, %error, "no channel can be opened to the host");
        }
    }

    /// A link that is new has none of the grants its predecessor had: a peer that was removed and told of again lost them.
    fn offer_all(&self, peer: HostId) {
        let shared = self.networks().filter(|(_, network)| network.hosts.contains(&peer));
        shared.for_each(|(_, network)| self.offer(network, peer));
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
        self.hosts.set(Wanter::Slices, hosts);
    }

    fn networks(&self) -> impl Iterator<Item = (&SliceNetworks, &NetworkView)> {
        self.slices.values().flat_map(|slice| slice.networks.iter().map(move |network| (slice, network)))
    }

    /// Takes what the data plane reports.
    pub fn handle_event(&mut self, now: Millis, event: Event) {
        match event {
            Event::ChannelRequested { request, peer, network, grant } => {
                // Where too many wait, the oldest is asked again by its peer.
                if self.waiting.len() >= WAITING_MAX {
                    self.waiting.pop_front();
                }
                let until = now.plus(WAIT_FOR_RECORD);
                self.waiting.push_back(Question { request, peer, network, grant, until });
            }
            Event::ChannelRefused { peer, network, reason } => {
                tracing::warn!(%peer, %network, ?reason, "the peer does not let this host into the network");
            }
            Event::LinkUp { peer } => {
                tracing::info!(%peer, "link up");
                self.offer_all(peer);
            }
            Event::LinkDown { peer, reason } => tracing::info!(%peer, ?reason, "link down"),
            Event::Roamed { peer, from, to } => tracing::info!(%peer, %from, %to, "link moved"),
            _ => {}
        }
    }

    fn knows(&self, network: NetworkId) -> bool {
        self.networks().any(|(_, known)| known.id.0 == network.0)
    }

    /// The next request that wants to be judged now; give it back with [`Networks::answer`].
    pub fn poll_question(&mut self, now: Millis) -> Option<Question> {
        let due = |question: &Question| question.until <= now || self.knows(question.network);
        let index = self.waiting.iter().position(due)?;
        self.waiting.remove(index)
    }

    /// Answers a request: for how long the channel may stay open, or why it may not.
    pub fn answer(&self, question: Question, verdict: Result<Millis, grant::GrantRefusal>) {
        let Question { request, peer, network, .. } = question;
        let verdict = match verdict {
            Ok(valid) => Ok(std::time::Duration::from_millis(valid.0)),
            Err(_) if !self.knows(network) => Err(GrantRefusal::NetworkUnknown),
            Err(refusal) => {
                tracing::warn!(%peer, %network, %refusal, "a peer's channel is refused");
                Err(match refusal {
                    grant::GrantRefusal::ViewExpired | grant::GrantRefusal::NotActive => {
                        GrantRefusal::Expired
                    }
                    grant::GrantRefusal::NotForThis | grant::GrantRefusal::NotAMember => {
                        GrantRefusal::NotYours
                    }
                    _ => GrantRefusal::Invalid,
                })
            }
        };
        self.data.answer_channel(request, verdict);
    }

    /// When waiting requests want to be answered at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.waiting.iter().map(|waiting| waiting.until).min()
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
