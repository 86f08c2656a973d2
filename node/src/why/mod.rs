//! Why the way between two hosts is as it is: facts in, one cause in plain words out, with its remedy.
//!
//! ```text
//!  what A knows (Side) ─┐
//!                       ├─▶ Facts ─▶ rules, in the order of mending ─▶ Explanation { path, code, cause, remedy, also, tried }
//!  what B knows (Side) ─┘  (absent: B could not be asked, which is a fact too)
//! ```
//! | file | owns |
//! |---|---|
//! | [`facts`] | what one host can know of itself and of the way to another |
//! | [`code`] | the causes, each with a code that scripts may rely on |
//! | `rules` | when each cause holds, what is said of it, and what to do; the order in which they would have to be mended |
//! | [`explanation`] | what the person or program gets |
//!
//! Pure: no clock, no socket, no random number; [`crate::glue::meet`] gathers the facts. Both hosts' sides have one form, because a fault
//! looks different from its two ends: a one-way filter is seen only by comparing them. Nothing here is a guess about what was not measured:
//! a rule holds by facts that are there, and where they are missing [`code::Code::Unexplained`] says so.
//!
//! Order: what makes the later facts meaningless comes first (no network, a wrong clock, no membership), then what keeps two hosts from
//! talking at all, then what keeps them from talking directly, then what makes a way bad, at last what is well. The first rule that holds is the
//! cause; those that hold after it and still matter are listed beside it.

pub mod code;
pub mod explanation;
pub mod facts;
mod rules;
#[cfg(test)]
mod tests;

pub use code::Code;
pub use explanation::{Explanation, Finding, explain};
pub use facts::{
    Attempt, CandidateKind, Control, ControlFailure, Facts, LinkFact, Meeting, Names, Nat, Outcome, Path,
    RelayAttempt, RelayOutcome, Side, Standing, TopologyFact,
};
