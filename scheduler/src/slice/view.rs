//! What users and the data plane see of a slice.
//!
//! [`SliceView`] is what `slice create` and `slice show` print (design, *Contract*); [`SliceNetworks`] is what a
//! host's switch has to know. Both are made from a record and nothing else but what hosts reported.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use super::grant::GrantBytes;
use super::id::{Name, NetworkId, SliceId};
use super::record::{LossReason, Record, RecordEvent, Standing, State, What};
use super::spec::{Category, Ipv4Range, Ipv6Range};
use crate::identity::{HostId, TenantId};
use crate::message::{MachineState, Reports};
use crate::units::Millis;

/// A slice as users see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SliceView {
    /// Its name.
    pub name: Name,
    /// Its id.
    pub id: SliceId,
    /// Where it stands, in one word.
    pub state: &'static str,
    /// Why it stands there, in one word, when it is over.
    pub reason: Option<String>,
    /// How often its record was changed.
    pub version: u64,
    /// Its tenant.
    pub tenant: TenantId,
    /// The node that ran the request.
    pub coordinator: HostId,
    /// Who keeps its record.
    pub stewards: Vec<HostId>,
    /// The lease of its hosts, in milliseconds.
    pub lease_ms: Millis,
    /// Its term, in milliseconds.
    pub term_ms: Millis,
    /// How much of the term is left, where it is active.
    pub left_ms: Option<Millis>,
    /// Its networks.
    pub networks: Vec<NetworkLine>,
    /// Its machines.
    pub machines: Vec<MachineView>,
    /// What happened to it.
    pub events: Vec<EventView>,
}

/// A network as users see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkLine {
    /// Its name.
    pub name: Name,
    /// Its id.
    pub id: NetworkId,
    /// Its IPv4 range.
    pub ipv4: Option<String>,
    /// Its IPv6 range.
    pub ipv6: Option<String>,
}

/// A machine as users see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineView {
    /// Its name within the slice.
    pub name: String,
    /// Its name on its host.
    pub id: String,
    /// Its host.
    pub host: HostId,
    /// Its category.
    pub category: Category,
    /// How it fares, in one word.
    pub state: &'static str,
    /// Why, where there is more to say.
    pub detail: Option<String>,
    /// Its share of CPUs, in thousandths.
    pub cpus_milli: u64,
    /// Its memory.
    pub memory_bytes: u64,
    /// Its disk.
    pub disk_bytes: u64,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceView>,
}

/// An interface as users see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InterfaceView {
    /// The network's name.
    pub network: Name,
    /// The MAC address.
    pub mac: String,
    /// The IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
}

/// An event as users see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventView {
    /// The record's version it made.
    pub version: u64,
    /// How long after the slice began, as its writer counts.
    pub after_ms: Millis,
    /// What happened, in words.
    pub what: String,
    /// The host it is about, if it is about one.
    pub host: Option<HostId>,
}

/// A MAC address as people write it.
#[must_use]
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// One word for a state, and one for its reason.
#[must_use]
pub fn state_words(state: State) -> (&'static str, Option<String>) {
    let word = |reason: &dyn std::fmt::Debug| {
        // `HoldOver` → `hold_over`, as everywhere else in JSON.
        let mut text = String::new();
        for letter in format!("{reason:?}").chars() {
            if letter.is_ascii_uppercase() && !text.is_empty() {
                text.push('_');
            }
            text.push(letter.to_ascii_lowercase());
        }
        Some(text)
    };
    match state {
        State::Forming => ("forming", None),
        State::Active => ("active", None),
        State::Ended(why) => ("ended", word(&why)),
        State::Aborted(why) => ("aborted", word(&why)),
    }
}

impl EventView {
    /// An event in words.
    #[must_use]
    pub fn new(event: &RecordEvent) -> Self {
        let (what, host) = match event.what {
            What::Formed => ("hosts hold room for it".to_owned(), None),
            What::Activated => ("decided: it is active".to_owned(), None),
            What::HostLost(host, LossReason::LeaseLapsed) => {
                ("host lost: it did not renew its lease".to_owned(), Some(host))
            }
            What::HostLost(host, LossReason::Released) => {
                ("host lost: it gave its machines up".to_owned(), Some(host))
            }
            What::Extended(term) => (format!("its term is now {term}"), None),
            What::Ended(why) => {
                (format!("ended: {}", state_words(State::Ended(why)).1.unwrap_or_default()), None)
            }
            What::Aborted(why) => {
                (format!("aborted: {}", state_words(State::Aborted(why)).1.unwrap_or_default()), None)
            }
        };
        Self { version: event.version, after_ms: event.after, what, host }
    }
}

/// A machine's name on its host: unique there, and fit for a file name and a cgroup.
#[must_use]
pub fn machine_id(slice: SliceId, name: &str) -> String {
    format!("{}-{name}", slice.short())
}

impl SliceView {
    /// A record in words, with what hosts said of their machines.
    #[must_use]
    pub fn new(record: &Record, reports: &Reports, left: Option<Millis>) -> Self {
        let (state, reason) = state_words(record.state);
        let machines = record.machines.iter().enumerate().map(|(index, machine)| {
            let report = reports.iter().find(|report| usize::from(report.machine) == index);
            let (state, detail) =
                machine_words(record.state, machine.standing, report.map(|report| &report.state));
            MachineView {
                name: machine.name.to_string(),
                id: machine_id(record.slice, machine.name.as_str()),
                host: machine.host,
                category: machine.category,
                state,
                detail,
                cpus_milli: machine.size.cpus_milli,
                memory_bytes: machine.size.memory_bytes,
                disk_bytes: machine.size.disk_bytes,
                interfaces: machine
                    .interfaces
                    .iter()
                    .filter_map(|nic| {
                        let network = record.networks.get(usize::from(nic.network))?;
                        Some(InterfaceView {
                            network: network.name.clone(),
                            mac: mac_text(nic.mac),
                            ipv4: nic.ipv4,
                            ipv6: nic.ipv6,
                        })
                    })
                    .collect(),
            }
        });
        let networks = record.networks.iter().map(|network| NetworkLine {
            name: network.name.clone(),
            id: network.id,
            ipv4: network.ipv4.map(|range| range.to_string()),
            ipv6: network.ipv6.map(|range| range.to_string()),
        });
        Self {
            name: record.name.clone(),
            id: record.slice,
            state,
            reason,
            version: record.version,
            tenant: record.tenant,
            coordinator: record.coordinator,
            stewards: record.stewards.to_vec(),
            lease_ms: record.lease,
            term_ms: record.term,
            left_ms: left.filter(|_| record.state == State::Active),
            networks: networks.collect(),
            machines: machines.collect(),
            events: record.events.iter().map(EventView::new).collect(),
        }
    }
}

fn machine_words(
    slice: State,
    standing: Standing,
    report: Option<&MachineState>,
) -> (&'static str, Option<String>) {
    match (slice, standing, report) {
        (_, Standing::Lost(LossReason::LeaseLapsed), _) => {
            ("lost", Some("its host did not renew the lease".into()))
        }
        (_, Standing::Lost(LossReason::Released), _) => ("lost", Some("its host gave it up".into())),
        (State::Ended(_) | State::Aborted(_), ..) | (_, _, Some(MachineState::Stopped)) => ("stopped", None),
        (_, _, Some(MachineState::Failed(why))) => ("failed", Some(why.to_string())),
        (_, _, Some(MachineState::Running)) => ("running", None),
        (_, _, Some(MachineState::Starting)) => ("starting", None),
        (_, _, Some(MachineState::Placed) | None) => ("placed", None),
    }
}

/// What a host's switch has to know of one slice. It replaces whatever was said of the slice before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceNetworks {
    /// The slice.
    pub slice: SliceId,
    /// Its name.
    pub name: Name,
    /// The networks on which this host has machines.
    pub networks: Vec<NetworkView>,
    /// Until when this view may be used to let other hosts in.
    pub valid_until: Millis,
    /// The record it was made from: [`super::grant::verify_grant`] wants it.
    pub record: Record,
}

/// One network, for the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkView {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: Name,
    /// Its IPv4 range.
    pub ipv4: Option<Ipv4Range>,
    /// Its IPv6 range.
    pub ipv6: Option<Ipv6Range>,
    /// All machines on it that still count, this host's among them.
    pub machines: Vec<MachineOnNetwork>,
    /// The other hosts with machines on it.
    pub hosts: Vec<HostId>,
    /// What this host presents to the others; none until a steward gave one.
    pub grant: Option<GrantBytes>,
}

/// A machine's place on a network, for the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineOnNetwork {
    /// Its name within the slice.
    pub name: String,
    /// Its name on its host.
    pub id: String,
    /// Which of its interfaces: 0 is `eth0`.
    pub interface: usize,
    /// Its host.
    pub host: HostId,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
}

impl SliceNetworks {
    /// What `host` has to know, with the grants it holds.
    #[must_use]
    pub fn new(
        record: &Record,
        host: HostId,
        grants: &[(NetworkId, GrantBytes)],
        valid_until: Millis,
    ) -> Self {
        let networks = record.networks.iter().enumerate().filter_map(|(index, network)| {
            let hosts = record.hosts_on_network(index);
            hosts.contains(&host).then(|| NetworkView {
                id: network.id,
                name: network.name.clone(),
                ipv4: network.ipv4,
                ipv6: network.ipv6,
                machines: machines_on(record, index),
                hosts: hosts.into_iter().filter(|other| *other != host).collect(),
                grant: grants.iter().find(|(id, _)| *id == network.id).map(|(_, grant)| grant.clone()),
            })
        });
        let networks = networks.collect();
        Self { slice: record.slice, name: record.name.clone(), networks, valid_until, record: record.clone() }
    }
}

fn machines_on(record: &Record, network: usize) -> Vec<MachineOnNetwork> {
    let placed = record.machines.iter().filter(|machine| machine.standing == Standing::Placed);
    placed
        .flat_map(|machine| {
            let here = machine
                .interfaces
                .iter()
                .enumerate()
                .filter(move |(_, nic)| usize::from(nic.network) == network);
            here.map(move |(interface, nic)| MachineOnNetwork {
                name: machine.name.to_string(),
                id: machine_id(record.slice, machine.name.as_str()),
                interface,
                host: machine.host,
                mac: nic.mac,
                ipv4: nic.ipv4,
                ipv6: nic.ipv6,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounded::List;
    use crate::message::MachineReport;
    use crate::resources::Resources;
    use crate::slice::record::{Assignment, EndReason};
    use crate::specimen::{founded, host};

    fn record() -> Record {
        let size = Resources { cpus_milli: 1000, memory_bytes: 256 << 20, disk_bytes: 1 << 30, machines: 1 };
        let assignment = |number, byte| Assignment {
            group: 0,
            number,
            host: host(byte),
            category: Category::Sandbox,
            size,
        };
        let forming = Record::forming(&founded("count = 2"), &[assignment(0, 4), assignment(1, 5)]);
        Record { state: State::Active, ..forming }
    }

    /// The contract: scripts rely on these names.
    #[test]
    fn the_json_of_a_slice_has_the_fields_of_the_contract() {
        let running = MachineReport { machine: 0, state: MachineState::Running };
        let view = SliceView::new(&record(), &List::first_of([running]), Some(Millis(5)));
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["name"], "a");
        assert_eq!(json["id"], record().slice.to_string());
        assert_eq!(json["state"], "active");
        let machine = &json["machines"][0];
        assert_eq!((&machine["name"], &machine["category"]), (&"m-0".into(), &"sandbox".into()));
        assert_eq!(machine["host"], host(4).to_base58());
        assert_eq!(machine["state"], "running");
        assert_eq!(json["machines"][1]["state"], "placed");
        let interface = &machine["interfaces"][0];
        assert_eq!(interface["network"], "lan");
        assert_eq!(interface["mac"].as_str().unwrap().len(), "02:00:00:00:00:00".len());
        assert!(interface["ipv4"].as_str().unwrap().ends_with(".2"));
        assert!(interface["ipv6"].as_str().unwrap().starts_with("fd"));
    }

    #[test]
    fn a_state_has_one_word_and_its_reason_another() {
        assert_eq!(state_words(State::Active), ("active", None));
        assert_eq!(state_words(State::Ended(EndReason::TermOver)), ("ended", Some("term_over".into())));
    }

    #[test]
    fn the_switch_is_told_of_the_networks_this_host_is_on_and_of_nobody_who_is_lost() {
        let mut record = record();
        let networks = SliceNetworks::new(&record, host(4), &[], Millis(9));
        assert_eq!(networks.networks[0].machines.len(), 2);
        assert_eq!(networks.networks[0].hosts, [host(5)]);
        for machine in record.machines.iter_mut().filter(|machine| machine.host == host(5)) {
            machine.standing = Standing::Lost(LossReason::LeaseLapsed);
        }
        let networks = SliceNetworks::new(&record, host(4), &[], Millis(9));
        assert_eq!((networks.networks[0].machines.len(), networks.networks[0].hosts.len()), (1, 0));
        assert!(SliceNetworks::new(&record, host(7), &[], Millis(9)).networks.is_empty());
    }
}
