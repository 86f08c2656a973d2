//! The overlay: who belongs, who is where, and how members talk. libp2p lives here and nowhere else.
//!
//! A host becomes a member by a [`Ticket`] and stays one by a [`Chain`] of certificates that anyone can check; there is no server and no head.
//! A connection reaches the swarm only after both sides proved membership. Members describe themselves by signed, ageing [`HostRecord`]s, of which
//! each holds a bounded sample; they ask each other by [`Overlay::call`] with hard limits of size and rate, and move bulk by [`Overlay::open_stream`].
//!
//! ```text
//!  node ──▶ handle ──commands──▶ driver ◀──▶ swarm (behaviour: kad, gossip, identify, ping, rpc, streams, limits)
//!   ▲                              │ │             │
//!   └───────── event ◀─────────────┘ │            gate ── the door in the transport: membership before anything else
//!                                    ▼             │
//!            peers  view  limit  (pure)       membership  ticket  record  protocol  (pure)
//! ```
//!
//! | room | owns |
//! |---|---|
//! | `identity` | keys, names, signing |
//! | `membership` | certificates, chains, revocations |
//! | `ticket` | the invitation in one string |
//! | `record` | a host's signed description |
//! | `document` | what operators say to every member: signed, numbered, the newest wins |
//! | `view` | the sample of records and its exchange |
//! | `peers` | the table of peers: states, failures, the dial schedule |
//! | `limit` | rates |
//! | `protocol` | bytes and limits of each protocol |
//! | `lan` | members on the local link: what is asked and answered |
//! | `gate` | who passes the door, and the handshake |
//! | `knock` | who listens at a host's addresses right now |
//! | `routing` | Kademlia's table, silent unless somebody searches |
//! | `streams` | bulk streams over a connection |
//! | `behaviour` | composition of libp2p's behaviours |
//! | `driver` | the loop, and all I/O |
//! | `simulation` | what a host holds and says as the overlay grows |
//! | `handle`, `event`, `config`, `state`, `counters` | what node sees |
//!
//! Messages of node travel as bytes with a protocol's name; this crate does not know what they mean.

mod behaviour;
mod bytes;
mod clock;
mod config;
mod counters;
mod document;
mod driver;
mod event;
pub mod fuzz;
mod gate;
mod handle;
mod identity;
mod knock;
mod lan;
mod limit;
mod membership;
mod peers;
mod pinging;
mod protocol;
mod record;
mod routing;
pub mod simulation;
mod state;
mod streams;
#[cfg(test)]
mod testing;
mod ticket;
mod view;

pub use bytes::{ADDRESSES_MAX, Malformed};
pub use clock::{CLOCK_SKEW_MAX, Clock, SystemClock, UnixSeconds};
pub use config::{Limits, OverlayConfig, Transports};
pub use counters::Counters;
pub use document::{
    DOCUMENT_BYTES_MAX, Document, DocumentKind, DocumentRefusal, KIND_BYTES_MAX, KINDS_MAX, OPERATORS,
    OPERATORS_MAX,
};
pub use driver::{StartError, start};
pub use event::{Event, EventReceiver, Reply};
pub use gate::TICKETS_MAX;
pub use handle::{
    CallError, InviteError, InviteOptions, JoinError, Member, OpenError, Overlay, OverlayStatus,
    PublishDocumentError, PublishError, RevokeError, Stopped, Stream,
};
pub use identity::{HostId, Key, Keypair, OverlayId, OverlayKey, ParseKeyError};
pub use knock::{Knock, knock};
pub use limit::Rate;
pub use membership::{
    Certificate, Chain, ChainRefusal, DEPTH_MAX, LinkSecret, Membership, REVOCATIONS_MAX, Revocation,
    RevocationRefusal, Revocations, Standing, Taken, TooDeep,
};
pub use peers::{
    Direction, Failure, FailureReason, NEIGHBOURS_MAX, NEIGHBOURS_WANTED, PEERS_MAX, PeerState, PeerStatus,
    Transport,
    refused::{REFUSED_MAX, RefusedHost},
};
pub use protocol::{
    member::Refusal,
    rpc::{BODY_BYTES_MAX, NAME_BYTES_MAX, RpcProtocol, RpcRefusal},
};
pub use record::{
    HostRecord, LIFETIME_MAX, PAYLOAD_BYTES_MAX, RECORD_BYTES_MAX, RECORD_LIFETIME, RECORD_REFRESH,
    RELAYS_MAX, RecordRefusal, Unverified,
};
pub use state::{KNOWN_PEERS_MAX, KnownPeer, OverlayState};
pub use ticket::{TICKET_CHARS_MAX, Ticket, TicketError};
pub use view::VIEW_MAX;
