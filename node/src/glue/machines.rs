//! The machines of this host by name: which task has which, and what was found of them after a restart.
//!
//! Owns: the table of tasks and the findings of [`Driver::recover`] until each is adopted or swept away. Refuses to know what a machine does;
//! its task ([`super::machine`]) does. The table is locked for a look-up, never across a wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use consort_machine::driver::{ControlError, Driver, Fate, MachineStatus, NicPort};
use consort_machine::session::{ExecRequest, ExecSession, WinSize};
use consort_machine::spec::{ImageId, MachineId};
use consort_scheduler::bounded::Text;
use consort_scheduler::engine::{DriverReport, MachineOrder};
use consort_scheduler::slice::id::SliceId;
use consort_scheduler::units::Millis;
use consort_vswitch::DataPlane;
use tokio::sync::{mpsc, oneshot, watch};

use super::engine::EngineHandle;
use super::machine::{Begin, Change, Machine, Tools, WISHES_WAITING_MAX, Wanted, Wish};
use super::progress::Stage;
use super::remote::message::MachineReport;
use crate::failure::Failure;

/// How much of a machine's log is sent at once; the keeper keeps little more.
const LOG_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
struct Entry {
    slice: SliceId,
    wanted: watch::Sender<Wanted>,
    wishes: mpsc::Sender<Wish>,
    stage: watch::Receiver<Stage>,
}

#[derive(Debug, Default)]
struct Table {
    machines: BTreeMap<String, Entry>,
    found: BTreeMap<String, (Box<MachineStatus>, Vec<NicPort>)>,
}

/// The machines of this host. Clones share them.
#[derive(Debug, Clone)]
pub struct Machines {
    table: Arc<Mutex<Table>>,
    tools: Tools,
}

impl Machines {
    /// Finds what an earlier life of the daemon left running; nothing of it is touched until it is adopted or swept away.
    ///
    /// # Errors
    /// If the driver cannot look.
    pub async fn recover(
        driver: Arc<dyn Driver>,
        data: DataPlane,
        engine: EngineHandle,
        image: ImageId,
        mtu: u16,
    ) -> Result<Self, Failure> {
        let recovered = driver.recover().await.map_err(|error| {
            Failure::failed(
                "machines",
                format!("the machines of an earlier run could not be looked for: {error}"),
            )
            .remedy("check the permissions below the state directory")
        })?;
        let mut table = Table::default();
        for recovered in recovered {
            match recovered.fate {
                Fate::Found { status, nics } => {
                    table.found.insert(recovered.id.to_string(), (status, nics));
                }
                Fate::Dead { left } if left.is_empty() => {
                    tracing::info!(machine = %recovered.id, "a machine has ended while the daemon was away");
                }
                Fate::Dead { left } => {
                    tracing::warn!(machine = %recovered.id, ?left, "an ended machine could not be removed entirely");
                }
            }
        }
        Ok(Self { table: Arc::new(Mutex::new(table)), tools: Tools { driver, data, engine, image, mtu } })
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a machine; one that is there reports where it stands. Waits for nothing.
    pub fn start(&self, order: MachineOrder) {
        self.begin(order, |_| Begin::Start);
    }

    /// Takes a machine of an earlier life over. Waits for nothing.
    pub fn adopt(&self, order: MachineOrder) {
        self.begin(order, Begin::Adopt);
    }

    fn begin(
        &self,
        order: MachineOrder,
        begin: impl FnOnce(Option<(Box<MachineStatus>, Vec<NicPort>)>) -> Begin,
    ) {
        let (slice, position, name) = (order.slice, order.machine, order.id.clone());
        if self.want(&name, |wanted| wanted.asked += 1) {
            return;
        }
        let (wanted, wants) =
            watch::channel(Wanted { remove: false, lease_until: order.lease_until, asked: 0 });
        let (wishes, granted) = mpsc::channel(WISHES_WAITING_MAX);
        let (stages, stage) = watch::channel(Stage::Placed);
        let machine = match Machine::new(order, self.tools.clone(), wants, granted, stages) {
            Ok(machine) => machine,
            Err(failure) => {
                let (engine, report) =
                    (self.tools.engine.clone(), DriverReport::Failed(Text::cut(&failure.message)));
                tokio::spawn(async move { engine.report(slice, position, report).await });
                return;
            }
        };
        let found = {
            let mut table = self.table();
            table.machines.insert(name.clone(), Entry { slice, wanted, wishes, stage });
            table.found.remove(&name)
        };
        let begin = begin(found);
        let table = Arc::clone(&self.table);
        tokio::spawn(async move {
            machine.run(begin).await;
            let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
            // A machine of the same name may have been begun since; its task still listens.
            if table.machines.get(&name).is_some_and(|entry| entry.wanted.is_closed()) {
                table.machines.remove(&name);
            }
        });
    }

    /// Says what is wanted of a machine; false if no task has it.
    fn want(&self, name: &str, change: impl FnOnce(&mut Wanted)) -> bool {
        let table = self.table();
        let Some(entry) = table.machines.get(name).filter(|entry| !entry.wanted.is_closed()) else {
            return false;
        };
        entry.wanted.send_modify(change);
        true
    }

    /// Removes a machine, and reports it gone once it is; one that is not there is gone already. Waits for nothing.
    pub fn stop(&self, slice: SliceId, position: u8, name: &str) {
        if self.want(name, |wanted| wanted.remove = true) {
            return;
        }
        let (machines, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            // Nothing of it may be left on disk either.
            let _found_before = machines.table().found.remove(&name);
            machines.sweep_one(&name).await;
            machines.tools.engine.report(slice, position, DriverReport::Gone).await;
        });
    }

    /// Lets the machines of a slice live until then.
    pub fn lease(&self, slice: SliceId, until: Millis) {
        for entry in self.table().machines.values().filter(|entry| entry.slice == slice) {
            entry.wanted.send_modify(|wanted| wanted.lease_until = until);
        }
    }

    /// Removes what was found and nobody adopted.
    pub async fn sweep(&self) {
        let left = std::mem::take(&mut self.table().found);
        for name in left.keys() {
            tracing::warn!(machine = %name, "a machine that belongs to no slice is removed");
            self.sweep_one(name).await;
        }
    }

    async fn sweep_one(&self, name: &str) {
        let Ok(id) = name.parse::<MachineId>() else { return };
        if let Err(error) = self.tools.driver.remove(&id).await {
            tracing::error!(machine = %name, %error, "the machine could not be removed");
        }
    }

    /// How far the machines of a slice are, of which `expected` should be here.
    #[must_use]
    pub fn stage(&self, slice: SliceId, expected: usize) -> Stage {
        let table = self.table();
        let stages: Vec<Stage> = table
            .machines
            .values()
            .filter(|entry| entry.slice == slice)
            .map(|entry| *entry.stage.borrow())
            .collect();
        match stages.iter().min() {
            Some(Stage::Failed) => Stage::Failed,
            Some(least) if stages.len() >= expected => *least,
            None if expected == 0 => Stage::Running,
            Some(_) | None => Stage::Placed,
        }
    }

    /// How many machines are here.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table().machines.len()
    }

    /// Starts a program in a machine.
    ///
    /// # Errors
    /// If there is no such machine, or it takes no program.
    pub async fn exec(&self, name: &str, request: ExecRequest) -> Result<ExecSession, Failure> {
        self.tools.driver.exec(&machine_id(name)?, request).await.map_err(refusal)
    }

    /// Attaches to a machine's console.
    ///
    /// # Errors
    /// If there is no such machine, or it has none.
    pub async fn console(&self, name: &str, size: Option<WinSize>) -> Result<ExecSession, Failure> {
        self.tools.driver.console(&machine_id(name)?, size).await.map_err(refusal)
    }

    /// The end of what a machine's console printed.
    ///
    /// # Errors
    /// If there is no such machine.
    pub async fn logs(&self, name: &str) -> Result<Vec<u8>, Failure> {
        self.tools.driver.logs(&machine_id(name)?, LOG_BYTES_MAX).await.map_err(refusal)
    }

    /// What a machine is doing.
    ///
    /// # Errors
    /// If there is no such machine.
    pub async fn show(&self, name: &str) -> Result<MachineReport, Failure> {
        let (reply, answer) = oneshot::channel();
        self.tell(name, Wish::Show(reply)).await?;
        answer.await.map_err(|_| not_here(name))
    }

    /// Changes a machine as its tenant wants.
    ///
    /// # Errors
    /// If there is no such machine, or it cannot be changed so.
    pub async fn change(&self, name: &str, change: Change) -> Result<MachineReport, Failure> {
        let (reply, answer) = oneshot::channel();
        self.tell(name, Wish::Change(change, reply)).await?;
        answer.await.map_err(|_| not_here(name))?
    }

    async fn tell(&self, name: &str, wish: Wish) -> Result<(), Failure> {
        let wishes = self.table().machines.get(name).map(|entry| entry.wishes.clone());
        wishes.ok_or_else(|| not_here(name))?.send(wish).await.map_err(|_| not_here(name))
    }
}

fn machine_id(name: &str) -> Result<MachineId, Failure> {
    name.parse().map_err(|_| not_here(name))
}

fn not_here(name: &str) -> Failure {
    Failure::not_found("no_machine", format!("no machine {name} is on this host"))
        .remedy("look at `consort machine ls`")
}

fn refusal(error: ControlError) -> Failure {
    match error {
        ControlError::NotFound(id) => not_here(id.as_str()),
        ControlError::Request(error) => Failure::input("request", error.to_string()),
        ControlError::Refused(why) => Failure::refused("machine_refused", why),
        error => Failure::failed("machine", error.to_string()),
    }
}
