//! All requests under way, and what is handed to which.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::create::{Next, Phase, Request};
use crate::bounded::Text;
use crate::engine::changes::{Changes, Finished};
use crate::engine::context::Context;
use crate::engine::{Answer, Candidate, CommandId, Output};
use crate::identity::HostId;
use crate::limits::{CANDIDATES_MAX, COMMANDS_MAX, HOLD_MAX, HOLD_MIN};
use crate::message::{AskKind, Verdict};
use crate::refusal::{Refusal, RequestRefusal};
use crate::slice::charter::Founded;
use crate::slice::id::SliceId;
use crate::units::Millis;

/// All requests under way.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    requests: BTreeMap<SliceId, Request>,
}

impl Requests {
    /// A user wants a slice, or wants to know what he would get.
    pub(crate) fn begin(
        &mut self,
        ctx: &mut Context<'_>,
        command: CommandId,
        founded: Founded,
        candidates: Vec<Candidate>,
        kind: AskKind,
    ) {
        let refusal = if self.requests.len() >= COMMANDS_MAX || self.requests.contains_key(&founded.slice) {
            Some(RequestRefusal::TooManyCommands)
        } else if let Err(error) = founded.charter.spec.not_yet() {
            Some(RequestRefusal::NotYet { field: Text::cut(&error.field), remedy: Text::cut(&error.remedy) })
        } else if candidates.is_empty() {
            Some(RequestRefusal::NoCandidates)
        } else {
            None
        };
        let kind = match kind {
            AskKind::Reserve(hold) => AskKind::Reserve(hold.clamp(HOLD_MIN, HOLD_MAX)),
            AskKind::Plan => AskKind::Plan,
        };
        let mut request = Request {
            command,
            founded: Arc::new(founded),
            candidates: candidates.into_iter().take(CANDIDATES_MAX).collect(),
            kind,
            began: ctx.now,
            rounds: 0,
            asked: BTreeMap::new(),
            phase: Phase::Asking { until: ctx.now },
        };
        if let Some(reason) = refusal {
            let plan = request.plan(None);
            answer(ctx, command, Answer::Refused { reason, plan });
            return;
        }
        request.ask_more(ctx);
        self.requests.insert(request.founded.slice, request);
    }

    /// A host answered an ask.
    pub(crate) fn handle_answer(
        &mut self,
        ctx: &mut Context<'_>,
        changes: &mut Changes,
        from: HostId,
        slice: SliceId,
        kind: AskKind,
        verdict: Verdict,
    ) {
        self.drive(ctx, slice, |request, ctx| request.answered(ctx, changes, from, kind, verdict));
    }

    /// A host pledged, or did not.
    pub(crate) fn handle_pledged(
        &mut self,
        ctx: &mut Context<'_>,
        changes: &mut Changes,
        from: HostId,
        slice: SliceId,
        refusal: Option<&Refusal>,
    ) {
        self.drive(ctx, slice, |request, ctx| request.pledged(ctx, changes, from, refusal));
    }

    /// A change of ours is over.
    pub(crate) fn handle_finished(
        &mut self,
        ctx: &mut Context<'_>,
        changes: &mut Changes,
        finished: &Finished,
    ) {
        let slice = finished.founded.slice;
        self.drive(ctx, slice, |request, ctx| request.finished(ctx, changes, finished));
    }

    /// A host cannot be reached.
    pub(crate) fn handle_unreachable(&mut self, ctx: &mut Context<'_>, changes: &mut Changes, host: HostId) {
        let slices: Vec<SliceId> = self.requests.keys().copied().collect();
        for slice in slices {
            self.drive(ctx, slice, |request, ctx| request.unreachable(ctx, changes, host));
        }
    }

    fn drive(
        &mut self,
        ctx: &mut Context<'_>,
        slice: SliceId,
        step: impl FnOnce(&mut Request, &mut Context<'_>) -> Next,
    ) {
        let Some(request) = self.requests.get_mut(&slice) else { return };
        if let Next::Over(given) = step(request, ctx) {
            let command = request.command;
            self.requests.remove(&slice);
            answer(ctx, command, given);
        }
    }

    /// What was due.
    pub(crate) fn handle_timeout(&mut self, ctx: &mut Context<'_>, changes: &mut Changes) {
        let due = |request: &&Request| request.poll_timeout() <= ctx.now;
        let slices: Vec<SliceId> =
            self.requests.values().filter(due).map(|request| request.founded.slice).collect();
        for slice in slices {
            self.drive(ctx, slice, |request, ctx| request.timeout(ctx, changes));
        }
    }

    /// When to come back.
    pub(crate) fn poll_timeout(&self) -> Option<Millis> {
        self.requests.values().map(Request::poll_timeout).min()
    }
}

fn answer(ctx: &mut Context<'_>, command: CommandId, answer: Answer) {
    ctx.output(Output::Answer { command, answer: Box::new(answer) });
}
