//! Nodes on the hosts of a world: started, joined by ticket, asked, killed.
//!
//! The founder is the first public host, in the order of names, or the one called [`FOUNDER`]. It listens on
//! port 443 too, which the strictest firewalls let through.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use consort_lab::case::{Home, World, WorldHost};
use consort_lab::host::command_pid;
use consort_lab::{enter, reexec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::kinds::FOUNDER;
use crate::config::paths::socket_in;
use crate::control::api::{InviteBody, Status, Ticket};
use crate::control::client::Client;
use crate::demo::stage::{CONTROL_PORT, awaited, lab_failure};
use crate::failure::Failure;

/// Beside the usual port, on the founder.
const WEB_PORT: u16 = 443;
/// Nodes that join at once: many handshakes on few cores run into each other's deadlines.
const JOIN_AT_ONCE: usize = 8;
/// How long the tickets are good.
const TICKET_VALID: Duration = Duration::from_secs(24 * 3600);
/// What each host shares: nothing of it is used here.
const SHARE: &str = "[share]\ncpus = 1\nmemory = \"64MiB\"\ndisk = \"64MiB\"\nmachines = 1\n";

/// A world with nodes.
#[derive(Debug)]
pub struct Crew {
    nodes: BTreeMap<String, Node>,
    /// Hosts whose nodes listen on whatever address there is, because they will have others.
    roaming: BTreeSet<String>,
    /// Where logs are written; none: into the lab, and gone with it.
    logs: Option<PathBuf>,
    world: World,
}

/// A node's process. Dropped, it ends.
#[derive(Debug)]
struct Node {
    process: Child,
    client: Client,
    log: PathBuf,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Crew {
    /// A world in which no node runs yet.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self { nodes: BTreeMap::new(), roaming: BTreeSet::new(), logs: None, world }
    }

    /// A host that will change its addresses; said before its node starts.
    pub fn will_roam(&mut self, name: &str) {
        self.roaming.insert(name.to_owned());
    }

    /// The logs of nodes that are started from now on stay in this directory.
    ///
    /// # Errors
    /// If there is none and none can be made.
    pub fn keep_logs(&mut self, directory: &Path) -> io::Result<()> {
        std::fs::create_dir_all(directory)?;
        self.logs = Some(directory.to_owned());
        Ok(())
    }

    /// The world, to change it under the nodes.
    pub fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// The hosts' names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.world.hosts().map(|(name, _)| name.to_owned()).collect()
    }

    /// The name of the host that founds the overlay.
    ///
    /// # Errors
    /// If no host is in the open.
    pub fn founder(&self) -> Result<String, Failure> {
        let mut open = self.world.hosts().filter(|(_, host)| host.home == Home::Open).map(|(name, _)| name);
        let first = open.next().ok_or_else(|| lab_failure("a case needs a host in the open, to join by"))?;
        Ok(open.find(|name| *name == FOUNDER).unwrap_or(first).to_owned())
    }

    /// Starts a node on every host, joined by the founder's ticket, and waits until each is a member.
    ///
    /// # Errors
    /// If one does not come up or does not get in.
    pub async fn start_overlay(&mut self) -> Result<(), Failure> {
        let founder = self.founder()?;
        self.start(&founder, &[])?;
        self.member(&founder).await?;
        let ticket = self.invite(&founder, TICKET_VALID).await?;
        let others: Vec<String> = self.names().into_iter().filter(|name| *name != founder).collect();
        for some in others.chunks(JOIN_AT_ONCE) {
            for name in some {
                self.start(name, &["--join", &ticket])?;
            }
            for name in some {
                self.member(name).await?;
            }
        }
        Ok(())
    }

    /// Starts a host's node, with more arguments.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn start(&mut self, name: &str, more: &[&str]) -> Result<(), Failure> {
        let is_founder = self.founder()? == name;
        let directory = enter::directory().ok_or_else(|| lab_failure("nodes run only inside a lab"))?;
        let host = self.world.host(name).map_err(lab_failure)?;
        let config = directory.join(format!("{name}.toml"));
        std::fs::write(&config, format!("{SHARE}{}", host.config)).map_err(lab_failure)?;
        let log = self.logs.as_ref().unwrap_or(&directory).join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).map_err(lab_failure)?;
        let mut command = host.host.command(reexec::program());
        command.args(["node", "--state-dir"]).arg(host.host.state()).arg("--config").arg(&config);
        let addresses = match self.roaming.contains(name) {
            true => vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, CONTROL_PORT))],
            false => listen(host, is_founder),
        };
        for address in addresses {
            command.args(["--listen", &address.to_string()]);
        }
        command.args(more).stdout(output.try_clone().map_err(lab_failure)?).stderr(output);
        let client = Client::new(&socket_in(host.host.state()));
        let process = command.spawn().map_err(lab_failure)?;
        self.nodes.insert(name.to_owned(), Node { process, client, log });
        Ok(())
    }

    /// A node's API.
    ///
    /// # Errors
    /// If no node was started on this host.
    pub fn client(&self, name: &str) -> Result<Client, Failure> {
        Ok(self.node(name)?.client.clone())
    }

    /// Waits until a host's node answers and is a member.
    ///
    /// # Errors
    /// If it ends instead, or takes too long; with the last line of its log.
    pub async fn member(&mut self, name: &str) -> Result<Status, Failure> {
        let client = self.client(name)?;
        let node = self.nodes.get_mut(name).ok_or_else(|| missing(name))?;
        awaited(&format!("{name} is a member"), async || {
            if let Some(ended) = node.process.try_wait().map_err(lab_failure)? {
                return Err(lab_failure(format!(
                    "the node of {name} ended ({ended}): {}",
                    last_line(&node.log)
                )));
            }
            let status: Status = client.get("/v1/status").await?;
            Ok(status.data_address.is_some().then_some(status))
        })
        .await
    }

    /// Waits until a host's node answers, member or not.
    ///
    /// # Errors
    /// If it takes too long.
    pub async fn answers(&self, name: &str) -> Result<(), Failure> {
        let client = self.client(name)?;
        awaited(&format!("the node of {name} answers"), async || {
            let status: Result<Status, Failure> = client.get("/v1/status").await;
            Ok(status.is_ok().then_some(()))
        })
        .await
    }

    /// Asks a node for a ticket.
    ///
    /// # Errors
    /// If it gives none.
    pub async fn invite(&self, name: &str, valid: Duration) -> Result<String, Failure> {
        let valid_ms = u64::try_from(valid.as_millis()).unwrap_or(u64::MAX);
        let ticket: Ticket = self.client(name)?.post("/v1/overlay/invite", &InviteBody { valid_ms }).await?;
        Ok(ticket.ticket)
    }

    /// `kill -9` to a node alone; its host stays.
    ///
    /// # Errors
    /// If none runs.
    pub fn kill_node(&mut self, name: &str) -> Result<(), Failure> {
        self.signal(name, Signal::SIGKILL)?;
        let mut node = self.nodes.remove(name).ok_or_else(|| missing(name))?;
        node.process.wait().map(drop).map_err(lab_failure)
    }

    /// Ends a node alone by a signal, and waits until it has ended; its host stays.
    ///
    /// # Errors
    /// If none runs, or it does not end.
    pub async fn end_node(&mut self, name: &str, signal: Signal) -> Result<(), Failure> {
        self.signal(name, signal)?;
        let mut node = self.nodes.remove(name).ok_or_else(|| missing(name))?;
        awaited(&format!("the node of {name} ends"), async || {
            node.process.try_wait().map_err(lab_failure).map(|ended| ended.map(drop))
        })
        .await
    }

    fn signal(&self, name: &str, signal: Signal) -> Result<(), Failure> {
        kill(Pid::from_raw(self.pid(name)?.cast_signed()), signal).map_err(lab_failure)
    }

    /// Wipes a host's disk; no node runs on it.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn forget(&mut self, name: &str) -> Result<(), Failure> {
        let state = self.world.host(name).map_err(lab_failure)?.host.state().to_owned();
        std::fs::remove_dir_all(&state).map_err(lab_failure)?;
        std::fs::create_dir(&state).map_err(lab_failure)
    }

    /// A node's process, as the lab numbers it.
    ///
    /// # Errors
    /// If none runs.
    pub fn pid(&self, name: &str) -> Result<u32, Failure> {
        command_pid(&self.node(name)?.process).map_err(lab_failure)
    }

    fn node(&self, name: &str) -> Result<&Node, Failure> {
        self.nodes.get(name).ok_or_else(|| missing(name))
    }
}

fn missing(name: &str) -> Failure {
    lab_failure(format!("no node runs on {name}"))
}

fn listen(host: &WorldHost, is_founder: bool) -> Vec<SocketAddr> {
    let ports = if is_founder { &[CONTROL_PORT, WEB_PORT][..] } else { &[CONTROL_PORT][..] };
    host.addresses().flat_map(|ip| ports.iter().map(move |port| SocketAddr::new(ip, *port))).collect()
}

fn last_line(log: &Path) -> String {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    said.lines().last().unwrap_or("it said nothing").to_owned()
}
