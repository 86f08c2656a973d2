//! One request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::changes::{Applied, Changes, Finished, Owner};
use crate::engine::context::Context;
use crate::engine::{Answer, Candidate, CommandId};
use crate::identity::HostId;
use crate::limits::{ASK_PATIENCE, HOSTS_ASKED_MAX, RETRY_AFTER, ROUNDS_MAX};
use crate::message::{AskKind, Message, Reports, Verdict};
use crate::placement::{Bin, Layout, choose_candidates, lay_out, places_wanted};
use crate::refusal::{Refusal, RequestRefusal};
use crate::slice::change::Change;
use crate::slice::charter::Founded;
use crate::slice::record::{AbortReason, Assignment, Record, State};
use crate::slice::spec::Placement;
use crate::slice::view::SliceView;
use crate::units::Millis;

/// Once offers fit, how long a spread-out gang waits for hosts that have not answered, so that the nearest hosts do
/// not get everything.
const SPREAD_GRACE: Millis = Millis(150);

#[derive(Debug)]
pub(super) struct Request {
    pub(super) command: CommandId,
    pub(super) founded: Arc<Founded>,
    pub(super) candidates: Vec<Candidate>,
    pub(super) kind: AskKind,
    pub(super) began: Millis,
    pub(super) rounds: u32,
    pub(super) asked: BTreeMap<HostId, Asked>,
    pub(super) phase: Phase,
}

#[derive(Debug)]
pub(super) struct Asked {
    machines: u16,
    pub(super) verdict: Option<Verdict>,
    resend_at: Millis,
}

#[derive(Debug)]
pub(super) enum Phase {
    Asking { until: Millis },
    Pledging { layout: Layout, waiting: BTreeSet<HostId>, formed: bool, resend_at: Millis, until: Millis },
    Deciding { layout: Layout },
}

/// Whether a request goes on.
pub(super) enum Next {
    Continue,
    Over(Answer),
}

impl Request {
    /// Asks candidates that were not asked yet. Says whether there were any.
    pub(super) fn ask_more(&mut self, ctx: &mut Context<'_>) -> bool {
        let spec = &self.founded.charter.spec;
        let fresh: Vec<Candidate> = self
            .candidates
            .iter()
            .filter(|candidate| !self.asked.contains_key(&candidate.host))
            .cloned()
            .collect();
        let room = HOSTS_ASKED_MAX.saturating_sub(self.asked.len());
        let places = places_wanted(spec.machines_max());
        let chosen = choose_candidates(spec, &fresh, places, room, ctx.rng);
        if chosen.is_empty() || self.rounds >= ROUNDS_MAX {
            return false;
        }
        self.rounds += 1;
        let resend_at = ctx.now.plus(RETRY_AFTER);
        for (host, places) in chosen {
            let machines = u16::try_from(places).unwrap_or(u16::MAX);
            self.asked.insert(host, Asked { machines, verdict: None, resend_at });
            self.send_ask(ctx, host, machines);
        }
        self.phase = Phase::Asking { until: ctx.now.plus(ASK_PATIENCE) };
        true
    }

    fn send_ask(&self, ctx: &mut Context<'_>, host: HostId, machines: u16) {
        let charter = Box::new(self.founded.signed.clone());
        ctx.send(host, Message::Ask { charter, machines, kind: self.kind });
    }

    pub(super) fn answered(
        &mut self,
        ctx: &mut Context<'_>,
        changes: &mut Changes,
        from: HostId,
        kind: AskKind,
        verdict: Verdict,
    ) -> Next {
        let Some(asked) = self.asked.get_mut(&from).filter(|_| kind == self.kind) else {
            return Next::Continue;
        };
        let known = asked.verdict.as_ref().is_some_and(Verdict::offers);
        let Phase::Asking { until } = self.phase else {
            // Too late: the layout is made. What this host holds is not needed, unless it is part of it.
            if !known && verdict.offers() {
                ctx.send(from, Message::Cancel { slice: self.founded.slice });
            }
            return Next::Continue;
        };
        if known {
            return Next::Continue;
        }
        asked.verdict = Some(verdict);
        if self.asked.values().all(|asked| asked.verdict.is_some()) {
            return self.conclude_asking(ctx, changes);
        }
        if self.full_layout().is_some() {
            match self.founded.charter.spec.placement {
                Placement::Spread => {
                    self.phase = Phase::Asking { until: until.min(ctx.now.plus(SPREAD_GRACE)) };
                }
                Placement::Pack => return self.conclude_asking(ctx, changes),
            }
        }
        Next::Continue
    }

    pub(super) fn unreachable(&mut self, ctx: &mut Context<'_>, changes: &mut Changes, host: HostId) -> Next {
        let unanswered = |asked: &&mut Asked| asked.verdict.is_none();
        match (&self.phase, self.asked.get_mut(&host).filter(unanswered)) {
            (Phase::Asking { .. }, Some(asked)) => {
                asked.verdict = Some(Verdict::refusing(Refusal::Unreachable));
                let all = self.asked.values().all(|asked| asked.verdict.is_some());
                if all { self.conclude_asking(ctx, changes) } else { Next::Continue }
            }
            _ => Next::Continue,
        }
    }

    fn bins(&self) -> Vec<Bin> {
        let offers = self.asked.iter().filter_map(|(host, asked)| Some((host, asked.verdict.as_ref()?)));
        offers
            .filter(|(_, verdict)| verdict.offers())
            .map(|(host, verdict)| Bin::offered(*host, verdict))
            .collect()
    }

    fn full_layout(&self) -> Option<Layout> {
        lay_out(&self.founded.charter.spec, &self.bins()).filter(|layout| !layout.shrunk)
    }

    /// All have answered, or time is up: more is asked, or it is laid out, or refused.
    fn conclude_asking(&mut self, ctx: &mut Context<'_>, changes: &mut Changes) -> Next {
        let refused_for_name = |asked: &Asked| {
            asked.verdict.as_ref().is_some_and(|verdict| verdict.refusals.contains(&Refusal::NameTaken))
        };
        if self.asked.values().any(refused_for_name) {
            return self.refuse(ctx, RequestRefusal::NameTaken);
        }
        let layout = lay_out(&self.founded.charter.spec, &self.bins());
        if layout.as_ref().is_none_or(|layout| layout.shrunk) && self.ask_more(ctx) {
            return Next::Continue;
        }
        for asked in self.asked.values_mut() {
            asked.verdict.get_or_insert_with(|| Verdict::refusing(Refusal::NoAnswer));
        }
        match (layout, self.kind) {
            (layout, AskKind::Plan) => Next::Over(Answer::Planned(self.plan(layout.as_ref()))),
            (Some(layout), AskKind::Reserve(hold)) => {
                self.begin_pledging(ctx, changes, layout, hold);
                Next::Continue
            }
            (None, AskKind::Reserve(_)) => self.refuse(ctx, RequestRefusal::NoCapacity),
        }
    }

    fn begin_pledging(&mut self, ctx: &mut Context<'_>, changes: &mut Changes, layout: Layout, hold: Millis) {
        let slice = self.founded.slice;
        let record = Record::forming(&self.founded, &layout.assignments);
        let members: BTreeSet<HostId> = record.members().into_iter().collect();
        for (host, asked) in &self.asked {
            // Also those that did not answer: their holds may be on their way.
            let holds = asked
                .verdict
                .as_ref()
                .is_none_or(|verdict| verdict.offers() || verdict.refusals.contains(&Refusal::NoAnswer));
            if holds && !members.contains(host) {
                ctx.send(*host, Message::Cancel { slice });
            }
        }
        let change = Change::Form(Box::new(record));
        if !changes.start(
            ctx,
            Arc::clone(&self.founded),
            change,
            Owner::Coordinator,
            ctx.now.since(self.began),
        ) {
            ctx.count("request_waits_for_change");
        }
        self.phase = Phase::Pledging {
            layout,
            waiting: members,
            formed: false,
            resend_at: ctx.now.plus(RETRY_AFTER),
            until: self.began.plus(hold),
        };
        self.send_pledges(ctx);
    }

    fn send_pledges(&self, ctx: &mut Context<'_>) {
        let Phase::Pledging { layout, waiting, .. } = &self.phase else { return };
        for host in waiting {
            let mine = layout.assignments.iter().filter(|assignment| assignment.host == *host);
            let taken =
                mine.fold(crate::resources::Resources::NONE, |sum, each: &Assignment| sum.plus(&each.size));
            let machines = u16::try_from(taken.machines).unwrap_or(u16::MAX);
            ctx.send(*host, Message::Pledge { slice: self.founded.slice, machines, taken });
        }
    }

    pub(super) fn pledged(
        &mut self,
        ctx: &mut Context<'_>,
        changes: &mut Changes,
        from: HostId,
        refusal: Option<&Refusal>,
    ) -> Next {
        let Phase::Pledging { waiting, .. } = &mut self.phase else { return Next::Continue };
        match refusal {
            Some(_) if !waiting.contains(&from) => Next::Continue,
            Some(refusal) => {
                if let Some(asked) = self.asked.get_mut(&from) {
                    asked.verdict = Some(Verdict::refusing(refusal.clone()));
                }
                self.give_up(ctx, changes, RequestRefusal::HostWithdrew, AbortReason::HostWithdrew)
            }
            None => {
                waiting.remove(&from);
                self.decide_when_ready(ctx, changes)
            }
        }
    }

    /// When all hosts have pledged and the stewards hold the plan: the decision.
    fn decide_when_ready(&mut self, ctx: &mut Context<'_>, changes: &mut Changes) -> Next {
        let Phase::Pledging { layout, waiting, formed, .. } = &self.phase else { return Next::Continue };
        if !waiting.is_empty() || !formed {
            return Next::Continue;
        }
        if !changes.start(
            ctx,
            Arc::clone(&self.founded),
            Change::Activate,
            Owner::Coordinator,
            ctx.now.since(self.began),
        ) {
            return self.give_up(
                ctx,
                changes,
                RequestRefusal::TooManyCommands,
                AbortReason::CoordinatorGaveUp,
            );
        }
        self.phase = Phase::Deciding { layout: layout.clone() };
        Next::Continue
    }

    pub(super) fn finished(
        &mut self,
        ctx: &mut Context<'_>,
        changes: &mut Changes,
        finished: &Finished,
    ) -> Next {
        match (&mut self.phase, &finished.change, &finished.decided) {
            (Phase::Pledging { .. }, Change::Form(_), None) => self.give_up(
                ctx,
                changes,
                RequestRefusal::StewardsUnreachable,
                AbortReason::CoordinatorGaveUp,
            ),
            (
                Phase::Pledging { formed, .. },
                Change::Form(_),
                Some((Applied::Written | Applied::AlreadySo, _)),
            ) => {
                *formed = true;
                self.decide_when_ready(ctx, changes)
            }
            (Phase::Pledging { .. }, Change::Form(_), Some((Applied::Refused, _))) => {
                self.refuse(ctx, RequestRefusal::HoldOver)
            }
            (Phase::Deciding { .. }, Change::Activate, None) => {
                Next::Over(Answer::Undecided { slice: self.founded.slice, plan: self.plan(None) })
            }
            // Over already means that it was active: others can be faster than the answer to its coordinator.
            (Phase::Deciding { layout }, Change::Activate, Some((_, Some(record))))
                if matches!(record.state, State::Active | State::Ended(_)) =>
            {
                let layout = layout.clone();
                let slice = Box::new(SliceView::new(record, &Reports::new(), Some(record.term)));
                Next::Over(Answer::Created { slice, plan: self.plan(Some(&layout)) })
            }
            (Phase::Deciding { .. }, Change::Activate, Some(_)) => self.refuse(ctx, RequestRefusal::HoldOver),
            _ => Next::Continue,
        }
    }

    /// Nothing was decided, and this coordinator will not: frees everything, and fences the register, should it live long
    /// enough.
    fn give_up(
        &self,
        ctx: &mut Context<'_>,
        changes: &mut Changes,
        reason: RequestRefusal,
        abort: AbortReason,
    ) -> Next {
        if !changes.start(
            ctx,
            Arc::clone(&self.founded),
            Change::Abort(abort),
            Owner::Coordinator,
            self.began,
        ) {
            ctx.count("request_left_to_stewards");
        }
        self.refuse(ctx, reason)
    }

    /// Frees everything and says no.
    fn refuse(&self, ctx: &mut Context<'_>, reason: RequestRefusal) -> Next {
        for host in self.asked.keys() {
            ctx.send(*host, Message::Cancel { slice: self.founded.slice });
        }
        Next::Over(Answer::Refused { reason, plan: self.plan(None) })
    }

    pub(super) fn poll_timeout(&self) -> Millis {
        match &self.phase {
            Phase::Asking { until } => {
                let waiting = self.asked.values().filter(|asked| asked.verdict.is_none());
                waiting.map(|asked| asked.resend_at).min().map_or(*until, |resend_at| resend_at.min(*until))
            }
            Phase::Pledging { resend_at, until, .. } => (*resend_at).min(*until),
            // The change has its own deadline, and tells when it is over.
            Phase::Deciding { .. } => Millis(u64::MAX),
        }
    }

    pub(super) fn timeout(&mut self, ctx: &mut Context<'_>, changes: &mut Changes) -> Next {
        match &mut self.phase {
            Phase::Asking { until } if *until <= ctx.now => self.conclude_asking(ctx, changes),
            Phase::Asking { .. } => {
                let resend_at = ctx.now.plus(RETRY_AFTER);
                let mut again = Vec::new();
                for (host, asked) in &mut self.asked {
                    if asked.verdict.is_none() && asked.resend_at <= ctx.now {
                        asked.resend_at = resend_at;
                        again.push((*host, asked.machines));
                    }
                }
                again.into_iter().for_each(|(host, machines)| self.send_ask(ctx, host, machines));
                Next::Continue
            }
            Phase::Pledging { until, .. } if *until <= ctx.now => {
                self.give_up(ctx, changes, RequestRefusal::HoldOver, AbortReason::CoordinatorGaveUp)
            }
            Phase::Pledging { resend_at, .. } => {
                *resend_at = ctx.now.plus(RETRY_AFTER);
                self.send_pledges(ctx);
                Next::Continue
            }
            Phase::Deciding { .. } => Next::Continue,
        }
    }
}
