//! The order to start a machine, from the slice's record and charter.

use std::net::IpAddr;

use crate::engine::{InterfaceOrder, MachineOrder};
use crate::slice::charter::Founded;
use crate::slice::record::{Machine, Record};
use crate::slice::view::machine_id;
use crate::units::Millis;

pub(super) fn order(
    founded: &Founded,
    record: &Record,
    index: u8,
    machine: &Machine,
    lease_until: Millis,
) -> MachineOrder {
    let group = &founded.charter.spec.groups[usize::from(machine.group)];
    let interfaces = machine.interfaces.iter().filter_map(|nic| {
        let network = record.networks.get(usize::from(nic.network))?;
        Some(InterfaceOrder {
            network: network.id,
            network_name: network.name.clone(),
            mac: nic.mac,
            ipv4: nic.ipv4.zip(network.ipv4),
            ipv6: nic.ipv6.zip(network.ipv6),
        })
    });
    let shares = |network: u8| machine.interfaces.iter().any(|nic| nic.network == network);
    let peers = record.machines.iter().filter_map(|peer| {
        let nics = peer.interfaces.iter().filter(|nic| shares(nic.network));
        let addresses: Vec<IpAddr> = nics
            .flat_map(|nic| nic.ipv4.map(IpAddr::V4).into_iter().chain(nic.ipv6.map(IpAddr::V6)))
            .collect();
        (!addresses.is_empty()).then(|| (peer.name.to_string(), addresses))
    });
    MachineOrder {
        slice: record.slice,
        slice_name: record.name.clone(),
        machine: index,
        id: machine_id(record.slice, machine.name.as_str()),
        hostname: machine.name.to_string(),
        group: group.name.clone(),
        category: machine.category,
        image: group.image.clone(),
        size: machine.size,
        run: group.run.iter().map(ToString::to_string).collect(),
        interfaces: interfaces.collect(),
        peers: peers.collect(),
        lease_until,
    }
}
