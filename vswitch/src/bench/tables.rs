//! Finding an address, and deciding about a frame.

use std::{
    collections::HashMap,
    hint::black_box,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use super::{Figure, calls, mac, tcp_frame};
use crate::{
    HostId,
    switch::{Decision, Guard, MachineBinding, NetworkConfig, NetworkId, PortConfig, PortId, Switch, Worker},
    table::{Lookup, Place, Table},
};

/// Visits addresses in an order that no cache foresees.
fn stride(count: usize) -> impl FnMut() -> usize {
    let mut at = 0;
    move || {
        at = (at + 7_919_993) % count;
        at
    }
}

pub(super) fn lookup(addresses: usize) -> Figure {
    let table = Table::new(addresses, 1);
    let mut plain = HashMap::new();
    #[expect(clippy::cast_possible_truncation, reason = "fewer addresses than 2^32")]
    for number in 0..addresses {
        table.learn(mac(number), Place::Peer(number as u32), Duration::ZERO);
        plain.insert(mac(number).0, Place::Peer(number as u32));
    }
    let locked = RwLock::new(plain.clone());
    let [mut ours, mut bare, mut behind_lock] = [(); 3].map(|()| stride(addresses));
    Figure::measured(
        format!("find a learned address among {addresses}"),
        None,
        calls(|| {
            let found = table.lookup(mac(ours()), Duration::ZERO);
            debug_assert!(found != Lookup::AskedRecently);
            black_box(found);
        }),
        [
            (
                "HashMap nobody writes to",
                calls(|| {
                    black_box(plain.get(&mac(bare()).0));
                }),
            ),
            (
                "HashMap behind a lock",
                calls(|| {
                    black_box(locked.read().expect("nobody panics").get(&mac(behind_lock()).0));
                }),
            ),
        ],
    )
}

/// A network with so many machines, one of them here.
fn network(addresses: usize) -> (Worker, PortId) {
    let (here, there) = (HostId::random(), HostId::random());
    let binding = |number: usize, host| MachineBinding {
        mac: mac(number),
        #[expect(clippy::cast_possible_truncation, reason = "fewer addresses than 2^24")]
        ipv4: vec![(0x0a00_0001 + number as u32).into()],
        ipv6: vec![],
        host,
    };
    let machines =
        (0..addresses).map(|number| binding(number, if number == 0 { here } else { there })).collect();
    let id = NetworkId([1; 16]);
    let switch = Switch::new(here, now(), 1);
    let config = NetworkConfig { id, mtu: 1500, machines, hosts: vec![there], allow_unknown: false };
    switch.set_network(&config).expect("the network has no contradictions");
    let own = binding(0, here);
    let port =
        PortConfig { mac: own.mac, ipv4: own.ipv4, ipv6: own.ipv6, guard: Guard::Strict, vnet_hdr: true };
    let port = switch.attach(id, port).expect("the machine is in the record");
    (Arc::clone(&switch).worker(), port)
}

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn now() -> Instant {
    Instant::now()
}

pub(super) fn decision(addresses: usize) -> Figure {
    let (worker, port) = network(addresses);
    let plain: HashMap<_, _> = (0..addresses).map(|number| (mac(number).0, number)).collect();
    let plain = RwLock::new(plain);
    let now = now();
    let (mut frame, mut same) = (tcp_frame(&[0; 100]), tcp_frame(&[0; 100]));
    let (mut ours, mut theirs) = (stride(addresses - 1), stride(addresses - 1));
    Figure::measured(
        format!("decide about a frame (guards, switch) among {addresses}"),
        None,
        calls(|| {
            frame[..6].copy_from_slice(&mac(ours() + 1).0);
            let decision = worker.from_port(now, port, black_box(&frame));
            debug_assert!(matches!(decision, Decision::Peer(..)));
            black_box(&decision);
        }),
        [(
            "two lookups in a HashMap behind a lock",
            calls(|| {
                same[..6].copy_from_slice(&mac(theirs() + 1).0);
                let map = plain.read().expect("nobody panics");
                black_box((map.get(&same[..6]), map.get(&same[6..12])));
            }),
        )],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_decided_about_goes_to_a_peer() {
        let (worker, port) = network(10);
        let mut frame = tcp_frame(&[0; 10]);
        frame[..6].copy_from_slice(&mac(3).0);
        assert!(matches!(worker.from_port(now(), port, &frame), Decision::Peer(..)));
    }
}
