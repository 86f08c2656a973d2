//! What a host's driver does with the outputs of its engine.

use consort_scheduler::engine::{DriverReport, Output};
use consort_scheduler::message::{self, Message};
use consort_scheduler::resources::Resources;
use consort_scheduler::slice::id::SliceId;
use consort_scheduler::units::Millis;

use super::{Event, World};
use crate::fault::KnownFault;
use crate::machines::{Life, SimMachine};
use crate::{below, chance};

impl World {
    /// Acts on one output.
    pub(super) fn effect(&mut self, host: usize, output: Output) {
        match output {
            Output::Persist { key, value: Some(value) } => {
                let id = self.hosts[host].id;
                let chosen = self.oracle.written(self.now, id, &key, &value);
                let line = chosen
                    .map(|record| format!("{:?} is {:?} v{}", record.slice, record.state, record.version));
                if let Some(line) = line {
                    self.note(format_args!("chosen: {line}"));
                }
                self.hosts[host].disk.insert(key, value);
            }
            Output::Persist { key, value: None } => {
                self.hosts[host].disk.remove(&key);
            }
            Output::Send { to, kind, body } => {
                if let Some(to) = self.index_of(to) {
                    self.send(host, to, kind, &body);
                }
            }
            Output::Answer { command, answer } => {
                self.note(format_args!("host {host} answers {}: {}", command.0, first_word(&answer)));
                if self.fault != Some(KnownFault::LostAnswers) {
                    let now = self.now;
                    if let Some(asked) = self.oracle.asked.get_mut(&command.0) {
                        asked.answers.push((now, *answer));
                    }
                }
            }
            Output::Start(order) => {
                let size = order.size;
                self.start_machine(host, order.id, order.slice, order.machine, size, order.lease_until);
            }
            Output::Adopt(order) => {
                let there = self.hosts[host]
                    .machines
                    .all
                    .get(&order.id)
                    .is_some_and(|machine| machine.life == Life::Running);
                let report = if there { DriverReport::Running } else { DriverReport::Gone };
                self.schedule(1, Event::Report(host, order.slice, order.machine, order.id, report));
            }
            Output::Stop { slice, machine, id, .. } => {
                self.note(format_args!("host {host} stops {id}"));
                if self.fault != Some(KnownFault::UndeadMachines) {
                    self.hosts[host].machines.all.remove(&id);
                }
                let after = 1 + below(&mut self.rng, 50);
                self.schedule(after, Event::Report(host, slice, machine, id, DriverReport::Gone));
            }
            Output::Lease { slice, until } => {
                for machine in
                    self.hosts[host].machines.all.values_mut().filter(|machine| machine.slice == slice)
                {
                    machine.until = until;
                }
            }
            Output::Networks(view) => {
                self.hosts[host].networks.insert(view.slice, *view);
            }
            Output::NetworksGone(slice) => {
                self.hosts[host].networks.remove(&slice);
            }
            Output::Event { .. } => {}
        }
    }

    pub(super) fn start_machine(
        &mut self,
        host: usize,
        id: String,
        slice: SliceId,
        index: u8,
        size: Resources,
        until: Millis,
    ) {
        self.note(format_args!("host {host} starts {id}"));
        let lies = self.fault == Some(KnownFault::LyingDriver);
        if !lies && !self.hosts[host].machines.all.contains_key(&id) {
            let machine = SimMachine { slice, index, size, until, life: Life::Starting };
            self.hosts[host].machines.all.insert(id.clone(), machine);
        }
        let after = 1 + below(&mut self.rng, self.start_max);
        let report = if chance(&mut self.rng, self.chances.start_fails) {
            self.keeper_ended.insert((slice, usize::from(index)));
            DriverReport::Failed("the driver could not".try_into().expect("a short text"))
        } else {
            DriverReport::Running
        };
        self.schedule(after, Event::Report(host, slice, index, id, report));
    }

    pub(super) fn send(&mut self, from: usize, to: usize, kind: &'static str, body: &[u8]) {
        let arrivals = self.net.carry(from, to, &mut self.rng);
        self.note(format_args!("{from} → {to} {kind} {} {arrivals:?}", body.len()));
        for after in arrivals {
            self.schedule(after, Event::Arrive { from, to, body: body.to_vec() });
        }
    }

    /// A steward that knows a register answers what it has, and forgets that it was asked: a register without promises.
    pub(super) fn answer_without_promise(&mut self, from: usize, to: usize, body: &[u8]) -> bool {
        if self.fault != Some(KnownFault::ForgottenPromises) {
            return false;
        }
        let Ok(Message::Prepare { charter, .. }) = message::decode(body) else { return false };
        let known = self.hosts[to].disk.contains_key(&format!("register/{}", charter.slice()));
        if !known || self.hosts[to].engine.is_none() {
            return false;
        }
        let (now, sender) = (self.hosts[to].clock.show(self.now), self.hosts[from].id);
        let mut forgetful = self.engine_from_disk(to);
        forgetful.handle_message(now, sender, body);
        while let Some(output) = forgetful.poll_output() {
            match output {
                Output::Send { to: back, kind: "promise", body } if back == sender => {
                    self.send(to, from, "promise", &body);
                }
                _ => {}
            }
        }
        true
    }
}

fn first_word(answer: &consort_scheduler::engine::Answer) -> String {
    let text = format!("{answer:?}");
    text.chars().take(60).collect()
}
