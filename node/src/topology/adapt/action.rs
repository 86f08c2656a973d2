//! What adaptation decides, and why.
//!
//! Owns: the words for it. Refuses to know: when it is so.

use std::fmt;

use super::Pair;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make a direct link; tell [`Adapter::up`](super::Adapter::up) or [`Adapter::failed`](super::Adapter::failed).
    Add(Pair),
    /// Let it go: its traffic goes over others again.
    Drop(Pair, Why),
}

/// Why a link goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It did not come up in time.
    NotUp,
    /// The pair got less by it than around: so many hundredths.
    Worse {
        /// Of what it got around.
        percent: u32,
    },
    /// Next to nothing goes over it.
    Idle,
    /// The operator allows it no more.
    NotAllowed,
    /// The traffic is not what it was when the link proved itself.
    Changed {
        /// The pair's own, in hundredths of what it was.
        own_percent: u32,
        /// That of all others around.
        rest_percent: u32,
    },
    /// A hotter pair has its place.
    Yielded,
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUp => out.write_str("it did not come up"),
            Self::Worse { percent } => write!(out, "{percent} % of what went around goes over it"),
            Self::Idle => out.write_str("next to nothing goes over it"),
            Self::NotAllowed => out.write_str("the operator allows it no more"),
            Self::Changed { own_percent, rest_percent } => write!(
                out,
                "the traffic is not what it was when the link proved itself: the pair has {own_percent} % of that, others have {rest_percent} % around"
            ),
            Self::Yielded => out.write_str("a hotter pair has its place"),
        }
    }
}
