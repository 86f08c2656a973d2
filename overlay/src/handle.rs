//! What node holds: a handle that asks the driver, and the errors of each question.
//!
//! Every method sends one command and waits for its answer; none blocks a thread. When the driver is gone, each says so by [`Stopped`].

mod error;

pub use error::{
    CallError, InviteError, JoinError, OpenError, PublishDocumentError, PublishError, RevokeError, Stopped,
};

use crate::{
    clock::UnixSeconds,
    counters::Counters,
    document::Document,
    identity::{HostId, Key, OverlayKey},
    membership::Membership,
    peers::{FailureReason, Hold, PeerStatus, refused::RefusedHost},
    record::{HostRecord, PAYLOAD_BYTES_MAX},
    state::OverlayState,
    ticket::Ticket,
};
use serde::Serialize;
use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{mpsc, oneshot, watch},
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

/// How an invitation shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteOptions {
    /// How long it is good.
    pub valid_for: Duration,
    /// Addresses to write into it instead of those this host knows of itself.
    pub addresses: Vec<SocketAddr>,
}

impl Default for InviteOptions {
    /// A day, with this host's own addresses.
    fn default() -> Self {
        Self { valid_for: Duration::from_secs(24 * 60 * 60), addresses: Vec::new() }
    }
}

/// A member, as far as this host knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The host.
    pub host: HostId,
    /// Who vouched for it; `None`: the overlay's founding key.
    pub admitted_by: Option<HostId>,
    /// The invitation it came by; `None`: it is the founder.
    pub invitation: Option<Key>,
    /// Since when.
    pub since: UnixSeconds,
    /// When the newest record this host has of it was signed.
    pub last_record: Option<UnixSeconds>,
    /// Whether it is connected to this host.
    pub connected: bool,
    /// Whether it is this host.
    pub local: bool,
}

/// The state of this host in the overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OverlayStatus {
    /// This host.
    pub host: HostId,
    /// The overlay; `None`: on the way in.
    pub overlay: Option<OverlayKey>,
    /// Whether this host itself was put out.
    pub revoked: bool,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Where it tells others to find it.
    pub addresses: Vec<SocketAddr>,
    /// Peers connected.
    pub connected: usize,
    /// Records held.
    pub view: usize,
    /// Keys put out.
    pub revoked_keys: usize,
    /// Hosts refused at the door lately.
    pub refused: Vec<RefusedHost>,
    /// Counts by reason.
    pub counters: Counters,
}

/// A bulk stream to or from a member: tokio's `AsyncRead` and `AsyncWrite`. While it is there, the connection that it runs over is not closed as unused.
pub struct Stream {
    stream: Compat<libp2p::Stream>,
    _hold: Hold,
}

impl Stream {
    pub(crate) fn new(stream: libp2p::Stream, hold: Hold) -> Self {
        Self { stream: stream.compat(), _hold: hold }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream(…)")
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

pub(crate) type Answer<T> = oneshot::Sender<T>;

/// What the driver can be asked.
#[derive(Debug)]
pub(crate) enum Command {
    Status(Answer<OverlayStatus>),
    Peers(Answer<Vec<PeerStatus>>),
    Members(Answer<Vec<Member>>),
    Invite(InviteOptions, Answer<Result<Ticket, InviteError>>),
    Join(Box<Ticket>, Answer<Result<OverlayKey, JoinError>>),
    Revoke(Key, Answer<Result<(), RevokeError>>),
    Call {
        host: HostId,
        protocol: &'static str,
        body: Vec<u8>,
        answer: Answer<Result<Vec<u8>, CallError>>,
    },
    Connect(HostId, Answer<Result<(), FailureReason>>),
    Doubt(HostId, Answer<()>),
    OutsideChanged(Answer<()>),
    OpenStream(HostId, &'static str, Answer<Result<Stream, OpenError>>),
    Publish(Vec<u8>, Answer<()>),
    PublishDocument {
        kind: String,
        version: u64,
        body: Vec<u8>,
        answer: Answer<Result<(), PublishDocumentError>>,
    },
    Appoint(Vec<Key>, Answer<Result<(), PublishDocumentError>>),
    Document(String, Answer<Option<Arc<Document>>>),
    Operators(Answer<Vec<Key>>),
    Record(HostId, Answer<Option<Arc<HostRecord>>>),
    View(Answer<Vec<Arc<HostRecord>>>),
    State(Answer<OverlayState>),
    Shutdown(Answer<()>),
}

/// Node's handle of the overlay. Clones share one driver, which ends by [`Overlay::shutdown`] or with the last clone.
#[derive(Debug, Clone)]
pub struct Overlay {
    local: HostId,
    listen: Arc<[SocketAddr]>,
    membership: watch::Receiver<Option<Membership>>,
    commands: mpsc::Sender<Command>,
}

impl Overlay {
    pub(crate) fn new(
        local: HostId,
        listen: Arc<[SocketAddr]>,
        membership: watch::Receiver<Option<Membership>>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self { local, listen, membership, commands }
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// This host's name.
    pub fn local_id(&self) -> HostId {
        self.local
    }

    /// The addresses that were bound, with the ports that were taken.
    pub fn listen_addrs(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// The membership, once there is one; changes are told by [`Event::Joined`](crate::Event::Joined).
    pub fn membership(&self) -> Option<Membership> {
        self.membership.borrow().clone()
    }

    /// The state of this host in the overlay.
    pub async fn status(&self) -> Result<OverlayStatus, Stopped> {
        self.ask(Command::Status).await
    }

    /// Every peer this host knows of, connected or why not.
    pub async fn peers(&self) -> Result<Vec<PeerStatus>, Stopped> {
        self.ask(Command::Peers).await
    }

    /// The members this host knows of, itself included: nobody knows all.
    pub async fn members(&self) -> Result<Vec<Member>, Stopped> {
        self.ask(Command::Members).await
    }

    /// Makes a ticket.
    pub async fn invite(&self, options: InviteOptions) -> Result<Ticket, InviteError> {
        self.ask(|answer| Command::Invite(options, answer)).await?
    }

    /// Joins by a ticket; answers when this host is a member, or could not become one.
    pub async fn join(&self, ticket: Ticket) -> Result<OverlayKey, JoinError> {
        self.ask(|answer| Command::Join(Box::new(ticket), answer)).await?
    }

    /// Puts a host or an invitation out, and all whom it vouched for.
    pub async fn revoke(&self, key: Key) -> Result<(), RevokeError> {
        self.ask(|answer| Command::Revoke(key, answer)).await?
    }

    /// Asks `host` by one of the configured protocols; connects first if need be. A host may call itself.
    pub async fn call(
        &self,
        host: HostId,
        protocol: &'static str,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, CallError> {
        self.ask(|answer| Command::Call { host, protocol, body, answer }).await?
    }

    /// Connects to `host` if it is not connected.
    pub async fn connect(&self, host: HostId) -> Result<Result<(), FailureReason>, Stopped> {
        self.ask(|answer| Command::Connect(host, answer)).await
    }

    /// Takes the connection to `host` for dead, though nothing has said so yet: it is closed, and made anew when somebody next needs it. For who asked over it
    /// and got no answer from a host that is there.
    pub async fn doubt(&self, host: HostId) -> Result<(), Stopped> {
        self.ask(|answer| Command::Doubt(host, answer)).await
    }

    /// The NAT before this host shows another address than before: what goes through it over connections that stand is dropped at the other ends, which know them
    /// by the old one. They are made anew.
    pub async fn outside_changed(&self) -> Result<(), Stopped> {
        self.ask(Command::OutsideChanged).await
    }

    /// Opens a bulk stream to `host`; connects first if need be.
    pub async fn open_stream(&self, host: HostId, protocol: &'static str) -> Result<Stream, OpenError> {
        self.ask(|answer| Command::OpenStream(host, protocol, answer)).await?
    }

    /// Describes this host to all others from now on: signed, numbered, renewed until the next description.
    pub async fn publish_record(&self, payload: Vec<u8>) -> Result<(), PublishError> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(PublishError::TooLarge(payload.len()));
        }
        Ok(self.ask(|answer| Command::Publish(payload, answer)).await?)
    }

    /// Says something to every member, by a document of one of the configured kinds: signed with the overlay key if this host is the founder,
    /// else as an operator. `version` must be greater than that of the document that holds.
    pub async fn publish_document(
        &self,
        kind: &str,
        version: u64,
        body: Vec<u8>,
    ) -> Result<(), PublishDocumentError> {
        let kind = kind.to_owned();
        self.ask(|answer| Command::PublishDocument { kind, version, body, answer }).await?
    }

    /// The document of that kind that holds.
    pub async fn document(&self, kind: &str) -> Result<Option<Arc<Document>>, Stopped> {
        let kind = kind.to_owned();
        self.ask(|answer| Command::Document(kind, answer)).await
    }

    /// Says who may publish documents beside the founder: all of them, instead of those who might before. Only the founder can.
    pub async fn appoint(&self, operators: Vec<Key>) -> Result<(), PublishDocumentError> {
        self.ask(|answer| Command::Appoint(operators, answer)).await?
    }

    /// Who may publish documents beside the founder.
    pub async fn operators(&self) -> Result<Vec<Key>, Stopped> {
        self.ask(Command::Operators).await
    }

    /// What is known of `host`; its own record for this host.
    pub async fn record(&self, host: HostId) -> Result<Option<Arc<HostRecord>>, Stopped> {
        self.ask(|answer| Command::Record(host, answer)).await
    }

    /// The sample of other hosts' records this host holds.
    pub async fn view(&self) -> Result<Vec<Arc<HostRecord>>, Stopped> {
        self.ask(Command::View).await
    }

    /// What to write down; also comes by [`Event::StateChanged`](crate::Event::StateChanged).
    pub async fn state(&self) -> Result<OverlayState, Stopped> {
        self.ask(Command::State).await
    }

    /// Closes all connections and ends the driver.
    pub async fn shutdown(self) {
        // Stopped already is what was asked for.
        self.ask(Command::Shutdown).await.ok();
    }
}
