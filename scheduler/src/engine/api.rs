//! What goes into an [`Engine`](super::Engine) and what comes out of it.
//!
//! A driver obeys three rules: outputs are acted on in the order they are given; a [`Output::Persist`] is durable
//! before anything after it is acted on; an answer to a [`Command`] may come at any later time, exactly once.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use libp2p_identity::Keypair;
use serde::{Deserialize, Serialize};

use crate::bounded::Text;
use crate::identity::{HostId, TenantId};
use crate::limits::DETAIL_BYTES_MAX;
use crate::message::{SignedOrder, SliceHint, Verdict};
use crate::refusal::RequestRefusal;
use crate::request::Advice;
use crate::resources::Resources;
use crate::slice::charter::Founded;
use crate::slice::id::{ImageName, Name, NetworkId, SliceId};
use crate::slice::record::{RecordEvent, State};
use crate::slice::spec::{Category, Ipv4Range, Ipv6Range};
use crate::slice::view::{EventView, SliceNetworks, SliceView};
use crate::units::Millis;

/// Whom the owner serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// Every tenant of the overlay.
    Everyone,
    /// These tenants.
    Only(BTreeSet<TenantId>),
    /// Nobody.
    Nobody,
}

/// What the owner gives: the limit the host's ledger never promises beyond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// How much in all.
    pub limit: Resources,
    /// The longest term.
    pub term_max: Millis,
    /// To whom.
    pub allow: Allow,
}

/// What the host can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The categories its drivers run.
    pub categories: BTreeSet<Category>,
    /// The images it has.
    pub images: Images,
}

/// Which images a host can boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Images {
    /// Any: it fetches what it has not.
    Any,
    /// These.
    Only(BTreeSet<ImageName>),
}

/// One boot of the computer. Every persisted entry carries the boot it was written in: entries of another boot speak of
/// machines that are gone and of times on a clock that has begun anew. Whether that is so is decided entry by entry, so a daemon
/// that dies while it takes them up cannot forget it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootId([u8; 16]);

impl BootId {
    /// From whatever names the boot, such as the text of `/proc/sys/kernel/random/boot_id`.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(name).as_bytes()[..16]);
        Self(id)
    }
}

/// All an engine is told once.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The host's key pair, Ed25519; its public part is the host's name.
    pub keypair: Keypair,
    /// What the owner gives.
    pub share: Share,
    /// What the host can do.
    pub capabilities: Capabilities,
    /// Which boot of the computer this is.
    pub boot: BootId,
}

/// What was persisted, as the driver finds it after a restart.
#[derive(Debug, Clone)]
pub struct Restored {
    /// Keys and values, as given by [`Output::Persist`].
    pub entries: Vec<(String, Vec<u8>)>,
}

/// Names a command; chosen by the driver, and given back with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// What a host says of itself: a hint, signed and aged by the overlay that carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advert {
    /// What is free.
    pub free: Resources,
    /// What the owner gives in all.
    pub limit: Resources,
    /// What it runs.
    pub sandbox: bool,
    /// What it runs.
    pub vm: bool,
}

/// A host that could be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub host: HostId,
    /// Its newest known advert.
    pub advert: Option<Advert>,
}

/// What a user of this node wants.
#[derive(Debug, Clone)]
pub enum Command {
    /// Say what would be granted, and hold nothing.
    Plan {
        /// The founded slice; its coordinator must be this host.
        founded: Box<Founded>,
        /// Whom to ask; this host is not added by itself.
        candidates: Vec<Candidate>,
    },
    /// Make it.
    Create {
        /// The founded slice; its coordinator must be this host.
        founded: Box<Founded>,
        /// Whom to ask; this host is not added by itself.
        candidates: Vec<Candidate>,
        /// How long hosts hold their offers, within [`crate::limits::HOLD_MIN`] and [`crate::limits::HOLD_MAX`].
        hold: Millis,
    },
    /// Show one slice, or give an order about it.
    Order {
        /// The tenant's order; without one, only what this host takes part in can be seen.
        order: Option<SignedOrder>,
        /// Which slice; must be what the order says, when there is one.
        selector: crate::message::Selector,
        /// Hosts to ask when this one does not know the slice.
        candidates: Vec<HostId>,
    },
    /// List slices.
    List {
        /// The tenant's order to see all of his; without one, those this host's neighbours let it see.
        order: Option<SignedOrder>,
        /// Hosts to ask.
        candidates: Vec<HostId>,
    },
}

/// What a host said to one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostVerdict {
    /// The host.
    pub host: HostId,
    /// What it said.
    pub verdict: Verdict,
    /// The codes of its refusals, for scripts.
    pub codes: Vec<&'static str>,
    /// Its refusals, for people.
    pub texts: Vec<String>,
}

/// What a request would be, or was, granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Whether the least that will do fits.
    pub fits: bool,
    /// Whether less than the most was found.
    pub shrunk: bool,
    /// What each host said.
    pub hosts: Vec<HostVerdict>,
    /// Where machines would go.
    pub machines: Vec<PlannedMachine>,
    /// Each the smallest change of one field that would make it fit, the smallest first; empty when it fits.
    pub advice: Vec<Advice>,
}

/// A machine of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedMachine {
    /// Its name.
    pub name: String,
    /// Its host.
    pub host: HostId,
    /// Its category.
    pub category: Category,
    /// What it takes.
    pub size: Resources,
}

/// The answer to a [`Command`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To Plan.
    Planned(Plan),
    /// To Create: it is decided, the slice is active, hosts are starting its machines.
    Created {
        /// The slice.
        slice: Box<SliceView>,
        /// How it came about.
        plan: Plan,
    },
    /// To Plan or Create: no.
    Refused {
        /// Why, in one word.
        reason: RequestRefusal,
        /// What each host said.
        plan: Plan,
    },
    /// To Create: nobody can say yet; `slice show` will.
    Undecided {
        /// The slice.
        slice: SliceId,
        /// What each host said.
        plan: Plan,
    },
    /// To Order (see).
    Shown(Box<SliceView>),
    /// To Order (remove, extend): it is so.
    Done {
        /// The slice.
        slice: SliceId,
        /// The record's version.
        version: u64,
    },
    /// To List.
    Listed(Vec<SliceHint>),
    /// To Order: no.
    Failed(OrderFailure),
}

/// Why an order or a look failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OrderFailure {
    /// No host that was asked knows such a slice of this tenant.
    #[error("no host that was asked knows such a slice of this tenant")]
    NotFound,
    /// Several live slices have the name.
    #[error("several slices have this name: give the id instead")]
    Ambiguous(Vec<SliceId>),
    /// The stewards do not accept the order as the tenant's.
    #[error("the slice belongs to another tenant")]
    Forbidden,
    /// The slice is in a state in which this cannot be.
    #[error("the slice is {}", crate::slice::view::state_words(*.0).0)]
    WrongState(State),
    /// No majority of the stewards answered.
    #[error("no majority of the slice's stewards answered")]
    StewardsUnreachable,
    /// The order's signature is not in order.
    #[error("the order is not signed as it must be")]
    BadOrder,
    /// This node runs as many commands as it may.
    #[error("this node runs as many commands as it may")]
    TooManyCommands,
}

/// A machine to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineOrder {
    /// The slice.
    pub slice: SliceId,
    /// The slice's name.
    pub slice_name: Name,
    /// Its position in the record.
    pub machine: u8,
    /// Its name on this host: unique, `[a-z0-9-]`.
    pub id: String,
    /// Its name within the slice; its host name.
    pub hostname: String,
    /// Its kind.
    pub group: Name,
    /// Its category.
    pub category: Category,
    /// What it boots.
    pub image: ImageName,
    /// What it takes.
    pub size: Resources,
    /// What it runs after boot; nothing when empty.
    pub run: Vec<String>,
    /// Its interfaces, `eth0` first.
    pub interfaces: Vec<InterfaceOrder>,
    /// Names and addresses of all machines of the slice that share a network with it.
    pub peers: Vec<(String, Vec<std::net::IpAddr>)>,
    /// It must end by then unless [`Output::Lease`] says later.
    pub lease_until: Millis,
}

/// An interface of a machine to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceOrder {
    /// The network.
    pub network: NetworkId,
    /// The network's name.
    pub network_name: Name,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its IPv4 address and its network's range.
    pub ipv4: Option<(Ipv4Addr, Ipv4Range)>,
    /// Its IPv6 address and its network's range.
    pub ipv6: Option<(Ipv6Addr, Ipv6Range)>,
}

/// Why machines are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StopReason {
    /// The slice is over.
    SliceOver,
    /// The lease ran out before the stewards could be reached.
    LeaseLapsed,
    /// The stewards declared this host's machines lost.
    DeclaredLost,
    /// The tenant made the term longer than this host's owner gives.
    OwnersTermOver,
}

/// What the driver says of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverReport {
    /// It runs.
    Running,
    /// It could not be started, or has ended by itself; nothing of it runs any more.
    Failed(Text<DETAIL_BYTES_MAX>),
    /// It was stopped as told, or is not there; nothing of it is left.
    Gone,
}

/// What an engine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Keep this (or forget it), durably, before acting on what follows.
    Persist {
        /// The key: `[a-z0-9/]`.
        key: String,
        /// The value; none to forget it.
        value: Option<Vec<u8>>,
    },
    /// Send these bytes to another host's engine.
    Send {
        /// To whom; never this host.
        to: HostId,
        /// The message's kind, for logs.
        kind: &'static str,
        /// The bytes.
        body: Vec<u8>,
    },
    /// Answer a command.
    Answer {
        /// Which.
        command: CommandId,
        /// The answer.
        answer: Box<Answer>,
    },
    /// Start a machine; report Running or Failed. Repeating it does no harm.
    Start(Box<MachineOrder>),
    /// The machine was running before the daemon's restart: find it; report Running or Gone.
    Adopt(Box<MachineOrder>),
    /// Stop a machine and remove all of it; report Gone. Repeating it does no harm.
    Stop {
        /// The slice.
        slice: SliceId,
        /// Its position in the record.
        machine: u8,
        /// Its name on this host.
        id: String,
        /// Why.
        reason: StopReason,
    },
    /// The machines of a slice may run until then. Whatever keeps a machine while the daemon is dead ends
    /// it by itself at that time.
    Lease {
        /// The slice.
        slice: SliceId,
        /// Until when.
        until: Millis,
    },
    /// What the switch has to know of a slice; replaces what was said before.
    Networks(Box<SliceNetworks>),
    /// The switch may forget the slice.
    NetworksGone(SliceId),
    /// Something happened to a slice this host takes part in.
    Event {
        /// The slice.
        slice: SliceId,
        /// Its name.
        name: Name,
        /// What.
        event: SliceEvent,
    },
}

/// Something that happened, for logs and for `slice events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SliceEvent {
    /// This host holds room for it.
    Held,
    /// This host is bound by the record.
    Pledged,
    /// This host no longer holds room for it.
    Freed,
    /// The record changed.
    Record(EventView),
    /// This host's lease ran out.
    LeaseLapsed,
}

impl SliceEvent {
    pub(crate) fn record(event: &RecordEvent) -> Self {
        Self::Record(EventView::new(event))
    }
}
