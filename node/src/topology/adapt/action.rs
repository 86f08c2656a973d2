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
    /// The pair got less by it than around.
    Worse,
    /// Next to nothing goes over it.
    Idle,
    /// The operator allows it no more.
    NotAllowed,
    /// The traffic is not what it was when the link proved itself.
    Changed,
    /// A hotter pair has its place.
    Yielded,
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NotUp => "it did not come up",
            Self::Worse => "less goes over it than did around",
            Self::Idle => "next to nothing goes over it",
            Self::NotAllowed => "the operator allows it no more",
            Self::Changed => "the traffic is not what it was when the link proved itself",
            Self::Yielded => "a hotter pair has its place",
        })
    }
}
