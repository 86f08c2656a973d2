//! How daemons die and start, and how machines fare without them.

use std::collections::BTreeSet;

use consort_scheduler::engine::{
    Allow, BootId, Capabilities, DriverReport, Engine, EngineConfig, Images, Restored, Share,
};
use consort_scheduler::slice::id::SliceId;
use consort_scheduler::slice::spec::Category;
use rand_core::Rng;

use super::{Crash, Event, TERM_MAX, World};
use crate::clock::Clock;
use crate::fault::KnownFault;
use crate::machines::{Life, Machines};

impl World {
    pub(super) fn crash(&mut self, host: usize, crash: Crash) {
        self.note(format_args!("host {host} breaks down: {crash:?}"));
        self.hosts[host].engine = None;
        self.hosts[host].networks.clear();
        self.excuse(host);
        if crash == Crash::Power {
            for machine in self.hosts[host].machines.all.values() {
                self.keeper_ended.insert((machine.slice, usize::from(machine.index)));
            }
            self.hosts[host].machines = Machines::default();
            let pace = self.hosts[host].clock.pace;
            self.hosts[host].clock = Clock { shown: 0, started: self.now, pace };
            self.hosts[host].boots += 1;
        }
        self.hosts[host].timer_at = None;
        self.set_timer(host);
    }

    pub(super) fn excuse(&mut self, host: usize) {
        for asked in self.oracle.asked.values_mut().filter(|asked| asked.host == host) {
            asked.excused = true;
        }
    }

    pub(super) fn start_daemon(&mut self, host: usize) {
        if self.hosts[host].engine.is_some() {
            return;
        }
        self.hosts[host].engine = Some(self.engine_from_disk(host));
        if self.now > 0 {
            let boots = self.hosts[host].boots;
            self.note(format_args!("host {host} is up in boot {boots}"));
        }
        self.act(host);
        self.set_timer(host);
    }

    /// What a host's engine is told once.
    fn engine_config(&self, host: usize) -> EngineConfig {
        let it = &self.hosts[host];
        let unlimited = self.fault == Some(KnownFault::LedgerWithoutLimit) && host == 0;
        let limit = if unlimited { it.limit.times(1000) } else { it.limit };
        EngineConfig {
            keypair: it.keypair.clone(),
            share: Share { limit, term_max: TERM_MAX, allow: Allow::Everyone },
            capabilities: Capabilities {
                categories: BTreeSet::from([Category::Sandbox]),
                images: Images::Any,
            },
            boot: BootId::of(&it.boots.to_be_bytes()),
        }
    }

    /// An engine that knows what the host's disk holds.
    pub(super) fn engine_from_disk(&mut self, host: usize) -> Engine {
        let now = self.hosts[host].clock.show(self.now);
        let entries = self.hosts[host].disk.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let engine = Engine::new(self.engine_config(host), Some(Restored { entries }), seed, now);
        engine.expect("what an engine wrote, an engine reads")
    }

    pub(super) fn keeper_ended_machine(&mut self, host: usize, name: &str) {
        self.note(format_args!("host {host} keeper ends {name}"));
        let Some(machine) = self.hosts[host].machines.all.get(name).copied() else { return };
        self.keeper_ended.insert((machine.slice, usize::from(machine.index)));
        if self.hosts[host].engine.is_some() {
            let why = DriverReport::Failed("its lease is over".try_into().expect("a short text"));
            self.schedule(1, Event::Report(host, machine.slice, machine.index, name.to_owned(), why));
        }
    }

    pub(super) fn report(
        &mut self,
        host: usize,
        slice: SliceId,
        machine: u8,
        name: &str,
        report: DriverReport,
    ) {
        if let Some(kept) = self.hosts[host].machines.all.get_mut(name) {
            match &report {
                DriverReport::Running if kept.life == Life::Starting => kept.life = Life::Running,
                DriverReport::Running => return,
                DriverReport::Failed(_) => kept.life = Life::Ended,
                DriverReport::Gone => {}
            }
        }
        self.with_engine(host, |engine, now| engine.handle_report(now, slice, machine, report));
    }
}
