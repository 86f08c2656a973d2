//! What one host can know of itself and of the way to another.
//!
//! A [`Side`] travels between nodes (protocol `why/1`, postcard), so every list in it is bounded and nothing in it is secret to members:
//! addresses of the two hosts, kinds of NAT, what was tried. It claims; a host that lies about itself makes its own explanation wrong.

use std::net::SocketAddr;

use consort_scheduler::bounded::List;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most attempts told: every candidate a peer may have, and a few that its datagrams came from.
pub const ATTEMPTS_MAX: usize = 20;

/// The most relays told: as many as a link may have, and those that refused.
pub const RELAYS_MAX: usize = 8;

/// How far two clocks may differ: what the overlay bears (`consort_overlay::CLOCK_SKEW_MAX`).
pub const CLOCK_DIFFERENCE_MAX_S: u64 = 120;

/// How a host's datagrams go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// Straight to the other host.
    Direct,
    /// Through another member, datagram by datagram.
    Relay,
    /// Inside a stream of the control plane: UDP does not pass.
    RelayStream,
    /// Nowhere.
    None,
}

/// What a host's NAT does with its data port (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Nat {
    /// Too few members answered to know.
    Unknown,
    /// Its own address is what others see.
    None,
    /// One outside address for all destinations.
    EndpointIndependent,
    /// Another for each destination address.
    AddressDependent,
    /// Another for each destination address and port.
    AddressAndPortDependent,
    /// No datagram comes back from anybody.
    Blocked,
}

impl Nat {
    /// Whether its outside address for a new destination cannot be known ahead.
    #[must_use]
    pub fn is_hard(self) -> bool {
        matches!(self, Self::AddressDependent | Self::AddressAndPortDependent)
    }

    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Unknown => "not known yet",
            Self::None => "no NAT",
            Self::EndpointIndependent => "NAT with one outside address (endpoint-independent)",
            Self::AddressDependent => "NAT with an outside address per destination (address-dependent)",
            Self::AddressAndPortDependent => {
                "NAT with an outside address per destination and port (symmetric)"
            }
            Self::Blocked => "UDP does not pass",
        }
    }
}

/// Whether a host belongs to the overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It does.
    Member,
    /// Not yet.
    NotYet,
    /// It was put out.
    Revoked,
}

/// Why the control plane has no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlFailure {
    /// None was needed lately, and none was tried.
    NotTried,
    /// No address of the host is known.
    NoAddress,
    /// The host's computer answers, but no node listens.
    ConnectionRefused,
    /// Nothing answers.
    NoAnswer,
    /// This host has no way to such an address.
    NetworkUnreachable,
    /// Another host answers at the address.
    WrongIdentity,
    /// Membership: its time is over.
    Expired,
    /// Membership: it comes from the future.
    FromTheFuture,
    /// Membership: put out.
    Revoked,
    /// Membership: another overlay.
    OtherOverlay,
    /// Membership: not signed for it, or not made out to it.
    Forged,
    /// The two do not speak one version of the protocol.
    Version,
    /// One of the two has as many connections as it allows.
    Full,
    /// It was there and broke.
    Lost,
    /// The host opens its door, and does not answer what it is asked.
    Unresponsive,
}

/// The control plane's connection to the other host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// It stands.
    Connected {
        /// Whether over UDP (QUIC); else TCP.
        quic: bool,
        /// The last round trip.
        round_trip_micros: Option<u64>,
    },
    /// It does not.
    Failed(ControlFailure),
}

/// The data plane's link to the other host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkFact {
    /// Whether anything wants it: a network is shared.
    pub wanted: bool,
    /// Whether it is up.
    pub up: bool,
    /// How its datagrams go.
    pub path: Path,
    /// Where its datagrams go.
    pub address: Option<SocketAddr>,
    /// How many relays it goes through.
    pub hops: u8,
    /// Smoothed round trip.
    pub round_trip_micros: Option<u64>,
    /// Part of the peer's datagrams that did not arrive, in thousandths.
    pub loss_permille: u16,
    /// The largest datagram the path takes.
    pub datagram_bytes: u16,
    /// Times the path was found to have become narrower.
    pub black_holes: u32,
    /// Whether any probe or datagram of the other's came straight from it lately.
    pub heard: bool,
    /// Whether the last handshake failed over the overlay's secret or a key.
    pub key_refused: bool,
    /// Times its address changed in its life.
    pub roamed: u32,
    /// The age of the session, if there is one.
    pub session_seconds: Option<u64>,
    /// Networks the other side refused this host's grant for.
    pub grants_refused: u16,
    /// Whether a path is being looked for right now.
    pub searching: bool,
    /// Whether a port search spent its budget without success.
    pub search_spent: bool,
}

impl LinkFact {
    /// Of a link that nobody wanted yet.
    pub const NONE: Self = Self {
        wanted: false,
        up: false,
        path: Path::None,
        address: None,
        hops: 0,
        round_trip_micros: None,
        loss_permille: 0,
        datagram_bytes: 0,
        black_holes: 0,
        heard: false,
        key_refused: false,
        roamed: 0,
        session_seconds: None,
        grants_refused: 0,
        searching: false,
        search_spent: false,
    };
}

/// Where a candidate address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CandidateKind {
    /// One of the host's own.
    Local,
    /// What members saw.
    Observed,
    /// A port its router opened for it.
    Mapped,
    /// Told by its owner, or found by its datagrams.
    Told,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Not yet known.
    Waiting,
    /// It answered.
    Answered,
    /// Nothing came back.
    Silent,
    /// Not tried: the topology or the bounds of this host leave it out.
    LeftOut,
}

/// One candidate address of the other host, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Where.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// Where it comes from.
    pub kind: CandidateKind,
    /// What came of it.
    pub outcome: Outcome,
    /// Round trip, if it answered.
    pub round_trip_micros: Option<u64>,
}

/// What a relay said, or how its way ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RelayOutcome {
    /// It carries, or stands by.
    Ready,
    /// It could not be asked.
    Unreachable,
    /// It has as many legs as its owner allows.
    Full,
    /// Its owner does not let it relay, or not for these two.
    Refused,
    /// It was asked for a leg and gave one, but nothing comes through.
    Silent,
}

/// One relay that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayAttempt {
    /// Which.
    #[schema(value_type = String)]
    pub relay: consort_overlay::HostId,
    /// What came of it.
    pub outcome: RelayOutcome,
}

/// Whether the two hosts told each other their candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Meeting {
    /// Not needed yet.
    NotTried,
    /// They did.
    Answered,
    /// The other did not answer.
    Unanswered,
    /// The other has been asked too often.
    TooOften,
}

/// What the operator's topology says of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopologyFact {
    /// A direct link is allowed.
    Allowed,
    /// No direct link; the way leads over so many hops.
    Routed(u8),
    /// No direct link, and no route.
    NoRoute,
}

/// What one host knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Its clock, in seconds since 1970.
    pub unix_seconds: u64,
    /// Whether it belongs to the overlay.
    pub standing: Standing,
    /// What its NAT does.
    pub nat: Nat,
    /// What others see as its address.
    pub observed: List<SocketAddr, 4>,
    /// Whether it has an IPv4 address that is not only its own (loopback, link-local).
    pub has_ipv4: bool,
    /// The same of IPv6.
    pub has_ipv6: bool,
    /// Whether names can be looked up; unknown where it was not tried.
    pub dns: Option<bool>,
    /// Members it is connected with.
    pub members_connected: u16,
    /// Whether some member is connected over UDP (QUIC): then it is not UDP as such that does not pass.
    pub quic_somewhere: bool,
    /// Datagrams the kernel dropped because the data plane did not keep up.
    pub receive_drops: u64,
    /// Whether another member answered when it was knocked at just now; unknown where there was no reason to.
    pub others_answer: Option<bool>,
    /// The control connection to the other.
    pub control: Control,
    /// Where a membership was refused: whether it was the other that refused this host's.
    pub refused_by_other: bool,
    /// The link to the other.
    pub link: LinkFact,
    /// The other's candidates.
    pub tried: List<Attempt, ATTEMPTS_MAX>,
    /// Relays for the two.
    pub relays: List<RelayAttempt, RELAYS_MAX>,
    /// Members known to relay.
    pub relays_known: u16,
    /// Whether candidates were exchanged.
    pub meeting: Meeting,
    /// What the topology says.
    pub topology: TopologyFact,
    /// The age of the other's record; none where there is no record.
    pub record_age_s: Option<u32>,
}

/// How the two hosts are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The asking host's id.
    pub near_id: String,
    /// The other's.
    pub far_id: String,
    /// The asking host, in sentences.
    pub near: String,
    /// The other, in sentences.
    pub far: String,
}

/// Everything an explanation is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// How the two are called.
    pub names: Names,
    /// Whether the two are one.
    pub same: bool,
    /// The host that was asked.
    pub near: Side,
    /// The other, if it could be asked.
    pub far: Option<Side>,
}

impl Facts {
    /// How datagrams go between the two.
    #[must_use]
    pub fn path(&self) -> Path {
        if self.near.link.up { self.near.link.path } else { Path::None }
    }
}
