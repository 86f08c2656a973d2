//! One machine of this host, from its order to its end: the task that alone changes it.
//!
//! ```text
//!  Start ─▶ starting ──▶ running ◀─▶ paused          reports to the engine:
//!  Adopt ───────────────▶   │  ▲                     running   → Running
//!                           ▼  │ start               failed    → Failed (with the reason)
//!                  ended / stopped / failed          gone      → Gone, and the task ends
//!                           │
//!  Stop ─▶ (from any) ─▶ removed ─▶ gone
//! ```
//! Owns: the order of what is done to the machine (one thing at a time), its ports on the switch, its lease at the keeper. A start that fails
//! half-way leaves nothing: no port, no process, no file. A stop overtakes a start: dropping the driver's future undoes it.
//! Refuses to know: why a machine is wanted (the engine), and how it is made (its driver).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use consort_machine::driver::{
    Driver, EndReason, Limit, LimitsReport, MachineState, MachineStatus, NicPort, RootLayer, Uids,
};
use consort_machine::spec::{ImageId, MachineId, MachineSpec, Nic, RestartPolicy};
use consort_scheduler::bounded::Text;
use consort_scheduler::engine::{DriverReport, InterfaceOrder, MachineOrder};
use consort_scheduler::units::Millis;
use consort_vswitch::{DataPlane, Guard, MacAddr, NetworkId, PortConfig, PortId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::clock;
use super::engine::EngineHandle;
use super::progress::Stage;
use super::remote::message::MachineReport;
use crate::failure::Failure;

/// Processes and threads of a machine: room for a busy service; a fork bomb meets it long before the host's own limit.
const PIDS_MAX: u32 = 1_024;

/// How long a start may take; a copy of the mini image on a slow disk takes a tenth of it.
const START_WITHIN: Duration = Duration::from_secs(30);

/// How long a machine's init has to end when it is stopped by its tenant.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How often a machine is looked at, to learn that it ended by itself. More often costs CPU for nothing; less often, the slice's tenant
/// waits for news.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Wishes of tenants waiting for one machine; who asks faster waits.
pub(super) const WISHES_WAITING_MAX: usize = 16;

/// TAP queues of an interface. More than one could break the order inside a flow whose two ends begin at once: the kernel moves it to the queue its
/// answers are written to while frames still wait in the first.
const QUEUES: u16 = 1;

/// What the engine wants of a machine. Only the latest counts, so the engine never waits for a machine that is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// It shall be gone.
    pub(super) remove: bool,
    /// It may live until then.
    pub(super) lease_until: Millis,
    /// Counts how often the engine has asked where the machine stands.
    pub(super) asked: u64,
}

/// What a tenant wants of a machine.
#[derive(Debug)]
pub(super) enum Wish {
    /// To know what it is doing.
    Show(oneshot::Sender<MachineReport>),
    /// To have it changed.
    Change(Change, oneshot::Sender<Result<MachineReport, Failure>>),
}

/// What a tenant can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Start it again after a stop.
    Start,
    /// Stop it.
    Stop,
    /// Halt it.
    Pause,
    /// Let it go on.
    Resume,
}

/// What a machine is made with.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub(super) driver: Arc<dyn Driver>,
    pub(super) data: DataPlane,
    pub(super) engine: EngineHandle,
    pub(super) image: ImageId,
    pub(super) mtu: u16,
}

/// How the task begins.
#[derive(Debug)]
pub(super) enum Begin {
    /// It is to be made.
    Start,
    /// It was there before the daemon; this is what was found of it.
    Adopt(Option<(Box<MachineStatus>, Vec<NicPort>)>),
}

/// What is true of the machine now.
#[derive(Debug)]
enum Stand {
    Starting,
    Running { limits: LimitsReport },
    Paused { limits: LimitsReport },
    Stopped { why: String },
    Failed { why: String },
    Gone,
}

/// The task's state.
#[derive(Debug)]
pub(super) struct Machine {
    order: MachineOrder,
    id: MachineId,
    tools: Tools,
    stand: Stand,
    ports: Vec<PortId>,
    wanted: watch::Receiver<Wanted>,
    wishes: mpsc::Receiver<Wish>,
    /// What of `wanted` has been done.
    done: Wanted,
    /// How far it is, for whoever follows the slice.
    stage: watch::Sender<Stage>,
}

impl Machine {
    /// A machine for this order; none if the order's name cannot be a machine's.
    pub(super) fn new(
        order: MachineOrder,
        tools: Tools,
        wanted: watch::Receiver<Wanted>,
        wishes: mpsc::Receiver<Wish>,
        stage: watch::Sender<Stage>,
    ) -> Result<Self, Failure> {
        let id = order.id.parse().map_err(|error| {
            Failure::failed(
                "machine_name",
                format!("the order for machine {} cannot be followed: {error}", order.id),
            )
        })?;
        let done = *wanted.borrow();
        Ok(Self { order, id, tools, stand: Stand::Starting, ports: Vec::new(), wanted, wishes, done, stage })
    }

    /// Runs until the machine is gone, or the daemon ends and leaves it running.
    pub(super) async fn run(mut self, begin: Begin) {
        match begin {
            Begin::Start => self.start().await,
            Begin::Adopt(found) => self.adopt(found).await,
        }
        let mut looks = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !matches!(self.stand, Stand::Gone) {
            let up = self.is_up();
            tokio::select! {
                changed = self.wanted.changed() => match changed {
                    Ok(()) => self.follow().await,
                    Err(_) => return,
                },
                Some(wish) = self.wishes.recv() => self.grant(wish).await,
                _ = looks.tick(), if up => self.look().await,
            }
        }
    }

    fn is_up(&self) -> bool {
        matches!(self.stand, Stand::Running { .. } | Stand::Paused { .. })
    }

    /// Does what the engine wants and has not been done.
    async fn follow(&mut self) {
        let wanted = *self.wanted.borrow_and_update();
        if wanted.remove {
            return self.remove().await;
        }
        if wanted.lease_until != self.done.lease_until {
            self.renew(wanted.lease_until).await;
        }
        if wanted.asked != self.done.asked {
            self.done.asked = wanted.asked;
            self.report().await;
        }
    }

    async fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Show(reply) => {
                // Whoever asked may be gone.
                let _nobody_asks_any_more = reply.send(self.describe());
            }
            Wish::Change(change, reply) => {
                let changed = self.change(change).await;
                let _nobody_asks_any_more = reply.send(changed.map(|()| self.describe()));
            }
        }
    }

    /// Makes the machine; when it is to be gone in the meantime, the start is undone.
    async fn start(&mut self) {
        self.stand = Stand::Starting;
        let lease_until = self.wanted.borrow().lease_until;
        let spec = machine_spec(&self.order, &self.id, self.tools.image, self.tools.mtu, lease_until);
        let driver = Arc::clone(&self.tools.driver);
        // The image is on every host, so nothing else has to be brought here before the start.
        self.stage.send_replace(Stage::Staged);
        let starting = driver.start(&spec);
        let unwanted = async {
            // A daemon that ends leaves no half-made machine either.
            let _daemon_ends = self.wanted.wait_for(|wanted| wanted.remove).await;
        };
        let started = tokio::select! {
            started = starting => started,
            () = unwanted => return self.remove().await,
        };
        match started {
            Ok(started) => match self.attach(started.nics) {
                Ok(()) => {
                    tracing::info!(machine = %self.id, "the machine runs");
                    self.stand = Stand::Running { limits: started.limits };
                    self.report().await;
                    self.follow().await;
                }
                Err(why) => self.fail_and_clear(why).await,
            },
            Err(error) => self.fail_and_clear(error.to_string()).await,
        }
    }

    /// Takes over a machine of the daemon's earlier life.
    async fn adopt(&mut self, found: Option<(Box<MachineStatus>, Vec<NicPort>)>) {
        let Some((status, nics)) = found else {
            tracing::info!(machine = %self.id, "the machine did not outlive the daemon");
            return self.remove().await;
        };
        match status.state {
            MachineState::Running | MachineState::Paused(_) => {
                if let Err(why) = self.attach(nics) {
                    return self.fail_and_clear(why).await;
                }
                tracing::info!(machine = %self.id, "the machine was found again");
                let limits = status.limits.clone();
                self.stand = match status.state {
                    MachineState::Paused(_) => Stand::Paused { limits },
                    _ => Stand::Running { limits },
                };
                let lease_until = self.done.lease_until;
                self.renew(lease_until).await;
            }
            MachineState::Stopped(reason) => self.stand = Stand::Failed { why: ended(&reason) },
        }
        self.report().await;
    }

    /// Gives the machine's TAPs to the switch, all of them or none.
    fn attach(&mut self, nics: Vec<NicPort>) -> Result<(), String> {
        for nic in nics {
            let interface = interface_index(&nic.name).and_then(|index| self.order.interfaces.get(index));
            let attached = match interface {
                Some(interface) => self
                    .tools
                    .data
                    .attach(NetworkId(interface.network.0), port_config(interface), nic.queues)
                    .map_err(|error| format!("{} could not be attached to its network: {error}", nic.name)),
                None => Err(format!("the machine has a device {} that was not asked for", nic.name)),
            };
            match attached {
                Ok(port) => self.ports.push(port),
                Err(why) => {
                    self.detach();
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    fn detach(&mut self) {
        for port in self.ports.drain(..) {
            self.tools.data.detach(port);
        }
    }

    async fn fail_and_clear(&mut self, why: String) {
        tracing::warn!(machine = %self.id, %why, "the machine could not be kept");
        self.detach();
        if let Err(error) = self.tools.driver.remove(&self.id).await {
            tracing::error!(machine = %self.id, %error, "what is left of the machine could not be removed");
        }
        self.stand = Stand::Failed { why };
        self.report().await;
    }

    async fn remove(&mut self) {
        self.detach();
        match self.tools.driver.remove(&self.id).await {
            Ok(()) => {
                tracing::info!(machine = %self.id, "the machine is gone");
                self.stand = Stand::Gone;
                self.report().await;
            }
            Err(error) => {
                tracing::error!(machine = %self.id, %error, "the machine could not be removed");
                self.stand = Stand::Failed { why: format!("it could not be removed: {error}") };
            }
        }
    }

    async fn renew(&mut self, until: Millis) {
        self.done.lease_until = until;
        let left = clock::until(until);
        if !self.is_up() || left.is_zero() {
            return;
        }
        if let Err(error) = self.tools.driver.renew(&self.id, left).await {
            tracing::warn!(machine = %self.id, %error, "the machine's lease could not be renewed");
            self.look().await;
        }
    }

    /// Learns whether the machine has ended by itself.
    async fn look(&mut self) {
        let why = match self.tools.driver.state(&self.id).await {
            Ok(status) => match &status.state {
                MachineState::Stopped(reason) => ended(reason),
                MachineState::Running | MachineState::Paused(_) => return,
            },
            Err(error) => format!("its keeper does not answer: {error}"),
        };
        tracing::warn!(machine = %self.id, %why, "the machine has ended");
        self.detach();
        self.stand = Stand::Failed { why };
        self.report().await;
    }

    async fn change(&mut self, change: Change) -> Result<(), Failure> {
        let driver = Arc::clone(&self.tools.driver);
        let could_not = |what: &str, error: &dyn std::fmt::Display| {
            Failure::failed("machine", format!("the machine could not be {what}: {error}"))
        };
        match (change, &self.stand) {
            (Change::Pause, Stand::Running { limits }) => {
                let limits = limits.clone();
                driver.pause(&self.id).await.map_err(|error| could_not("paused", &error))?;
                self.stand = Stand::Paused { limits };
            }
            (Change::Resume, Stand::Paused { limits }) => {
                let limits = limits.clone();
                driver.resume(&self.id).await.map_err(|error| could_not("resumed", &error))?;
                self.stand = Stand::Running { limits };
            }
            (Change::Stop, Stand::Running { .. } | Stand::Paused { .. }) => {
                driver.stop(&self.id, STOP_GRACE).await.map_err(|error| could_not("stopped", &error))?;
                self.detach();
                self.stand = Stand::Stopped { why: "its tenant stopped it".to_owned() };
                self.report().await;
            }
            (Change::Start, Stand::Stopped { .. } | Stand::Failed { .. }) => {
                // A machine starts from its image; what is left of the one before is removed first.
                driver.remove(&self.id).await.map_err(|error| could_not("started", &error))?;
                self.start().await;
                if let Stand::Failed { why } = &self.stand {
                    return Err(could_not("started", why));
                }
            }
            (Change::Start | Change::Resume, Stand::Running { .. })
            | (Change::Pause, Stand::Paused { .. })
            | (Change::Stop, Stand::Stopped { .. }) => {}
            (_, stand) => {
                return Err(Failure::refused(
                    "machine_state",
                    format!("{} is {}", self.order.hostname, state_of(stand).0),
                )
                .remedy("look at `consort machine show`"));
            }
        }
        Ok(())
    }

    async fn report(&self) {
        self.stage.send_replace(match &self.stand {
            Stand::Starting => Stage::Staged,
            Stand::Running { .. } | Stand::Paused { .. } => Stage::Running,
            Stand::Stopped { .. } | Stand::Failed { .. } | Stand::Gone => Stage::Failed,
        });
        let report = match &self.stand {
            Stand::Starting => return,
            Stand::Running { .. } | Stand::Paused { .. } => DriverReport::Running,
            Stand::Stopped { why } | Stand::Failed { why } => DriverReport::Failed(Text::cut(why)),
            Stand::Gone => DriverReport::Gone,
        };
        self.tools.engine.report(self.order.slice, self.order.machine, report).await;
    }

    fn describe(&self) -> MachineReport {
        let (state, reason) = state_of(&self.stand);
        let limits = match &self.stand {
            Stand::Running { limits } | Stand::Paused { limits } => show_limits(limits),
            _ => Vec::new(),
        };
        MachineReport { state: state.to_owned(), reason, limits }
    }
}

fn state_of(stand: &Stand) -> (&'static str, Option<String>) {
    match stand {
        Stand::Starting => ("starting", None),
        Stand::Running { .. } => ("running", None),
        Stand::Paused { .. } => ("paused", None),
        Stand::Stopped { why } => ("stopped", Some(why.clone())),
        Stand::Failed { why } => ("failed", Some(why.clone())),
        Stand::Gone => ("gone", None),
    }
}

fn ended(reason: &EndReason) -> String {
    match reason {
        EndReason::Stopped => "it was stopped".to_owned(),
        EndReason::Killed => "it was stopped by force".to_owned(),
        EndReason::InitEnded(code) => format!("its init ended with {code}"),
    }
}

/// `eth0` is the first interface of the order.
fn interface_index(device: &str) -> Option<usize> {
    device.strip_prefix("eth")?.parse().ok()
}

fn port_config(interface: &InterfaceOrder) -> PortConfig {
    PortConfig {
        mac: MacAddr(interface.mac),
        ipv4: interface.ipv4.map(|(address, _)| address).into_iter().collect(),
        ipv6: interface.ipv6.map(|(address, _)| address).into_iter().collect(),
        guard: Guard::Strict,
        vnet_hdr: true,
    }
}

fn machine_spec(
    order: &MachineOrder,
    id: &MachineId,
    image: ImageId,
    mtu: u16,
    lease_until: Millis,
) -> MachineSpec {
    let nics = order.interfaces.iter().enumerate().map(|(index, interface)| Nic {
        name: format!("eth{index}"),
        mac: interface.mac,
        mtu,
        ipv4: interface.ipv4.map(|(address, range)| (address, range.prefix)).into_iter().collect(),
        ipv6: interface.ipv6.map(|(address, _)| (address, IPV6_PREFIX_LEN)).into_iter().collect(),
        queues: QUEUES,
    });
    MachineSpec {
        id: id.clone(),
        hostname: order.hostname.clone(),
        image,
        cpus_milli: u32::try_from(order.size.cpus_milli).unwrap_or(u32::MAX),
        memory_bytes: order.size.memory_bytes,
        disk_bytes: order.size.disk_bytes,
        pids_max: PIDS_MAX,
        nics: nics.collect(),
        hosts: host_lines(order),
        run: if order.run.is_empty() { None } else { Some(order.run.clone()) },
        restart: RestartPolicy::default(),
        start_within: START_WITHIN,
        lease: clock::until(lease_until).max(Duration::from_millis(1)),
    }
}

/// Every network of a slice is a /64 (design.md section 4; the scheduler's ranges are).
const IPV6_PREFIX_LEN: u8 = 64;

/// Each peer under its name, and under the name DNS will give it.
fn host_lines(order: &MachineOrder) -> Vec<(IpAddr, String)> {
    let lines = |(name, addresses): &(String, Vec<IpAddr>)| {
        let full = format!("{name}.{}.consort", order.slice_name);
        addresses
            .iter()
            .flat_map(|address| [(*address, name.clone()), (*address, full.clone())])
            .collect::<Vec<_>>()
    };
    order.peers.iter().flat_map(lines).collect()
}

fn show_limits(limits: &LimitsReport) -> Vec<(String, String)> {
    let how = |limit: &Limit| match limit {
        Limit::Enforced { by } => format!("enforced ({by:?})"),
        Limit::Partial { by, gap } => format!("enforced in part ({by:?}): {gap}"),
        Limit::NotEnforced { reason } => format!("not enforced: {reason}"),
    };
    let root = match &limits.root {
        RootLayer::Overlay => "a writable layer over the image".to_owned(),
        RootLayer::Copy { reason } => format!("a copy of the image: {reason}"),
    };
    let uids = match limits.uids {
        Uids::Range { first, count } => format!("{count} of its own, from {first}"),
        Uids::Single => "only uid 0 inside, which is this node's user outside".to_owned(),
    };
    [
        ("cpus", how(&limits.cpus)),
        ("memory", how(&limits.memory)),
        ("pids", how(&limits.pids)),
        ("disk", how(&limits.disk)),
        ("pause", format!("{:?}", limits.pause)),
        ("root", root),
        ("uids", uids),
    ]
    .map(|(name, how)| (name.to_owned(), how))
    .to_vec()
}

#[cfg(test)]
mod tests {
    use consort_scheduler::resources::Resources;
    use consort_scheduler::slice::id::{NetworkId as SliceNetworkId, SliceId};
    use consort_scheduler::slice::spec::{Category, Ipv4Range, Ipv6Range};

    use super::*;

    fn order() -> MachineOrder {
        MachineOrder {
            slice: SliceId([1; 16]),
            slice_name: "mpi".parse().unwrap(),
            machine: 0,
            id: "0101-worker-0".to_owned(),
            hostname: "worker-0".to_owned(),
            group: "worker".parse().unwrap(),
            category: Category::Sandbox,
            image: Text::cut("mini"),
            size: Resources { cpus_milli: 500, memory_bytes: 64 << 20, disk_bytes: 1 << 30, machines: 1 },
            run: Vec::new(),
            interfaces: vec![InterfaceOrder {
                network: SliceNetworkId([2; 16]),
                network_name: "lan".parse().unwrap(),
                mac: [2, 0, 0, 0, 0, 1],
                ipv4: Some((
                    "10.7.0.2".parse().unwrap(),
                    Ipv4Range { first: "10.7.0.0".parse().unwrap(), prefix: 24 },
                )),
                ipv6: Some(("fd00::2".parse().unwrap(), Ipv6Range("fd00::".parse().unwrap()))),
            }],
            peers: vec![("worker-1".to_owned(), vec!["10.7.0.3".parse().unwrap()])],
            lease_until: clock::now().plus(Millis::from_secs(60)),
        }
    }

    #[test]
    fn an_order_becomes_a_spec_the_driver_accepts() {
        let (order, id) = (order(), "0101-worker-0".parse().unwrap());
        let spec = machine_spec(&order, &id, ImageId::from_bytes([7; 32]), 1_500, order.lease_until);
        spec.check().unwrap();
        assert_eq!(spec.nics[0].name, "eth0");
        assert_eq!(spec.nics[0].ipv4, [("10.7.0.2".parse().unwrap(), 24)]);
        assert_eq!(spec.run, None);
        let names: Vec<_> = spec.hosts.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["worker-1", "worker-1.mpi.consort"]);
    }

    #[test]
    fn a_machine_may_use_its_own_addresses_only() {
        let port = port_config(&order().interfaces[0]);
        assert_eq!(port.guard, Guard::Strict);
        assert_eq!(port.ipv4, ["10.7.0.2".parse::<std::net::Ipv4Addr>().unwrap()]);
        assert_eq!(port.mac, MacAddr([2, 0, 0, 0, 0, 1]));
    }

    #[test]
    fn devices_are_matched_by_their_number() {
        assert_eq!(interface_index("eth0"), Some(0));
        assert_eq!(interface_index("eth3"), Some(3));
        assert_eq!(interface_index("lo"), None);
    }
}
