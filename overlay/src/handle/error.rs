//! One error per question of [`Overlay`](super::Overlay).

use crate::{
    bytes::ADDRESSES_MAX,
    document::{DOCUMENT_BYTES_MAX, OPERATORS_MAX},
    identity::{HostId, Key, OverlayKey},
    membership::TooDeep,
    peers::FailureReason,
    protocol::rpc::RpcRefusal,
    record::PAYLOAD_BYTES_MAX,
    ticket::TicketError,
};

/// The overlay is not running any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the overlay was shut down")]
pub struct Stopped;

/// Why no ticket was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InviteError {
    /// This host belongs nowhere yet.
    #[error("this host has not joined an overlay yet")]
    NotAMember,
    /// Its chain cannot be extended.
    #[error(transparent)]
    TooDeep(#[from] TooDeep),
    /// More addresses than a ticket holds.
    #[error("a ticket holds at most {ADDRESSES_MAX} addresses")]
    TooManyAddresses,
    /// Shut down.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a ticket did not lead in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The ticket itself is no good.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// This host belongs to another overlay in which there are others.
    #[error("this host is a member of overlay {0} already: use a state directory of its own for another one")]
    MemberOfOther(OverlayKey),
    /// The configuration allows only another overlay.
    #[error("the ticket leads to overlay {found}, but the configuration pins {pinned}")]
    OtherThanPinned {
        /// Where the ticket leads.
        found: OverlayKey,
        /// What is allowed.
        pinned: OverlayKey,
    },
    /// Another ticket is being tried.
    #[error("another ticket is being tried")]
    Busy,
    /// The inviter was not reached or refused.
    #[error("the inviter {inviter} did not let this host in: {reason}")]
    Failed {
        /// Whom the ticket names.
        inviter: HostId,
        /// Why.
        reason: FailureReason,
    },
    /// Shut down.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a key was not put out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// This host belongs nowhere yet.
    #[error("this host has not joined an overlay yet")]
    NotAMember,
    /// No chain of that key is at hand.
    #[error("nothing is known of key {0}: ask a host that is connected to it, or the one that admitted it")]
    Unknown(Key),
    /// This host vouched neither for it nor for anyone above it.
    #[error("this host may not revoke {target}: only who vouched for it may, directly or further up ({})", ancestors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    NotAbove {
        /// Whom it was about.
        target: Key,
        /// Who may.
        ancestors: Vec<HostId>,
    },
    /// The set is full of revocations nearer to the founder.
    #[error("too many keys are revoked already")]
    Full,
    /// Shut down.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a request brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No connection.
    #[error("no connection to {host}: {reason}")]
    Unreachable {
        /// To whom.
        host: HostId,
        /// Why.
        reason: FailureReason,
    },
    /// It answered that it will not.
    #[error("{host} refused: {refusal}")]
    Refused {
        /// Who.
        host: HostId,
        /// Why.
        refusal: RpcRefusal,
    },
    /// No answer in time; it may have acted on the request.
    #[error("{0} did not answer in time")]
    Timeout(HostId),
    /// The connection broke; it may have acted on the request.
    #[error("the connection to {0} broke before its answer came")]
    Lost(HostId),
    /// More calls are under way than are allowed.
    #[error("too many calls are under way")]
    Busy,
    /// The protocol was not configured at the start.
    #[error("this node has no protocol \"{0}\"")]
    NotConfigured(&'static str),
    /// The request is larger than the protocol allows; it was not sent.
    #[error("the request has {bytes} bytes; the protocol allows {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Shut down.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why no stream was opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No connection.
    #[error("no connection to {host}: {reason}")]
    Unreachable {
        /// To whom.
        host: HostId,
        /// Why.
        reason: FailureReason,
    },
    /// It does not take such streams.
    #[error("{0} does not take streams of this protocol")]
    UnknownProtocol(HostId),
    /// The protocol was not configured at the start.
    #[error("this node has no stream protocol \"{0}\"")]
    NotConfigured(&'static str),
    /// The connection broke.
    #[error("the connection to {0} broke before the stream stood")]
    Lost(HostId),
    /// Shut down.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a record was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Too large.
    #[error("the description has {0} bytes; a record holds {PAYLOAD_BYTES_MAX}")]
    TooLarge(usize),
    /// Shut down.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a document was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishDocumentError {
    /// This host belongs nowhere yet.
    #[error("this host has not joined an overlay yet")]
    NotAMember,
    /// The kind was not configured at the start.
    #[error("this node knows no documents of kind \"{0}\"")]
    UnknownKind(String),
    /// Too large.
    #[error("the document has {0} bytes; at most {DOCUMENT_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// Only the founder and its operators may.
    #[error("this host is neither the founder of the overlay nor one of its operators ({})", if operators.is_empty() { "there are none".to_owned() } else { operators.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ") })]
    NotAnOperator {
        /// Who may, beside the founder.
        operators: Vec<HostId>,
    },
    /// One as new or newer holds.
    #[error("version {version} is not newer than version {held}, which holds")]
    NotNewer {
        /// Of the one that was to be published.
        version: u64,
        /// Of the one that holds.
        held: u64,
    },
    /// What it says is wrong.
    #[error("{0}")]
    Content(String),
    /// More than there may be.
    #[error("{0} operators were named; at most {OPERATORS_MAX} are allowed")]
    TooManyOperators(usize),
    /// Shut down.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
