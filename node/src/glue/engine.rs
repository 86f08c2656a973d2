//! The scheduler's engine, driven: the one task that has it, its clock, and what its outputs do.
//!
//! The loop takes one input (a message, a command, a report, a channel's request, or the time), gives it to the engine, and then does what the
//! engine says, in the order it says it; what must be durable is on disk before anything after it is done. It waits for the disk and for
//! nothing else: messages leave by tasks of their own, machines are told by [`super::machines`] without waiting.
//!
//! Owns: the engine, the commands it has not answered, what the switch was told of slices ([`Networks`]). Refuses to know: what the messages
//! mean. A store that fails ends the loop, and with it the daemon: a promise that cannot be kept must not be made.

use std::collections::HashMap;
use std::sync::Arc;

use consort_overlay::{HostId, Overlay};
use consort_scheduler::engine::{
    Advert, Answer, Command, CommandId, DriverReport, Engine, Output, SliceEvent,
};
use consort_scheduler::slice::id::{Name, NetworkId, SliceId};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::machines::Machines;
use super::networks::{Authority, NetworkInfo, Networks, Part};
use super::{clock, protocols};
use crate::failure::Failure;
use crate::state::store::{Change, Room, Store};

/// Inputs waiting for the engine. Each takes microseconds; a burst of this many is a slice of a hundred machines reporting at once.
const INPUTS_MAX: usize = 512;

/// Messages on their way out at once. A message that finds no place is dropped: every one is asked for again.
const SENDS_MAX: usize = 256;

/// What the engine's task takes.
#[derive(Debug)]
enum Input {
    Message { from: HostId, body: Vec<u8> },
    Unreachable { host: HostId },
    Command { command: Command, reply: oneshot::Sender<Answer> },
    Report { slice: SliceId, machine: u8, report: DriverReport },
    Channel(consort_vswitch::Event),
    Slices(oneshot::Sender<usize>),
    Networks(oneshot::Sender<Vec<NetworkInfo>>),
    Part { slice: SliceId, reply: oneshot::Sender<Option<Part>> },
    Authority { slice: SliceId, machine: String, reply: oneshot::Sender<Option<Authority>> },
}

/// The way to the engine's task. Clones share it.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    inputs: mpsc::Sender<Input>,
    advert: watch::Receiver<Option<Advert>>,
}

impl EngineHandle {
    /// A message from another host's engine.
    pub async fn message(&self, from: HostId, body: Vec<u8>) {
        self.put(Input::Message { from, body }).await;
    }

    /// What a machine's task reports.
    pub async fn report(&self, slice: SliceId, machine: u8, report: DriverReport) {
        self.put(Input::Report { slice, machine, report }).await;
    }

    /// What the data plane reports.
    pub async fn channel(&self, event: consort_vswitch::Event) {
        self.put(Input::Channel(event)).await;
    }

    async fn put(&self, input: Input) {
        // The engine is gone only when the daemon ends.
        let _daemon_ends = self.inputs.send(input).await;
    }

    /// Gives a command and waits for its answer.
    ///
    /// # Errors
    /// If the node is stopping.
    pub async fn command(&self, command: Command) -> Result<Answer, Failure> {
        let (reply, answer) = oneshot::channel();
        self.put(Input::Command { command, reply }).await;
        answer.await.map_err(|_| stopping())
    }

    /// How many slices have machines here.
    ///
    /// # Errors
    /// If the node is stopping.
    pub async fn slices(&self) -> Result<usize, Failure> {
        let (reply, answer) = oneshot::channel();
        self.put(Input::Slices(reply)).await;
        answer.await.map_err(|_| stopping())
    }

    /// The networks of this host.
    ///
    /// # Errors
    /// If the node is stopping.
    pub async fn networks(&self) -> Result<Vec<NetworkInfo>, Failure> {
        let (reply, answer) = oneshot::channel();
        self.put(Input::Networks(reply)).await;
        answer.await.map_err(|_| stopping())
    }

    /// This host's part of a slice, once it is bound by the slice's record.
    ///
    /// # Errors
    /// If the node is stopping.
    pub async fn part(&self, slice: SliceId) -> Result<Option<Part>, Failure> {
        let (reply, answer) = oneshot::channel();
        self.put(Input::Part { slice, reply }).await;
        answer.await.map_err(|_| stopping())
    }

    /// Who may do something with a machine of this host, as the slice's record says.
    ///
    /// # Errors
    /// If the node is stopping.
    pub async fn authority(&self, slice: SliceId, machine: &str) -> Result<Option<Authority>, Failure> {
        let (reply, answer) = oneshot::channel();
        self.put(Input::Authority { slice, machine: machine.to_owned(), reply }).await;
        answer.await.map_err(|_| stopping())
    }

    /// What this host could give now.
    #[must_use]
    pub fn advert(&self) -> Option<Advert> {
        self.advert.borrow().clone()
    }

    /// Tells of each change of what this host could give.
    #[must_use]
    pub fn adverts(&self) -> watch::Receiver<Option<Advert>> {
        self.advert.clone()
    }
}

fn stopping() -> Failure {
    Failure::failed("stopping", "the node is stopping").remedy("try again when it runs")
}

/// The engine's end of its handle.
#[derive(Debug)]
pub struct EngineInputs {
    inputs: mpsc::Receiver<Input>,
    own: mpsc::WeakSender<Input>,
    advert: watch::Sender<Option<Advert>>,
}

/// A handle, and the end of it that the engine's task takes.
#[must_use]
pub fn channel() -> (EngineHandle, EngineInputs) {
    let (sender, inputs) = mpsc::channel(INPUTS_MAX);
    let (advert, adverts) = watch::channel(None);
    let own = sender.downgrade();
    (EngineHandle { inputs: sender, advert: adverts }, EngineInputs { inputs, own, advert })
}

/// What the engine's outputs act on.
#[derive(Debug)]
pub struct Effects {
    /// Keeps what must be kept.
    pub store: Store,
    /// Carries messages.
    pub overlay: Overlay,
    /// Carries out orders.
    pub machines: Machines,
    /// Tells the switch.
    pub networks: Networks,
}

/// The task.
#[derive(Debug)]
pub struct Driver {
    engine: Engine,
    inputs: EngineInputs,
    effects: Effects,
    replies: HashMap<CommandId, oneshot::Sender<Answer>>,
    commands_given: u64,
    sends: Arc<Semaphore>,
}

impl Driver {
    /// The task for this engine.
    #[must_use]
    pub fn new(engine: Engine, inputs: EngineInputs, effects: Effects) -> Self {
        let sends = Arc::new(Semaphore::new(SENDS_MAX));
        Self { engine, inputs, effects, replies: HashMap::new(), commands_given: 0, sends }
    }

    /// Runs until the daemon ends.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn run(mut self) -> Result<(), Failure> {
        // What the engine wants after its restart comes first: only what it does not adopt then is swept away.
        self.drain().await?;
        let machines = self.effects.machines.clone();
        tokio::spawn(async move { machines.sweep().await });
        loop {
            let due = self.due();
            let input = tokio::select! {
                input = self.inputs.inputs.recv() => match input {
                    Some(input) => Some(input),
                    None => return Ok(()),
                },
                () = due => None,
            };
            match input {
                Some(input) => self.take(input),
                None => self.time_passes(),
            }
            self.drain().await?;
            self.judge_channels();
        }
    }

    /// Peers that want to open a channel show a grant; the engine knows what it is worth.
    fn judge_channels(&mut self) {
        let now = clock::now();
        while let Some(question) = self.effects.networks.poll_question(now) {
            let network = NetworkId(question.network.0);
            let verdict = self.engine.verify_grant(now, question.peer, network, &question.grant);
            self.effects.networks.answer(question, verdict);
        }
    }

    /// When the engine or the networks want to be asked again.
    fn due(&self) -> impl Future<Output = ()> + use<> {
        let next =
            [self.engine.poll_timeout(), self.effects.networks.poll_timeout()].into_iter().flatten().min();
        async move {
            match next {
                Some(next) => tokio::time::sleep(clock::until(next)).await,
                None => std::future::pending().await,
            }
        }
    }

    fn time_passes(&mut self) {
        let now = clock::now();
        self.engine.handle_timeout(now);
    }

    fn take(&mut self, input: Input) {
        let now = clock::now();
        match input {
            Input::Message { from, body } => self.engine.handle_message(now, from, &body),
            Input::Unreachable { host } => self.engine.handle_unreachable(now, host),
            Input::Command { command, reply } => {
                let id = CommandId(self.commands_given);
                self.commands_given += 1;
                self.replies.insert(id, reply);
                self.engine.handle_command(now, id, command);
            }
            Input::Report { slice, machine, report } => {
                self.engine.handle_report(now, slice, machine, report)
            }
            Input::Channel(event) => self.effects.networks.handle_event(now, event),
            // Whoever asked may be gone.
            Input::Slices(reply) => drop(reply.send(self.engine.local_slices().len())),
            Input::Networks(reply) => drop(reply.send(self.effects.networks.list())),
            Input::Part { slice, reply } => drop(reply.send(self.effects.networks.part(slice))),
            Input::Authority { slice, machine, reply } => {
                drop(reply.send(self.effects.networks.authority(slice, &machine)));
            }
        }
    }

    /// Does what the engine wants, in its order; what is to be kept is on disk before anything after it is done.
    async fn drain(&mut self) -> Result<(), Failure> {
        let mut to_keep = Vec::new();
        while let Some(output) = self.engine.poll_output() {
            if let Output::Persist { key, value } = output {
                to_keep.push(Change { room: Room::Engine, key, value });
                continue;
            }
            self.keep(&mut to_keep).await?;
            self.act(output);
        }
        self.keep(&mut to_keep).await?;
        let advert = self.engine.advert();
        self.inputs.advert.send_if_modified(|published| {
            let changed = published.as_ref() != Some(&advert);
            if changed {
                *published = Some(advert);
            }
            changed
        });
        Ok(())
    }

    async fn keep(&self, changes: &mut Vec<Change>) -> Result<(), Failure> {
        if changes.is_empty() {
            return Ok(());
        }
        let (store, changes) = (self.effects.store.clone(), std::mem::take(changes));
        let written = tokio::task::spawn_blocking(move || store.write(&changes)).await;
        written.map_err(|error| Failure::failed("store", format!("the store's thread ended: {error}")))??;
        Ok(())
    }

    fn act(&mut self, output: Output) {
        let machines = &self.effects.machines;
        match output {
            Output::Persist { .. } => unreachable!("kept before anything else is done"),
            Output::Send { to, kind, body } => self.send(to, kind, body),
            Output::Answer { command, answer } => {
                if let Some(reply) = self.replies.remove(&command) {
                    // Whoever asked may be gone.
                    drop(reply.send(*answer));
                }
            }
            Output::Start(order) => machines.start(*order),
            Output::Adopt(order) => machines.adopt(*order),
            Output::Stop { slice, machine, id, reason } => {
                tracing::info!(machine = %id, ?reason, "the machine is to be removed");
                machines.stop(slice, machine, &id);
            }
            Output::Lease { slice, until } => machines.lease(slice, until),
            Output::Networks(view) => self.effects.networks.apply(*view),
            Output::NetworksGone(slice) => self.effects.networks.gone(slice),
            Output::Event { slice, name, event } => tell(slice, &name, &event),
        }
    }

    fn send(&self, to: HostId, kind: &'static str, body: Vec<u8>) {
        let Ok(place) = Arc::clone(&self.sends).try_acquire_owned() else {
            tracing::debug!(%to, kind, "too many messages are on their way: one is dropped, and will be asked for again");
            return;
        };
        let (overlay, own) = (self.effects.overlay.clone(), self.inputs.own.clone());
        tokio::spawn(async move {
            let sent = overlay.call(to, protocols::SCHEDULER, body).await;
            drop(place);
            let Err(error) = sent else { return };
            tracing::debug!(%to, kind, %error, "a message did not arrive");
            if let (consort_overlay::CallError::Unreachable { .. }, Some(inputs)) = (error, own.upgrade()) {
                let _daemon_ends = inputs.send(Input::Unreachable { host: to }).await;
            }
        });
    }
}

/// An event in words, for the log.
fn tell(slice: SliceId, name: &Name, event: &SliceEvent) {
    let (what, about) = match event {
        SliceEvent::Held => ("this host holds room for it", None),
        SliceEvent::Pledged => ("this host is bound by its record", None),
        SliceEvent::Freed => ("this host has no part in it any more", None),
        SliceEvent::LeaseLapsed => ("this host's lease ran out", None),
        SliceEvent::Record(event) => (event.what.as_str(), event.host),
    };
    match about {
        Some(host) => tracing::info!(%slice, %host, "slice {name}: {what}"),
        None => tracing::info!(%slice, "slice {name}: {what}"),
    }
}
