//! A host's machines, as its driver and their keepers have them.
//!
//! Starting and stopping take a while. A keeper ends its machine by itself when the lease it was told of is over by the
//! host's clock, also while the daemon is dead.

use std::collections::BTreeMap;

use consort_scheduler::resources::Resources;
use consort_scheduler::slice::id::SliceId;
use consort_scheduler::units::Millis;

/// Where a machine is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It is being started; it takes its room already.
    Starting,
    /// It runs.
    Running,
    /// Its keeper ended it; the daemon does not know yet.
    Ended,
}

/// A machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimMachine {
    /// Its slice.
    pub slice: SliceId,
    /// Its position in the record.
    pub index: u8,
    /// What it takes.
    pub size: Resources,
    /// When its keeper ends it, by the host's clock.
    pub until: Millis,
    /// Where it is in its life.
    pub life: Life,
}

/// All machines of one host, by name.
#[derive(Debug, Clone, Default)]
pub struct Machines {
    /// The machines.
    pub all: BTreeMap<String, SimMachine>,
}

impl Machines {
    /// Whether a machine takes room.
    #[must_use]
    pub fn is_there(machine: &SimMachine) -> bool {
        machine.life != Life::Ended
    }

    /// What all machines take together.
    #[must_use]
    pub fn taken(&self) -> Resources {
        let there = self.all.values().filter(|machine| Self::is_there(machine));
        there.fold(Resources::NONE, |sum, machine| sum.plus(&machine.size))
    }

    /// The machines of a slice that take room.
    pub fn of(&self, slice: SliceId) -> impl Iterator<Item = &SimMachine> {
        self.all.values().filter(move |machine| machine.slice == slice && Self::is_there(machine))
    }

    /// The next time a keeper acts.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.all.values().filter(|machine| Self::is_there(machine)).map(|machine| machine.until).min()
    }

    /// Ends every machine whose lease is over.
    pub fn keep(&mut self, now: Millis) -> Vec<String> {
        let mut ended = Vec::new();
        for (name, machine) in &mut self.all {
            if machine.life != Life::Ended && machine.until <= now {
                machine.life = Life::Ended;
                ended.push(name.clone());
            }
        }
        ended
    }
}
