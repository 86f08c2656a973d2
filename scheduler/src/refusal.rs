//! Why a host, or the request as a whole, says no.
//!
//! Each reason has a code that scripts may rely on and a text for people.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bounded::Text;
use crate::limits::DETAIL_BYTES_MAX;
use crate::resources::Resource;
use crate::slice::id::ImageName;
use crate::slice::spec::Category;
use crate::units::Millis;

/// Why a host refuses an ask.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Too little of a resource is free for even one machine.
    NoCapacity {
        /// Of what.
        resource: Resource,
        /// How much is missing, in thousandths of a CPU, bytes or machines.
        missing: u64,
    },
    /// The owner gives nothing to this tenant.
    Policy,
    /// The host cannot run this category.
    CategoryUnsupported {
        /// Which.
        category: Category,
    },
    /// The host has no such image.
    ImageUnknown {
        /// Which.
        image: ImageName,
    },
    /// The owner gives nothing for that long.
    TermTooLong {
        /// The longest term he gives.
        longest: Millis,
    },
    /// The coordinator already has as many undecided holds here as one may have.
    TooManyHolds,
    /// The host takes part in as many slices as it can keep track of.
    HostFull,
    /// The tenant's signature or the description is not in order.
    BadCharter,
    /// The hold had run out, or was never there.
    HoldOver,
    /// The host did not answer in time.
    NoAnswer,
    /// The host cannot be reached.
    Unreachable,
    /// The host knows a living slice of this tenant with this name.
    NameTaken,
}

impl Refusal {
    /// The code scripts may rely on.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoCapacity { .. } => "no_capacity",
            Self::Policy => "policy",
            Self::CategoryUnsupported { .. } => "category_unsupported",
            Self::ImageUnknown { .. } => "image_unknown",
            Self::TermTooLong { .. } => "term_too_long",
            Self::TooManyHolds => "too_many_holds",
            Self::HostFull => "host_full",
            Self::BadCharter => "bad_charter",
            Self::HoldOver => "hold_over",
            Self::NoAnswer => "no_answer",
            Self::Unreachable => "unreachable",
            Self::NameTaken => "name_taken",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCapacity { resource, missing } => {
                write!(f, "no capacity: {} of {resource} missing for one machine", resource.text(*missing))
            }
            Self::Policy => f.write_str("the owner's policy gives nothing to this tenant"),
            Self::CategoryUnsupported { category } => write!(f, "the host cannot run category {category}"),
            Self::ImageUnknown { image } => write!(f, "the host has no image \"{image}\""),
            Self::TermTooLong { longest } => write!(f, "the owner gives at most {longest}"),
            Self::TooManyHolds => f.write_str("this coordinator has too many undecided requests at the host"),
            Self::HostFull => f.write_str("the host takes part in too many slices"),
            Self::BadCharter => f.write_str("the signed description is not in order"),
            Self::HoldOver => f.write_str("the hold had run out"),
            Self::NoAnswer => f.write_str("the host did not answer in time"),
            Self::Unreachable => f.write_str("the host cannot be reached"),
            Self::NameTaken => f.write_str("the host knows a living slice of this tenant with this name"),
        }
    }
}

/// Why a request as a whole was not granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestRefusal {
    /// A part of the wish is understood but not there yet.
    NotYet {
        /// The field.
        field: Text<DETAIL_BYTES_MAX>,
        /// What to write instead.
        remedy: Text<DETAIL_BYTES_MAX>,
    },
    /// The hosts together have no room for the least that will do.
    NoCapacity,
    /// No host was known to ask.
    NoCandidates,
    /// A host took its offer back while the request was being decided.
    HostWithdrew,
    /// The holds ran out before everything was decided.
    HoldOver,
    /// No majority of the stewards answered.
    StewardsUnreachable,
    /// The tenant has a living slice of this name.
    NameTaken,
    /// This node runs as many commands as it may.
    TooManyCommands,
}

impl RequestRefusal {
    /// The code scripts may rely on.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotYet { .. } => "not_yet",
            Self::NoCapacity => "no_capacity",
            Self::NoCandidates => "no_candidates",
            Self::HostWithdrew => "host_withdrew",
            Self::HoldOver => "hold_over",
            Self::StewardsUnreachable => "stewards_unreachable",
            Self::NameTaken => "name_taken",
            Self::TooManyCommands => "too_many_commands",
        }
    }
}

impl fmt::Display for RequestRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYet { field, remedy } => write!(f, "{field}: {remedy}"),
            Self::NoCapacity => f.write_str("the hosts together have no room for the least that will do"),
            Self::NoCandidates => f.write_str("no host is known to ask"),
            Self::HostWithdrew => f.write_str("a host took its offer back"),
            Self::HoldOver => f.write_str("the holds ran out before everything was decided"),
            Self::StewardsUnreachable => f.write_str("no majority of the slice's stewards answered"),
            Self::NameTaken => {
                f.write_str("you have a living slice of this name: remove it, or choose another name")
            }
            Self::TooManyCommands => f.write_str("this node runs as many commands as it may"),
        }
    }
}
