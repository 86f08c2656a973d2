//! Data planes with real TAPs and sockets, between machines on emulated hosts. Each test has a lab of its own and says aloud when it
//! cannot have one.

#[path = "load/mod.rs"]
mod load;
#[path = "world/mod.rs"]
mod world;

use std::{
    ffi::OsString,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use consort_lab::{
    capture::{Capture, CaptureOptions, inject},
    harness,
    middlebox::Impairment,
    reexec,
    wide::{Cable, HOST_LINK},
};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use world::{DEADLINE, GRANT, Options, Site, World, until};

const TESTS: [(&str, fn()); 14] = [
    ("frames_of_every_size_to_1500_over_1500", || frames_of_every_size(1500, 1500)),
    ("frames_of_every_size_to_1500_over_1280", || frames_of_every_size(1500, 1280)),
    ("frames_of_every_size_to_9000_over_1500", || frames_of_every_size(9000, 1500)),
    ("frames_of_every_size_to_9000_over_1280", || frames_of_every_size(9000, 1280)),
    ("a_super_frame_reaches_every_peer_unspoilt", a_super_frame_reaches_every_peer_unspoilt),
    ("streams_cross_unharmed_and_unseen", streams_cross_unharmed_and_unseen),
    ("streams_cross_a_bad_path_unharmed", streams_cross_a_bad_path_unharmed),
    ("connections_are_told_what_the_path_takes", connections_are_told_what_the_path_takes),
    (
        "replayed_datagrams_move_a_counter_and_nothing_else",
        replayed_datagrams_move_a_counter_and_nothing_else,
    ),
    ("without_a_grant_nothing_passes_either_way", without_a_grant_nothing_passes_either_way),
    ("no_datagram_is_lost_while_keys_change", no_datagram_is_lost_while_keys_change),
    (
        "order_inside_each_flow_is_kept_by_several_workers",
        load::order::order_inside_each_flow_is_kept_by_several_workers,
    ),
    ("busy_links_lose_no_frame_while_keys_change", load::rekeys::busy_links_lose_no_frame_while_keys_change),
    ("a_tunnel_adds_no_loss_to_a_bad_path", load::loss::a_tunnel_adds_no_loss_to_a_bad_path),
];

fn main() {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = reexec::main(&args) {
        std::process::exit(code);
    }
    let program = std::env::current_exe().expect("a program knows its path");
    let filter = args.iter().skip(1).filter_map(|arg| arg.to_str()).find(|arg| !arg.starts_with('-'));
    let mut passed = 0;
    for (name, body) in TESTS {
        if filter.is_none_or(|filter| name.contains(filter)) {
            harness::inside(program.to_str().expect("a path in UTF-8"), name, body);
            println!("test {name} ... ok");
            passed += 1;
        }
    }
    println!("test result: ok. {passed} passed");
}

/// A datagram as it is: the kernel sets "don't fragment" on what it does not cut itself.
fn send_whole(socket: &UdpSocket, to: std::net::SocketAddr, bytes: &[u8]) {
    assert_eq!(socket.send_to(bytes, to).unwrap(), bytes.len());
}

fn frames_of_every_size(machine_mtu: u16, underlay: u32) {
    let cable = Cable { mtu: underlay, real_wire: true, ..Cable::default() };
    let world = World::new(&Options::new(cable, machine_mtu));
    for v6 in [false, true] {
        let (a, b) = (world.sites[0].udp(v6), world.sites[1].udp(v6));
        let full = usize::from(machine_mtu) - if v6 { 48 } else { 28 };
        for len in [0, 1, 1000, 1100, 1200, 1300, 1400, 1452, full - 1, full] {
            let sent: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
            send_whole(&a, b.local_addr().unwrap(), &sent);
            let mut got = vec![0; 10_000];
            let (got_len, from) = b.recv_from(&mut got).unwrap_or_else(|error| {
                panic!("{len} bytes, v6 {v6}: {error}\n{:#?}", world.sites[1].plane.snapshot())
            });
            assert_eq!((&got[..got_len], from), (&sent[..], a.local_addr().unwrap()));
            send_whole(&b, from, &sent);
            assert_eq!(a.recv(&mut got).unwrap(), len);
        }
    }
    let counts = world.link(0, 1).counts;
    assert!(counts.frames_split > 0 && counts.frames_joined > 0, "{counts:?}");
    for site in &world.sites {
        let counts = site.plane.snapshot().worker_counts;
        assert_eq!((counts.arp_to_links, counts.neighbour_to_links), (0, 0));
    }
}

/// Sealing takes a super-frame apart where it lies: what goes to several peers must be whole for each.
fn a_super_frame_reaches_every_peer_unspoilt() {
    const DATAGRAM: usize = 1000;
    const DATAGRAMS: u8 = 40;
    let cable = Cable { real_wire: true, ..Cable::default() };
    let world = World::new(&Options { grants: vec![GRANT; 3], ..Options::new(cable, 1500) });
    world.connected(0, 1);
    world.connected(0, 2);
    let everywhere = |site: &Site| {
        let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7007));
        let socket = site.machine.netns().enter(bind).unwrap().unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    };
    let [near, ref far @ ..] = [0, 1, 2].map(|site: usize| everywhere(&world.sites[site]));
    near.set_broadcast(true).unwrap();
    setsockopt(&near, sockopt::UdpGsoSegment, &i32::try_from(DATAGRAM).unwrap()).unwrap();
    let datagram = |number: u8| (0..DATAGRAM).map(move |at| number ^ u8::try_from(at % 251).unwrap());
    let sent: Vec<u8> = (0..DATAGRAMS).flat_map(datagram).collect();
    assert_eq!(near.send_to(&sent, (Ipv4Addr::new(10, 7, 0, 255), 7007)).unwrap(), sent.len());
    for (place, far) in far.iter().enumerate() {
        for number in 0..DATAGRAMS {
            let mut got = [0; 2 * DATAGRAM];
            let length = far.recv(&mut got).unwrap();
            assert!(got[..length].iter().copied().eq(datagram(number)), "peer {place}, datagram {number}");
        }
    }
}

fn streams_cross_unharmed_and_unseen() {
    const MARKER: &[u8] = b"this must not be seen on the way";
    let cable = Cable { real_wire: true, ..Cable::default() };
    let world = World::new(&Options::new(cable, 1500));
    world.connected(0, 1);
    let links = world.sites.iter().map(|site| site.place.router_link.clone()).collect();
    let options = CaptureOptions { links, markers: vec![MARKER.to_vec()], ..CaptureOptions::default() };
    let capture = Capture::start(options).unwrap();
    let sent: Vec<u8> = MARKER.iter().copied().cycle().take(16 << 20).collect();
    for v6 in [false, true] {
        stream(&world, v6, &sent);
    }
    let captured = capture.finish().unwrap();
    assert!(captured.counters.frames > 10_000, "{captured:?}");
    assert_eq!(captured.marked, [0], "plaintext on the wire");
    let snapshot = world.sites[0].plane.snapshot();
    assert_eq!(snapshot.worker_counts.arp_to_links + snapshot.worker_counts.neighbour_to_links, 0);
    assert!(snapshot.worker_counts.offload_refused.values().all(|count| *count == 0), "{snapshot:?}");
}

fn streams_cross_a_bad_path_unharmed() {
    let impairment = Impairment {
        delay: Duration::from_millis(2),
        jitter: Duration::from_millis(1),
        loss: 0.005,
        duplicate: 0.01,
        reorder: 0.02,
        ..Impairment::default()
    };
    let world = World::new(&Options::new(Cable { impairment: Some(impairment), ..Cable::default() }, 1500));
    let sent: Vec<u8> =
        (0..2_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect();
    stream(&world, false, &sent);
    stream(&world, true, &sent);
    let counts = world.link(1, 0).counts;
    assert!(counts.repeated > 0, "duplicates are refused: {counts:?}");
    assert_eq!(counts.forged, 0);
}

fn connections_are_told_what_the_path_takes() {
    let cable = Cable { mtu: 1280, real_wire: true, ..Cable::default() };
    let world = World::new(&Options::new(cable, 1500));
    // 1280 less the headers of IPv4 and UDP.
    until("the path's size", || {
        [(0, 1), (1, 0)].iter().all(|(a, b)| world.link(*a, *b).datagram_bytes == 1252)
    });
    let frame_bytes = usize::from(world.link(0, 1).frame_bytes);
    for v6 in [false, true] {
        let listener = world.sites[1].listen(v6);
        let here = world.sites[0].connect(listener.local_addr().unwrap());
        let (there, _) = listener.accept().unwrap();
        // Ethernet, IP, TCP, and the timestamps that Linux puts into each segment.
        let headers = 14 + if v6 { 40 } else { 20 } + 20 + 12;
        for stream in [&here, &there] {
            let segment_bytes = getsockopt(stream, sockopt::TcpMaxSeg).unwrap();
            assert_eq!(usize::try_from(segment_bytes).unwrap() + headers, frame_bytes, "v6 {v6}");
        }
    }
}

/// Sends bytes from the first machine to the second and compares what arrives.
fn stream(world: &World, v6: bool, sent: &[u8]) {
    let listener = world.sites[1].listen(v6);
    let to = listener.local_addr().unwrap();
    let got = std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let mut all = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut all).unwrap();
            all
        });
        let mut stream = world.sites[0].connect(to);
        stream.write_all(sent).unwrap();
        drop(stream);
        receiver.join().unwrap()
    });
    assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
}

fn replayed_datagrams_move_a_counter_and_nothing_else() {
    // On a real wire checksums are complete, so that the kernel takes a frame again.
    let world = World::new(&Options::new(Cable { real_wire: true, ..Cable::default() }, 1500));
    world.connected(0, 1);
    let link = world.sites[0].place.router_link.clone();
    let options = CaptureOptions { links: vec![link], keep_recent: true, ..CaptureOptions::default() };
    let capture = Capture::start(options).unwrap();
    let (a, b) = (world.sites[0].udp(false), world.sites[1].udp(false));
    let mut got = [0; 100];
    for number in 0..20_u8 {
        a.send_to(&[number], b.local_addr().unwrap()).unwrap();
        assert_eq!(b.recv(&mut got).unwrap(), 1);
    }
    until("the capture", || capture.recent().len() >= 20);
    let before = world.link(1, 0).counts;
    inject(world.sites[0].host.netns(), HOST_LINK, &capture.recent()).unwrap();
    until("the refusal", || world.link(1, 0).counts.repeated >= before.repeated + 20);
    let after = world.link(1, 0).counts;
    assert_eq!(after.frames_received, before.frames_received);
    // The next datagram the machine sees is the next one sent.
    a.send_to(&[99], b.local_addr().unwrap()).unwrap();
    assert_eq!((b.recv(&mut got).unwrap(), got[0]), (1, 99));
}

fn without_a_grant_nothing_passes_either_way() {
    let mut options = Options::new(Cable::default(), 1500);
    options.grants = vec![GRANT, GRANT, b"forged"];
    let world = World::new(&options);
    world.connected(0, 1);
    until("the refusal", || world.link(2, 0).channels.iter().any(|channel| channel.outbound == "refused"));
    let (a, c) = (world.sites[0].udp(false), world.sites[2].udp(false));
    c.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    a.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut got = [0; 100];
    a.send_to(b"in", c.local_addr().unwrap()).unwrap();
    c.send_to(b"out", a.local_addr().unwrap()).unwrap();
    assert!(c.recv(&mut got).is_err() && a.recv(&mut got).is_err());
    until("the drops", || {
        world.link(0, 2).counts.no_grant_sent + world.link(0, 2).counts.held > 0
            && world.link(2, 0).counts.no_grant_sent > 0
    });
    assert_eq!(world.link(0, 2).counts.frames_sent + world.link(0, 2).counts.frames_received, 0);
}

fn no_datagram_is_lost_while_keys_change() {
    let mut options = Options::new(Cable::default(), 1500);
    options.limits.rekey_datagrams = 300;
    let world = World::new(&options);
    world.connected(0, 1);
    let (a, b) = (world.sites[0].udp(false), world.sites[1].udp(false));
    let mut got = [0; 100];
    let mut number = 0_u32;
    until("the tenth rekey", || {
        for _ in 0..50 {
            number += 1;
            a.send_to(&number.to_le_bytes(), b.local_addr().unwrap()).unwrap();
            assert_eq!(b.recv(&mut got).unwrap(), 4);
            assert_eq!(got[..4], number.to_le_bytes());
        }
        world.link(0, 1).counts.rekeys >= 4
    });
}
