//! All that needs a membership: data plane, engine, machines, and the tasks between them; started when this host belongs to an overlay,
//! ended when it belongs to another.
//!
//! Owns: the order of starting (switch, machines of an earlier life, engine, then news to others) and of ending. Refuses to know: what the parts
//! do. Machines are no part of it: they outlive it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use consort_machine::driver::Driver as MachineDriver;
use consort_machine::image::ImageStore;
use consort_machine::sandbox::SandboxDriver;
use consort_machine::spec::KeeperCommand;
use consort_overlay::{HostId, Membership, Overlay};
use consort_scheduler::engine::{
    Advert, Allow, BootId as EngineBoot, Capabilities, Engine, EngineConfig, Images, Restored, Share,
};
use consort_scheduler::identity::TenantId;
use consort_scheduler::limits::TERM_MAX;
use consort_scheduler::resources::Resources;
use consort_scheduler::slice::id::SliceId;
use consort_scheduler::slice::spec::Category;
use consort_vswitch::{DataPlane, DataPlaneConfig, Event, NetworkId, SharedSecret, StaticSecret};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::adapting::{Adapting, AdaptingHandle};
use super::clock;
use super::describe::Description;
use super::engine::{self, Driver, Effects, EngineHandle};
use super::kept;
use super::machines::Machines;
use super::mapping::{Mapping, MappingTask};
use super::meet::Meet;
use super::meet::whereabouts::Whereabouts;
use super::networks::Networks;
use super::peers::{PeerNews, Peers};
use super::progress::Stage;
use super::relay::Relays;
use super::relay::serve::Server;
use super::remote::call::Caller;
use super::standalone::{Parts, Standalone};
use super::tenant::Tenant;
use super::topology::Topologies;
use super::traffic::{self, Cell};
use super::wanted::Wanted;
use super::ways::Ways;
use crate::config::resolved::{self, NodeConfig};
use crate::failure::Failure;
use crate::privilege;
use crate::state::boot::BootId;
use crate::state::keys::{self, Keys};
use crate::state::store::{Room, Store};
use crate::topology::Topology;

/// The image every host has.
pub const MINI_IMAGE: &str = "mini";

/// Binds the data plane's pre-shared key to the overlay's secret and to this use of it.
const PSK_CONTEXT: &str = "consort 2026-11 data plane pre-shared key";

/// How long a change of what is free waits for the next before it is told to others. Adverts are hints; a burst of starts is one news.
const ADVERT_PAUSE: Duration = Duration::from_secs(1);

/// The parts of a member.
#[derive(Debug)]
pub struct Member {
    /// The overlay it is a member of.
    pub membership: Membership,
    /// Moves frames.
    pub data: DataPlane,
    /// Allocates.
    pub engine: EngineHandle,
    /// Has this host's machines.
    pub machines: Machines,
    /// Asks for slices.
    pub tenant: Tenant,
    /// Reaches machines.
    pub caller: Caller,
    /// Networks by themselves.
    pub standalone: Standalone,
    /// Takes news of changed records.
    pub news: PeerNews,
    /// The topology that holds.
    pub topology: watch::Receiver<Arc<Topology>>,
    /// Finds paths to other hosts.
    pub meet: Meet,
    /// Takes what other hosts want of links that follow the traffic.
    pub adapting: AdaptingHandle,
    tasks: Mutex<JoinSet<()>>,
}

/// What a member is started with.
#[derive(Debug)]
pub struct Start<'a> {
    /// What the owner wants.
    pub config: &'a NodeConfig,
    /// The node's keys.
    pub keys: &'a Keys,
    /// The node's store.
    pub store: &'a Store,
    /// The overlay.
    pub overlay: &'a Overlay,
    /// The topology that holds.
    pub topology: watch::Receiver<Arc<Topology>>,
    /// The way to add links to it.
    pub topologies: Topologies,
    /// Hears of what the node cannot go on after.
    pub fatal: mpsc::Sender<Failure>,
}

impl Start<'_> {
    /// Starts everything.
    ///
    /// # Errors
    /// If the data plane's port is taken, or machines cannot be made here at all.
    pub async fn member(self, membership: Membership) -> Result<Member, Failure> {
        let (data, mut events) =
            start_data_plane(self.config, self.keys, self.overlay.local_id(), &membership)?;
        let categories = categories().await;
        let (driver, image) = start_machine_driver(&self.config.state_dir).await?;
        let (handle, inputs) = engine::channel();
        let machines =
            Machines::recover(driver, data.clone(), handle.clone(), image, self.config.mtu).await?;
        let (wanted, hosts) = Wanted::new();
        let wanted_for_long = hosts.clone();
        let ways = Ways::new(self.overlay.local_id(), self.topology.clone());
        let (peers, news) = Peers::new(self.overlay.clone(), data.clone(), hosts, ways.clone());
        let (meet, mapping) = meet(self.config, self.overlay, &data, &news, &ways, &wanted);
        let networks = Networks::new(data.clone(), self.overlay.local_id(), self.config.mtu, wanted.clone());
        let parts =
            Parts { overlay: self.overlay.clone(), data: data.clone(), store: self.store.clone(), wanted };
        let (standalone, by_themselves) =
            Standalone::new(self.keys.identity.clone(), membership.overlay, parts);
        let core = self.engine(categories)?;
        let effects = Effects {
            store: self.store.clone(),
            overlay: self.overlay.clone(),
            machines: machines.clone(),
            networks,
        };
        let loop_ = Driver::new(core, inputs, effects);

        let mut tasks = JoinSet::new();
        let fatal = self.fatal;
        tasks.spawn(async move {
            if let Err(failure) = loop_.run().await {
                // The daemon takes the first failure and ends; there is no second.
                let _ending_already = fatal.send(failure).await;
            }
        });
        let (engine, nets, paths) = (handle.clone(), standalone.clone(), meet.clone());
        tasks.spawn(async move {
            while let Some(event) = events.recv().await {
                paths.handle_event(&event);
                if matches!(event, Event::LinkUp { .. }) {
                    nets.channel(event.clone()).await;
                }
                if nets.concerns(&event) {
                    nets.channel(event).await;
                } else {
                    engine.channel(event).await;
                }
            }
        });
        tasks.spawn(by_themselves.run());
        tasks.spawn(peers.run());
        tasks.spawn(kept::keep(self.overlay.clone(), self.store.clone(), wanted_for_long));
        tasks.spawn(meet.relays.clone().run());
        tasks.spawn(meet.clone().run());
        let (links, adapting) =
            Adapting::new(self.overlay.clone(), data.clone(), self.topologies, meet.clone());
        tasks.spawn(links.run());
        if self.config.map_ports {
            tasks.spawn(mapping.run());
        }
        tasks.spawn(publish(self.overlay.clone(), handle.adverts(), meet.own_changes()));

        let tenant = Tenant::new(self.keys.tenant.clone(), handle.clone(), self.overlay.clone());
        let caller = Caller {
            overlay: self.overlay.clone(),
            tenant: self.keys.tenant.clone(),
            engine: handle.clone(),
            machines: machines.clone(),
        };
        Ok(Member {
            membership,
            data,
            engine: handle,
            machines,
            tenant,
            caller,
            standalone,
            news,
            topology: self.topology,
            meet,
            adapting,
            tasks: Mutex::new(tasks),
        })
    }

    /// The engine, as it was when the daemon last ran.
    fn engine(&self, categories: BTreeSet<Category>) -> Result<Engine, Failure> {
        let boot = BootId::current()?;
        let entries = self.store.read_all(Room::Engine)?;
        let restored = Restored { entries };
        let config = EngineConfig {
            keypair: self.keys.identity.clone(),
            share: share(&self.config.share)?,
            capabilities: Capabilities {
                categories,
                images: Images::Only(BTreeSet::from([MINI_IMAGE.try_into().expect("a short name")])),
            },
            boot: EngineBoot::of(boot.as_bytes()),
        };
        let mut seed = Zeroizing::new([0; 32]);
        keys::fill_random(&mut seed[..])?;
        Engine::new(config, Some(restored), *seed, clock::now()).map_err(|error| {
            Failure::failed("engine", format!("the scheduler cannot take up where it was: {error}"))
                .remedy("run the version of consort that wrote the state, or give another --state-dir")
        })
    }
}

impl Member {
    /// What this host says of itself.
    #[must_use]
    pub fn description(&self) -> Description {
        let advert = self.engine.advert().unwrap_or(NOTHING_TO_GIVE);
        Description::new(self.meet.own(), advert)
    }

    /// This host's name.
    #[must_use]
    pub fn me(&self) -> HostId {
        self.caller.overlay.local_id()
    }

    /// How far this host is with its part of a slice.
    ///
    /// # Errors
    /// If the node is stopping.
    pub async fn stage(&self, slice: SliceId) -> Result<Stage, Failure> {
        let Some(part) = self.engine.part(slice).await? else { return Ok(Stage::Placed) };
        let stage = self.machines.stage(slice, part.machines);
        if stage < Stage::Running {
            return Ok(stage);
        }
        let open = open_channels(&self.data);
        let wanted =
            part.networks.iter().flat_map(|(network, hosts)| hosts.iter().map(|host| (*host, *network)));
        let all_open = wanted.into_iter().all(|wanted| open.contains_key(&wanted));
        Ok(if all_open { Stage::Reachable } else { Stage::Running })
    }

    /// This host's row of a network's traffic, for a host that is on the network as well; for others nothing.
    pub async fn traffic(&self, network: NetworkId, asker: HostId) -> Vec<Cell> {
        let of_slices = self.engine.networks().await.unwrap_or_default();
        let of_slice = of_slices.iter().find(|known| known.view.id.0 == network.0);
        let is_on = match of_slice {
            Some(known) => known.view.hosts.contains(&asker),
            None => {
                let all = self.standalone.list().await.unwrap_or_default();
                let known = all.iter().find(|known| known.definition.id == network);
                known.is_some_and(|known| known.seats.iter().any(|seat| seat.host == asker))
            }
        };
        if is_on { traffic::row(&self.data, network).await } else { Vec::new() }
    }

    /// Ends everything but the machines. Requests under way learn that the node is stopping.
    pub async fn stop(&self) {
        self.meet.mapping.end().await;
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
        self.data.clone().shutdown();
    }
}

/// Until the engine has said what is free.
const NOTHING_TO_GIVE: Advert =
    Advert { free: Resources::NONE, limit: Resources::NONE, sandbox: false, vm: false };

/// The channels that are open both ways.
fn open_channels(data: &DataPlane) -> BTreeMap<(HostId, NetworkId), ()> {
    let links = data.snapshot().links;
    let open = links.into_iter().flat_map(|link| {
        let peer = link.peer;
        let both = link
            .channels
            .into_iter()
            .filter(|channel| channel.outbound == "open" && channel.inbound == "open");
        both.map(move |channel| ((peer, channel.network), ())).collect::<Vec<_>>()
    });
    open.collect()
}

fn start_data_plane(
    config: &NodeConfig,
    keys: &Keys,
    host: HostId,
    membership: &Membership,
) -> Result<(DataPlane, consort_vswitch::EventReceiver), Failure> {
    let mut seed = [0; 32];
    keys::fill_random(&mut seed)?;
    let secret = StaticSecret::new(*keys.data_secret);
    let psk = SharedSecret::new(blake3::derive_key(PSK_CONTEXT, membership.link_secret.expose()));
    let wanted = DataPlaneConfig {
        workers: config.data_workers.get(),
        busy_poll: config.data_busy_poll,
        listen_second: config.data_second,
        ..DataPlaneConfig::new(host, secret, psk, config.data, seed)
    };
    DataPlane::start(wanted).map_err(|error| {
        Failure::failed("data_plane", format!("the data plane does not start: {error}"))
            .remedy("stop what uses the port, or give another address with --listen or data.listen")
    })
}

/// What can run here; a host that lacks a privilege offers nothing rather than fail when it is asked.
async fn categories() -> BTreeSet<Category> {
    match tokio::task::spawn_blocking(privilege::for_machines).await {
        Ok(Ok(())) => BTreeSet::from([Category::Sandbox]),
        Ok(Err(failure)) => {
            tracing::warn!("no machines can be made here: {failure}");
            BTreeSet::new()
        }
        Err(error) => {
            tracing::error!(%error, "it could not be tried whether machines can be made here");
            BTreeSet::new()
        }
    }
}

async fn start_machine_driver(
    state_dir: &Path,
) -> Result<(Arc<dyn MachineDriver>, consort_machine::spec::ImageId), Failure> {
    let state_dir = state_dir.to_owned();
    let started = tokio::task::spawn_blocking(move || {
        let cannot = |what: &str, error: &dyn std::fmt::Display| {
            Failure::failed(
                "machines",
                format!("{what} cannot be made below {}: {error}", state_dir.display()),
            )
            .remedy("check the permissions and the free space of the state directory")
        };
        let images =
            ImageStore::open(&state_dir.join("images")).map_err(|error| cannot("the image store", &error))?;
        let (image, report) = images.ensure_mini().map_err(|error| cannot("the mini image", &error))?;
        tracing::debug!(?report, "the mini image is there");
        let driver = SandboxDriver::open(&state_dir.join("machines"), images, KeeperCommand::own())
            .map_err(|error| cannot("the directory of machines", &error))?;
        Ok::<_, Failure>((Arc::new(driver) as Arc<dyn MachineDriver>, image))
    });
    started.await.map_err(|error| {
        Failure::failed("machines", format!("the machines' driver did not start: {error}"))
    })?
}

fn share(share: &resolved::Share) -> Result<Share, Failure> {
    let allow = match &share.allow {
        resolved::Allow::Members => Allow::Everyone,
        resolved::Allow::Tenants(tenants) if tenants.is_empty() => Allow::Nobody,
        resolved::Allow::Tenants(tenants) => {
            let parse = |tenant: &String| {
                tenant.parse().map(TenantId).map_err(|_| {
                    Failure::input("bad_tenant", format!("share.allow: `{tenant}` is not a tenant's key"))
                        .remedy("give what `consort status` shows as tenant on the tenant's node, or \"any\"")
                })
            };
            Allow::Only(tenants.iter().map(parse).collect::<Result<_, _>>()?)
        }
    };
    let limit = Resources {
        cpus_milli: share.cpus_milli.into(),
        memory_bytes: share.memory_bytes,
        disk_bytes: share.disk_bytes,
        machines: share.machines_max.into(),
    };
    Ok(Share { limit, term_max: TERM_MAX, allow })
}

/// The parts that find paths.
fn meet(
    config: &NodeConfig,
    overlay: &Overlay,
    data: &DataPlane,
    news: &PeerNews,
    ways: &Ways,
    wanted: &Wanted,
) -> (Meet, MappingTask) {
    let me = overlay.local_id();
    let server = Server::new(me, data.clone(), news.clone(), ways.clone(), wanted.clone(), config.relay);
    let relays = Relays::new(overlay.clone(), data.clone(), news.clone(), ways.clone(), server);
    let (mapping, task) = Mapping::new(data.clone());
    (Meet::new(overlay.clone(), data.clone(), news.clone(), relays, mapping, ways.clone()), task)
}

/// Tells others what this host could give and where it is, at once and after each change.
async fn publish(
    overlay: Overlay,
    mut adverts: watch::Receiver<Option<Advert>>,
    mut whereabouts: watch::Receiver<Whereabouts>,
) {
    loop {
        let advert = adverts.borrow_and_update().clone();
        let own = whereabouts.borrow_and_update().clone();
        if let Some(advert) = advert {
            let description = Description::new(own, advert);
            if let Err(error) = overlay.publish_record(description.encode()).await {
                return tracing::error!(%error, "this host's description cannot be published");
            }
            tokio::time::sleep(ADVERT_PAUSE).await;
        }
        let changed = tokio::select! {
            changed = adverts.changed() => changed,
            changed = whereabouts.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owners_share_becomes_the_ledgers_limit() {
        let written = resolved::Share {
            cpus_milli: 1_500,
            memory_bytes: 1 << 30,
            disk_bytes: 1 << 33,
            machines_max: 4,
            allow: resolved::Allow::Tenants(vec![]),
        };
        let meant = share(&written).unwrap();
        assert_eq!((meant.limit.cpus_milli, meant.limit.machines), (1_500, 4));
        assert_eq!(meant.allow, Allow::Nobody);
        let wrong = resolved::Share { allow: resolved::Allow::Tenants(vec!["nobody".into()]), ..written };
        assert_eq!(share(&wrong).unwrap_err().code, "bad_tenant");
    }
}
