//! Changes this node is writing into registers.
//!
//! A change runs from its first question to its decision, through lost messages (the same question again to whoever
//! has not answered), refusals (a higher ballot after a random wait) and up to its deadline. Then its owner is told
//! what came of it. Changes of one slice by several nodes at once are the register's business, not this room's.

use std::sync::Arc;

use super::context::Context;
use crate::identity::HostId;
use crate::limits::{CHANGE_PATIENCE, CHANGES_MAX, RETRY_AFTER};
use crate::message::{AcceptorRefusal, Message};
use crate::register::{Accepted, Ballot, Proposer};
use crate::slice::change::{Change, Outcome};
use crate::slice::charter::Founded;
use crate::slice::id::SliceId;
use crate::slice::record::Record;
use crate::units::Millis;

/// Who wanted a change, and has to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The request that is making this slice.
    Coordinator,
    /// This steward's own watch over the slice.
    Watch,
    /// A host wants to know what is decided; it hears the news even if it is no member of what is written.
    Settle {
        /// The host.
        asker: HostId,
    },
    /// A tenant's order that came from this node.
    Order {
        /// The node.
        asker: HostId,
        /// Its question.
        round: u64,
    },
}

/// What a change came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It was written.
    Written,
    /// It was so already.
    AlreadySo,
    /// It could not be; the value shows why.
    Refused,
}

/// A change that is over.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub(crate) founded: Arc<Founded>,
    pub(crate) owner: Owner,
    pub(crate) change: Change,
    /// The decided value and what became of the change; none when no majority answered in time.
    pub(crate) decided: Option<(Applied, Option<Record>)>,
}

#[derive(Debug)]
struct Run {
    founded: Arc<Founded>,
    owner: Owner,
    change: Change,
    /// When it began, and for how long this node had known of the slice then: events count from there.
    began: Millis,
    known_for: Millis,
    proposer: Proposer<HostId, Record>,
    applied: Applied,
    /// The highest ballot that refused one of ours.
    floor: Ballot,
    next: Next,
    deadline: Millis,
}

/// What a run does when its time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Asks again whoever has not answered.
    Resend(Millis),
    /// Begins anew with a higher ballot.
    Retry(Millis),
}

impl Next {
    const fn at(self) -> Millis {
        match self {
            Self::Resend(at) | Self::Retry(at) => at,
        }
    }
}

/// All changes under way.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    runs: Vec<Run>,
}

impl Changes {
    /// Begins a change. When too many are under way it is not begun; whoever wants it looks again later.
    pub(crate) fn start(
        &mut self,
        ctx: &mut Context<'_>,
        founded: Arc<Founded>,
        change: Change,
        owner: Owner,
        known_for: Millis,
    ) -> bool {
        if self.runs.len() >= CHANGES_MAX {
            ctx.count("change_table_full");
            return false;
        }
        let deadline = ctx.now.plus(CHANGE_PATIENCE);
        let mut run = Run {
            proposer: Proposer::new(Ballot::ZERO, 0),
            applied: Applied::Refused,
            floor: Ballot::ZERO,
            next: Next::Retry(ctx.now),
            founded,
            owner,
            change,
            began: ctx.now,
            known_for,
            deadline,
        };
        run.attempt(ctx);
        self.runs.push(run);
        true
    }

    /// Whether this steward is already changing this slice by itself.
    pub(crate) fn watches(&self, slice: SliceId) -> bool {
        let own = |owner| matches!(owner, Owner::Watch | Owner::Settle { .. });
        self.runs.iter().any(|run| run.founded.slice == slice && own(run.owner))
    }

    /// Whether this owner already has a change under way for this slice.
    pub(crate) fn has(&self, slice: SliceId, owner: Owner) -> bool {
        self.runs.iter().any(|run| run.founded.slice == slice && run.owner == owner)
    }

    /// An acceptor promised.
    pub(crate) fn handle_promise(
        &mut self,
        ctx: &mut Context<'_>,
        from: HostId,
        slice: SliceId,
        ballot: Ballot,
        accepted: Option<Accepted<Record>>,
    ) -> Option<Finished> {
        let index = self.find(from, slice, ballot)?;
        let run = &mut self.runs[index];
        if accepted.as_ref().is_some_and(|accepted| !accepted.value.belongs_to(&run.founded)) {
            ctx.count("promise_foreign_record");
            return None;
        }
        let current = run.proposer.promised(from, accepted)?;
        let after = run.known_for.plus(ctx.now.since(run.began));
        let (applied, value) = match run.change.apply(&run.founded, current.as_ref(), after) {
            Outcome::Write(next) => (Applied::Written, Some(*next)),
            Outcome::AlreadySo => (Applied::AlreadySo, current),
            Outcome::Refused => (Applied::Refused, current),
        };
        run.applied = applied;
        match value {
            // What a majority had accepted may not be decided yet: writing it again under our ballot decides it.
            Some(value) => {
                run.proposer.propose(value);
                run.next = Next::Resend(ctx.now.plus(RETRY_AFTER));
                run.ask(ctx);
                None
            }
            None => Some(self.finish(index, Some((applied, None)))),
        }
    }

    /// An acceptor accepted.
    pub(crate) fn handle_accepted(
        &mut self,
        from: HostId,
        slice: SliceId,
        ballot: Ballot,
    ) -> Option<Finished> {
        let index = self.find(from, slice, ballot)?;
        let run = &mut self.runs[index];
        let value = run.proposer.accepted(from)?;
        let applied = run.applied;
        Some(self.finish(index, Some((applied, Some(value)))))
    }

    /// An acceptor refused.
    pub(crate) fn handle_refused(
        &mut self,
        ctx: &mut Context<'_>,
        from: HostId,
        slice: SliceId,
        ballot: Ballot,
        refusal: AcceptorRefusal,
    ) {
        let Some(index) = self.find(from, slice, ballot) else { return };
        let run = &mut self.runs[index];
        match refusal {
            AcceptorRefusal::Promised(higher) => {
                ctx.count("change_outbid");
                run.floor = run.floor.max(higher);
                run.next = Next::Retry(ctx.now.plus(Millis(5 + ctx.below(BACKOFF_MAX.0))));
            }
            AcceptorRefusal::HostAlive(_) => ctx.count("change_host_alive"),
            AcceptorRefusal::Full => ctx.count("change_steward_full"),
            AcceptorRefusal::NotAllowed => ctx.count("change_not_allowed"),
        }
    }

    fn find(&self, from: HostId, slice: SliceId, ballot: Ballot) -> Option<usize> {
        self.runs.iter().position(|run| {
            let waits = matches!(run.next, Next::Resend(_));
            let steward = run.founded.charter.stewards.contains(&from);
            waits && steward && run.founded.slice == slice && run.proposer.ballot() == ballot
        })
    }

    fn finish(&mut self, index: usize, decided: Option<(Applied, Option<Record>)>) -> Finished {
        let run = self.runs.swap_remove(index);
        Finished { founded: run.founded, owner: run.owner, change: run.change, decided }
    }

    /// What was due.
    pub(crate) fn handle_timeout(&mut self, ctx: &mut Context<'_>) -> Vec<Finished> {
        let mut finished = Vec::new();
        for index in (0..self.runs.len()).rev() {
            let run = &mut self.runs[index];
            if run.deadline <= ctx.now {
                finished.push(self.finish(index, None));
            } else if run.next.at() <= ctx.now {
                match run.next {
                    Next::Retry(_) => run.attempt(ctx),
                    Next::Resend(_) => {
                        run.next = Next::Resend(ctx.now.plus(RETRY_AFTER));
                        run.ask(ctx);
                    }
                }
            }
        }
        finished
    }

    /// When to come back.
    pub(crate) fn poll_timeout(&self) -> Option<Millis> {
        self.runs.iter().map(|run| run.next.at().min(run.deadline)).min()
    }
}

/// How long an outbid proposer waits at the most: long enough that one of two gets through, on a slow link too.
const BACKOFF_MAX: Millis = Millis(150);

impl Run {
    /// Begins (anew) with a ballot nobody else has.
    fn attempt(&mut self, ctx: &mut Context<'_>) {
        use rand_core::Rng;
        let ballot = Ballot::above(self.floor, ctx.rng.next_u64());
        self.floor = ballot;
        self.proposer = Proposer::new(ballot, self.founded.charter.stewards.len());
        self.next = Next::Resend(ctx.now.plus(RETRY_AFTER));
        self.ask(ctx);
    }

    /// Sends the present question to whoever has not answered it.
    fn ask(&self, ctx: &mut Context<'_>) {
        let ballot = self.proposer.ballot();
        let waiting = self.founded.charter.stewards.iter().filter(|steward| self.proposer.waits_for(steward));
        for steward in waiting {
            let message = match self.proposer.value() {
                None => Message::Prepare { charter: Box::new(self.founded.signed.clone()), ballot },
                Some(record) => Message::Accept { ballot, record: Box::new(record.clone()) },
            };
            ctx.send(*steward, message);
        }
    }
}
