//! `consort node`: starts the parts, keeps them going, and ends them.
//!
//! ```text
//!  directory, lock, keys, store ─▶ overlay ─▶ API ─▶ (membership) member's parts ─▶ ready ─▶ … ─▶ SIGTERM ─▶ all ends, machines stay
//!                                     └── joined another overlay ─▶ parts end and start again
//! ```
//! Owns: the order of starting and ending, and what of the node the API's routes may use ([`Node`]). Refuses to know: what any part does. The
//! API is there before the membership, so that a node that cannot join can say why.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use consort_overlay::{Membership, Overlay, OverlayConfig, OverlayKey, OverlayState, StartError, Ticket};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::cli::output::Output;
use crate::config::args::NodeArgs;
use crate::config::paths;
use crate::config::resolved::{self, NodeConfig};
use crate::control::{routes, server};
use crate::failure::{Exit, Failure};
use crate::frugal;
use crate::glue::inbound::{self, Inbound};
use crate::glue::kept;
use crate::glue::member::{Member, Start};
use crate::glue::protocols;
use crate::glue::topology::{self, Topologies};
use crate::state::dir::StateDir;
use crate::state::keys::Keys;
use crate::state::store::{Room, Store};
use crate::telemetry;

/// How long a node with a ticket waits to be a member before it says that it is ready. It goes on trying after that.
const MEMBER_WITHIN: Duration = Duration::from_secs(10);

/// How long requests under way may take to end when the node stops.
const END_WITHIN: Duration = Duration::from_secs(2);

/// What the API's routes may use.
#[derive(Debug)]
pub struct Node {
    /// What the owner wants.
    pub config: NodeConfig,
    /// Who is there.
    pub overlay: Overlay,
    /// Which topology holds.
    pub topologies: Topologies,
    /// Signs for the tenant.
    pub tenant: String,
    /// When the daemon started.
    pub started: Instant,
    members: watch::Receiver<Option<Arc<Member>>>,
}

impl Node {
    /// The parts that need a membership.
    ///
    /// # Errors
    /// If this host belongs to no overlay yet.
    pub fn member(&self) -> Result<Arc<Member>, Failure> {
        self.members.borrow().clone().ok_or_else(|| {
            Failure::refused("not_a_member", "this node is not a member of an overlay yet")
                .remedy("look at `consort peers` for why, or use another ticket with `consort join`")
        })
    }

    /// Waits until this host's parts are those of a member of `overlay`.
    pub async fn member_of(&self, overlay: OverlayKey) {
        let mut members = self.members.clone();
        let is_there = |member: &Option<Arc<Member>>| {
            member.as_ref().is_some_and(|member| member.membership.overlay == overlay)
        };
        // The sender lives as long as the daemon.
        let _daemon_ends = members.wait_for(is_there).await;
    }
}

/// What the ready line says.
#[derive(Debug, Serialize)]
struct Ready {
    host: String,
    overlay: Option<String>,
    addresses: Vec<String>,
    data_address: Option<String>,
    socket: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_tcp: Option<String>,
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// If it cannot start, or cannot go on.
pub async fn run(args: &NodeArgs, output: Output) -> Result<Exit, Failure> {
    telemetry::start(&args.log)?;
    let started = Instant::now();
    let config = resolved::load(args)?;
    let mut stop = Stop::listen()?;
    let dir = StateDir::open(&config.state_dir)?;
    let keys = Keys::load_or_make(&dir)?;
    let store = Store::open(dir.path())?;
    let (overlay, events) = start_overlay(&config, &keys, &store).await?;
    let (fatal, mut failed) = mpsc::channel(1);
    let (joined, joins) = mpsc::channel(1);
    let (members, member) = watch::channel(None);
    let topologies = Topologies::new(overlay.clone());
    let inbound = Inbound::new(
        events,
        overlay.clone(),
        store.clone(),
        member.clone(),
        joined.clone(),
        topologies.clone(),
    );
    let inbound = tokio::spawn(inbound.run());
    let tenant = keys.tenant.public().to_peer_id().to_string();
    let node = Arc::new(Node {
        config: config.clone(),
        overlay: overlay.clone(),
        topologies: topologies.clone(),
        tenant,
        started,
        members: member,
    });

    let (ending, ends) = watch::channel(false);
    let (servers, api_tcp) = serve(&node, dir.path(), ends).await?;
    let kept = store.clone();
    let keeper =
        Keeper { config: config.clone(), keys, store, overlay: overlay.clone(), topologies, members, fatal };
    // Whatever the overlay decided before anybody listened is looked at first.
    let _looked_at_already = joined.try_send(());
    let keeper = tokio::spawn(keeper.run(joins));

    let ready = async {
        wait_for_member(&node).await;
        say_ready(&node, api_tcp, output)
    };
    let ended = tokio::select! {
        ready = ready => match ready {
            Ok(()) => {
                tokio::spawn(give_back());
                tokio::select! {
                    () = stop.wanted() => Ok(Exit::Done),
                    Some(failure) = failed.recv() => Err(failure),
                }
            }
            Err(failure) => Err(failure),
        },
        () = stop.wanted() => Ok(Exit::Done),
        Some(failure) = failed.recv() => Err(failure),
    };

    telemetry::notify_stopping();
    tracing::info!("the node stops; its machines go on");
    ending.send_replace(true);
    keeper.abort();
    let member = node.members.borrow().clone();
    let end = async {
        for server in servers {
            // A server that ended by itself has said so.
            let _ended = server.await;
        }
        if let Some(member) = member {
            member.stop().await;
        }
        inbound::keep(&overlay, &kept).await;
        overlay.shutdown().await;
    };
    if tokio::time::timeout(END_WITHIN, end).await.is_err() {
        tracing::warn!("something did not end in time");
    }
    inbound.abort();
    drop(dir);
    ended
}

/// What only the start needed.
async fn give_back() {
    tokio::time::sleep(frugal::SETTLED_AFTER).await;
    match tokio::task::spawn_blocking(frugal::give_back).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the pages of the start stay"),
        Err(error) => tracing::error!(%error, "giving back the pages of the start ended"),
    }
}

/// The signals that stop the daemon.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::failed("signals", format!("cannot listen for signals: {error}")))
        };
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn wanted(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn start_overlay(
    config: &NodeConfig,
    keys: &Keys,
    store: &Store,
) -> Result<(Overlay, consort_overlay::EventReceiver), Failure> {
    let keypair = keys.identity.clone().try_into_ed25519().map_err(|_| {
        Failure::failed("key_damaged", "identity.key does not hold an Ed25519 key")
            .remedy("restore it from a backup; without it this node is another node")
    })?;
    let state: OverlayState = match store.read(Room::Overlay, inbound::STATE_KEY)? {
        None => OverlayState::default(),
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            Failure::failed(
                "overlay_state",
                format!("the stored state of the overlay cannot be read: {error}"),
            )
            .remedy("run the version of consort that wrote it, or give another --state-dir")
        })?,
    };
    let tickets: Result<Vec<Ticket>, Failure> = config
        .tickets
        .iter()
        .map(|ticket| {
            ticket.parse().map_err(|error| {
                Failure::input(
                    "bad_ticket",
                    format!("a ticket given with --join or overlay.bootstrap is no good: {error}"),
                )
                .remedy("ask a member for a new one (`consort invite`)")
            })
        })
        .collect();
    let pinned = config.overlay_key.as_ref().map(|key| {
        key.parse().map(OverlayKey).map_err(|error| {
            Failure::input("bad_overlay_key", format!("overlay.key: `{key}` is {error}"))
                .remedy("give what `consort status` shows as overlay")
        })
    });
    let overlay = OverlayConfig {
        state,
        records: kept::read(store)?,
        bootstrap: tickets?,
        pinned: pinned.transpose()?,
        protocols: protocols::requests(),
        streams: protocols::streams(),
        documents: vec![topology::KIND],
        local_link: config.mdns,
        ..OverlayConfig::new(keypair, config.control.clone())
    };
    consort_overlay::start(overlay).await.map_err(|error| match &error {
        StartError::Listen { reason, .. } if reason.to_lowercase().contains("permission denied") => {
            Failure::failed("privilege", error.to_string())
                .remedy("use a port from 1024 up, or run the node as root")
        }
        StartError::Listen { .. } => Failure::failed("port_in_use", error.to_string())
            .remedy("stop what uses the port, or give another address with --listen"),
        StartError::Ticket(_) => Failure::input("bad_ticket", error.to_string())
            .remedy("ask a member for a new one (`consort invite`)"),
        StartError::ForeignState => Failure::failed("overlay_state", error.to_string())
            .remedy("restore identity.key and state.redb together, or give another --state-dir"),
        _ => Failure::failed("overlay", error.to_string()),
    })
}

/// Starts the API, on TCP too where configured; says where that is.
async fn serve(
    node: &Arc<Node>,
    state_dir: &Path,
    ends: watch::Receiver<bool>,
) -> Result<(Vec<JoinHandle<()>>, Option<SocketAddr>), Failure> {
    let router = routes::router(Arc::clone(node));
    let socket = server::Socket::bind(&paths::socket_in(state_dir))?;
    let mut servers = vec![tokio::spawn(server::serve_socket(socket, router.clone(), ends.clone()))];
    let mut bound = None;
    if let Some(address) = node.config.api_tcp {
        let api = server::TcpApi::bind(address, state_dir).await?;
        bound = api.address();
        servers.push(tokio::spawn(server::serve_tcp(api, router, ends)));
    }
    Ok((servers, bound))
}

/// Keeps the member's parts in step with the membership.
struct Keeper {
    config: NodeConfig,
    keys: Keys,
    store: Store,
    overlay: Overlay,
    topologies: Topologies,
    members: watch::Sender<Option<Arc<Member>>>,
    fatal: mpsc::Sender<Failure>,
}

impl Keeper {
    async fn run(self, mut joins: mpsc::Receiver<()>) {
        while joins.recv().await.is_some() {
            let Some(membership) = self.overlay.membership() else { continue };
            if let Err(failure) = self.become_member(membership).await {
                // The daemon takes the first failure and ends; there is no second.
                let _ending_already = self.fatal.send(failure).await;
                return;
            }
        }
    }

    async fn become_member(&self, membership: Membership) -> Result<(), Failure> {
        let before = self.members.borrow().clone();
        if before.as_ref().is_some_and(|before| before.membership.overlay == membership.overlay) {
            return Ok(());
        }
        self.members.send_replace(None);
        if let Some(before) = before {
            before.stop().await;
        }
        let start = Start {
            config: &self.config,
            keys: &self.keys,
            store: &self.store,
            overlay: &self.overlay,
            topology: self.topologies.watch(),
            topologies: self.topologies.clone(),
            fatal: self.fatal.clone(),
        };
        let member = start.member(membership).await?;
        self.members.send_replace(Some(Arc::new(member)));
        Ok(())
    }
}

async fn wait_for_member(node: &Node) {
    let mut members = node.members.clone();
    let is_there = members.wait_for(Option::is_some);
    if tokio::time::timeout(MEMBER_WITHIN, is_there).await.is_err() {
        tracing::warn!("this node is not a member yet and goes on trying; `consort peers` says why");
    }
}

fn say_ready(node: &Node, api_tcp: Option<SocketAddr>, output: Output) -> Result<(), Failure> {
    let member = node.members.borrow().clone();
    let ready = Ready {
        host: node.overlay.local_id().to_string(),
        overlay: member.as_ref().map(|member| member.membership.overlay.to_string()),
        addresses: node.overlay.listen_addrs().iter().map(ToString::to_string).collect(),
        data_address: member.as_ref().map(|member| member.data.local_addr().to_string()),
        socket: paths::socket_in(&node.config.state_dir).display().to_string(),
        api_tcp: api_tcp.map(|address| address.to_string()),
    };
    output.document(&ready, |ready| {
        let data = ready.data_address.as_deref().unwrap_or("not there before the node is a member");
        format!("{} control {} data {data}", ready.host, ready.addresses.join(" "))
    })?;
    telemetry::notify_ready(&format!("{} is ready", ready.host));
    Ok(())
}
