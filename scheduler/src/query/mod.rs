//! Questions and orders about slices, from users of this node.
//!
//! ```text
//! Searching ──found──▶ Reading ──majority agrees, charter proves it──▶ Shown
//!     │                   │ it is to be changed
//!     │ list              ▼
//!     ▼                Ordering ──a steward did it──▶ Done            (patience over: Failed)
//!   Listed
//! ```
//! What a search finds is hearsay: anyone may answer it with slices and stewards of his own making. So nothing is shown, and
//! no order is given, before the charter was seen: the tenant's signature, the slice's id as its hash, and the stewards it names.
//!
//! Nobody keeps an index of slices: whoever keeps a record or hosts a machine answers a search for what the asker may
//! see. This node's own knowledge comes first, and spares the search when it is enough.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::context::Context;
use crate::engine::{Answer, CommandId, OrderFailure, Output};
use crate::identity::{HostId, TenantId};
use crate::limits::{COMMANDS_MAX, QUERY_PATIENCE, RETRY_AFTER, SEARCH_HOSTS_MAX, SEARCH_PATIENCE};
use crate::message::{
    Held, Message, Order, OrderKind, OrderResult, Reader, Reports, Selector, SignedOrder, SliceHint,
};
use crate::reader::{ReadOutcome, RecordReader};
use crate::slice::charter::{Founded, SignedCharter};
use crate::slice::id::SliceId;
use crate::slice::record::Record;
use crate::slice::view::SliceView;
use crate::units::Millis;

/// Once something was found, how long other hosts have to say that they know another slice of that name.
const FOUND_GRACE: Millis = Millis(150);

/// All questions under way.
#[derive(Debug, Default)]
pub(crate) struct Queries {
    queries: BTreeMap<CommandId, Query>,
}

/// A steward's answer to a reading, as far as users are concerned.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) round: u64,
    pub(crate) held: Held,
    pub(crate) reports: Reports,
    pub(crate) left: Millis,
    pub(crate) charter: Option<SignedCharter>,
}

/// What a user asks.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) order: Option<SignedOrder>,
    pub(crate) selector: Selector,
    /// Whether all that is found is wanted, instead of the one slice that is meant.
    pub(crate) list: bool,
}

#[derive(Debug)]
struct Query {
    order: Option<SignedOrder>,
    /// Who signed the order.
    tenant: Option<TenantId>,
    selector: Selector,
    goal: Goal,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    List,
    Show,
    Order,
}

#[derive(Debug)]
enum Phase {
    Searching {
        round: u64,
        waiting: BTreeSet<HostId>,
        found: BTreeMap<SliceId, SliceHint>,
        until: Millis,
    },
    Reading {
        reader: Box<RecordReader>,
        proof: Option<Box<Founded>>,
        resend_at: Millis,
        until: Millis,
    },
    Ordering {
        slice: SliceId,
        stewards: Vec<HostId>,
        turn: usize,
        round: u64,
        resend_at: Millis,
        until: Millis,
    },
}

impl Queries {
    /// A user asks. `known` is what this node knows by itself.
    pub(crate) fn begin(
        &mut self,
        ctx: &mut Context<'_>,
        command: CommandId,
        question: Question,
        known: Vec<SliceHint>,
        candidates: &[HostId],
    ) {
        use rand_core::Rng;
        let Question { order, selector, list } = question;
        if self.queries.len() >= COMMANDS_MAX {
            fail(ctx, command, OrderFailure::TooManyCommands);
            return;
        }
        let opened = match order.as_ref().map(|order| order.open(ctx.me)) {
            Some(Ok(opened)) if opened.selector == selector => Some(opened),
            None => None,
            Some(_) => return fail(ctx, command, OrderFailure::BadOrder),
        };
        let goal = match opened.as_ref().map(|opened| opened.kind) {
            _ if list => Goal::List,
            None | Some(OrderKind::See) => Goal::Show,
            Some(OrderKind::Remove | OrderKind::Extend(_)) => Goal::Order,
        };
        let of_tenant =
            |hint: &SliceHint| opened.as_ref().is_none_or(|opened: &Order| opened.tenant == hint.tenant);
        let mine =
            known.into_iter().filter(|hint| selector.selects(hint.slice, &hint.name) && of_tenant(hint));
        let mut found = BTreeMap::new();
        mine.for_each(|hint| merge(&mut found, hint));
        let round = ctx.rng.next_u64();
        let mut query = Query {
            order,
            tenant: opened.as_ref().map(|opened| opened.tenant),
            selector,
            goal,
            phase: Phase::Searching {
                round,
                waiting: BTreeSet::new(),
                found,
                until: ctx.now.plus(SEARCH_PATIENCE),
            },
        };
        if !query.knows_enough() {
            query.search(ctx, candidates);
        }
        if query.search_is_over(ctx.now) && query.conclude_search(ctx, command) {
            return;
        }
        self.queries.insert(command, query);
    }

    fn drive(
        &mut self,
        ctx: &mut Context<'_>,
        mut step: impl FnMut(&mut Query, &mut Context<'_>, CommandId) -> bool,
    ) {
        let commands: Vec<CommandId> = self.queries.keys().copied().collect();
        for command in commands {
            if self.queries.get_mut(&command).is_some_and(|query| step(query, ctx, command)) {
                self.queries.remove(&command);
            }
        }
    }

    /// A host says what it found.
    pub(crate) fn handle_found(
        &mut self,
        ctx: &mut Context<'_>,
        from: HostId,
        round: u64,
        slices: &[SliceHint],
    ) {
        self.drive(ctx, |query, ctx, command| query.found(ctx, command, from, round, slices));
    }

    /// Whether this is an answer to a reading of a user's.
    pub(crate) fn awaits(&self, from: HostId, round: u64) -> bool {
        let awaits = |query: &Query| matches!(&query.phase, Phase::Reading { reader, .. } if reader.awaits(from, round));
        self.queries.values().any(awaits)
    }

    /// A steward answered a reading.
    pub(crate) fn handle_standing(&mut self, ctx: &mut Context<'_>, from: HostId, standing: Standing) {
        self.drive(ctx, |query, ctx, command| query.standing(ctx, command, from, &standing));
    }

    /// A steward says what became of an order.
    pub(crate) fn handle_ordered(
        &mut self,
        ctx: &mut Context<'_>,
        from: HostId,
        round: u64,
        result: OrderResult,
    ) {
        self.drive(ctx, |query, ctx, command| query.ordered(ctx, command, from, round, result));
    }

    /// A host cannot be reached: a search does not wait for it.
    pub(crate) fn handle_unreachable(&mut self, ctx: &mut Context<'_>, host: HostId) {
        self.drive(ctx, |query, ctx, command| match &mut query.phase {
            Phase::Searching { waiting, .. } => {
                waiting.remove(&host);
                query.search_is_over(ctx.now) && query.conclude_search(ctx, command)
            }
            Phase::Ordering { stewards, turn, resend_at, .. } if stewards.get(*turn) == Some(&host) => {
                *resend_at = ctx.now;
                false
            }
            Phase::Reading { .. } | Phase::Ordering { .. } => false,
        });
    }

    /// What was due.
    pub(crate) fn handle_timeout(&mut self, ctx: &mut Context<'_>) {
        self.drive(ctx, |query, ctx, command| query.timeout(ctx, command));
    }

    /// When to come back.
    pub(crate) fn poll_timeout(&self) -> Option<Millis> {
        self.queries.values().map(Query::poll_timeout).min()
    }
}

fn fail(ctx: &mut Context<'_>, command: CommandId, failure: OrderFailure) {
    ctx.output(Output::Answer { command, answer: Box::new(Answer::Failed(failure)) });
}

fn merge(found: &mut BTreeMap<SliceId, SliceHint>, hint: SliceHint) {
    let known = found.entry(hint.slice).or_insert_with(|| hint.clone());
    if hint.version > known.version {
        *known = hint;
    }
}

/// Each step answers whether the question is over.
impl Query {
    fn knows_enough(&self) -> bool {
        let Phase::Searching { found, .. } = &self.phase else { return false };
        self.goal != Goal::List && found.values().any(|hint| !hint.state.is_final())
    }

    fn search(&mut self, ctx: &mut Context<'_>, candidates: &[HostId]) {
        let Phase::Searching { round, waiting, .. } = &mut self.phase else { return };
        *waiting =
            candidates.iter().filter(|host| **host != ctx.me).take(SEARCH_HOSTS_MAX).copied().collect();
        for host in waiting.iter() {
            let find =
                Message::Find { round: *round, order: self.order.clone(), selector: self.selector.clone() };
            ctx.send(*host, find);
        }
    }

    fn search_is_over(&self, now: Millis) -> bool {
        matches!(&self.phase, Phase::Searching { waiting, until, .. } if waiting.is_empty() || *until <= now)
    }

    fn found(
        &mut self,
        ctx: &mut Context<'_>,
        command: CommandId,
        from: HostId,
        answered: u64,
        slices: &[SliceHint],
    ) -> bool {
        let Phase::Searching { round, waiting, found, until } = &mut self.phase else { return false };
        if *round != answered || !waiting.remove(&from) {
            return false;
        }
        let sound =
            |hint: &&SliceHint| !hint.stewards.is_empty() && self.selector.selects(hint.slice, &hint.name);
        let selected = slices.iter().filter(sound);
        selected.take(crate::limits::HINTS_MAX).for_each(|hint| merge(found, hint.clone()));
        if self.goal != Goal::List && found.values().any(|hint| !hint.state.is_final()) {
            *until = (*until).min(ctx.now.plus(FOUND_GRACE));
        }
        self.search_is_over(ctx.now) && self.conclude_search(ctx, command)
    }

    fn conclude_search(&mut self, ctx: &mut Context<'_>, command: CommandId) -> bool {
        let Phase::Searching { found, .. } = &mut self.phase else { return false };
        let found: Vec<SliceHint> = std::mem::take(found).into_values().collect();
        if self.goal == Goal::List {
            ctx.output(Output::Answer { command, answer: Box::new(Answer::Listed(found)) });
            return true;
        }
        // A name may be used again once its slice is over: the living one is meant.
        let live = found.iter().filter(|hint| !hint.state.is_final());
        let mut meant: Vec<SliceHint> = live.cloned().collect();
        if meant.is_empty() {
            meant = found;
        }
        let one = match (meant.pop(), meant.is_empty()) {
            (Some(one), true) => one,
            (None, _) => {
                fail(ctx, command, OrderFailure::NotFound);
                return true;
            }
            (Some(one), false) => {
                let all = meant.iter().map(|hint| hint.slice).chain([one.slice]).collect();
                fail(ctx, command, OrderFailure::Ambiguous(all));
                return true;
            }
        };
        let until = ctx.now.plus(QUERY_PATIENCE);
        let reader = Box::new(RecordReader::new(one.slice, &one.stewards));
        self.phase = Phase::Reading { reader, proof: None, resend_at: ctx.now, until };
        self.read(ctx);
        false
    }

    fn read(&mut self, ctx: &mut Context<'_>) {
        let Phase::Reading { reader, resend_at, .. } = &mut self.phase else { return };
        *resend_at = ctx.now.plus(RETRY_AFTER);
        let who = self.order.clone().map_or(Reader::Looking, Reader::Tenant);
        reader.ask(ctx, &who);
    }

    fn standing(
        &mut self,
        ctx: &mut Context<'_>,
        command: CommandId,
        from: HostId,
        standing: &Standing,
    ) -> bool {
        let Phase::Reading { reader, proof, until, .. } = &mut self.phase else { return false };
        if !reader.awaits(from, standing.round) {
            return false;
        }
        if proof.is_none()
            && let Some(charter) = &standing.charter
        {
            let wanted = |founded: &Founded| {
                reader.reads(founded) && self.tenant.is_none_or(|tenant| tenant == founded.charter.tenant)
            };
            *proof = charter.clone().open().ok().filter(wanted).map(Box::new);
        }
        let held = standing.held.clone();
        let outcome = reader.handle_standing(from, standing.round, held, &standing.reports, standing.left);
        let ReadOutcome::Decided(read) = outcome else { return false };
        let proved = |record: &&Record| proof.as_ref().is_some_and(|founded| record.belongs_to(founded));
        let Some(record) = read.record.as_ref().filter(proved) else {
            fail(ctx, command, if read.forbidden { OrderFailure::Forbidden } else { OrderFailure::NotFound });
            return true;
        };
        if self.goal == Goal::Order {
            let (slice, stewards, until) = (record.slice, record.stewards.to_vec(), *until);
            let turn = usize::try_from(ctx.below(u64::try_from(stewards.len()).unwrap_or(1))).unwrap_or(0);
            self.phase = Phase::Ordering { slice, stewards, turn, round: 0, resend_at: ctx.now, until };
            self.send_order(ctx);
            return false;
        }
        let view = SliceView::new(record, &read.reports, Some(read.left));
        ctx.output(Output::Answer { command, answer: Box::new(Answer::Shown(Box::new(view))) });
        true
    }

    fn send_order(&mut self, ctx: &mut Context<'_>) {
        use rand_core::Rng;
        let Phase::Ordering { slice, stewards, turn, round, resend_at, .. } = &mut self.phase else { return };
        let (Some(steward), Some(order)) = (stewards.get(*turn), &self.order) else { return };
        *round = ctx.rng.next_u64();
        *resend_at = ctx.now.plus(ORDER_RESEND);
        ctx.send(*steward, Message::Order { slice: *slice, round: *round, order: order.clone() });
    }

    fn ordered(
        &mut self,
        ctx: &mut Context<'_>,
        command: CommandId,
        from: HostId,
        answered: u64,
        result: OrderResult,
    ) -> bool {
        let Phase::Ordering { slice, stewards, round, resend_at, .. } = &mut self.phase else { return false };
        if *round != answered || !stewards.contains(&from) {
            return false;
        }
        let answer = match result {
            OrderResult::Done(version) => Answer::Done { slice: *slice, version },
            OrderResult::WrongState(state) => Answer::Failed(OrderFailure::WrongState(state)),
            OrderResult::Forbidden => Answer::Failed(OrderFailure::Forbidden),
            // Another steward may know it, or reach the others.
            OrderResult::Unknown | OrderResult::NoMajority => {
                *resend_at = ctx.now.plus(RETRY_AFTER);
                return false;
            }
        };
        ctx.output(Output::Answer { command, answer: Box::new(answer) });
        true
    }

    fn poll_timeout(&self) -> Millis {
        match &self.phase {
            Phase::Searching { until, .. } => *until,
            Phase::Reading { resend_at, until, .. } | Phase::Ordering { resend_at, until, .. } => {
                (*resend_at).min(*until)
            }
        }
    }

    fn timeout(&mut self, ctx: &mut Context<'_>, command: CommandId) -> bool {
        match &mut self.phase {
            Phase::Searching { until, .. } => *until <= ctx.now && self.conclude_search(ctx, command),
            Phase::Reading { until, .. } | Phase::Ordering { until, .. } if *until <= ctx.now => {
                fail(ctx, command, OrderFailure::StewardsUnreachable);
                true
            }
            Phase::Reading { resend_at, .. } => {
                if *resend_at <= ctx.now {
                    self.read(ctx);
                }
                false
            }
            Phase::Ordering { stewards, turn, resend_at, .. } => {
                if *resend_at <= ctx.now {
                    *turn = (*turn + 1) % stewards.len().max(1);
                    self.send_order(ctx);
                }
                false
            }
        }
    }
}

/// How long one steward has to carry an order out before the next is asked: a change and a retry.
const ORDER_RESEND: Millis = Millis(1000);
