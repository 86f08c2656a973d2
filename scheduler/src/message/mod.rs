//! What schedulers say to each other.
//!
//! ```text
//! coordinator                hosts                          stewards
//!    │ Ask ───────────────────▶│ holds what it offers           │
//!    │◀─────────────── Verdict │                                │
//!    │ Prepare, Accept (Form) ─────────────────────────────────▶│  in parallel with:
//!    │ Pledge ────────────────▶│ durable: bound by the record   │
//!    │◀─────────────── Pledged │                                │
//!    │ Prepare, Accept (Activate) ─────────────────────────────▶│  the decision
//!    │ News ──────────────────▶│ Read ─────────────────────────▶│  and again, as long as it lives
//!    │                         │◀──────────── Standing + grants │
//! ```
//! `Cancel` frees what was not chosen. A host whose hold runs out sends `Settle`; a host that gives its machines up,
//! `Release`; stewards compare with `Heard` before they declare a host lost. Any node finds slices by `Find` and
//! gives orders by `Order`. Each message is one way; an answer is a message of its own, and whatever is lost is asked
//! again. The order of the variants of [`Message`] is the wire format: new ones go to the end.

mod order;
mod wire;

use serde::{Deserialize, Serialize};

pub use order::{Order, OrderError, OrderKind, OrderResult, Selector, SignedOrder};
pub use wire::{DecodeError, WIRE_VERSION, decode, encode, fuzz};

use crate::bounded::{List, Text};
use crate::identity::{HostId, TenantId};
use crate::limits::{
    DETAIL_BYTES_MAX, GROUPS_MAX, HINTS_MAX, MACHINES_MAX, NETWORKS_MAX, REFUSALS_MAX, STEWARDS_MAX,
};
use crate::refusal::Refusal;
use crate::register::{Accepted, Ballot};
use crate::resources::Resources;
use crate::slice::charter::{Founded, SignedCharter};
use crate::slice::grant::GrantBytes;
use crate::slice::id::{Name, NetworkId, SliceId};
use crate::slice::record::{Record, State};
use crate::slice::spec::Category;
use crate::units::Millis;

/// Whether an ask is to be followed by a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AskKind {
    /// Hold what you offer for this long at the most.
    Reserve(Millis),
    /// Only say what you would offer.
    Plan,
}

/// Machines of one kind that a host can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOffer {
    /// Which kind.
    pub group: u8,
    /// As which category.
    pub category: Category,
}

/// A host's answer to an ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What it holds (or would hold) for the slice, for any mix of the offered kinds; nothing when it refuses.
    pub offer: Resources,
    /// The kinds it can run.
    pub groups: List<GroupOffer, GROUPS_MAX>,
    /// What it has free, so that a plan can say what would make the wish fit.
    pub free: Resources,
    /// Why it refuses, the whole or some kinds.
    pub refusals: List<Refusal, REFUSALS_MAX>,
}

impl Verdict {
    /// A plain no.
    #[must_use]
    pub fn refusing(refusal: Refusal) -> Self {
        Self {
            offer: Resources::NONE,
            groups: List::new(),
            free: Resources::NONE,
            refusals: List::first_of([refusal]),
        }
    }

    /// Whether it offers anything.
    #[must_use]
    pub fn offers(&self) -> bool {
        self.offer.machines > 0 && !self.groups.is_empty()
    }
}

/// Why an acceptor refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AcceptorRefusal {
    /// It promised a higher ballot.
    Promised(Ballot),
    /// It keeps as many registers as it can.
    Full,
    /// The value declares a host lost that has renewed its lease with this acceptor.
    HostAlive(HostId),
    /// The asker may not write this register, or the acceptor is no steward of it.
    NotAllowed,
}

/// How a machine fares, as its host says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Its host has not begun.
    Placed,
    /// It is being started.
    Starting,
    /// It runs.
    Running,
    /// It could not be started, or died.
    Failed(Text<DETAIL_BYTES_MAX>),
    /// It has been stopped.
    Stopped,
}

/// The state of the machine at a position of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineReport {
    /// Its position in the record.
    pub machine: u8,
    /// How it fares.
    pub state: MachineState,
}

/// Machine states of one slice.
pub type Reports = List<MachineReport, MACHINES_MAX>;

/// Who reads a record, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reader {
    /// A member host renews its lease and says how its machines fare.
    Renewing(Reports),
    /// A host that takes part looks, without renewing.
    Looking,
    /// Someone shows an order of the tenant.
    Tenant(SignedOrder),
}

/// What an acceptor has in a register, as far as the reader needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// It does not know the slice.
    Unknown,
    /// It knows the slice, and nothing was accepted.
    Empty,
    /// The same as the reader said it knows.
    Same(Ballot),
    /// This.
    Value(Box<Accepted<Record>>),
    /// The reader may not see it.
    Forbidden,
}

/// A slice someone found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceHint {
    /// Its id.
    pub slice: SliceId,
    /// Its name.
    pub name: Name,
    /// Its tenant.
    pub tenant: TenantId,
    /// Who keeps its record.
    pub stewards: List<HostId, STEWARDS_MAX>,
    /// Where it stood when the finder last looked.
    pub state: State,
    /// The record's version then.
    pub version: u64,
}

impl SliceHint {
    /// Whether it is another slice of the same tenant and name that is active. One that is only forming does not count: it may be what
    /// a failed attempt has left for its stewards to clear away.
    #[must_use]
    pub fn is_living_namesake_of(&self, founded: &Founded) -> bool {
        let charter = &founded.charter;
        let namesake = self.tenant == charter.tenant && self.name == charter.spec.name;
        namesake && self.slice != founded.slice && self.state == State::Active
    }
}

/// Grants of one host, one for each of its networks.
pub type Grants = List<(NetworkId, GrantBytes), NETWORKS_MAX>;

/// Everything schedulers say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// A coordinator asks a host for room, for at most so many machines.
    Ask {
        /// The slice.
        charter: Box<SignedCharter>,
        /// For how many machines.
        machines: u16,
        /// To hold, or only to say.
        kind: AskKind,
    },
    /// A host's answer.
    Answer {
        /// The slice.
        slice: SliceId,
        /// Whether it holds what it offers.
        kind: AskKind,
        /// What it says.
        verdict: Verdict,
    },
    /// The coordinator will not decide for this slice with this host: it may forget it.
    Cancel {
        /// The slice.
        slice: SliceId,
    },
    /// The coordinator wants a host to be bound by the record for these machines, together this large.
    Pledge {
        /// The slice.
        slice: SliceId,
        /// How many machines.
        machines: u16,
        /// What they take together.
        taken: Resources,
    },
    /// The host is bound, or is not.
    Pledged {
        /// The slice.
        slice: SliceId,
        /// Why not, if not.
        refusal: Option<Refusal>,
    },
    /// The record has changed: read it.
    News {
        /// The slice.
        slice: SliceId,
    },
    /// Register: a proposer asks for a promise.
    Prepare {
        /// The slice.
        charter: Box<SignedCharter>,
        /// The attempt.
        ballot: Ballot,
    },
    /// Register: an acceptor promises.
    Promise {
        /// The slice.
        slice: SliceId,
        /// The attempt.
        ballot: Ballot,
        /// What it had accepted.
        accepted: Option<Box<Accepted<Record>>>,
    },
    /// Register: a proposer asks to accept.
    Accept {
        /// The attempt.
        ballot: Ballot,
        /// The value; names its slice.
        record: Box<Record>,
    },
    /// Register: an acceptor accepted.
    Accepted {
        /// The slice.
        slice: SliceId,
        /// The attempt.
        ballot: Ballot,
    },
    /// Register: an acceptor refuses.
    Refused {
        /// The slice.
        slice: SliceId,
        /// The attempt.
        ballot: Ballot,
        /// Why.
        refusal: AcceptorRefusal,
    },
    /// Someone reads a record.
    Read {
        /// The slice.
        slice: SliceId,
        /// Tells this question from others.
        round: u64,
        /// The ballot whose value the reader already has.
        known: Option<Ballot>,
        /// Who, and what for.
        reader: Reader,
    },
    /// A steward's answer to a reader.
    Standing {
        /// The slice.
        slice: SliceId,
        /// The question.
        round: u64,
        /// What it has.
        held: Held,
        /// What hosts told it of the machines.
        reports: Reports,
        /// For a renewing member: its grants.
        grants: Grants,
        /// How much of the term is left, as this steward counts.
        left: Millis,
        /// For a reader who has no part in the slice: what proves that it is the slice that was looked for, and its
        /// stewards are who they say they are.
        charter: Option<Box<SignedCharter>>,
    },
    /// A host that must know, asks a steward to get the register settled, and aborted if it is still forming.
    Settle {
        /// The slice.
        charter: Box<SignedCharter>,
        /// Whether to abort what is not decided: the asker's hold has run out.
        abort: bool,
    },
    /// A host has stopped its machines of a slice and will not renew again.
    Release {
        /// The slice.
        slice: SliceId,
    },
    /// A steward asks another how long ago each host of a slice renewed.
    Heard {
        /// The slice.
        slice: SliceId,
        /// Tells this question from others.
        round: u64,
    },
    /// How long ago each member host renewed.
    HeardAgo {
        /// The slice.
        slice: SliceId,
        /// The question.
        round: u64,
        /// Host and age.
        ages: List<(HostId, Millis), MACHINES_MAX>,
    },
    /// Someone looks for slices.
    Find {
        /// Tells this question from others.
        round: u64,
        /// By which right; without one, only what the asker takes part in.
        order: Option<SignedOrder>,
        /// Which.
        selector: Selector,
    },
    /// What was found.
    Found {
        /// The question.
        round: u64,
        /// The slices.
        slices: List<SliceHint, HINTS_MAX>,
    },
    /// A tenant's order to a steward.
    Order {
        /// The slice.
        slice: SliceId,
        /// Tells this question from others.
        round: u64,
        /// The order.
        order: SignedOrder,
    },
    /// What became of it.
    Ordered {
        /// The slice.
        slice: SliceId,
        /// The question.
        round: u64,
        /// What became of it.
        result: OrderResult,
    },
}

impl Message {
    /// A short name of its kind, for counters and logs.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Ask { .. } => "ask",
            Self::Answer { .. } => "answer",
            Self::Cancel { .. } => "cancel",
            Self::Pledge { .. } => "pledge",
            Self::Pledged { .. } => "pledged",
            Self::News { .. } => "news",
            Self::Prepare { .. } => "prepare",
            Self::Promise { .. } => "promise",
            Self::Accept { .. } => "accept",
            Self::Accepted { .. } => "accepted",
            Self::Refused { .. } => "refused",
            Self::Read { .. } => "read",
            Self::Standing { .. } => "standing",
            Self::Settle { .. } => "settle",
            Self::Release { .. } => "release",
            Self::Heard { .. } => "heard",
            Self::HeardAgo { .. } => "heard_ago",
            Self::Find { .. } => "find",
            Self::Found { .. } => "found",
            Self::Order { .. } => "order",
            Self::Ordered { .. } => "ordered",
        }
    }
}
