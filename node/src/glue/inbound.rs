//! What comes from other nodes, and what the overlay says by itself, brought to the part it is for.
//!
//! Owns: the receiver of the overlay's events. Refuses to know: what a request means. Nothing here waits for a peer: whatever may take long
//! runs in a task of its own, of which there are at most `STREAMS_MAX` and as many as the overlay lets requests wait.

use std::sync::Arc;
use std::time::Duration;

use consort_overlay::{Event, EventReceiver, HostId, Overlay, OverlayState, Reply, Stream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::member::Member;
use super::progress::{self, Stage};
use super::protocols;
use super::remote::serve;
use super::topology::{self, Refused, Topologies};
use super::traffic;
use crate::state::store::{Change, Room, Store};

/// Streams to machines served at once: each is a session of a person or a script.
const STREAMS_MAX: usize = 256;

/// How long what is known waits to be kept when somebody connects so soon after another: the first is written down at once, and where many
/// connect, one more writing is enough for all.
const KEEP_WITHIN: Duration = Duration::from_millis(500);

/// The key of the overlay's state in its room.
pub const STATE_KEY: &str = "state";

/// The task.
#[derive(Debug)]
pub struct Inbound {
    events: EventReceiver,
    overlay: Overlay,
    store: Store,
    members: tokio::sync::watch::Receiver<Option<Arc<Member>>>,
    joined: mpsc::Sender<()>,
    topologies: Topologies,
    streams: Arc<Semaphore>,
}

impl Inbound {
    /// The task; it says on `joined` when this host belongs to another overlay than before.
    #[must_use]
    pub fn new(
        events: EventReceiver,
        overlay: Overlay,
        store: Store,
        members: tokio::sync::watch::Receiver<Option<Arc<Member>>>,
        joined: mpsc::Sender<()>,
        topologies: Topologies,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        Self { events, overlay, store, members, joined, topologies, streams }
    }

    /// Runs until the overlay ends.
    pub async fn run(mut self) {
        // What was kept from an earlier run.
        self.topologies.renew().await;
        let (mut keep_at, mut kept_at): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            let event = tokio::select! {
                event = self.events.recv() => event,
                () = until(keep_at) => {
                    (keep_at, kept_at) = (None, Some(Instant::now()));
                    keep(&self.overlay, &self.store).await;
                    continue;
                }
            };
            let Some(event) = event else { return };
            match event {
                Event::Request { from, protocol, body, reply } => {
                    self.request(from, protocol, body, reply).await
                }
                Event::Stream { from, protocol, stream } => self.stream(from, protocol, stream),
                Event::PeerUp(host) => {
                    tracing::info!(%host, "peer connected");
                    if let Some(member) = self.member() {
                        member.standalone.peer_up(host).await;
                    }
                    // The overlay offers its state at its leisure; a node that is killed a second after it joined must know where to
                    // come back to.
                    let next = kept_at.map_or_else(Instant::now, |kept| kept + KEEP_WITHIN);
                    keep_at.get_or_insert(next);
                }
                Event::PeerDown(host) => tracing::info!(%host, "peer disconnected"),
                Event::RecordChanged(host) => {
                    if let Some(member) = self.member() {
                        member.news.changed(host);
                    }
                }
                Event::Joined(overlay) => {
                    tracing::info!(%overlay, "this host is a member");
                    self.topologies.renew().await;
                    // The daemon has one place for this news; if it is taken, the news is the same.
                    let _said_already = self.joined.try_send(());
                }
                Event::Revoked(key) => {
                    tracing::warn!(%key, "put out of the overlay");
                    if let Some(member) = self.member() {
                        if let Some(host) = key.host() {
                            member.news.changed(host);
                        }
                        member.standalone.put_out().await;
                    }
                }
                Event::DocumentChanged(kind) if kind == topology::KIND.name => self.topologies.renew().await,
                Event::DocumentRefused { kind, version, from, reason } if kind == topology::KIND.name => {
                    self.topologies.refuse(Refused { version, from, reason });
                }
                Event::StateChanged(state) => keep_state(&self.store, &state).await,
                _ => {}
            }
        }
    }

    fn member(&self) -> Option<Arc<Member>> {
        self.members.borrow().clone()
    }

    async fn request(&self, from: HostId, protocol: &'static str, body: Vec<u8>, reply: Reply) {
        // Dropped unanswered where this host has no parts yet: the peer learns that, and asks again.
        let Some(member) = self.member() else { return };
        match protocol {
            protocols::SCHEDULER => {
                reply.send(Vec::new());
                member.engine.message(from, body).await;
            }
            protocols::NETWORKS => member.standalone.request(body, reply),
            protocols::MEET | protocols::RELAY | protocols::WHY => {
                tokio::spawn(async move {
                    let answer = match protocol {
                        protocols::MEET => member.meet.answer(from, &body).await,
                        protocols::RELAY => member.meet.relays.answer(from, &body).await,
                        _ => member.meet.answer_why(from, &body).await,
                    };
                    match answer {
                        Some(answer) => reply.send(answer),
                        None => reply.refuse_malformed(),
                    }
                });
            }
            protocols::TRAFFIC => match traffic::decode_request(&body) {
                Some(network) => {
                    tokio::spawn(async move {
                        reply.send(traffic::encode(&member.traffic(network, from).await));
                    });
                }
                None => reply.refuse_malformed(),
            },
            protocols::ADAPT => member.adapting.request(from, &body, reply),
            protocols::DESCRIBE => reply.send(member.description().encode()),
            protocols::PROGRESS => match progress::decode_request(&body) {
                Some(slice) => {
                    tokio::spawn(async move {
                        let stage = member.stage(slice).await.unwrap_or(Stage::Placed);
                        reply.send(stage.encode());
                    });
                }
                None => reply.refuse_malformed(),
            },
            other => tracing::warn!(protocol = other, "a request of a protocol that nobody serves"),
        }
    }

    fn stream(&self, from: HostId, protocol: &'static str, stream: Stream) {
        let Some(member) = self.member() else { return };
        if protocol == protocols::DATAGRAMS {
            tokio::spawn(async move { member.meet.stream(from, stream).await });
            return;
        }
        let Ok(place) = Arc::clone(&self.streams).try_acquire_owned() else {
            tracing::warn!(%from, "a stream is refused: {STREAMS_MAX} are open");
            return;
        };
        let me = self.overlay.local_id();
        tokio::spawn(async move {
            serve::serve(stream, member.engine.clone(), member.machines.clone(), me, from).await;
            drop(place);
        });
    }
}

/// Writes down what the overlay knows now, where the next life of this node looks for it.
pub async fn keep(overlay: &Overlay, store: &Store) {
    if let Ok(state) = overlay.state().await {
        keep_state(store, &state).await;
    }
}

async fn keep_state(store: &Store, state: &OverlayState) {
    let bytes = match serde_json::to_vec(state) {
        Ok(bytes) => bytes,
        Err(error) => return tracing::error!(%error, "the overlay's state cannot be written down"),
    };
    let change = Change { room: Room::Overlay, key: STATE_KEY.to_owned(), value: Some(bytes) };
    let store = store.clone();
    let written = tokio::task::spawn_blocking(move || store.write(&[change])).await;
    match written {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the overlay's state could not be kept"),
        Err(error) => tracing::error!(%error, "the store's thread ended"),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
