//! Members for tests: started on loopback with free ports, with a clock moved by hand.

use consort_overlay::{
    Clock, Event, EventReceiver, HostId, InviteOptions, Keypair, Overlay, OverlayConfig, OverlayState,
    PeerState, PeerStatus, Rate, RpcProtocol, StartError, SystemClock, Ticket, Transports, start,
};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// What only a fault exceeds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The wall clock, and how far tests have moved it.
#[derive(Default)]
pub(crate) struct MovedClock {
    ahead_secs: AtomicU64,
}

impl MovedClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.ahead_secs.fetch_add(by.as_secs(), Ordering::SeqCst);
    }
}

impl Clock for MovedClock {
    fn since_epoch(&self) -> Duration {
        SystemClock.since_epoch() + Duration::from_secs(self.ahead_secs.load(Ordering::SeqCst))
    }
}

/// Echoes in tests; small, so that limits are met soon.
pub(crate) const ECHO: RpcProtocol = RpcProtocol {
    name: "test/echo",
    request_bytes_max: 1024,
    response_bytes_max: 1024,
    rate: Rate { per_second: 100, burst: 100 },
};
/// Allows three at once and one a second.
pub(crate) const SELDOM: RpcProtocol =
    RpcProtocol { name: "test/seldom", rate: Rate { per_second: 1, burst: 3 }, ..ECHO };
pub(crate) const PIPE: &str = "test/pipe";

/// One member, and what it told so far that nobody asked for.
pub(crate) struct Node {
    pub(crate) overlay: Overlay,
    pub(crate) keypair: Keypair,
    events: EventReceiver,
    past: VecDeque<Event>,
}

pub(crate) fn config(transports: Transports) -> OverlayConfig {
    config_of(Keypair::generate(), transports)
}

pub(crate) fn config_of(keypair: Keypair, transports: Transports) -> OverlayConfig {
    OverlayConfig {
        transports,
        protocols: vec![ECHO, SELDOM],
        streams: vec![PIPE],
        ..OverlayConfig::new(keypair, vec!["127.0.0.1:0".parse().unwrap()])
    }
}

impl Node {
    pub(crate) async fn start(config: OverlayConfig) -> Self {
        Self::try_start(config).await.unwrap()
    }

    pub(crate) async fn try_start(config: OverlayConfig) -> Result<Self, StartError> {
        let keypair = config.keypair.clone();
        let (overlay, events) = start(config).await?;
        Ok(Self { overlay, keypair, events, past: VecDeque::new() })
    }

    /// On the address of a node that was just shut down: within one process its sockets close a moment later.
    pub(crate) async fn start_again(config: OverlayConfig) -> Self {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                match Self::try_start(config.clone()).await {
                    Err(StartError::Listen { .. }) => tokio::task::yield_now().await,
                    other => return other.unwrap(),
                }
            }
        });
        waited.await.expect("the address becomes free")
    }

    /// A newcomer that joined `other` by a ticket.
    pub(crate) async fn joined_to(other: &Self, mut config: OverlayConfig) -> Self {
        config.bootstrap = vec![other.ticket().await];
        let mut node = Self::start(config).await;
        node.until(
            "joined and connected",
            |event| matches!(event, Event::PeerUp(host) if *host == other.id()),
        )
        .await;
        node
    }

    pub(crate) fn id(&self) -> HostId {
        self.overlay.local_id()
    }

    pub(crate) async fn ticket(&self) -> Ticket {
        self.overlay.invite(InviteOptions::default()).await.unwrap()
    }

    /// Waits for an event; those before it stay for others.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        if let Some(at) = self.past.iter().position(&wanted) {
            return self.past.remove(at).unwrap();
        }
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let event = self.events.recv().await.expect("the overlay runs");
                if wanted(&event) {
                    return event;
                }
                self.past.push_back(event);
            }
        });
        match waited.await {
            Ok(event) => event,
            Err(_) => panic!(
                "{} waited in vain: {what}; it saw {:?}; its peers: {:?}",
                self.id(),
                self.past,
                self.overlay.peers().await
            ),
        }
    }

    /// The latest state it wanted to be written down, or the present one.
    pub(crate) async fn state(&self) -> OverlayState {
        let state = self.overlay.state().await.unwrap();
        // As node does: written and read.
        serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap()
    }

    pub(crate) async fn peer(&self, host: HostId) -> Option<PeerStatus> {
        self.overlay.peers().await.unwrap().into_iter().find(|peer| peer.host == host)
    }

    /// Waits until there is a record of `host`.
    pub(crate) async fn until_record_of(&mut self, host: HostId) {
        while self.overlay.record(host).await.unwrap().is_none() {
            self.until(
                "its record",
                |event| matches!(event, Event::RecordChanged(changed) if *changed == host),
            )
            .await;
        }
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn peer_until(
        &self,
        host: HostId,
        what: &str,
        wanted: impl Fn(&PeerStatus) -> bool,
    ) -> PeerStatus {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(peer) = self.peer(host).await
                    && wanted(&peer)
                {
                    return peer;
                }
                tokio::task::yield_now().await;
            }
        });
        match waited.await {
            Ok(peer) => peer,
            Err(_) => panic!(
                "{} waited in vain for {host}: {what}; peers: {:?}",
                self.id(),
                self.overlay.peers().await
            ),
        }
    }

    pub(crate) async fn is_connected_to(&self, host: HostId) -> bool {
        self.peer(host).await.is_some_and(|peer| matches!(peer.state, PeerState::Connected { .. }))
    }

    /// Answers each request with its own body, and each stream with its own bytes, from now on.
    pub(crate) fn echo(mut self) -> Overlay {
        let overlay = self.overlay.clone();
        tokio::spawn(async move {
            while let Some(event) = self.events.recv().await {
                match event {
                    Event::Request { body, reply, .. } => reply.send(body),
                    Event::Stream { stream, .. } => {
                        tokio::spawn(async move {
                            let (mut read, mut write) = tokio::io::split(stream);
                            tokio::io::copy(&mut read, &mut write).await.ok();
                            tokio::io::AsyncWriteExt::shutdown(&mut write).await.ok();
                        });
                    }
                    _ => {}
                }
            }
        });
        overlay
    }
}

pub(crate) fn moved_clock(config: &mut OverlayConfig) -> Arc<MovedClock> {
    let clock = Arc::new(MovedClock::default());
    config.clock = Arc::<MovedClock>::clone(&clock);
    clock
}
