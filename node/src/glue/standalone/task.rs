//! The core, driven: its clock, what it wants told and kept, the devices, and what the data plane knows of the networks.
//!
//! One task owns all of it. It waits for the disk and for the kernel, never for a member: comparisons and messages run in tasks of their own, of
//! which there are at most [`SENDS_MAX`], and come back as inputs. With the task everything it made ends: networks are
//! taken from the data plane, which closes the devices' queues, and the kernel removes the devices.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use consort_overlay::{HostId, Overlay, Reply};
use consort_vswitch::{
    ChannelRequest, DataPlane, Event, GrantRefusal, Guard, MachineBinding, NetworkConfig, NetworkId,
    PortConfig,
};
use rand_core::Rng;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::core::{Core, JoinWish, NetworkWish, Now, Output, Place};
use super::device::{self, Device, DeviceSpec};
use super::directory::{CLAIM_LIFETIME_S, CLAIMS_MAX, Digests, Item, NoSuch};
use super::exchange::{connected, exchange};
use super::handle::{create_failure, join_failure};
use super::message::{Differ, ITEMS_MAX, Request};
use super::seats::{Seat, mac_of};
use super::statement::{Claim, Definition, Refusal, Signed, Standing};
use crate::control::api::DeviceCounters;
use crate::failure::Failure;
use crate::glue::protocols;
use crate::glue::wanted::{Wanted, Wanter};
use crate::state::keys::fill_random;
use crate::state::store::{Change, Room, Store};

/// Inputs waiting for the task. A burst is twenty hosts joining at once, each telling each.
pub(super) const INPUTS_MAX: usize = 512;
/// Messages and comparisons on their way at once. What finds no place is told by a later comparison.
const SENDS_MAX: usize = 64;
/// News that waits to be told. What is beyond is told by a later comparison.
const NEWS_MAX: usize = ITEMS_MAX;
/// How long news waits for more: hosts that join together cost one message, and a person notices nothing.
const NEWS_PAUSE: Duration = Duration::from_millis(30);
/// Members that news of others is passed on to. With six each, one in four hundred hears it only by a comparison.
const PASS_ON_TO: usize = 6;
/// How often this host compares with a member at random: what was lost is healed within some of these.
const COMPARE_EVERY: Duration = Duration::from_secs(10);
/// How long until a device that could not be made is tried again.
const DEVICE_AGAIN: Duration = Duration::from_secs(10);
/// How often the members known are asked for again because a stranger was named.
const MEMBERS_AGAIN: Duration = Duration::from_millis(500);
/// Hosts whose membership is being proved by connecting to them.
const PROVING_MAX: usize = 8;
/// The longest a channel is granted for; it is asked for again before.
const CHANNEL_VALID: Duration = Duration::from_secs(120);

/// What the task takes.
#[derive(Debug)]
pub(super) enum Input {
    Lookup { text: String, reply: oneshot::Sender<Result<NetworkId, NoSuch>> },
    Create { wish: NetworkWish, reply: oneshot::Sender<Result<NetworkId, Failure>> },
    Join { id: NetworkId, wish: JoinWish, reply: oneshot::Sender<Result<(), Failure>> },
    Leave { id: NetworkId, reply: oneshot::Sender<Option<String>> },
    Show(oneshot::Sender<Vec<NetworkStatus>>),
    Digests(oneshot::Sender<Digests>),
    Items { ids: Vec<NetworkId>, items_max: usize, reply: oneshot::Sender<Vec<Item>> },
    Hear { items: Vec<Item>, reply: oneshot::Sender<()> },
    Request { body: Vec<u8>, reply: Reply },
    Channel(Event),
    PeerUp(HostId),
    PutOut,
}

/// Asks the task; nothing if it has ended.
pub(super) async fn ask<T>(
    inputs: &mpsc::Sender<Input>,
    input: impl FnOnce(oneshot::Sender<T>) -> Input,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    inputs.send(input(reply)).await.ok()?;
    answer.await.ok()
}

/// What is known of one network.
#[derive(Debug, Clone)]
pub struct NetworkStatus {
    /// Its definition.
    pub definition: Definition,
    /// Who is on it, the first in rank first.
    pub seats: Vec<Seat>,
    /// This host's device, if it is on it.
    pub device: Option<DeviceStatus>,
    /// What the user should know.
    pub notices: Vec<String>,
    /// How often what others told was refused, by reason; of all networks.
    pub refused: BTreeMap<Refusal, u64>,
}

/// This host's device on a network.
#[derive(Debug, Clone)]
pub struct DeviceStatus {
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub state: DeviceState,
    /// What it counted.
    pub counters: Option<DeviceCounters>,
}

/// Whether a device is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceState {
    /// It is.
    Up,
    /// It is not, and is tried again; why.
    Down(String),
}

/// A network this host is on, as far as its device goes.
#[derive(Debug)]
enum Attachment {
    Up(Device),
    Down { why: String, again: Instant },
}

/// What the task acts on.
#[derive(Debug)]
pub struct Parts {
    /// Who is there.
    pub overlay: Overlay,
    /// Moves frames.
    pub data: DataPlane,
    /// Keeps what must be kept.
    pub store: Store,
    /// Where it says which hosts it wants linked.
    pub wanted: Wanted,
    /// Queues of each device: one for each thread that moves frames.
    pub queues: usize,
}

/// The task.
#[derive(Debug)]
pub struct Task {
    core: Core,
    parts: Parts,
    inputs: mpsc::Receiver<Input>,
    own: mpsc::WeakSender<Input>,
    /// The networks this host is on, for whoever sorts the data plane's events.
    joined: watch::Sender<BTreeSet<NetworkId>>,
    attachments: BTreeMap<NetworkId, Attachment>,
    news: News,
    members: Members,
    sends: Arc<Semaphore>,
    compare_at: Instant,
}

/// What waits to be told.
#[derive(Debug, Default)]
struct News {
    own: Vec<Item>,
    of_others: Vec<Item>,
    tell_at: Option<Instant>,
}

impl News {
    fn push(&mut self, item: Item, own: bool) {
        let list = if own { &mut self.own } else { &mut self.of_others };
        if list.len() < NEWS_MAX {
            list.push(item);
        }
        self.tell_at.get_or_insert_with(|| Instant::now() + NEWS_PAUSE);
    }
}

/// Hosts that are known to be members: proved once, until somebody is put out.
#[derive(Debug)]
struct Members {
    known: BTreeSet<HostId>,
    asked: Option<Instant>,
    proving: BTreeSet<HostId>,
}

impl Task {
    pub(super) fn new(
        core: Core,
        parts: Parts,
        inputs: mpsc::Receiver<Input>,
        own: mpsc::WeakSender<Input>,
        joined: watch::Sender<BTreeSet<NetworkId>>,
    ) -> Self {
        Self {
            core,
            parts,
            inputs,
            own,
            joined,
            attachments: BTreeMap::new(),
            news: News::default(),
            members: Members { known: BTreeSet::new(), asked: None, proving: BTreeSet::new() },
            sends: Arc::new(Semaphore::new(SENDS_MAX)),
            compare_at: Instant::now() + COMPARE_EVERY,
        }
    }

    /// Runs until the daemon ends.
    pub async fn run(mut self) {
        self.begin().await;
        loop {
            let due = self.due();
            let input = tokio::select! {
                input = self.inputs.recv() => match input {
                    Some(input) => Some(input),
                    None => return,
                },
                () = tokio::time::sleep(due) => None,
            };
            if let Some(input) = input {
                self.take(input).await;
            }
            self.time_passes().await;
            self.drain().await;
        }
    }

    /// Takes up what was kept, with the devices of before.
    async fn begin(&mut self) {
        let store = self.parts.store.clone();
        let read = tokio::task::spawn_blocking(move || store.read_all(Room::Networks)).await;
        let kept = match read {
            Ok(Ok(kept)) => kept,
            Ok(Err(error)) => return tracing::error!(%error, "the networks of before cannot be read"),
            Err(error) => return tracing::error!(%error, "the store's thread ended"),
        };
        for key in self.core.restore(now(), kept) {
            tracing::warn!(%key, "what was kept of a network is not of this overlay, or of no use; it is forgotten");
        }
        self.refresh_members().await;
        let joined: Vec<NetworkId> = self.core.joined().collect();
        for id in joined {
            self.revive(id).await;
        }
        for host in connected(&self.parts.overlay).await {
            self.compare_with(host);
        }
        self.drain().await;
    }

    /// How long until something is due.
    fn due(&self) -> Duration {
        let again = self.attachments.values().filter_map(|attachment| match attachment {
            Attachment::Down { again, .. } => Some(*again),
            Attachment::Up(_) => None,
        });
        let instants = again.chain(self.news.tell_at).chain([self.compare_at]);
        let present = Instant::now();
        let next = instants.min().map_or(COMPARE_EVERY, |at| at.saturating_duration_since(present));
        let core = self.core.poll_timeout().map(|at| Duration::from_millis(at.0.saturating_sub(now().0)));
        core.map_or(next, |core| core.min(next))
    }

    async fn time_passes(&mut self) {
        self.core.handle_timeout(now());
        let present = Instant::now();
        if self.news.tell_at.is_some_and(|at| at <= present) {
            self.tell_news().await;
        }
        if self.compare_at <= present {
            self.compare_at = present + COMPARE_EVERY;
            let members = connected(&self.parts.overlay).await;
            if let Some(host) = some_of(members, 1).pop() {
                self.compare_with(host);
            }
        }
        let due = |attachment: &Attachment| matches!(attachment, Attachment::Down { again, .. } if *again <= present);
        let again: Vec<NetworkId> =
            self.attachments.iter().filter(|(_, attachment)| due(attachment)).map(|(id, _)| *id).collect();
        for id in again {
            self.revive(id).await;
        }
    }

    async fn take(&mut self, input: Input) {
        match input {
            // Whoever asked may be gone.
            Input::Lookup { text, reply } => drop(reply.send(self.core.directory().lookup(&text))),
            Input::Create { wish, reply } => {
                let created = self.create(wish);
                self.drain().await;
                drop(reply.send(created));
            }
            Input::Join { id, wish, reply } => {
                let joined = self.join(id, wish).await;
                self.drain().await;
                drop(reply.send(joined));
            }
            Input::Leave { id, reply } => {
                let device = self.leave(id);
                self.drain().await;
                drop(reply.send(device));
            }
            Input::Show(reply) => drop(reply.send(self.show())),
            Input::Digests(reply) => drop(reply.send(self.core.directory().digests())),
            Input::Items { ids, items_max, reply } => {
                drop(reply.send(self.core.directory().items(&ids, items_max)));
            }
            Input::Hear { items, reply } => {
                self.hear(&items).await;
                self.drain().await;
                // Whoever told may be gone.
                let _gone = reply.send(());
            }
            Input::Request { body, reply } => self.request(&body, reply).await,
            Input::Channel(event) => self.channel(event).await,
            Input::PeerUp(host) => {
                self.members.known.insert(host);
                self.compare_with(host);
            }
            Input::PutOut => self.put_out().await,
        }
    }

    fn create(&mut self, wish: NetworkWish) -> Result<NetworkId, Failure> {
        let mut nonce = [0; 16];
        fill_random(&mut nonce)?;
        let used: Vec<_> = device::routes().into_iter().map(|(prefix, _)| prefix).collect();
        let name = wish.name.clone();
        let id =
            self.core.create(now(), wish, nonce, &used).map_err(|refusal| create_failure(&name, &refusal))?;
        tracing::info!(network = %id, "the network {name} is made");
        Ok(id)
    }

    async fn join(&mut self, id: NetworkId, wish: JoinWish) -> Result<(), Failure> {
        let Some(known) = self.core.directory().network(id) else {
            return Err(join_failure(&wish, &super::core::JoinRefusal::Unknown));
        };
        let definition = known.definition.clone();
        let place =
            self.core.find_place(id, wish.clone()).map_err(|refusal| join_failure(&wish, &refusal))?;
        if wish.ipv4.is_none() {
            self.check_routes(&definition)?;
        }
        let spec = self.spec(&definition, &place);
        let (device, queues, notices) = open(spec).await?;
        self.core.join(now(), &place);
        if let Err(failure) = self.attach(id, device, queues) {
            self.core.leave(now(), id);
            return Err(failure);
        }
        notices.into_iter().for_each(|notice| self.core.notice(id, notice));
        if definition.ipv6.is_some() && place.ipv6.is_none() {
            let text =
                "IPv6 is switched off on this host (net.ipv6.conf.*.disable_ipv6): it has no IPv6 address";
            self.core.notice(id, text.to_owned());
        }
        tracing::info!(network = %id, device = %place.device, "this host is on the network {}", definition.draft.name);
        Ok(())
    }

    /// A network whose addresses this host reaches otherwise would cut it off from them.
    fn check_routes(&self, definition: &Definition) -> Result<(), Failure> {
        let routes = device::routes();
        for prefix in definition.prefixes() {
            if let Some((route, device)) = routes.iter().find(|(route, _)| route.overlaps(prefix)) {
                let what = format!(
                    "the network's addresses {prefix} overlap with {route}, which this host reaches by {device}"
                );
                return Err(Failure::refused("prefix_in_use", what).remedy(
                    "make the network with another --ipv4 or --ipv6, or give --ipv4 ADDR/LEN to join all the same",
                ));
            }
        }
        Ok(())
    }

    fn spec(&self, definition: &Definition, place: &Place) -> DeviceSpec {
        DeviceSpec {
            name: place.device.clone(),
            mac: place.mac,
            mtu: definition.draft.mtu,
            queues: self.parts.queues,
            addresses: with_lengths(definition, place.ipv4.map(IpAddr::from), place.ipv6.map(IpAddr::from)),
        }
    }

    /// Brings a device to the data plane, its network first.
    fn attach(
        &mut self,
        id: NetworkId,
        device: Device,
        queues: Vec<std::os::fd::OwnedFd>,
    ) -> Result<(), Failure> {
        self.set_network(id);
        // Which addresses are whose stands in the network's bindings, where it can be changed without letting the port go.
        let port = PortConfig {
            mac: mac_of(id, self.parts.overlay.local_id()),
            ipv4: Vec::new(),
            ipv6: Vec::new(),
            guard: Guard::AllowUnknown,
            vnet_hdr: true,
        };
        if let Err(error) = self.parts.data.attach(id, port, queues) {
            self.parts.data.remove_network(id);
            return Err(Failure::failed(
                "device",
                format!("the switch does not take {}: {error}", device.name),
            ));
        }
        self.attachments.insert(id, Attachment::Up(device));
        self.tell_joined();
        self.offer_all(id);
        Ok(())
    }

    /// Makes the device again of a network this host is on.
    async fn revive(&mut self, id: NetworkId) {
        let (Some(own), Some(known)) = (self.core.own(id), self.core.directory().network(id)) else { return };
        let Standing::Joined { ipv4, ipv6 } = own.claim.said.standing else { return };
        let mac = mac_of(id, self.parts.overlay.local_id());
        let place = Place { network: id, device: own.device.clone(), mac, ipv4, ipv6 };
        let spec = self.spec(&known.definition, &place);
        let made = match open(spec).await {
            Ok((device, queues, notices)) => {
                notices.into_iter().for_each(|notice| self.core.notice(id, notice));
                self.attach(id, device, queues)
            }
            Err(failure) => Err(failure),
        };
        match made {
            Ok(()) => {
                tracing::info!(network = %id, device = %place.device, "this host is on the network again")
            }
            Err(failure) => {
                tracing::warn!(network = %id, device = %place.device, %failure, "the network's device cannot be made; it is tried again");
                let again = Instant::now() + DEVICE_AGAIN;
                self.attachments.insert(id, Attachment::Down { why: failure.to_string(), again });
            }
        }
    }

    /// Leaves a network; gives the name of the device that goes.
    fn leave(&mut self, id: NetworkId) -> Option<String> {
        let device = self.core.own(id).map(|own| own.device.clone())?;
        self.core.leave(now(), id);
        if let Some(Attachment::Up(_)) = self.attachments.remove(&id) {
            self.parts.data.remove_network(id);
        }
        self.tell_joined();
        self.tell_wanted();
        tracing::info!(network = %id, %device, "this host left the network");
        Some(device)
    }

    fn show(&self) -> Vec<NetworkStatus> {
        self.core
            .directory()
            .networks()
            .map(|known| {
                let id = known.definition.id;
                let own = self.core.own(id);
                NetworkStatus {
                    definition: known.definition.clone(),
                    seats: self.core.seats(id),
                    device: own.map(|own| self.show_device(id, own.device.clone())),
                    notices: own.map(|own| own.notices.clone()).unwrap_or_default(),
                    refused: self.core.refused().clone(),
                }
            })
            .collect()
    }

    fn show_device(&self, id: NetworkId, name: String) -> DeviceStatus {
        let state = match self.attachments.get(&id) {
            Some(Attachment::Up(_)) => DeviceState::Up,
            Some(Attachment::Down { why, .. }) => DeviceState::Down(why.clone()),
            None => DeviceState::Down("it is being made".to_owned()),
        };
        let counters = if state == DeviceState::Up { device::counters(&name) } else { None };
        DeviceStatus { name, state, counters }
    }

    /// Does what the core wants; what is to be kept is on disk before anything after it is done.
    async fn drain(&mut self) {
        let mut changed = BTreeSet::new();
        let mut to_keep = Vec::new();
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Spread(item) => self.news.push(item, true),
                Output::PassOn(item) => self.news.push(item, false),
                Output::Keep { key, value } => to_keep.push(Change { room: Room::Networks, key, value }),
                Output::Changed(id) => drop(changed.insert(id)),
            }
        }
        self.keep(to_keep).await;
        for id in changed {
            self.look_again(id).await;
        }
    }

    async fn keep(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let store = self.parts.store.clone();
        match tokio::task::spawn_blocking(move || store.write(&changes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "this host's networks could not be kept; a restart may forget them")
            }
            Err(error) => tracing::error!(%error, "the store's thread ended"),
        }
    }

    /// Who is on the network may be others now, or this host's addresses.
    async fn look_again(&mut self, id: NetworkId) {
        if !matches!(self.attachments.get(&id), Some(Attachment::Up(_))) {
            return;
        }
        self.set_network(id);
        self.offer_all(id);
        let me = self.parts.overlay.local_id();
        let seat = self.core.seats(id).into_iter().find(|seat| seat.host == me);
        let (Some(known), Some(Attachment::Up(device))) =
            (self.core.directory().network(id), self.attachments.get(&id))
        else {
            return;
        };
        let (ipv4, ipv6) = seat.map_or((None, None), |seat| (seat.ipv4, seat.ipv6));
        let wanted = with_lengths(&known.definition, ipv4.map(IpAddr::from), ipv6.map(IpAddr::from));
        let mut changed = device.clone();
        let readdressed =
            tokio::task::spawn_blocking(move || changed.readdress(wanted).map(|()| changed)).await;
        match readdressed {
            Ok(Ok(device)) => drop(self.attachments.insert(id, Attachment::Up(device))),
            Ok(Err(failure)) => {
                tracing::error!(network = %id, %failure, "the device does not take its addresses");
                self.core.notice(id, failure.to_string());
            }
            Err(error) => tracing::error!(%error, "the thread that gives addresses ended"),
        }
    }

    /// Tells the data plane who is on the network.
    fn set_network(&self, id: NetworkId) {
        let Some(known) = self.core.directory().network(id) else { return };
        self.tell_wanted();
        let me = self.parts.overlay.local_id();
        let seats = self.core.seats(id);
        let config = NetworkConfig {
            id,
            mtu: known.definition.draft.mtu,
            hosts: seats.iter().map(|seat| seat.host).filter(|host| *host != me).collect(),
            machines: seats
                .into_iter()
                .map(|seat| MachineBinding {
                    mac: seat.mac,
                    ipv4: seat.ipv4.into_iter().collect(),
                    ipv6: seat.ipv6.into_iter().collect(),
                    host: seat.host,
                })
                .collect(),
            allow_unknown: true,
        };
        if let Err(error) = self.parts.data.set_network(config) {
            tracing::error!(network = %id, %error, "the switch does not take the network");
        }
    }

    fn tell_wanted(&self) {
        let me = self.parts.overlay.local_id();
        let seats = self.core.joined().flat_map(|id| self.core.seats(id));
        let hosts = seats.map(|seat| seat.host).filter(|host| *host != me).collect();
        self.parts.wanted.set(Wanter::Standalone, hosts);
    }

    fn tell_joined(&self) {
        self.joined.send_replace(self.attachments.keys().copied().collect());
    }

    /// Presents this host's claim to all others on the network.
    fn offer_all(&self, id: NetworkId) {
        let me = self.parts.overlay.local_id();
        for seat in self.core.seats(id).iter().filter(|seat| seat.host != me) {
            self.offer(id, seat.host);
        }
    }

    fn offer(&self, id: NetworkId, host: HostId) {
        let Some(own) = self.core.own(id) else { return };
        if let Err(error) = self.parts.data.offer_grant(id, host, own.claim.signed.encode()) {
            tracing::error!(network = %id, %host, %error, "no channel can be opened to the host");
        }
    }

    async fn channel(&mut self, event: Event) {
        match event {
            Event::ChannelRequested { request, peer, network, grant } => {
                let verdict = self.judge(peer, network, &grant).await;
                if let Err(refusal) = verdict {
                    tracing::info!(%peer, %network, ?refusal, "a peer's channel is refused");
                }
                self.answer(request, verdict);
            }
            Event::ChannelRefused { peer, network, reason } => {
                tracing::info!(%peer, %network, ?reason, "the peer does not let this host into the network yet");
            }
            Event::LinkUp { peer } => {
                // A link that is new has none of the grants its predecessor had.
                let attached: Vec<NetworkId> = self.attachments.keys().copied().collect();
                for id in attached {
                    if self.core.seats(id).iter().any(|seat| seat.host == peer) {
                        self.offer(id, peer);
                    }
                }
            }
            _ => {}
        }
    }

    fn answer(&self, request: ChannelRequest, verdict: Result<Duration, GrantRefusal>) {
        self.parts.data.answer_channel(request, verdict);
    }

    /// For how long a peer may send frames of a network: as long as its claim counts.
    async fn judge(
        &mut self,
        peer: HostId,
        network: NetworkId,
        grant: &[u8],
    ) -> Result<Duration, GrantRefusal> {
        if !matches!(self.attachments.get(&network), Some(Attachment::Up(_))) {
            return Err(GrantRefusal::NetworkUnknown);
        }
        let signed = Signed::decode(grant).map_err(|_| GrantRefusal::Invalid)?;
        let claim = Claim::read(signed.clone()).map_err(|_| GrantRefusal::Invalid)?;
        if claim.said.host != peer || claim.network() != network {
            return Err(GrantRefusal::NotYours);
        }
        // A peer may be quicker than the news of it.
        self.hear(&[Item::Claim(signed)]).await;
        self.drain().await;
        if !self.members.known.contains(&peer) {
            return Err(GrantRefusal::NotYours);
        }
        let known = self.core.directory().network(network).and_then(|known| known.claims.get(&peer));
        let counts = known.filter(|claim| claim.is_joined()).ok_or(GrantRefusal::Expired)?;
        let left = (counts.said.issued_s + CLAIM_LIFETIME_S).saturating_sub(now().0 / 1_000);
        Ok(Duration::from_secs(left).min(CHANNEL_VALID))
    }

    async fn request(&mut self, body: &[u8], reply: Reply) {
        match Request::decode(body) {
            Ok(Request::Compare(digests)) => {
                let (tell, wanted) = self.core.directory().compare(&digests);
                let items = self.core.directory().items(&tell, ITEMS_MAX);
                reply.send(Differ { items, wanted }.encode());
            }
            Ok(Request::Tell(items)) => {
                self.hear(&items).await;
                reply.send(Vec::new());
            }
            Err(_) => reply.refuse_malformed(),
        }
    }

    /// Takes what another host told. Hosts it speaks of count when they are known as members.
    async fn hear(&mut self, items: &[Item]) {
        let stranger = |item: &Item| item.claimant().is_some_and(|host| !self.members.known.contains(&host));
        let asked_lately = self.members.asked.is_some_and(|at| at.elapsed() < MEMBERS_AGAIN);
        if items.iter().any(stranger) && !asked_lately {
            self.refresh_members().await;
        }
        let known = &self.members.known;
        let unproved = self.core.handle_items(now(), items, |host| known.contains(&host));
        unproved.into_iter().for_each(|host| self.prove(host));
    }

    /// Asks the overlay whom it knows as members; those proved before stay.
    async fn refresh_members(&mut self) {
        self.members.asked = Some(Instant::now());
        let members = self.parts.overlay.members().await.unwrap_or_default();
        let mut known: BTreeSet<HostId> = members.into_iter().map(|member| member.host).collect();
        known.insert(self.parts.overlay.local_id());
        if self.members.known.len() > CLAIMS_MAX {
            self.members.known.clear();
        }
        self.members.known.append(&mut known);
    }

    /// A host that is not known as a member is connected to: whoever is connected has proved it.
    fn prove(&mut self, host: HostId) {
        self.members.proving.retain(|proving| !self.members.known.contains(proving));
        if self.members.proving.len() >= PROVING_MAX {
            // Forgotten all at once: each is tried again when it is named again.
            self.members.proving.clear();
        }
        if !self.members.proving.insert(host) {
            return;
        }
        let Ok(place) = Arc::clone(&self.sends).try_acquire_owned() else { return };
        let overlay = self.parts.overlay.clone();
        tokio::spawn(async move {
            // What comes of it is told as a peer that is up.
            let connected = overlay.connect(host).await;
            drop(place);
            tracing::debug!(%host, ?connected, "a host on a network is not known as a member: connected to it");
        });
    }

    /// Somebody was put out: only who is known as a member now still counts. Others prove it anew.
    async fn put_out(&mut self) {
        self.members.known.clear();
        self.members.proving.clear();
        self.refresh_members().await;
        let known = &self.members.known;
        self.core.handle_put_out(|host| known.contains(&host));
    }

    /// Tells own news to every connected member, others' to some.
    async fn tell_news(&mut self) {
        let News { own, of_others, .. } = std::mem::take(&mut self.news);
        let members = connected(&self.parts.overlay).await;
        let some: BTreeSet<HostId> = some_of(members.clone(), PASS_ON_TO).into_iter().collect();
        for host in members {
            let items =
                if some.contains(&host) { [own.clone(), of_others.clone()].concat() } else { own.clone() };
            for part in items.chunks(ITEMS_MAX) {
                self.tell(host, part.to_vec());
            }
        }
    }

    fn tell(&self, host: HostId, items: Vec<Item>) {
        let Ok(place) = Arc::clone(&self.sends).try_acquire_owned() else { return };
        let overlay = self.parts.overlay.clone();
        tokio::spawn(async move {
            let told = overlay.call(host, protocols::NETWORKS, Request::Tell(items).encode()).await;
            drop(place);
            if let Err(error) = told {
                tracing::debug!(%host, %error, "a member could not be told of networks");
            }
        });
    }

    fn compare_with(&self, host: HostId) {
        let Ok(place) = Arc::clone(&self.sends).try_acquire_owned() else { return };
        let (overlay, own) = (self.parts.overlay.clone(), self.own.clone());
        tokio::spawn(async move {
            let Some(inputs) = own.upgrade() else { return };
            exchange(&overlay, &inputs, host).await;
            drop(place);
        });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        for id in self.attachments.keys() {
            self.parts.data.remove_network(*id);
        }
    }
}

async fn open(spec: DeviceSpec) -> Result<(Device, Vec<std::os::fd::OwnedFd>, Vec<String>), Failure> {
    tokio::task::spawn_blocking(move || Device::open(&spec))
        .await
        .map_err(|error| Failure::failed("device", format!("the thread that makes devices ended: {error}")))?
}

/// Addresses with the lengths of the network's prefixes.
fn with_lengths(
    definition: &Definition,
    ipv4: Option<IpAddr>,
    ipv6: Option<IpAddr>,
) -> BTreeSet<(IpAddr, u8)> {
    let lengths = [(ipv4, definition.draft.ipv4), (ipv6, definition.ipv6)];
    lengths.into_iter().filter_map(|(address, prefix)| Some((address?, prefix?.length()))).collect()
}

/// Some of them, by lot.
fn some_of(mut hosts: Vec<HostId>, count: usize) -> Vec<HostId> {
    let mut rng = random();
    for at in 0..count.min(hosts.len()) {
        let left = u64::try_from(hosts.len() - at).unwrap_or(1);
        let offset = usize::try_from(rng.next_u64() % left).unwrap_or(0);
        hosts.swap(at, at + offset);
    }
    hosts.truncate(count);
    hosts
}

/// A generator for whom to tell: it decides nothing that anybody could gain by.
fn random() -> rand_chacha::ChaCha8Rng {
    use rand_core::SeedableRng;
    let mut seed = [0; 32];
    if let Err(failure) = fill_random(&mut seed) {
        tracing::warn!(%failure, "no randomness: the same members are told again");
    }
    rand_chacha::ChaCha8Rng::from_seed(seed)
}

fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
