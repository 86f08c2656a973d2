//! No allocation per frame: deciding, answering, cutting and joining are run under an allocator that counts.

#![expect(unsafe_code, reason = "an allocator is unsafe to write; this one only counts and passes on")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io::IoSlice,
    net::Ipv4Addr,
    time::Instant,
};

use consort_vswitch::{
    Guard, HostId, MacAddr, MachineBinding, NetworkConfig, NetworkId, PortConfig,
    frame::{
        arp::{Arp, Operation},
        checksum::{Sum, pseudo_ipv4},
    },
    offload::{
        Capabilities, Checksum, Gso, Joiner, Prepared, Received, VnetHeader, prepare, vnet::ChecksumPlace,
    },
    switch::{Decision, Switch},
};

thread_local! {
    /// Allocations of this thread; the test harness has threads of its own.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: Every call is passed on to the system's allocator as it came; counting touches a thread's own cell and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: The caller keeps `alloc`'s conditions, which are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: As above; the place came from the system's allocator.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs something that must not allocate.
#[track_caller]
fn without_allocation(what: &str, body: impl FnOnce()) {
    let before = COUNT.with(Cell::get);
    body();
    assert_eq!(COUNT.with(Cell::get) - before, 0, "{what}");
}

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const A4: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const B4: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);

/// A TCP super-frame over IPv4 with an open checksum, and its header.
fn super_frame() -> (VnetHeader, Vec<u8>) {
    let payload = 40_000;
    let mut frame = [B.0, A.0].concat();
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend(u16::try_from(40 + payload).unwrap().to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(A4.octets());
    frame.extend(B4.octets());
    let sum = Sum::default().bytes(&frame[14..34]).finish();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend([0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0]);
    frame.extend(pseudo_ipv4(A4, B4, 6, u32::try_from(20 + payload).unwrap()).folded().to_be_bytes());
    frame.extend([0, 0]);
    frame.resize(54 + payload, 7);
    let header = VnetHeader {
        gso: Gso::Tcp4 { ecn: false },
        gso_size: 1400,
        header_bytes: 54,
        needs_checksum: Some(ChecksumPlace { start: 34, offset: 16 }),
        checksum_valid: false,
    };
    (header, frame)
}

#[test]
fn deciding_and_answering_allocate_nothing() {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test drives the core: it reads the clock once and passes it on"
    )]
    let now = Instant::now();
    let (here, there) = (HostId::random(), HostId::random());
    for allow_unknown in [false, true] {
        let switch = Switch::new(here, now, 1);
        let id = NetworkId([1; 16]);
        let binding = |mac, address, host| MachineBinding { mac, ipv4: vec![address], ipv6: vec![], host };
        let machines = vec![binding(A, A4, here), binding(B, B4, there)];
        let network = NetworkConfig { id, mtu: 1500, machines, hosts: vec![there], allow_unknown };
        switch.set_network(&network).unwrap();
        let guard = if allow_unknown { Guard::AllowUnknown } else { Guard::Strict };
        let config = PortConfig { mac: A, ipv4: vec![A4], ipv6: vec![], guard, vnet_hdr: true };
        let port = switch.attach(id, config).unwrap();
        let peer = switch.peer(there).unwrap();
        let mut worker = switch.worker();

        let (_, known) = super_frame();
        let mut everybody = known.clone();
        everybody[..6].fill(0xff);
        let mut stranger = known.clone();
        stranger[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 9, 9, 9, 9, 9]);
        stranger[26..34].copy_from_slice(&[10, 7, 0, 9, 10, 7, 0, 1]);
        let question = Arp {
            operation: Operation::Request,
            sender_mac: A,
            sender_ip: A4,
            target_mac: MacAddr([0; 6]),
            target_ip: B4,
        };
        let question = [&MacAddr::BROADCAST.0[..], &A.0, &[0x08, 0x06], &question.encode()].concat();

        without_allocation("a batch begins", || {
            worker.refresh();
        });
        without_allocation("a known destination", || {
            assert!(matches!(worker.from_port(now, port, &known), Decision::Peer(..)));
        });
        without_allocation("a broadcast", || match worker.from_port(now, port, &everybody) {
            Decision::Many(egress) => assert_eq!((egress.ports().count(), egress.peers.len()), (0, 1)),
            decision => panic!("{decision:?}"),
        });
        without_allocation("a question", || {
            assert!(matches!(worker.from_port(now, port, &question), Decision::Answer(_)));
        });
        without_allocation("a stranger, learned or refused", || {
            match worker.from_peer(now, peer, id, &stranger) {
                Decision::Port(to) => assert!(allow_unknown && to == port),
                Decision::Drop(_) => assert!(!allow_unknown),
                decision => panic!("{decision:?}"),
            }
        });
    }
}

#[test]
fn cutting_and_joining_allocate_nothing() {
    let (header, mut frame) = super_frame();
    let mut arena = vec![0; 60_000];
    let mut joiner = Joiner::new();
    for checksum in [Checksum::Complete, Checksum::Partial] {
        without_allocation("a super-frame's way", || {
            let Ok(Prepared::Segments(segments)) = prepare(&header, &mut frame, 1514) else {
                panic!("not cut")
            };
            let stride = segments.frame_bytes_max();
            let mut delivered = 0;
            let mut deliver = |(), slices: &[IoSlice<'_>]| delivered += slices.len();
            for index in 0..segments.count() {
                segments.write(&frame, index, checksum, &mut arena[index * stride..]);
            }
            for index in 0..segments.count() {
                let start = index * stride;
                let received = Received {
                    start,
                    end: start + segments.frame_bytes(index),
                    partial: checksum == Checksum::Partial,
                };
                joiner.push(&arena, (), Capabilities::ALL, received, &mut deliver).unwrap();
            }
            joiner.flush(&arena, &mut deliver);
            assert_eq!(delivered, segments.count() + 2, "one super-frame");
        });
    }
}
