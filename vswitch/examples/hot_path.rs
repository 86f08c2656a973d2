//! One step of the hot path, many times: for counting instructions, which do not depend on what else the computer does.
//!
//! ```text
//! cargo build --release -p consort-vswitch --example hot_path
//! for n in 1000 2000; do valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/hot_path decide $n 2>&1 | grep Collected; done
//! ```
//! The difference of the two counts, divided by 1000, is what one step takes.

use std::{hint::black_box, io::IoSlice, net::Ipv4Addr, process::ExitCode, time::Instant};

use consort_vswitch::{
    Guard, HostId, MacAddr, MachineBinding, NetworkConfig, NetworkId, PortConfig,
    frame::{
        arp::{Arp, Operation},
        checksum::{Sum, pseudo_ipv4},
    },
    offload::{
        Capabilities, Checksum, Gso, Joiner, Prepared, Received, VnetHeader, prepare, vnet::ChecksumPlace,
    },
    switch::{PeerIndex, PortId, Switch, Worker},
};

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const A4: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const B4: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);
const NETWORK: NetworkId = NetworkId([1; 16]);
/// What a machine sends over a path of 1500 bytes.
const SEGMENT: usize = 1400;
const SEGMENTS: usize = 45;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (step, times) = (arguments.next(), arguments.next().and_then(|times| times.parse().ok()));
    let (Some(step), Some(times)) = (step, times) else {
        eprintln!("usage: hot_path decide|deliver|answer|cut|cut-complete|join|join-checked TIMES");
        return ExitCode::from(2);
    };
    let mut step = match step.as_str() {
        "decide" | "deliver" | "answer" => decide(&step),
        "cut" => cut(Checksum::Partial),
        "cut-complete" => cut(Checksum::Complete),
        "join" => join(Checksum::Partial),
        "join-checked" => join(Checksum::Complete),
        other => {
            eprintln!("unknown step {other:?}");
            return ExitCode::from(2);
        }
    };
    (0..times).for_each(|_: u32| step());
    ExitCode::SUCCESS
}

/// A network of two machines, one here.
#[expect(clippy::disallowed_methods, reason = "the switch is told the time; once is enough here")]
fn network() -> (Worker, PortId, PeerIndex, Instant) {
    let now = Instant::now();
    let (here, there) = (HostId::random(), HostId::random());
    let switch = Switch::new(here, now, 1);
    let binding = |mac, address, host| MachineBinding { mac, ipv4: vec![address], ipv6: vec![], host };
    let machines = vec![binding(A, A4, here), binding(B, B4, there)];
    let config = NetworkConfig { id: NETWORK, mtu: 1500, machines, hosts: vec![there], allow_unknown: false };
    switch.set_network(&config).expect("the network has no contradictions");
    let config = PortConfig { mac: A, ipv4: vec![A4], ipv6: vec![], guard: Guard::Strict, vnet_hdr: true };
    let port = switch.attach(NETWORK, config).expect("the machine is in the record");
    let peer = switch.peer(there).expect("the second host");
    (switch.worker(), port, peer, now)
}

fn decide(step: &str) -> Box<dyn FnMut()> {
    let (worker, port, peer, now) = network();
    let out = tcp_frame((A, A4), (B, B4), SEGMENT).1;
    let back = tcp_frame((B, B4), (A, A4), SEGMENT).1;
    let question = Arp {
        operation: Operation::Request,
        sender_mac: A,
        sender_ip: A4,
        target_mac: MacAddr([0; 6]),
        target_ip: B4,
    };
    let question = [&MacAddr::BROADCAST.0[..], &A.0, &[0x08, 0x06], &question.encode()].concat();
    match step {
        "decide" => Box::new(move || {
            black_box(worker.from_port(now, port, black_box(&out)));
        }),
        "deliver" => Box::new(move || {
            black_box(worker.from_peer(now, peer, NETWORK, black_box(&back)));
        }),
        _ => Box::new(move || {
            black_box(worker.from_port(now, port, black_box(&question)));
        }),
    }
}

/// A TCP frame over IPv4 with an open checksum, and the header a TAP gives with it.
fn tcp_frame(from: (MacAddr, Ipv4Addr), to: (MacAddr, Ipv4Addr), payload: usize) -> (VnetHeader, Vec<u8>) {
    let mut frame = [to.0.0, from.0.0].concat();
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend(u16::try_from(40 + payload).expect("shorter than 64 KiB").to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(from.1.octets());
    frame.extend(to.1.octets());
    let sum = Sum::default().bytes(&frame[14..34]).finish();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend([0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0]);
    let length = u32::try_from(20 + payload).expect("shorter than 64 KiB");
    frame.extend(pseudo_ipv4(from.1, to.1, 6, length).folded().to_be_bytes());
    frame.extend([0, 0]);
    frame.resize(54 + payload, 7);
    let header = VnetHeader {
        gso: Gso::Tcp4 { ecn: false },
        gso_size: u16::try_from(SEGMENT).expect("shorter than 64 KiB"),
        header_bytes: 54,
        needs_checksum: Some(ChecksumPlace { start: 34, offset: 16 }),
        checksum_valid: false,
    };
    (header, frame)
}

fn write_segments(header: &VnetHeader, frame: &mut [u8], checksum: Checksum, out: &mut [u8]) -> usize {
    let Ok(Prepared::Segments(segments)) = prepare(header, frame, 65_536) else {
        panic!("a super-frame is cut")
    };
    for (index, place) in out.chunks_exact_mut(SEGMENT + 54).enumerate() {
        segments.write(frame, index, checksum, place);
    }
    segments.count()
}

fn cut(checksum: Checksum) -> Box<dyn FnMut()> {
    let (header, mut frame) = tcp_frame((A, A4), (B, B4), SEGMENT * SEGMENTS);
    let mut out = vec![0; (SEGMENT + 54) * SEGMENTS];
    Box::new(move || {
        write_segments(black_box(&header), &mut frame, checksum, &mut out);
        black_box(&mut out);
    })
}

fn join(checksum: Checksum) -> Box<dyn FnMut()> {
    let (header, mut frame) = tcp_frame((A, A4), (B, B4), SEGMENT * SEGMENTS);
    let mut arena = vec![0; (SEGMENT + 54) * SEGMENTS];
    write_segments(&header, &mut frame, checksum, &mut arena);
    let mut joiner = Joiner::new();
    Box::new(move || {
        let mut slices_delivered = 0;
        let mut deliver = |(), slices: &[IoSlice<'_>]| slices_delivered += black_box(slices).len();
        for start in (0..arena.len()).step_by(SEGMENT + 54) {
            let end = start + SEGMENT + 54;
            let received = Received { start, end, partial: checksum == Checksum::Partial };
            joiner
                .push(black_box(&arena), (), Capabilities::ALL, received, &mut deliver)
                .expect("segments have a transport");
        }
        joiner.flush(&arena, &mut deliver);
        assert_eq!(slices_delivered, SEGMENTS + 2, "one super-frame");
    })
}
