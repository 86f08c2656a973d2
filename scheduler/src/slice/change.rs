//! The only ways a slice's record may change.
//!
//! A change is a function from the register's value to its next value, as in CASPaxos: it is computed anew
//! by whoever proposes it, on what a majority of stewards had accepted. It never looks at a clock; whether it is
//! time is decided by who proposes.

use super::record::{AbortReason, EndReason, LossReason, Record, RecordEvent, Standing, State, What};
use crate::identity::HostId;
use crate::units::Millis;

/// A wished change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing → Forming.
    Form(Box<Record>),
    /// Forming → Active: the decision.
    Activate,
    /// Forming → Aborted.
    Abort(AbortReason),
    /// Active → Ended, or Forming → Aborted.
    End(EndReason),
    /// The machines of this host are lost.
    Lose(HostId, LossReason),
    /// The term becomes this long, if it is shorter.
    Extend(Millis),
    /// Nothing changes, but what was only half written gets decided.
    Settle,
}

/// What a change makes of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This is to be written.
    Write(Box<Record>),
    /// What was wished is so already.
    AlreadySo,
    /// It cannot be.
    Refused,
}

impl Change {
    /// Computes the next value from the present one.
    #[must_use]
    pub fn apply(&self, current: Option<&Record>, after: Millis) -> Outcome {
        let Some(record) = current else {
            return match self {
                Self::Form(first) => write(first, after, What::Formed, |_| ()),
                Self::Settle | Self::Abort(_) => Outcome::AlreadySo,
                Self::Activate | Self::End(_) | Self::Lose(..) | Self::Extend(_) => Outcome::Refused,
            };
        };
        match (self, record.state) {
            (Self::Settle, _) | (Self::Activate, State::Active) => Outcome::AlreadySo,
            (Self::Form(first), State::Forming) if first.machines == record.machines => Outcome::AlreadySo,
            (Self::Abort(_), State::Aborted(_)) | (Self::End(_), State::Ended(_) | State::Aborted(_)) => {
                Outcome::AlreadySo
            }
            (Self::Activate, State::Forming) => {
                write(record, after, What::Activated, |next| next.state = State::Active)
            }
            (Self::Abort(why), State::Forming) => abort(record, after, *why),
            (Self::End(_), State::Forming) => abort(record, after, AbortReason::Removed),
            (Self::End(why), State::Active) => end(record, after, *why),
            (Self::Lose(host, why), State::Active) => lose(record, after, *host, *why),
            (Self::Extend(term), State::Active) if *term <= record.term => Outcome::AlreadySo,
            (Self::Extend(term), State::Active) => {
                write(record, after, What::Extended(*term), |next| next.term = *term)
            }
            _ => Outcome::Refused,
        }
    }
}

fn write(record: &Record, after: Millis, what: What, edit: impl FnOnce(&mut Record)) -> Outcome {
    let mut next = record.clone();
    next.version = record.version.saturating_add(1);
    next.events.push_dropping_oldest(RecordEvent { version: next.version, after, what });
    edit(&mut next);
    Outcome::Write(Box::new(next))
}

fn abort(record: &Record, after: Millis, why: AbortReason) -> Outcome {
    write(record, after, What::Aborted(why), |next| next.state = State::Aborted(why))
}

fn end(record: &Record, after: Millis, why: EndReason) -> Outcome {
    write(record, after, What::Ended(why), |next| next.state = State::Ended(why))
}

/// A slice that has lost its last machine is over: nobody is left to renew it, and healing does not exist yet.
fn lose(record: &Record, after: Millis, host: HostId, why: LossReason) -> Outcome {
    if !record.has_member(host) {
        return Outcome::AlreadySo;
    }
    let outcome = write(record, after, What::HostLost(host, why), |next| {
        for machine in next.machines.iter_mut().filter(|machine| machine.host == host) {
            machine.standing = Standing::Lost(why);
        }
    });
    match outcome {
        Outcome::Write(next) if next.members().is_empty() => end(&next, after, EndReason::AllLost),
        outcome => outcome,
    }
}
