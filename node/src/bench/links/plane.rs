//! Our data planes, without overlay or scheduler, in processes of their own, so that what they spend can be told: one in each host with a link
//! between, or a single one with two machines.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use consort_lab::host::Host;
use consort_lab::{Netlink, reexec};
use consort_vswitch::tap::TapQueue;
use consort_vswitch::{
    DataPlane, DataPlaneConfig, Event, EventReceiver, Guard, HostId, MacAddr, MachineBinding, NetworkConfig,
    NetworkId, PeerConfig, PortConfig, SharedSecret, StaticSecret,
};

use super::args::Plan;
use super::contender::{Contender, Daemon, Layer, Role};
use super::field::bring_up;
use crate::demo::stage::lab_failure;
use crate::failure::Failure;

/// The internal subcommand.
const PLANE: &str = "bench-plane";
/// What its first argument may be.
const LINKED: &str = "linked";
const LOCAL: &str = "local";
/// The devices that stand for machines; of a data plane in each host the first serves at both ends.
const DEVICES: [&str; 2] = ["consort0", "consort1"];
const PORT: u16 = 7441;
const NETWORK: NetworkId = NetworkId(*b"consort bench ..");
/// What IPv4, UDP, our datagram and the inner Ethernet header leave of the wire's MTU.
pub(super) const LINKED_MTU: u16 = 1500 - 20 - 8 - 36 - 14;
/// As a bridge's.
const LOCAL_MTU: u16 = 1500;
/// No grant runs out while it is measured.
const GRANT_VALID: Duration = Duration::from_secs(24 * 3600);

/// The addresses of the two machines.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2)];

/// Starts a data plane in each host and sets its device up.
pub(super) fn linked(
    plan: &Plan,
    hosts: &[Host; 2],
    links: &mut [Netlink; 2],
    wire: [Ipv4Addr; 2],
) -> Result<Contender, Failure> {
    let mut daemons = Vec::with_capacity(2);
    for (side, (host, link)) in hosts.iter().zip(links).enumerate() {
        let mut command = host.command(reexec::program());
        command.args([PLANE, LINKED]).args(threads(plan));
        command.args([side.to_string(), wire[side].to_string(), wire[1 - side].to_string()]);
        daemons.push(daemon(command)?);
        set_up(link, DEVICES[0], side, LINKED_MTU, ADDRESSES[side])?;
    }
    Ok(contender(daemons))
}

/// Starts one data plane in the lab's own namespaces, with a device for each host.
pub(super) fn local(
    plan: &Plan,
    hosts: &[Host; 2],
    links: &mut [Netlink; 2],
    own: &mut Netlink,
) -> Result<Contender, Failure> {
    let mut command = Command::new(reexec::program());
    command.args([PLANE, LOCAL]).args(threads(plan)).stdin(Stdio::null());
    let daemon = Daemon::plain(ready(command)?);
    for (side, (host, link)) in hosts.iter().zip(links).enumerate() {
        own.move_link(DEVICES[side], host.netns()).map_err(lab_failure)?;
        set_up(link, DEVICES[side], side, LOCAL_MTU, ADDRESSES[side])?;
    }
    Ok(contender(vec![daemon]))
}

fn threads(plan: &Plan) -> [String; 3] {
    [plan.workers, plan.queues, plan.busy_poll].map(|count| count.to_string())
}

/// Starts one end in its host and waits until it says that it stands.
pub(super) fn daemon(command: Command) -> Result<Daemon, Failure> {
    Daemon::in_host(ready(command)?).map_err(lab_failure)
}

/// Starts a process and waits until it says that it stands.
fn ready(mut command: Command) -> Result<Child, Failure> {
    let mut process = command.stdout(Stdio::piped()).spawn().map_err(lab_failure)?;
    let mut said = String::new();
    let output = process.stdout.take().expect("its output is piped");
    let read = BufReader::new(output).read_line(&mut said);
    if read.is_ok() && said == "ready\n" {
        return Ok(process);
    }
    let _ended_already = process.kill();
    let _ended_already = process.wait();
    Err(lab_failure("a data plane did not start"))
}

/// Gives the device of one side its addresses and switches it on.
pub(super) fn set_up(
    link: &mut Netlink,
    device: &str,
    side: usize,
    mtu: u16,
    address: Ipv4Addr,
) -> Result<(), Failure> {
    link.set_link_address(device, mac(side).0).map_err(lab_failure)?;
    link.set_mtu(device, mtu.into()).map_err(lab_failure)?;
    bring_up(link, device, address, 24)
}

fn contender(daemons: Vec<Daemon>) -> Contender {
    Contender {
        name: "consort",
        role: Role::Ours,
        layer: Layer::Ethernet,
        cipher: Some("the fastest here of AES-256-GCM, AES-128-GCM, ChaCha20-Poly1305"),
        addresses: ADDRESSES,
        daemons,
    }
}

/// Runs a data plane if that is what this process was started for; before any thread exists.
pub(super) fn reexec(argv: &[OsString]) -> Option<ExitCode> {
    if argv.first()? != PLANE {
        return None;
    }
    let words: Vec<&str> = argv.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let ended = match words[..] {
        [LINKED, workers, queues, busy_poll, side, here, there] => {
            run_linked([workers, queues, busy_poll], side, here, there)
        }
        [LOCAL, workers, queues, busy_poll] => run_local([workers, queues, busy_poll]),
        _ => Err("the benchmark's data plane is started by the benchmark".into()),
    };
    Some(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("consort: {reason}");
            ExitCode::FAILURE
        }
    })
}

type Ended = Result<(), Box<dyn std::error::Error>>;

fn run_linked([workers, queues, busy_poll]: [&str; 3], side: &str, here: &str, there: &str) -> Ended {
    let side = usize::from(side == "1");
    let (here, there): (IpAddr, IpAddr) = (here.parse()?, there.parse()?);
    let (plane, events) = start(side, SocketAddr::new(here, PORT), [workers, busy_poll])?;
    let queues = open(DEVICES[0], queues)?;
    set_network(&plane, LINKED_MTU, [host(0)?, host(1)?], vec![host(1 - side)?])?;
    plane.attach(NETWORK, port(side), queues)?;
    let key = secret(1 - side).public().0;
    plane.set_peer(PeerConfig::at(host(1 - side)?, key, &[SocketAddr::new(there, PORT)]))?;
    plane.offer_grant(NETWORK, host(1 - side)?, b"bench".to_vec())?;
    serve(&plane, events)
}

fn run_local([workers, queues, busy_poll]: [&str; 3]) -> Ended {
    let (plane, events) = start(0, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0), [workers, busy_poll])?;
    set_network(&plane, LOCAL_MTU, [host(0)?; 2], Vec::new())?;
    for (side, device) in DEVICES.into_iter().enumerate() {
        plane.attach(NETWORK, port(side), open(device, queues)?)?;
    }
    serve(&plane, events)
}

fn start(
    side: usize,
    listen: SocketAddr,
    [workers, busy_poll]: [&str; 2],
) -> Result<(DataPlane, EventReceiver), Box<dyn std::error::Error>> {
    // One overlay for both; what is measured is no secret.
    let psk = SharedSecret::new([0x42; 32]);
    let mut config =
        DataPlaneConfig::new(host(side)?, secret(side), psk, listen, [side.to_le_bytes()[0]; 32]);
    config.workers = workers.parse()?;
    config.busy_poll = Duration::from_micros(busy_poll.parse()?);
    Ok(DataPlane::start(config)?)
}

fn open(device: &str, queues: &str) -> Result<Vec<OwnedFd>, Box<dyn std::error::Error>> {
    let queues = TapQueue::open(device, queues.parse()?)?;
    Ok(queues.iter().map(|queue| queue.as_fd().try_clone_to_owned()).collect::<Result<_, _>>()?)
}

fn set_network(plane: &DataPlane, mtu: u16, owners: [HostId; 2], hosts: Vec<HostId>) -> Ended {
    let binding = |side: usize| MachineBinding {
        mac: mac(side),
        ipv4: vec![ADDRESSES[side]],
        ipv6: Vec::new(),
        host: owners[side],
    };
    let machines = vec![binding(0), binding(1)];
    Ok(plane.set_network(NetworkConfig { id: NETWORK, mtu, machines, hosts, allow_unknown: false })?)
}

fn port(side: usize) -> PortConfig {
    PortConfig {
        mac: mac(side),
        ipv4: vec![ADDRESSES[side]],
        ipv6: Vec::new(),
        guard: Guard::Strict,
        vnet_hdr: true,
    }
}

fn serve(plane: &DataPlane, events: EventReceiver) -> Ended {
    say_ready()?;
    accept_all(plane, events);
    Ok(())
}

/// What [`ready`] waits for.
pub(super) fn say_ready() -> std::io::Result<()> {
    println!("ready");
    std::io::stdout().flush()
}

/// Every grant is good here: there are but two hosts.
fn accept_all(plane: &DataPlane, mut events: EventReceiver) {
    while let Some(event) = events.recv_blocking() {
        if let Event::ChannelRequested { request, .. } = event {
            plane.answer_channel(request, Ok(GRANT_VALID));
        }
    }
}

fn mac(side: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, side.to_le_bytes()[0]])
}

fn secret(side: usize) -> StaticSecret {
    StaticSecret::new([side.to_le_bytes()[0] + 1; 32])
}

fn host(side: usize) -> Result<HostId, libp2p_identity::DecodingError> {
    let mut seed = [side.to_le_bytes()[0] + 1; 32];
    Ok(libp2p_identity::Keypair::ed25519_from_bytes(&mut seed)?.public().to_peer_id())
}
