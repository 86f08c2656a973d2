//! How fast is a link? Bytes of one or more TCP flows between two machines on two emulated hosts, and what the data planes spend,
//! beside two baselines in the same run: the bare cable, and the kernel's unencrypted VXLAN. Rounds are interleaved, medians printed.
//!
//! ```text
//! cargo run --release -p consort-vswitch --example throughput -- [seconds=3] [rounds=3] [flows=1] [wire|veth] [workers=2] [joined|apart]
//! ```

#![expect(clippy::disallowed_methods, reason = "it measures real time")]

#[path = "../tests/world/mod.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod world;

use std::{
    ffi::OsString,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::exit,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use consort_lab::{
    Netlink, Netns,
    enter::{self, Entry},
    netlink::Vxlan,
    reexec,
    wide::{Cable, HOST_LINK},
};
use world::{Options, World};

#[derive(Clone, Copy)]
struct Plan {
    seconds: u64,
    rounds: usize,
    flows: usize,
    wire: bool,
    workers: usize,
    joins: bool,
}

fn main() {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = reexec::main(&args) {
        exit(code);
    }
    if enter::directory().is_none() {
        let entry = Entry { program: reexec::program(), body: args, expose: Vec::new() };
        exit(entry.run().expect("a lab"));
    }
    let arg = |at: usize| args.get(at).and_then(|arg| arg.to_str());
    let number = |at: usize, default: usize| arg(at).and_then(|arg| arg.parse().ok()).unwrap_or(default);
    measure(Plan {
        seconds: number(1, 3) as u64,
        rounds: number(2, 3),
        flows: number(3, 1),
        wire: arg(4) != Some("veth"),
        workers: number(5, 2),
        joins: arg(6) != Some("apart"),
    });
}

fn measure(plan: Plan) {
    let cable = Cable { real_wire: plan.wire, ..Cable::default() };
    let mut options = Options::new(cable, 1500);
    options.workers = plan.workers;
    let world = World::new(&options);
    world.connected(0, 1);
    if plan.joins {
        join_on_receive(&world);
    }
    let vxlan = [0, 1].map(|at| vxlan(&world, at));
    let [a, b] = [0, 1].map(|at| &world.sites[at]);
    let names = ["bare cable", "kernel VXLAN (unencrypted)", "consort"];
    let mut rates: [Vec<f64>; 3] = Default::default();
    let mut cpu: [Vec<f64>; 2] = Default::default();
    for _ in 0..plan.rounds {
        for (way, rates) in rates.iter_mut().enumerate() {
            let spent = data_plane_seconds();
            let (from, to, address): (&Netns, &Netns, IpAddr) = match way {
                0 => (a.host.netns(), b.host.netns(), b.place.ipv4.into()),
                1 => (a.host.netns(), b.host.netns(), vxlan[1].into()),
                _ => (a.machine.netns(), b.machine.netns(), b.ipv4.into()),
            };
            let done = AtomicBool::new(false);
            let bytes = std::thread::scope(|scope| {
                let sampler = scope.spawn(|| queued(&world, &done));
                let pings = (way == 2).then(|| scope.spawn(|| round_trips(&world, 100)));
                let bytes = stream(from, to, address, plan);
                done.store(true, Relaxed);
                let queued = sampler.join().expect("no panic");
                if let Some(pings) = pings {
                    let (p50, p99) = pings.join().expect("no panic");
                    println!("round trip beside the stream: p50 {p50:?}, p99 {p99:?}");
                    println!(
                        "waiting in the receiver's socket: p50 {} KiB, most {} KiB",
                        queued.0 >> 10,
                        queued.1 >> 10
                    );
                }
                bytes
            });
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            let gigabytes = bytes as f64 / 1e9;
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            rates.push(gigabytes * 8.0 / plan.seconds as f64);
            if way == 2 {
                let after = data_plane_seconds();
                for (cpu, (after, before)) in cpu.iter_mut().zip(after.into_iter().zip(spent)) {
                    cpu.push((after - before) / gigabytes);
                }
            }
        }
    }
    println!("{} flow(s), {} s, {}", plan.flows, plan.seconds, if plan.wire { "real wire" } else { "veth" });
    let vxlan_rate = median(&rates[1]);
    for (name, rates) in names.iter().zip(&rates) {
        println!(
            "{name:28} {:6.2} Gb/s   {:4.2} of VXLAN   {rates:.2?}",
            median(rates),
            median(rates) / vxlan_rate
        );
    }
    println!(
        "data planes, both ends        {:.3} user + {:.3} system CPU s/GB",
        median(&cpu[0]),
        median(&cpu[1])
    );
    for site in &world.sites {
        println!(
            "datagrams dropped by the kernel before a worker came: {}",
            site.plane.snapshot().receive_queue_drops
        );
    }
    println!("offloads {:?}, costs {:?}", a.plane.snapshot().udp_offloads, a.plane.snapshot().cipher_costs);
    let (p50, p99) = round_trips(&world, 2000);
    println!("round trip between machines   p50 {p50:?}  p99 {p99:?}");
    println!("{:#?}", world.link(0, 1));
    println!("{:#?}", a.plane.snapshot().worker_counts);
}

/// Network cards join what they receive (GRO); veth does so only when told.
fn join_on_receive(world: &World) {
    for site in &world.sites {
        let mut inside = Netlink::open_in(site.host.netns()).expect("netlink");
        inside.set_features(HOST_LINK, &[("rx-gro", true)]).expect("GRO");
    }
}

/// A VXLAN device on a host, to the other one.
fn vxlan(world: &World, at: usize) -> Ipv4Addr {
    let (own, other) = (&world.sites[at], &world.sites[1 - at]);
    let mut netlink = Netlink::open_in(own.host.netns()).expect("netlink");
    let device = Vxlan { id: 42, local: own.place.ipv4, remote: other.place.ipv4, port: 4789 };
    netlink.create_vxlan("vx", device).expect("a VXLAN device");
    netlink.set_mtu("vx", 1450).expect("its MTU");
    netlink.set_up("vx").expect("it up");
    let address = Ipv4Addr::new(10, 99, 0, u8::try_from(at + 1).expect("two hosts"));
    netlink.add_address("vx", address.into(), 24).expect("its address");
    address
}

/// Bytes that got through.
fn stream(from: &Netns, to: &Netns, address: IpAddr, plan: Plan) -> u64 {
    let listener = to.enter(|| TcpListener::bind((address, 0))).expect("a namespace").expect("a port");
    let address: SocketAddr = listener.local_addr().expect("it is bound");
    let end = Instant::now() + Duration::from_secs(plan.seconds);
    std::thread::scope(|scope| {
        let receivers: Vec<_> = (0..plan.flows)
            .map(|_| {
                let listener = &listener;
                scope.spawn(move || {
                    let (mut stream, _) = listener.accept().expect("a connection");
                    let mut buffer = vec![0; 1 << 18];
                    let mut sum = 0;
                    while let Ok(len @ 1..) = stream.read(&mut buffer) {
                        if Instant::now() < end {
                            sum += len as u64;
                        }
                    }
                    sum
                })
            })
            .collect();
        for _ in 0..plan.flows {
            scope.spawn(move || {
                let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(10));
                let mut stream = from.enter(connect).expect("a namespace").expect("a connection");
                let buffer = vec![7; 1 << 18];
                while Instant::now() < end && stream.write_all(&buffer).is_ok() {}
            });
        }
        receivers.into_iter().map(|receiver| receiver.join().expect("no panic")).sum()
    })
}

/// Bytes in the receiving data plane's socket, looked at every few milliseconds: median and most.
fn queued(world: &World, done: &AtomicBool) -> (u64, u64) {
    let mut seen = vec![0];
    while !done.load(Relaxed) {
        seen.push(world.sites[1].plane.snapshot().receive_queue_bytes);
        std::thread::sleep(Duration::from_millis(5));
    }
    seen.sort_unstable();
    (seen[seen.len() / 2], seen[seen.len() - 1])
}

/// Processor time of the data planes' threads so far.
fn data_plane_seconds() -> [f64; 2] {
    let mut ticks = [0.0; 2];
    for task in std::fs::read_dir("/proc/self/task").expect("proc").flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { continue };
        if !stat.contains("(vswitch") {
            continue;
        }
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap_or(0) + 2..].split(' ').collect();
        // proc(5): utime and stime are the 14th and 15th fields; the state is the 3rd.
        for (sum, field) in ticks.iter_mut().zip(&fields[11..13]) {
            *sum += field.parse::<f64>().unwrap_or(0.0);
        }
    }
    ticks.map(|ticks| ticks / 100.0)
}

fn round_trips(world: &World, count: usize) -> (Duration, Duration) {
    let (a, b): (UdpSocket, UdpSocket) = (world.sites[0].udp(false), world.sites[1].udp(false));
    let to = b.local_addr().expect("it is bound");
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut buffer = [0; 64];
            for _ in 0..count {
                let Ok((len, from)) = b.recv_from(&mut buffer) else { return };
                let _ = b.send_to(&buffer[..len], from);
            }
        });
        let mut buffer = [0; 64];
        (0..count)
            .map(|_| {
                let start = Instant::now();
                a.send_to(&[1; 56], to).expect("sent");
                a.recv(&mut buffer).expect("an answer");
                start.elapsed()
            })
            .collect()
    });
    times.sort_unstable();
    (times[count / 2], times[count * 99 / 100])
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
