//! The only ways a slice's record may change.
//!
//! A change is a function from the register's value to its next value, as in CASPaxos: it is computed anew
//! by whoever proposes it, on what a majority of stewards had accepted. It never looks at a clock; whether it is
//! time is decided by who proposes.

use super::charter::Founded;
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
    /// Nothing or Forming → Aborted.
    Abort(AbortReason),
    /// Active → Ended, or Forming → Aborted.
    End(EndReason),
    /// The machines of these hosts are lost.
    Lose(Vec<HostId>, LossReason),
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
    pub fn apply(&self, founded: &Founded, current: Option<&Record>, after: Millis) -> Outcome {
        let Some(record) = current else {
            return match self {
                Self::Form(first) => write(first, after, What::Formed, |_| ()),
                // Nothing is there, but a coordinator may be about to write: only a written abort stops it.
                Self::Abort(why) => abort(&Record::forming(founded, &[]), after, *why),
                Self::Settle => Outcome::AlreadySo,
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
            (Self::Lose(hosts, why), State::Active) => lose(record, after, hosts, *why),
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
fn lose(record: &Record, after: Millis, hosts: &[HostId], why: LossReason) -> Outcome {
    let mut present = record.clone();
    let mut outcome = Outcome::AlreadySo;
    for host in hosts.iter().filter(|host| record.has_member(**host)) {
        outcome = write(&present, after, What::HostLost(*host, why), |next| {
            for machine in next.machines.iter_mut().filter(|machine| machine.host == *host) {
                machine.standing = Standing::Lost(why);
            }
        });
        if let Outcome::Write(next) = &outcome {
            present = (**next).clone();
        }
    }
    match outcome {
        Outcome::Write(next) if next.members().is_empty() => end(&next, after, EndReason::AllLost),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Resources;
    use crate::slice::record::Assignment;
    use crate::slice::spec::Category;
    use crate::specimen::{founded, host};

    fn forming() -> Record {
        let assignment = |number, byte| Assignment {
            group: 0,
            number,
            host: host(byte),
            category: Category::Sandbox,
            size: Resources { machines: 1, ..Resources::NONE },
        };
        Record::forming(&founded("count = 2"), &[assignment(0, 1), assignment(1, 2)])
    }

    fn written(outcome: Outcome) -> Record {
        match outcome {
            Outcome::Write(record) => *record,
            other => panic!("{other:?}"),
        }
    }

    fn apply(change: &Change, record: Option<&Record>) -> Outcome {
        change.apply(&founded("count = 2"), record, Millis::ZERO)
    }

    #[test]
    fn the_decision_is_made_once_and_either_way() {
        let formed = written(apply(&Change::Form(Box::new(forming())), None));
        let active = written(apply(&Change::Activate, Some(&formed)));
        assert_eq!(apply(&Change::Activate, Some(&active)), Outcome::AlreadySo);
        assert_eq!(apply(&Change::Abort(AbortReason::HoldOver), Some(&active)), Outcome::Refused);
        let aborted = written(apply(&Change::Abort(AbortReason::HoldOver), Some(&formed)));
        assert_eq!(apply(&Change::Activate, Some(&aborted)), Outcome::Refused);
        assert_eq!(apply(&Change::Form(Box::new(forming())), Some(&aborted)), Outcome::Refused);
    }

    #[test]
    fn an_abort_of_nothing_is_written_so_that_nothing_can_be_formed_later() {
        let aborted = written(apply(&Change::Abort(AbortReason::HoldOver), None));
        assert_eq!(aborted.state, State::Aborted(AbortReason::HoldOver));
        assert_eq!(apply(&Change::Form(Box::new(forming())), Some(&aborted)), Outcome::Refused);
    }

    #[test]
    fn losing_hosts_marks_their_machines_and_the_last_ends_the_slice() {
        let active = Record { state: State::Active, ..forming() };
        let reason = LossReason::LeaseLapsed;
        let one = written(apply(&Change::Lose(vec![host(1), host(7)], reason), Some(&active)));
        assert_eq!((one.version, one.members()), (1, vec![host(2)]));
        assert_eq!(one.events[0].what, What::HostLost(host(1), reason));
        assert_eq!(apply(&Change::Lose(vec![host(1)], reason), Some(&one)), Outcome::AlreadySo);
        let both = written(apply(&Change::Lose(vec![host(1), host(2)], reason), Some(&active)));
        assert_eq!((both.state, both.events.len()), (State::Ended(EndReason::AllLost), 3));
    }

    #[test]
    fn a_term_only_grows() {
        let active = Record { state: State::Active, ..forming() };
        let longer = Millis(active.term.0 + 1);
        assert_eq!(written(apply(&Change::Extend(longer), Some(&active))).term, longer);
        assert_eq!(apply(&Change::Extend(Millis(1)), Some(&active)), Outcome::AlreadySo);
        assert_eq!(apply(&Change::Extend(longer), Some(&forming())), Outcome::Refused);
    }
}
