//! Two of our data planes, one in each host, without overlay or scheduler: a process each, so that what it spends can be told.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::process::{Child, ExitCode, Stdio};
use std::time::Duration;

use consort_lab::host::{Host, command_pid};
use consort_lab::{Netlink, reexec, usage};
use consort_vswitch::tap::TapQueue;
use consort_vswitch::{
    DataPlane, DataPlaneConfig, Event, EventReceiver, Guard, HostId, MacAddr, MachineBinding, NetworkConfig,
    NetworkId, PeerConfig, PortConfig, SharedSecret, StaticSecret,
};

use super::field::bring_up;
use crate::demo::stage::lab_failure;
use crate::failure::Failure;

/// The internal subcommand.
const PLANE: &str = "bench-plane";
/// The device that stands for a machine.
const DEVICE: &str = "consort";
const PORT: u16 = 7441;
/// As machines have it.
const QUEUES: usize = 1;
const NETWORK: NetworkId = NetworkId(*b"consort bench ..");
/// What IPv4, UDP, our datagram and the inner Ethernet header leave of the wire's MTU.
const MTU: u32 = 1500 - 20 - 8 - 36 - 14;
/// No grant runs out while it is measured.
const GRANT_VALID: Duration = Duration::from_secs(24 * 3600);

/// The addresses of the two ends.
pub(super) const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2)];

/// Two running data planes.
#[derive(Debug)]
pub(super) struct Planes {
    processes: [Child; 2],
}

impl Planes {
    /// Starts one in each host and sets its device up.
    pub(super) fn start(
        hosts: &[Host; 2],
        links: &mut [Netlink; 2],
        wire: [Ipv4Addr; 2],
    ) -> Result<Self, Failure> {
        let mut processes = Vec::with_capacity(2);
        for (side, (host, link)) in hosts.iter().zip(links).enumerate() {
            let mut process = host
                .command(reexec::program())
                .args([PLANE, &side.to_string(), &wire[side].to_string(), &wire[1 - side].to_string()])
                .stdout(Stdio::piped())
                .spawn()
                .map_err(lab_failure)?;
            let mut ready = String::new();
            let output = process.stdout.take().expect("its output is piped");
            BufReader::new(output).read_line(&mut ready).map_err(lab_failure)?;
            processes.push(process);
            if ready != "ready\n" {
                return Err(lab_failure("a data plane did not start"));
            }
            link.set_link_address(DEVICE, mac(side).0).map_err(lab_failure)?;
            link.set_mtu(DEVICE, MTU).map_err(lab_failure)?;
            bring_up(link, DEVICE, ADDRESSES[side], 24)?;
        }
        let processes = processes.try_into().expect("two hosts, two processes");
        Ok(Self { processes })
    }

    /// Processor time so far, both together.
    pub(super) fn cpu(&self) -> Result<Duration, Failure> {
        self.usages().map(|usages| usages.iter().map(|usage| usage.cpu).sum())
    }

    /// Resident memory of the larger.
    pub(super) fn resident_bytes(&self) -> Result<u64, Failure> {
        let usages = self.usages()?;
        Ok(usages.iter().map(|usage| usage.resident_bytes).max().unwrap_or_default())
    }

    fn usages(&self) -> Result<Vec<usage::Usage>, Failure> {
        let usage = |process| command_pid(process).and_then(usage::of_process).map_err(lab_failure);
        self.processes.iter().map(usage).collect()
    }
}

impl Drop for Planes {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Its host dies next, and takes along what is left.
            let _ended_already = process.kill();
            let _ended_already = process.wait();
        }
    }
}

/// Runs a data plane if that is what this process was started for; before any thread exists.
pub fn reexec(argv: &[OsString]) -> Option<ExitCode> {
    if argv.first()? != PLANE {
        return None;
    }
    let words: Vec<&str> = argv.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let ended = match words[..] {
        [side, here, there] => run(side, here, there).map_err(|error| error.to_string()),
        _ => Err("the benchmark's data plane is started by the benchmark".to_owned()),
    };
    Some(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("consort: {reason}");
            ExitCode::FAILURE
        }
    })
}

fn run(side: &str, here: &str, there: &str) -> Result<(), Box<dyn std::error::Error>> {
    let side = usize::from(side == "1");
    let (here, there): (IpAddr, IpAddr) = (here.parse()?, there.parse()?);
    let config = DataPlaneConfig::new(
        host(side)?,
        secret(side),
        // One overlay for both; what is measured is no secret.
        SharedSecret::new([0x42; 32]),
        SocketAddr::new(here, PORT),
        [side.to_le_bytes()[0]; 32],
    );
    let queues = TapQueue::open(DEVICE, QUEUES)?;
    let queues = queues.iter().map(|queue| queue.as_fd().try_clone_to_owned()).collect::<Result<_, _>>()?;
    let (plane, events) = DataPlane::start(config)?;
    let binding = |side: usize| {
        Ok::<_, Box<dyn std::error::Error>>(MachineBinding {
            mac: mac(side),
            ipv4: vec![ADDRESSES[side]],
            ipv6: Vec::new(),
            host: host(side)?,
        })
    };
    plane.set_network(NetworkConfig {
        id: NETWORK,
        mtu: u16::try_from(MTU)?,
        machines: vec![binding(0)?, binding(1)?],
        hosts: vec![host(1 - side)?],
        allow_unknown: false,
    })?;
    let port = PortConfig {
        mac: mac(side),
        ipv4: vec![ADDRESSES[side]],
        ipv6: Vec::new(),
        guard: Guard::Strict,
        vnet_hdr: true,
    };
    plane.attach(NETWORK, port, queues)?;
    let key = secret(1 - side).public().0;
    plane.set_peer(PeerConfig::at(host(1 - side)?, key, &[SocketAddr::new(there, PORT)]))?;
    plane.offer_grant(NETWORK, host(1 - side)?, b"bench".to_vec())?;
    println!("ready");
    std::io::stdout().flush()?;
    accept_all(&plane, events);
    Ok(())
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
