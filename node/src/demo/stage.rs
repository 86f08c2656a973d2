//! The stage: emulated hosts on an emulated wide network, with a real `consort node` in each.
//!
//! Owns: hosts, cables, node processes, where each node's API is. Also what the network tests stand on. Refuses to know what is
//! asked of the nodes. To be used inside a lab ([`consort_lab::enter`]); with the last handle everything in it ends.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use consort_lab::host::{Host, command_pid};
use consort_lab::wide::{Cable, Place, Wide};
use consort_lab::{enter, reexec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::config::paths::socket_in;
use crate::control::api::{InviteBody, Status, Ticket};
use crate::control::client::Client;
use crate::failure::Failure;

/// Control plane; the data plane is on the next port.
pub const CONTROL_PORT: u16 = 7440;
/// How long anything on the stage may take before it is taken for broken: debug builds on two busy cores stay well below.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// How often a state is asked for while it is awaited; asking costs a local connection.
const POLL: Duration = Duration::from_millis(10);
/// How long a ticket of the stage is good.
const TICKET_VALID: Duration = Duration::from_secs(24 * 3600);

/// What each host shares: every stage fits, whatever the computer under it has.
const SHARE: &str = "[share]\ncpus = 64\nmemory = \"64GiB\"\ndisk = \"64GiB\"\nmachines = 256\n";

/// A host on the stage, and its node if one runs.
#[derive(Debug)]
pub struct StageHost {
    /// The emulated computer.
    pub host: Host,
    /// Its place in the wide network.
    pub place: Place,
    /// Its node listens on IPv6, and not on IPv4.
    pub ipv6_alone: bool,
    node: Option<Child>,
    log: PathBuf,
    config: PathBuf,
}

/// The hosts and what is between them.
#[derive(Debug)]
pub struct Stage {
    /// The wide network.
    pub wide: Wide,
    /// The hosts, by number.
    pub hosts: Vec<StageHost>,
}

/// The name of a host, which is also that of its state directory.
#[must_use]
pub fn host_name(index: usize) -> String {
    format!("host-{index}")
}

/// Turns an error of the lab into what a user is told.
pub fn lab_failure(error: impl std::fmt::Display) -> Failure {
    Failure::failed("lab", error.to_string())
}

impl Stage {
    /// Starts hosts and cables them alike; no node runs yet.
    ///
    /// # Errors
    /// If the system refuses a namespace, a link or a file.
    pub fn build(hosts: usize, cable: Cable) -> Result<Self, Failure> {
        let mut stage = Self { wide: Wide::new().map_err(lab_failure)?, hosts: Vec::with_capacity(hosts) };
        for _ in 0..hosts {
            stage.add_host(cable)?;
        }
        Ok(stage)
    }

    /// Starts one more host.
    ///
    /// # Errors
    /// As [`Stage::build`].
    pub fn add_host(&mut self, cable: Cable) -> Result<&mut StageHost, Failure> {
        let name = host_name(self.hosts.len());
        let host = Host::start(&name).map_err(lab_failure)?;
        let place = self.wide.attach(&host, cable).map_err(lab_failure)?;
        let directory =
            enter::directory().ok_or_else(|| lab_failure("the stage stands only inside a lab"))?;
        let config = directory.join(format!("{name}.toml"));
        std::fs::write(&config, SHARE).map_err(lab_failure)?;
        let log = directory.join(format!("{name}.log"));
        self.hosts.push(StageHost { host, place, ipv6_alone: false, node: None, log, config });
        Ok(self.hosts.last_mut().expect("just pushed"))
    }

    /// Starts a node on every host, all in the overlay of the first, joined by its ticket, and waits until all know each other.
    ///
    /// # Errors
    /// If a node does not come up or does not get in.
    pub async fn start_overlay(&mut self) -> Result<(), Failure> {
        let (first, others) =
            self.hosts.split_first_mut().ok_or_else(|| lab_failure("the stage is empty"))?;
        first.start_node(&[])?;
        first.ready().await?;
        let ticket = first.invite().await?;
        for host in others.iter_mut() {
            host.start_node(&["--join", &ticket])?;
        }
        for host in others.iter_mut() {
            host.ready().await?;
        }
        self.settled().await
    }

    /// Waits until every node has every other as a connected member and knows what it offers.
    ///
    /// # Errors
    /// If they do not come together.
    pub async fn settled(&self) -> Result<(), Failure> {
        let others = self.hosts.iter().filter(|host| host.runs_node()).count().saturating_sub(1);
        for host in self.hosts.iter().filter(|host| host.runs_node()) {
            let client = host.client();
            awaited(&format!("{} sees the others", host.host.name()), async || {
                let status: Status = client.get("/v1/status").await?;
                // A node has a data plane when it is a member.
                let in_it = status.data_address.is_some();
                Ok((in_it && status.peers_connected >= others && status.hosts_known >= others).then_some(()))
            })
            .await?;
        }
        Ok(())
    }
}

impl StageHost {
    /// Starts the host's node with these arguments beside the usual ones. Its state is the host's disk.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn start_node(&mut self, more: &[&str]) -> Result<(), Failure> {
        let log = File::options().create(true).append(true).open(&self.log).map_err(lab_failure)?;
        let node = self
            .host
            .command(reexec::program())
            .arg("node")
            .arg("--state-dir")
            .arg(self.host.state())
            .arg("--config")
            .arg(&self.config)
            .args(["--listen", &self.control_address().to_string()])
            .args(more)
            .stdout(log.try_clone().map_err(lab_failure)?)
            .stderr(log)
            .spawn()
            .map_err(lab_failure)?;
        self.node = Some(node);
        Ok(())
    }

    /// Where the node's control plane listens.
    #[must_use]
    pub fn control_address(&self) -> SocketAddr {
        let ip = if self.ipv6_alone { IpAddr::V6(self.place.ipv6) } else { IpAddr::V4(self.place.ipv4) };
        SocketAddr::new(ip, CONTROL_PORT)
    }

    /// The node's API.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.socket())
    }

    /// The socket of the node's API; the path is good outside the lab too, if the host was exposed.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket_in(self.host.state())
    }

    /// What the node logged.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The configuration file, to be changed before the node starts.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Whether a node was started and not ended by the stage.
    #[must_use]
    pub fn runs_node(&self) -> bool {
        self.node.is_some()
    }

    /// Waits until the node answers.
    ///
    /// # Errors
    /// If it ends instead, or does not answer in time; with the last line of its log.
    pub async fn ready(&mut self) -> Result<Status, Failure> {
        let client = self.client();
        let start = Instant::now();
        loop {
            match client.get::<Status>("/v1/status").await {
                Ok(status) => return Ok(status),
                Err(failure) if start.elapsed() > DEADLINE => return Err(failure),
                Err(_) => {}
            }
            if let Some(node) = &mut self.node
                && let Some(status) = node.try_wait().map_err(lab_failure)?
            {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                let last = said.lines().last().unwrap_or("nothing").to_owned();
                return Err(lab_failure(format!(
                    "the node of {} ended ({status}): {last}",
                    self.host.name()
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks the node for a ticket.
    ///
    /// # Errors
    /// If it gives none.
    pub async fn invite(&self) -> Result<String, Failure> {
        let valid_ms = u64::try_from(TICKET_VALID.as_millis()).unwrap_or(u64::MAX);
        let ticket: Ticket = self.client().post("/v1/overlay/invite", &InviteBody { valid_ms }).await?;
        Ok(ticket.ticket)
    }

    /// The node's process, as the lab numbers it.
    ///
    /// # Errors
    /// If none runs.
    pub fn node_pid(&self) -> Result<u32, Failure> {
        let node =
            self.node.as_ref().ok_or_else(|| lab_failure(format!("no node runs on {}", self.host.name())))?;
        command_pid(node).map_err(lab_failure)
    }

    /// `kill -9` to the node alone; its machines stay, as on a real host.
    ///
    /// # Errors
    /// If none runs.
    pub fn kill_node(&mut self) -> Result<(), Failure> {
        let pid = Pid::from_raw(self.node_pid()?.cast_signed());
        kill(pid, Signal::SIGKILL).map_err(lab_failure)?;
        self.wait_for_node().map(drop)
    }

    /// Asks the node to end (`SIGTERM`) and waits for it; gives its exit code.
    ///
    /// # Errors
    /// If none runs.
    pub fn stop_node(&mut self) -> Result<Option<i32>, Failure> {
        let pid = Pid::from_raw(self.node_pid()?.cast_signed());
        kill(pid, Signal::SIGTERM).map_err(lab_failure)?;
        self.wait_for_node()
    }

    /// Waits for the node to end by itself; gives its exit code.
    ///
    /// # Errors
    /// If none was started.
    pub fn wait_for_node(&mut self) -> Result<Option<i32>, Failure> {
        let mut node =
            self.node.take().ok_or_else(|| lab_failure(format!("no node runs on {}", self.host.name())))?;
        Ok(node.wait().map_err(lab_failure)?.code())
    }

    /// Pulls the host's plug.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.host.kill().map_err(lab_failure)?;
        self.wait_for_node().map(drop)
    }
}

/// Asks until there is an answer, or the deadline has passed. A daemon that does not answer is asked again; any other failure ends it.
///
/// # Errors
/// What `ask` failed with, or what was awaited in vain.
pub async fn awaited<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(Some(answer)) => return Ok(answer),
            Err(failure) if failure.kind != crate::failure::Kind::Unreachable => return Err(failure),
            Ok(None) | Err(_) => {}
        }
        if start.elapsed() > DEADLINE {
            return Err(lab_failure(format!("{what}: not within {} s", DEADLINE.as_secs())));
        }
        tokio::time::sleep(POLL).await;
    }
}
