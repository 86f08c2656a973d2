//! Hosts, their disks and machines, and the loop that steps through events.
//!
//! One queue of events in the order of the world's time; ties are broken by the order of their making. After each input
//! to an engine its outputs are acted on one by one; a crash may come before any of them, so everything an engine could
//! have done is cut off at every place where a real daemon could be killed. What was persisted before is on the disk, what
//! was sent is on its way, and the rest never was.

mod breakdown;
mod effects;
mod failure;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt::Write;

use consort_scheduler::engine::{Command, CommandId, DriverReport, Engine};
use consort_scheduler::identity::HostId;
use consort_scheduler::resources::Resources;
use consort_scheduler::slice::id::SliceId;
use consort_scheduler::slice::view::SliceNetworks;
use consort_scheduler::units::Millis;
use libp2p_identity::Keypair;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

pub use failure::Failure;

use crate::clock::Clock;
use crate::fault::KnownFault;
use crate::invariants::{self, Violation};
use crate::machines::Machines;
use crate::net::{Net, Weather};
use crate::oracle::{Asked, Oracle};
use crate::{below, chance};

/// The longest term owners give here.
pub const TERM_MAX: Millis = Millis::from_secs(60);

/// One simulated host.
#[derive(Debug)]
pub struct SimHost {
    /// Its name.
    pub id: HostId,
    /// Its keys.
    pub keypair: Keypair,
    /// What its owner really gives.
    pub limit: Resources,
    /// Its daemon, while it lives.
    pub engine: Option<Engine>,
    /// What its daemon made durable.
    pub disk: BTreeMap<String, Vec<u8>>,
    /// Its machines.
    pub machines: Machines,
    /// What its switch was told last, of each slice.
    pub networks: BTreeMap<SliceId, SliceNetworks>,
    /// Its clock.
    pub clock: Clock,
    boots: u64,
    timer_at: Option<u64>,
}

/// How a host breaks down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The daemon is killed; machines and their keepers live on.
    Daemon,
    /// The power fails; everything but the disk is gone.
    Power,
}

/// Something that happens at a time.
#[derive(Debug, Clone)]
pub enum Event {
    /// A message arrives.
    Arrive {
        /// From which host.
        from: usize,
        /// At which host.
        to: usize,
        /// The bytes.
        body: Vec<u8>,
    },
    /// A host looks at its clock.
    Tick(usize),
    /// A driver reports.
    Report(usize, SliceId, u8, String, DriverReport),
    /// A user gives a command.
    Command(usize, Box<Command>),
    /// A host breaks down.
    Crash(usize, Crash),
    /// A host's daemon starts.
    Restart(usize),
    /// A partition begins; an empty one ends it.
    CutOff(BTreeSet<usize>),
    /// The weather changes.
    Weather(Weather),
    /// Nothing breaks by chance any more.
    Heal,
}

/// What may break by chance, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chances {
    /// How often a host breaks down before it acts on an output.
    pub crash: u64,
    /// How often a machine cannot be started.
    pub start_fails: u64,
}

/// How a world begins.
#[derive(Debug, Clone)]
pub struct WorldConfig {
    /// Decides everything.
    pub seed: u64,
    /// What each host's owner gives.
    pub limits: Vec<Resources>,
    /// The weather.
    pub weather: Weather,
    /// What may break.
    pub chances: Chances,
    /// The longest a driver takes to start a machine.
    pub start_max: u64,
    /// A known fault, to be found.
    pub fault: Option<KnownFault>,
}

/// The world.
#[derive(Debug)]
pub struct World {
    /// Its time, which no engine sees.
    pub now: u64,
    /// Its hosts.
    pub hosts: Vec<SimHost>,
    /// Its network.
    pub net: Net,
    /// What really happened.
    pub oracle: Oracle,
    /// Machines that their keepers ended while the slice lives: nothing starts them again.
    pub keeper_ended: BTreeSet<(SliceId, usize)>,
    /// What happened, line by line.
    pub log: String,
    /// How many outputs were acted on.
    pub outputs: u64,
    /// Break this host down before the output of this number.
    pub crash_before: Option<(u64, Crash)>,
    /// The host that `crash_before` broke down.
    pub crashed_by_plan: Option<usize>,
    chances: Chances,
    start_max: u64,
    fault: Option<KnownFault>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    next_command: u64,
    rng: ChaCha8Rng,
}

/// The keys of the host at `index`.
#[must_use]
pub fn keypair_of(index: usize) -> Keypair {
    let byte = u8::try_from(index).expect("a world has few hosts");
    Keypair::ed25519_from_bytes([byte + 1; 32]).expect("32 bytes are a key")
}

impl World {
    /// A world whose hosts are all up.
    #[must_use]
    pub fn new(config: &WorldConfig) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let hosts = config
            .limits
            .iter()
            .enumerate()
            .map(|(index, limit)| {
                let keypair = keypair_of(index);
                // Half a percent either way: ten times what NTP allows itself.
                let mut pace = 995_000 + below(&mut rng, 10_001);
                if config.fault == Some(KnownFault::SlowClock) && index == 0 {
                    pace /= 2;
                }
                SimHost {
                    id: keypair.public().to_peer_id(),
                    keypair,
                    limit: *limit,
                    engine: None,
                    disk: BTreeMap::new(),
                    machines: Machines::default(),
                    networks: BTreeMap::new(),
                    clock: Clock { shown: below(&mut rng, 1_000_000), started: 0, pace },
                    boots: 0,
                    timer_at: None,
                }
            })
            .collect();
        let mut world = Self {
            now: 0,
            hosts,
            net: Net::new(config.weather),
            oracle: Oracle::default(),
            keeper_ended: BTreeSet::new(),
            log: String::new(),
            outputs: 0,
            crash_before: None,
            crashed_by_plan: None,
            chances: config.chances,
            start_max: config.start_max,
            fault: config.fault,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            next_command: 0,
            rng,
        };
        for index in 0..world.hosts.len() {
            world.start_daemon(index);
        }
        world
    }

    /// Something is to happen `after` milliseconds from now.
    pub fn schedule(&mut self, after: u64, event: Event) {
        let number = self.next_event;
        self.next_event += 1;
        self.queue.push(Reverse((self.now + after, number)));
        self.events.insert(number, event);
    }

    /// Steps through everything that happens until `until`, and checks after each step.
    ///
    /// # Errors
    /// The first violation.
    pub fn run_until(&mut self, until: u64) -> Result<(), Violation> {
        while let Some(Reverse((at, number))) = self.queue.peek().copied() {
            if at > until {
                break;
            }
            self.queue.pop();
            self.now = at;
            if let Some(event) = self.events.remove(&number) {
                self.happen(event);
                invariants::each_step(self)?;
            }
        }
        self.now = until;
        Ok(())
    }

    /// What a host's clock shows.
    #[must_use]
    pub fn time_at(&self, host: usize) -> Millis {
        self.hosts[host].clock.show(self.now)
    }

    fn note(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.log, "{:>7} {line}", self.now);
    }

    fn index_of(&self, host: HostId) -> Option<usize> {
        self.hosts.iter().position(|known| known.id == host)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { from, to, body } if self.answer_without_promise(from, to, &body) => {}
            Event::Arrive { from, to, body } => {
                let sender = self.hosts[from].id;
                self.with_engine(to, |engine, now| engine.handle_message(now, sender, &body));
            }
            Event::Tick(host) => self.tick(host),
            Event::Report(host, slice, machine, name, report) => {
                self.report(host, slice, machine, &name, report)
            }
            Event::Command(host, command) => self.command(host, *command),
            Event::Crash(host, crash) => self.crash(host, crash),
            Event::Restart(host) => self.start_daemon(host),
            Event::CutOff(hosts) => {
                self.note(format_args!("cut off {hosts:?}"));
                self.net.cut_off(hosts);
            }
            Event::Weather(weather) => self.net.weather = weather,
            Event::Heal => {
                self.note(format_args!("heal"));
                self.net.cut_off(BTreeSet::new());
                self.net.weather = Weather::FINE;
                self.chances = Chances { crash: 0, start_fails: 0 };
                for host in 0..self.hosts.len() {
                    self.start_daemon(host);
                }
            }
        }
    }

    fn command(&mut self, host: usize, command: Command) {
        let number = self.next_command;
        self.next_command += 1;
        let creates = match &command {
            Command::Create { founded, .. } => Some(founded.slice),
            _ => None,
        };
        let excused = self.hosts[host].engine.is_none();
        let asked = Asked { host, at: self.now, excused, creates, answers: Vec::new() };
        self.oracle.asked.insert(number, asked);
        self.note(format_args!("host {host} command {number} {creates:?}"));
        self.with_engine(host, |engine, now| engine.handle_command(now, CommandId(number), command));
    }

    fn with_engine(&mut self, host: usize, input: impl FnOnce(&mut Engine, Millis)) {
        let now = self.hosts[host].clock.show(self.now);
        if let Some(engine) = &mut self.hosts[host].engine {
            input(engine, now);
            self.act(host);
        }
    }

    /// Acts on a host's outputs, unless it breaks down first.
    fn act(&mut self, host: usize) {
        while let Some(output) = self.hosts[host].engine.as_mut().and_then(Engine::poll_output) {
            self.outputs += 1;
            if let Some((number, crash)) = self.crash_before
                && number == self.outputs
            {
                self.crashed_by_plan = Some(host);
                self.crash(host, crash);
                return;
            }
            if chance(&mut self.rng, self.chances.crash) {
                let crash = if chance(&mut self.rng, 500) { Crash::Daemon } else { Crash::Power };
                self.crash(host, crash);
                let after = 100 + below(&mut self.rng, 9000);
                self.schedule(after, Event::Restart(host));
                return;
            }
            self.effect(host, output);
        }
        self.set_timer(host);
    }

    /// Sees that the host looks at its clock when its daemon or a keeper wants.
    fn set_timer(&mut self, host: usize) {
        let it = &self.hosts[host];
        let keeper = if self.fault == Some(KnownFault::KeeperWithoutDeadline) {
            None
        } else {
            it.machines.next_deadline()
        };
        let engine = it.engine.as_ref().and_then(Engine::poll_timeout);
        let Some(at) = keeper.into_iter().chain(engine).min() else { return };
        if at.0 == u64::MAX {
            return;
        }
        let when = it.clock.when(at).max(self.now);
        if it.timer_at.is_none_or(|timer_at| when < timer_at) {
            self.hosts[host].timer_at = Some(when);
            self.schedule(when - self.now, Event::Tick(host));
        }
    }

    fn tick(&mut self, host: usize) {
        if self.hosts[host].timer_at.is_some_and(|at| at > self.now) {
            return;
        }
        self.hosts[host].timer_at = None;
        let now = self.hosts[host].clock.show(self.now);
        if self.fault != Some(KnownFault::KeeperWithoutDeadline) {
            for name in self.hosts[host].machines.keep(now) {
                self.keeper_ended_machine(host, &name);
            }
        }
        self.with_engine(host, Engine::handle_timeout);
        self.set_timer(host);
    }
}
