//! The swarm's loop and all that it feeds. The one place with sockets, timers and randomness.
//!
//! [`Driver::run`] takes whichever comes first: the swarm, a command of node, an answer node owes a peer, a stream, the tick; hands it to the room it
//! belongs to; then lets node take what waits. The rooms are [`Peers`], [`View`], the [door](crate::gate::Door), [`Limiter`] and [`Outbox`]; the files
//! below this one translate between them and libp2p:
//!
//! | file | what |
//! |---|---|
//! | [`transport`] | QUIC and TCP with the door in them; listening; addresses to and from libp2p's form |
//! | [`connections`] | connections that come, go and fail; dialling |
//! | [`moving`] | other addresses of this host, and the connections that went with one |
//! | [`circuits`] | control connections through a third member, where there is no direct way |
//! | [`entering`] | joining by a ticket, and the change of overlay |
//! | [`lan`] | the local link: sockets, and what is found there |
//! | [`requests`] | requests in both directions, limits, answers; streams |
//! | [`directory`] | records, exchanges, searches by Kademlia |
//! | [`documents`] | what operators say to all |
//! | [`standing`] | invitations, members, revocations, the state to write down |

mod circuits;
mod connections;
mod directory;
mod documents;
mod entering;
pub(crate) mod lan;
mod moving;
mod requests;
mod standing;
mod transport;

pub(crate) use transport::tcp_address;

use crate::{
    behaviour::Behaviour,
    clock::{Clock, since_start},
    config::OverlayConfig,
    counters::Counters,
    document::Documents,
    event::{Event, EventReceiver, Outbox},
    gate::{Door, SharedDoor, TICKETS_MAX},
    handle::{Answer, Command, JoinError, Overlay, OverlayStatus},
    identity::{HostId, Key, OverlayKey},
    limit::Limiter,
    membership::Membership,
    peers::{FailureReason, PeerState, PeerStatus, Peers, refused::RefusedHosts},
    protocol::rpc::{Protocols, RpcProtocol, RpcResponse},
    ticket::TicketError,
    view::{View, exchange::Pace},
};
use libp2p::{
    Swarm,
    futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered},
    kad,
    request_response::{OutboundRequestId, ResponseChannel},
    swarm::ConnectionId,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// Upkeep: expiry, dials that are due, exchanges that are due. A second is finer than anything that waits for it.
const TICK: Duration = Duration::from_secs(1);
/// Commands of node that wait. Node's callers wait beyond.
const COMMANDS_MAX: usize = 64;
/// Events that node takes at once; the outbox holds the rest.
const EVENTS_MAX: usize = 16;
/// Buckets of rates: some protocols for each of some hundred peers.
const BUCKETS_MAX: usize = 4096;
/// Calls of node under way at once.
const CALLS_MAX: usize = 1024;
/// Callers that wait for one peer's connection at once, all peers together.
const WAITING_MAX: usize = 1024;
/// State is written down at most so often, unless it is the membership that changed.
const STATE_PAUSE: Duration = Duration::from_secs(30);
/// How long a stop waits for peers to be told.
const STOP_MAX: Duration = Duration::from_secs(1);

/// Why an overlay's member could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The state was made by a host with another key.
    #[error(
        "the overlay's state belongs to another host key: the identity and the state of a node go together"
    )]
    ForeignState,
    /// The state or a ticket leads to another overlay than the configuration allows.
    #[error("this host would be in overlay {found}, but the configuration pins {pinned}")]
    OtherThanPinned {
        /// Where it leads.
        found: OverlayKey,
        /// What is allowed.
        pinned: OverlayKey,
    },
    /// A key is pinned, and there is neither a state nor a ticket.
    #[error(
        "overlay {0} is pinned, but there is no ticket to join it with: give one in `bootstrap` or by `--join`"
    )]
    PinnedWithoutTicket(OverlayKey),
    /// A ticket is no good.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// More tickets than are tried.
    #[error("at most {TICKETS_MAX} tickets are tried")]
    TooManyTickets,
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({transport}): {reason}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// With what.
        transport: &'static str,
        /// What the system said.
        reason: String,
    },
    /// The transports could not be set up.
    #[error("cannot set up the transports: {0}")]
    Transport(String),
}

/// Somebody who waits for a peer's connection, and what he wants of it.
enum Waiting {
    Connect(Answer<Result<(), FailureReason>>),
    Call { protocol: RpcProtocol, body: Vec<u8>, answer: Answer<Result<Vec<u8>, crate::handle::CallError>> },
    Stream(&'static str, Answer<Result<crate::handle::Stream, crate::handle::OpenError>>),
}

/// A request under way.
enum Call {
    Node(Answer<Result<Vec<u8>, crate::handle::CallError>>),
    /// With the sequence of the own record that went along.
    Exchange {
        told: Option<u64>,
    },
    Revocations,
    Documents,
}

/// An answer node owes: ready when node gave it.
type Owed = BoxFuture<'static, (RpcProtocol, ResponseChannel<RpcResponse>, RpcResponse)>;

/// Starts this host's membership: binds the addresses, founds an overlay if it has none and no ticket, and runs until shut down.
pub async fn start(config: OverlayConfig) -> Result<(Overlay, EventReceiver), StartError> {
    config.check_protocols();
    let mut rng = ChaCha8Rng::from_seed(transport::entropy());
    let door = Door::new(
        config.keypair.clone(),
        rng.next_u64(),
        Arc::clone(&config.clock),
        usize::try_from(config.limits.connections_max).expect("usize has 32 bits at least"),
    );
    let origin = standing::origin(&config, &mut rng)?;
    let mut protocols: BTreeMap<&'static str, RpcProtocol> =
        config.protocols.iter().map(|protocol| (protocol.name, *protocol)).collect();
    protocols.extend(requests::OWN_PROTOCOLS.iter().map(|protocol| (protocol.name, *protocol)));
    let protocols: Protocols = Arc::new(protocols);

    let local = door.local();
    let overlay = origin.membership.as_ref().map(|membership| membership.overlay);
    let door = SharedDoor::new(door);
    let (circuit_transport, circuit_behaviour) = libp2p::relay::client::new(local);
    let behaviour = Behaviour::new(
        &config.keypair,
        &config.limits,
        overlay.map(|key| key.id()),
        Arc::clone(&protocols),
        &config.streams,
        circuit_behaviour,
    );
    let mut swarm = transport::swarm(&config, door.clone(), circuit_transport, behaviour)?;
    let listen = transport::listen(&mut swarm, &config.listen, config.transports).await?;
    // Whoever came while the addresses were being bound was refused: only from here on there is somebody to tell.
    let founded = origin.founded;
    origin.open(&mut door.lock());

    let (commands, orders) = mpsc::channel(COMMANDS_MAX);
    let (events_in, events) = mpsc::channel(EVENTS_MAX);
    let (membership_in, membership) = watch::channel(door.lock().membership.clone());
    let now = since_start();
    let mut driver = Driver {
        swarm,
        door,
        clock: Arc::clone(&config.clock),
        rng,
        overlay,
        listen: Arc::from(listen),
        protocols,
        peers: Peers::default(),
        refused: RefusedHosts::default(),
        view: View::new(&local),
        documents: Documents::new(config.documents.clone()),
        pace: Pace::new(now),
        near_is_next: false,
        told: HashMap::new(),
        spread_at: Duration::ZERO,
        spread_due: false,
        record: None,
        record_sequence: config.state.sequence,
        payload: Vec::new(),
        buckets: Limiter::new(BUCKETS_MAX),
        counters: Counters::default(),
        outbox: Outbox::new(config.limits.requests_open_max),
        membership: membership_in,
        calls: HashMap::new(),
        waiting: HashMap::new(),
        searches: HashMap::new(),
        joining: None,
        entering: false,
        inviter: None,
        closing: HashMap::new(),
        circuits: circuits::Circuits::default(),
        moving: moving::Moving::default(),
        link: None,
        join_failed: None,
        join_until: Duration::ZERO,
        owed: FuturesUnordered::new(),
        tasks: FuturesUnordered::new(),
        state_saved_at: Duration::ZERO,
        state_changed: founded,
        known_saved: BTreeMap::new(),
        config,
    };
    driver.begin();
    let handle = Overlay::new(local, Arc::clone(&driver.listen), membership, commands);
    tokio::spawn(driver.run(orders, events_in));
    Ok((handle, EventReceiver::new(events)))
}

/// The loop's own data: the rooms, and what connects them with libp2p.
struct Driver {
    config: OverlayConfig,
    swarm: Swarm<Behaviour>,
    door: SharedDoor,
    clock: Arc<dyn Clock>,
    rng: ChaCha8Rng,
    /// The overlay the behaviours are named after.
    overlay: Option<OverlayKey>,
    listen: Arc<[SocketAddr]>,
    protocols: Protocols,
    peers: Peers,
    refused: RefusedHosts,
    view: View,
    /// What operators said.
    documents: Documents,
    pace: Pace,
    /// Whether the next exchange is with a host that is near.
    near_is_next: bool,
    /// Which of this host's records each connected peer has.
    told: HashMap<HostId, u64>,
    /// When this host's record was last spread outside the pace, and whether it shall be again.
    spread_at: Duration,
    spread_due: bool,
    /// This host's own record.
    record: Option<Arc<crate::record::HostRecord>>,
    record_sequence: u64,
    payload: Vec<u8>,
    buckets: Limiter<(HostId, &'static str)>,
    counters: Counters,
    outbox: Outbox,
    membership: watch::Sender<Option<Membership>>,
    calls: HashMap<OutboundRequestId, (HostId, Call)>,
    waiting: HashMap<HostId, Vec<Waiting>>,
    searches: HashMap<kad::QueryId, HostId>,
    joining: Option<(HostId, Answer<Result<OverlayKey, JoinError>>)>,
    /// The door has entered an overlay the behaviours are not named after yet: they follow when the last connection is gone.
    entering: bool,
    /// Who admitted this host just now.
    inviter: Option<HostId>,
    /// Connections this host is closing, with the reason people shall see.
    closing: HashMap<ConnectionId, FailureReason>,
    /// Ways through others, asked for and held.
    circuits: circuits::Circuits,
    moving: moving::Moving,
    /// The local link, where it is looked at.
    link: Option<lan::Link>,
    /// The inviter of the ticket that is being tried could not be reached; until then somebody on the local link may let this host in.
    join_failed: Option<FailureReason>,
    join_until: Duration,
    owed: FuturesUnordered<Owed>,
    tasks: FuturesUnordered<BoxFuture<'static, ()>>,
    state_saved_at: Duration,
    state_changed: bool,
    /// Whom the state that was last written down knows.
    known_saved: BTreeMap<HostId, Vec<SocketAddr>>,
}

impl Driver {
    async fn run(mut self, mut orders: mpsc::Receiver<Command>, events: mpsc::Sender<Event>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let until_circuit = self.until_circuit();
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                command = orders.recv() => match command {
                    Some(Command::Shutdown(answer)) => {
                        self.close_all().await;
                        // Whoever asked may be gone; the driver ends all the same.
                        answer.send(()).ok();
                        return;
                    }
                    Some(command) => self.on_command(command),
                    None => return self.close_all().await,
                },
                Some((protocol, channel, answer)) = self.owed.next() => self.on_answered(protocol, channel, answer),
                Some(()) = self.tasks.next() => {}
                news = lan::Link::next(&mut self.link) => self.on_link_news(news),
                _ = tick.tick() => self.on_tick(),
                () = tokio::time::sleep(until_circuit.unwrap_or_default()), if until_circuit.is_some() => self.upkeep_circuits(),
                Ok(permit) = events.reserve(), if !self.outbox.is_empty() => {
                    if let Some(event) = self.outbox.pop() {
                        permit.send(event);
                    }
                }
            }
        }
    }

    /// Takes up what is known from before, and the first work.
    fn begin(&mut self) {
        let known = std::mem::take(&mut self.config.state.known);
        for peer in known.into_iter().take(crate::state::KNOWN_PEERS_MAX) {
            self.peers.restore(peer.host, &peer.addresses, Some(peer.last_seen));
        }
        let stored = std::mem::take(&mut self.config.state.documents);
        if let Some(overlay) = self.overlay {
            let unix = self.clock.unix();
            self.documents.restore(overlay, stored, unix, &self.door.lock().revocations);
        }
        for record in std::mem::take(&mut self.config.records).into_iter().take(crate::view::VIEW_MAX) {
            self.take_record(&record);
        }
        let own = *self.swarm.local_peer_id();
        for ticket in &self.config.bootstrap {
            if self.overlay.is_none_or(|overlay| overlay == ticket.overlay()) && ticket.inviter() != own {
                self.peers.learn(ticket.inviter(), ticket.addresses());
            }
        }
        if self.config.local_link {
            let own = Key::of(self.door.lock().pair());
            self.link = Some(lan::Link::start(own, ChaCha8Rng::from_seed(transport::entropy())));
            self.tell_link();
        }
        self.tell_relayed();
        self.renew_record();
        self.upkeep_connections();
        self.upkeep_state();
    }

    fn now(&self) -> Duration {
        since_start()
    }

    fn on_command(&mut self, command: Command) {
        // An answer whose asker is gone is nobody's loss.
        match command {
            Command::Status(answer) => drop(answer.send(self.status())),
            Command::Peers(answer) => drop(answer.send(self.all_peers())),
            Command::Members(answer) => drop(answer.send(self.members())),
            Command::Invite(options, answer) => drop(answer.send(self.invite(options))),
            Command::Join(ticket, answer) => self.join(*ticket, answer),
            Command::Revoke(key, answer) => {
                let outcome = self.revoke(key);
                drop(answer.send(outcome));
            }
            Command::Call { host, protocol, body, answer } => self.call(host, protocol, body, answer),
            Command::Connect(host, answer) => self.when_connected(host, Waiting::Connect(answer)),
            Command::Doubt(host, answer) => {
                self.close_peer(&host, &FailureReason::Silent);
                answer.send(()).ok();
            }
            Command::OutsideChanged(answer) => {
                self.close_outside_connections();
                answer.send(()).ok();
            }
            Command::OpenStream(host, protocol, answer) => self.open_stream(host, protocol, answer),
            Command::Publish(payload, answer) => {
                self.payload = payload;
                self.renew_record();
                self.spread_record();
                answer.send(()).ok();
            }
            Command::PublishDocument { kind, version, body, answer } => {
                let outcome = self.publish_document(&kind, version, body);
                drop(answer.send(outcome));
            }
            Command::Appoint(operators, answer) => {
                let outcome = self.appoint(&operators);
                drop(answer.send(outcome));
            }
            Command::Document(kind, answer) => drop(answer.send(self.documents.get(&kind).cloned())),
            Command::Operators(answer) => drop(answer.send(self.documents.operators())),
            Command::Record(host, answer) => drop(answer.send(self.record_of(&host))),
            Command::View(answer) => drop(answer.send(self.view.iter().cloned().collect())),
            Command::State(answer) => drop(answer.send(self.state())),
            Command::Shutdown(_) => unreachable!("the loop ends on it"),
        }
    }

    fn on_tick(&mut self) {
        self.upkeep_directory();
        self.upkeep_connections();
        self.upkeep_circuits();
        self.upkeep_join();
        self.tell_link();
        self.upkeep_state();
    }

    /// Tells node; a request or stream for which there is no room comes back.
    fn tell(&mut self, event: Event) -> Result<(), Box<Event>> {
        self.outbox.push(event)
    }

    /// Tells node what is never refused.
    fn announce(&mut self, event: Event) {
        self.outbox.push(event).expect("only requests and streams are refused");
    }

    /// Those known, and strangers that were refused.
    fn all_peers(&self) -> Vec<PeerStatus> {
        let mut peers = self.peers.statuses(self.now());
        peers.extend(
            self.refused.list().into_iter().filter(|refused| !self.peers.is_known(&refused.host)).map(
                |refused| PeerStatus {
                    host: refused.host,
                    state: PeerState::Refused,
                    addresses: refused.address.into_iter().collect(),
                    last_seen: None,
                    failure: Some(refused.failure),
                },
            ),
        );
        peers
    }

    fn status(&self) -> OverlayStatus {
        let door = self.door.lock();
        let local = door.local();
        let own = Key::of(door.pair());
        OverlayStatus {
            host: local,
            overlay: door.overlay(),
            revoked: door
                .membership
                .as_ref()
                .is_some_and(|membership| membership.chain.revoked_by(&door.revocations).is_some())
                || door.revocations.covers(own),
            listen: self.listen.to_vec(),
            addresses: self.own_addresses(),
            connected: self.peers.connected(),
            view: self.view.len(),
            revoked_keys: door.revocations.len(),
            refused: self.refused.list(),
            counters: self.counters.clone(),
        }
    }
}
