//! A slice's record: the value in its register.
//!
//! ```text
//!             Activate (all hosts pledged)          End (term, tenant) or all machines lost
//!   (empty) ─Form─▶ Forming ───────────────▶ Active ─────────────────▶ Ended
//!                      │ Abort (coordinator, a host whose hold ran out, a steward)
//!                      └─────────────▶ Aborted
//! ```
//! `Forming → Active` is the decision: hosts bind or release by it. `version` counts the changes. Machines of
//! a record never move: they are placed, or lost. Only [`super::change`] makes one record of another.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::address;
use super::charter::Founded;
use super::id::{Name, NetworkId, SliceId};
use super::spec::{Category, Group, Ipv4Range, Ipv6Range};
use crate::bounded::{List, Text};
use crate::identity::{HostId, TenantId};
use crate::limits::{EVENTS_MAX, INTERFACES_MAX, MACHINES_MAX, NAME_BYTES_MAX, NETWORKS_MAX, STEWARDS_MAX};
use crate::resources::Resources;
use crate::units::Millis;

/// Where a slice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Hosts hold room for it; nothing is decided.
    Forming,
    /// It is theirs until it ends.
    Active,
    /// It was active and is over.
    Ended(EndReason),
    /// It never came to be.
    Aborted(AbortReason),
}

impl State {
    /// Whether nothing can come after it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Ended(_) | Self::Aborted(_))
    }
}

/// Why a slice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Its term ran out.
    TermOver,
    /// The tenant removed it.
    Removed,
    /// Its last machine was lost.
    AllLost,
}

/// Why a slice never came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbortReason {
    /// A host took its offer back.
    HostWithdrew,
    /// A host's hold ran out before the decision.
    HoldOver,
    /// The coordinator gave up.
    CoordinatorGaveUp,
    /// Nobody decided in time.
    Abandoned,
    /// The tenant removed it.
    Removed,
}

/// Why a machine is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossReason {
    /// Its host did not renew the lease.
    LeaseLapsed,
    /// Its host gave it up.
    Released,
}

/// Whether a machine still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Its host has it.
    Placed,
    /// It is gone.
    Lost(LossReason),
}

/// A machine's place on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interface {
    /// Which of the record's networks.
    pub network: u8,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its IPv4 address, where the network has any.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address, where the network has any.
    pub ipv6: Option<Ipv6Addr>,
}

/// The name of a machine: its kind's name, `-`, its number.
pub type MachineName = Text<{ NAME_BYTES_MAX + 4 }>;

/// A machine of a slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name.
    pub name: MachineName,
    /// Which of the spec's kinds.
    pub group: u8,
    /// Its number within its kind.
    pub number: u16,
    /// Its host.
    pub host: HostId,
    /// Its category.
    pub category: Category,
    /// What it takes.
    pub size: Resources,
    /// Its interfaces, `eth0` first.
    pub interfaces: List<Interface, INTERFACES_MAX>,
    /// Whether it still counts.
    pub standing: Standing,
}

/// A network of a slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordNetwork {
    /// Its name.
    pub name: Name,
    /// Its id.
    pub id: NetworkId,
    /// Its IPv4 range.
    pub ipv4: Option<Ipv4Range>,
    /// Its IPv6 range.
    pub ipv6: Option<Ipv6Range>,
}

/// What happened to a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Hosts hold room for it.
    Formed,
    /// It was decided.
    Activated,
    /// A host's machines are lost.
    HostLost(HostId, LossReason),
    /// Its term was made longer.
    Extended(Millis),
    /// It is over.
    Ended(EndReason),
    /// It never came to be.
    Aborted(AbortReason),
}

/// An entry of a slice's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordEvent {
    /// The record's version it made.
    pub version: u64,
    /// How long after the writer first knew of the slice.
    pub after: Millis,
    /// What happened.
    pub what: What,
}

/// The value in a slice's register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The slice.
    pub slice: SliceId,
    /// Its name.
    pub name: Name,
    /// Its tenant.
    pub tenant: TenantId,
    /// How often it was changed.
    pub version: u64,
    /// Where it stands.
    pub state: State,
    /// Who ran the request.
    pub coordinator: HostId,
    /// Who keeps this record.
    pub stewards: List<HostId, STEWARDS_MAX>,
    /// How long a host may go without reading it.
    pub lease: Millis,
    /// How long it lives from its activation.
    pub term: Millis,
    /// Its networks.
    pub networks: List<RecordNetwork, NETWORKS_MAX>,
    /// Its machines.
    pub machines: List<Machine, MACHINES_MAX>,
    /// What happened to it, the oldest first.
    pub events: List<RecordEvent, EVENTS_MAX>,
}

/// Where one machine goes and how large it is: what a coordinator decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Which of the spec's kinds.
    pub group: u8,
    /// Its number within its kind.
    pub number: u16,
    /// Its host.
    pub host: HostId,
    /// Its category.
    pub category: Category,
    /// What it takes.
    pub size: Resources,
}

impl Record {
    /// The first record of a slice whose machines go where `assignments` says.
    #[must_use]
    pub fn forming(founded: &Founded, assignments: &[Assignment]) -> Self {
        let (slice, spec) = (founded.slice, &founded.charter.spec);
        let ranges = address::ipv4_ranges(slice, &spec.networks);
        let networks: Vec<RecordNetwork> = spec
            .networks
            .iter()
            .zip(ranges)
            .map(|(network, ipv4)| RecordNetwork {
                name: network.name.clone(),
                id: address::network_id(slice, &network.name),
                ipv4,
                ipv6: address::ipv6_range(slice, network),
            })
            .collect();
        let mut taken = Vec::new();
        let machines = assignments.iter().enumerate().filter_map(|(index, assignment)| {
            let group = spec.groups.get(usize::from(assignment.group))?;
            let name = format!("{}-{}", group.name, assignment.number);
            let interfaces = group.networks.iter().enumerate().filter_map(|(place, network)| {
                let position = spec.network_index(network)?;
                let mac = address::mac_of(slice, &name, place, &taken);
                taken.push(mac);
                Some(Interface {
                    network: u8::try_from(position).expect("a slice has few networks"),
                    mac,
                    ipv4: networks[position].ipv4.and_then(|range| address::ipv4_of(range, index)),
                    ipv6: networks[position].ipv6.map(|range| address::ipv6_of(range, index)),
                })
            });
            Some(Machine {
                group: assignment.group,
                number: assignment.number,
                host: assignment.host,
                category: assignment.category,
                size: assignment.size,
                interfaces: List::first_of(interfaces.collect::<Vec<_>>()),
                standing: Standing::Placed,
                name: Text::cut(&name),
            })
        });
        Self {
            slice,
            name: spec.name.clone(),
            tenant: founded.charter.tenant,
            version: 0,
            state: State::Forming,
            coordinator: founded.charter.coordinator,
            stewards: founded.charter.stewards.clone(),
            lease: spec.lease,
            term: spec.term,
            machines: List::first_of(machines.collect::<Vec<_>>()),
            networks: List::first_of(networks),
            events: List::new(),
        }
    }

    /// Whether this can be a record of that charter at all: the parts that never change are the charter's, names and addresses
    /// are those that follow from it, and no machine is outside its kind's sizes and counts.
    #[must_use]
    pub fn belongs_to(&self, founded: &Founded) -> bool {
        let (charter, spec) = (&founded.charter, &founded.charter.spec);
        let assignment = |machine: &Machine| Assignment {
            group: machine.group,
            number: machine.number,
            host: machine.host,
            category: machine.category,
            size: machine.size,
        };
        let in_order = |machine: &Machine| {
            spec.groups.get(usize::from(machine.group)).is_some_and(|group| {
                let category = group.category.is_none_or(|wanted| wanted == machine.category);
                let size = group.least().fits(&machine.size) && machine.size.fits(&group.sized(Group::STEPS));
                category && size && machine.number < group.count.max
            })
        };
        let assignments: Vec<Assignment> = self.machines.iter().map(assignment).collect();
        let mut places: Vec<(u8, u16)> =
            self.machines.iter().map(|machine| (machine.group, machine.number)).collect();
        places.sort_unstable();
        places.dedup();
        let expected = Self::forming(founded, &assignments);
        let as_expected = |(machine, expected): (&Machine, &Machine)| {
            machine.name == expected.name && machine.interfaces == expected.interfaces
        };
        self.slice == founded.slice
            && self.name == spec.name
            && self.tenant == charter.tenant
            && self.coordinator == charter.coordinator
            && self.stewards == charter.stewards
            && self.lease == spec.lease
            && self.term >= spec.term
            && self.networks == expected.networks
            && places.len() == self.machines.len()
            && self.machines.iter().all(in_order)
            && self.machines.iter().zip(&expected.machines).all(as_expected)
    }

    /// The machines of one host that still count, with their positions.
    pub fn placed_on(&self, host: HostId) -> impl Iterator<Item = (usize, &Machine)> {
        let here = move |machine: &Machine| machine.host == host && machine.standing == Standing::Placed;
        self.machines.iter().enumerate().filter(move |(_, machine)| here(machine))
    }

    /// Whether a host has machines here that still count.
    #[must_use]
    pub fn has_member(&self, host: HostId) -> bool {
        self.placed_on(host).next().is_some()
    }

    /// The hosts that have machines which still count, each once, in order.
    #[must_use]
    pub fn members(&self) -> Vec<HostId> {
        let placed = self.machines.iter().filter(|machine| machine.standing == Standing::Placed);
        let mut hosts: Vec<HostId> = placed.map(|machine| machine.host).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// What its machines on one host take together.
    #[must_use]
    pub fn taken_on(&self, host: HostId) -> Resources {
        self.placed_on(host).fold(Resources::NONE, |sum, (_, machine)| sum.plus(&machine.size))
    }

    /// The hosts with a machine that still counts on the network at `index`.
    #[must_use]
    pub fn hosts_on_network(&self, index: usize) -> Vec<HostId> {
        let on = |host: &HostId| {
            self.placed_on(*host)
                .any(|(_, machine)| machine.interfaces.iter().any(|nic| usize::from(nic.network) == index))
        };
        self.members().into_iter().filter(on).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::specimen::{founded, host};

    fn record() -> Record {
        let size = founded("count = 2").charter.spec.groups[0].least();
        let assignment = |number, byte| Assignment {
            group: 0,
            number,
            host: host(byte),
            category: Category::Sandbox,
            size,
        };
        Record::forming(&founded("count = 2"), &[assignment(0, 4), assignment(1, 5)])
    }

    #[test]
    fn a_record_has_the_names_and_addresses_that_follow_from_its_charter() {
        let record = record();
        assert!(record.belongs_to(&founded("count = 2")));
        assert!(!record.belongs_to(&founded("count = 3")));
        let names: Vec<_> = record.machines.iter().map(|machine| machine.name.as_str()).collect();
        assert_eq!(names, ["m-0", "m-1"]);
        let first = record.machines[0].interfaces[0];
        let second = record.machines[1].interfaces[0];
        assert_eq!(first.ipv4.unwrap().octets()[3], 2);
        assert_eq!(second.ipv4.unwrap().octets()[3], 3);
        assert_ne!(first.mac, second.mac);
    }

    #[test]
    fn a_record_with_anything_else_in_it_is_nobodys() {
        let spoiled = |spoil: fn(&mut Record)| {
            let mut record = record();
            spoil(&mut record);
            record.belongs_to(&founded("count = 2"))
        };
        assert!(!spoiled(|record| record.machines.iter_mut().for_each(|machine| machine.group = 9)));
        assert!(!spoiled(|record| record.machines.iter_mut().for_each(|machine| machine.number = 0)));
        assert!(!spoiled(|record| record
            .machines
            .iter_mut()
            .for_each(|machine| machine.size.cpus_milli += 1)));
        assert!(!spoiled(|record| record
            .machines
            .iter_mut()
            .for_each(|machine| machine.interfaces = List::new())));
        assert!(!spoiled(|record| record.networks.iter_mut().for_each(|network| network.ipv4 = None)));
        assert!(!spoiled(|record| record.stewards = List::new()));
        assert!(!spoiled(|record| record.lease = Millis(1)));
        assert!(spoiled(|record| record.machines = List::new()), "an aborted slice has no machines");
    }
}
