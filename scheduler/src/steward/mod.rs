//! This host as a steward: it keeps its share of slices' registers and watches over them.
//!
//! An acceptor answers proposers (only the slice's stewards and its chartered coordinator), readers, and nothing
//! else; whatever it accepted or promised is persisted before the answer. As a watcher it proposes changes itself:
//!
//! - *Forming* too long: aborted, so that nothing half-made is left when a coordinator died.
//! - A host has not renewed for the lease and the drift bound: when a majority of stewards says the same, its machines
//!   are declared lost. What makes this safe is not the question but the fence: an acceptor *refuses* a value that
//!   declares a host lost while it has itself heard the host within lease and drift, and once it has accepted such a
//!   value it answers the host's readings with it. A renewal needs a majority of one ballot, so a majority that
//!   accepted the loss and a majority that renewed share a steward, and on that one's clock lease and drift bound lie
//!   between the two.
//! - The term ran out: ended.
//!
//! When stewards act on the same thing at once, the register lets one win; they begin one after another, by their place
//! in the charter, so that this is rare. What a steward heard is not persisted: after a restart it counts
//! every host as heard just now.

mod seat;
mod stopwatch;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bounded::List;
use crate::engine::changes::{Applied, Changes, Finished, Owner};
use crate::engine::context::Context;
use crate::identity::HostId;
use crate::limits::{MACHINES_MAX, REGISTERS_MAX, TERM_MAX, UNDECIDED_PER_HOST_MAX};
use crate::message::{
    AcceptorRefusal, Held, Message, OrderKind, OrderResult, Reader, Selector, SignedOrder, SliceHint,
};
use crate::register::Ballot;
use crate::slice::change::Change;
use crate::slice::charter::{Founded, SignedCharter};
use crate::slice::id::SliceId;
use crate::slice::record::{AbortReason, EndReason, LossReason, Record};
use crate::units::Millis;
pub(crate) use seat::StoredSeat;
use seat::{Seat, Wish};

/// The prefix of the keys this room persists.
pub(crate) const KEY_PREFIX: &str = "register/";

/// All registers this host keeps.
#[derive(Debug, Default)]
pub(crate) struct StewardRole {
    seats: BTreeMap<SliceId, Seat>,
}

impl StewardRole {
    /// Takes up a register after a restart.
    pub(crate) fn restore(&mut self, ctx: &Context<'_>, stored: StoredSeat) -> Option<()> {
        let seat = Seat::restore(ctx.now, stored, ctx.config.boot)?;
        self.seats.insert(seat.founded().slice, seat);
        Some(())
    }

    fn may_write(founded: &Founded, who: HostId) -> bool {
        founded.charter.coordinator == who || founded.charter.stewards.contains(&who)
    }

    /// Finds the register, or begins it when its charter is in order and there is room.
    fn seat_for(
        &mut self,
        ctx: &mut Context<'_>,
        from: HostId,
        charter: SignedCharter,
    ) -> Result<&mut Seat, AcceptorRefusal> {
        let slice = charter.slice();
        if !self.seats.contains_key(&slice) {
            let founded = charter.open().map_err(|_| AcceptorRefusal::NotAllowed)?;
            if !founded.charter.stewards.contains(&ctx.me) {
                return Err(AcceptorRefusal::NotAllowed);
            }
            let undecided = self.seats.values().filter(|seat| seat.is_undecided_for(from)).count();
            if self.seats.len() >= REGISTERS_MAX || undecided >= UNDECIDED_PER_HOST_MAX {
                ctx.count("registers_full");
                return Err(AcceptorRefusal::Full);
            }
            self.seats.insert(slice, Seat::new(Arc::new(founded), from, ctx.now));
        }
        self.seats.get_mut(&slice).ok_or(AcceptorRefusal::NotAllowed)
    }

    /// A proposer asks for a promise.
    pub(crate) fn handle_prepare(
        &mut self,
        ctx: &mut Context<'_>,
        from: HostId,
        charter: SignedCharter,
        ballot: Ballot,
    ) {
        let slice = charter.slice();
        let answer = self.seat_for(ctx, from, charter).and_then(|seat| {
            if Self::may_write(seat.founded(), from) {
                seat.prepare(ballot)
            } else {
                Err(AcceptorRefusal::NotAllowed)
            }
        });
        match answer {
            Ok(accepted) => {
                self.persist(ctx, slice);
                ctx.send(from, Message::Promise { slice, ballot, accepted: accepted.map(Box::new) });
            }
            Err(refusal) => ctx.send(from, Message::Refused { slice, ballot, refusal }),
        }
    }

    /// A proposer asks to accept.
    pub(crate) fn handle_accept(
        &mut self,
        ctx: &mut Context<'_>,
        from: HostId,
        ballot: Ballot,
        record: Record,
    ) {
        let slice = record.slice;
        let now = ctx.now;
        let allowed =
            |seat: &&mut Seat| Self::may_write(seat.founded(), from) && record.belongs_to(seat.founded());
        let answer = match self.seats.get_mut(&slice).filter(allowed) {
            Some(seat) => seat.accept(now, ballot, record),
            None => Err(AcceptorRefusal::NotAllowed),
        };
        match answer {
            Ok(()) => {
                self.persist(ctx, slice);
                ctx.send(from, Message::Accepted { slice, ballot });
            }
            Err(refusal) => ctx.send(from, Message::Refused { slice, ballot, refusal }),
        }
    }

    fn persist(&self, ctx: &mut Context<'_>, slice: SliceId) {
        if let Some(seat) = self.seats.get(&slice) {
            let value = seat.stored(ctx.now, ctx.config.boot).encode();
            ctx.output(crate::engine::Output::Persist { key: key(slice), value: Some(value) });
        }
    }

    /// Someone reads a record.
    pub(crate) fn handle_read(
        &mut self,
        ctx: &mut Context<'_>,
        from: HostId,
        slice: SliceId,
        round: u64,
        known: Option<Ballot>,
        reader: Reader,
    ) {
        let answer = match self.seats.get_mut(&slice) {
            None => seat::Answer::nothing(Held::Unknown),
            Some(seat) => seat.read(ctx, from, known, reader),
        };
        let seat::Answer { held, reports, grants, left, charter } = answer;
        ctx.send(from, Message::Standing { slice, round, held, reports, grants, left, charter });
    }

    /// A host wants a register settled, or what is not decided aborted.
    pub(crate) fn handle_settle(
        &mut self,
        ctx: &mut Context<'_>,
        changes: &mut Changes,
        from: HostId,
        charter: SignedCharter,
        abort: bool,
    ) {
        let slice = charter.slice();
        let Ok(seat) = self.seat_for(ctx, from, charter) else {
            ctx.count("settle_not_allowed");
            return;
        };
        if !seat.may_settle(from) {
            ctx.count("settle_not_allowed");
        } else if !changes.watches(slice) {
            let change = if abort { Change::Abort(AbortReason::HoldOver) } else { Change::Settle };
            changes.start(
                ctx,
                seat.founded_arc(),
                change,
                Owner::Settle { asker: from },
                seat.known_for(ctx.now),
            );
        }
    }

    /// A host has stopped its machines and will not renew again.
    pub(crate) fn handle_release(
        &mut self,
        ctx: &mut Context<'_>,
        changes: &mut Changes,
        from: HostId,
        slice: SliceId,
    ) {
        let Some(seat) = self.seats.get_mut(&slice) else { return };
        if seat.release(from) && !changes.watches(slice) {
            let change = Change::Lose(vec![from], LossReason::Released);
            changes.start(ctx, seat.founded_arc(), change, Owner::Watch, seat.known_for(ctx.now));
        }
    }

    /// Another steward asks how long ago hosts renewed.
    pub(crate) fn handle_heard(&self, ctx: &mut Context<'_>, from: HostId, slice: SliceId, round: u64) {
        let Some(seat) =
            self.seats.get(&slice).filter(|seat| seat.founded().charter.stewards.contains(&from))
        else {
            ctx.count("heard_not_allowed");
            return;
        };
        let ages: List<_, MACHINES_MAX> = List::first_of(seat.ages(ctx.now));
        ctx.send(from, Message::HeardAgo { slice, round, ages });
    }

    /// Another steward says how long ago hosts renewed with it.
    pub(crate) fn handle_heard_ago(
        &mut self,
        ctx: &mut Context<'_>,
        changes: &mut Changes,
        from: HostId,
        slice: SliceId,
        round: u64,
        ages: &[(HostId, Millis)],
    ) {
        let Some(seat) = self.seats.get_mut(&slice) else { return };
        let wishes = seat.heard_ago(ctx.now, from, round, ages);
        self.act(ctx, changes, slice, wishes);
    }

    /// A tenant's order.
    pub(crate) fn handle_order(
        &mut self,
        ctx: &mut Context<'_>,
        changes: &mut Changes,
        from: HostId,
        slice: SliceId,
        round: u64,
        signed: &SignedOrder,
    ) {
        let owner = Owner::Order { asker: from, round };
        if changes.has(slice, owner) {
            return;
        }
        let refuse = |result| Message::Ordered { slice, round, result };
        let Some(seat) = self.seats.get(&slice) else {
            ctx.send(from, refuse(OrderResult::Unknown));
            return;
        };
        let founded = seat.founded_arc();
        let spec = &founded.charter.spec;
        let order = signed.open(from).ok().filter(|order| {
            order.tenant == founded.charter.tenant && order.selector.selects(slice, &spec.name)
        });
        let change = match order.map(|order| order.kind) {
            Some(OrderKind::Remove) => Change::End(EndReason::Removed),
            Some(OrderKind::Extend(term)) if term <= TERM_MAX => Change::Extend(term),
            Some(OrderKind::See | OrderKind::Extend(_)) | None => {
                ctx.count("order_not_allowed");
                ctx.send(from, refuse(OrderResult::Forbidden));
                return;
            }
        };
        if !changes.start(ctx, founded, change, owner, seat.known_for(ctx.now)) {
            ctx.send(from, refuse(OrderResult::NoMajority));
        }
    }

    /// A change that one of this host's roles wanted is over.
    pub(crate) fn handle_finished(ctx: &mut Context<'_>, finished: &Finished) {
        let slice = finished.founded.slice;
        if let Owner::Settle { asker } = finished.owner {
            ctx.send(asker, Message::News { slice });
        }
        if let Owner::Order { asker, round } = finished.owner {
            let result = match &finished.decided {
                None => OrderResult::NoMajority,
                Some((Applied::Refused, Some(record))) => OrderResult::WrongState(record.state),
                Some((_, Some(record))) => OrderResult::Done(record.version),
                Some((_, None)) => OrderResult::Unknown,
            };
            ctx.send(asker, Message::Ordered { slice, round, result });
        }
    }

    /// Slices this host keeps registers of that the asker may see.
    pub(crate) fn hints(
        &self,
        from: HostId,
        order: Option<&crate::message::Order>,
        selector: &Selector,
    ) -> Vec<SliceHint> {
        let seen = self.seats.values().filter(|seat| {
            let tenants = order.is_some_and(|order| order.tenant == seat.founded().charter.tenant);
            tenants || seat.takes_part(from)
        });
        seen.filter_map(Seat::hint).filter(|hint| selector.selects(hint.slice, &hint.name)).collect()
    }

    /// Whether a living slice of the same tenant and name is kept here.
    pub(crate) fn has_living_namesake(&self, founded: &Founded) -> bool {
        self.seats.values().filter_map(Seat::hint).any(|hint| hint.is_living_namesake_of(founded))
    }

    /// What was due.
    pub(crate) fn handle_timeout(&mut self, ctx: &mut Context<'_>, changes: &mut Changes) {
        let due: Vec<SliceId> = self
            .seats
            .iter()
            .filter(|(_, seat)| seat.poll_timeout() <= ctx.now)
            .map(|(slice, _)| *slice)
            .collect();
        for slice in due {
            let Some(seat) = self.seats.get_mut(&slice) else { continue };
            let wishes = seat.handle_timeout(ctx);
            self.act(ctx, changes, slice, wishes);
        }
    }

    fn act(&mut self, ctx: &mut Context<'_>, changes: &mut Changes, slice: SliceId, wishes: Vec<Wish>) {
        for wish in wishes {
            match wish {
                Wish::Change(change) => {
                    let Some(seat) = self.seats.get(&slice) else { return };
                    // One at a time: what is still wished when it is over will be wished again.
                    if !changes.watches(slice) {
                        changes.start(ctx, seat.founded_arc(), change, Owner::Watch, seat.known_for(ctx.now));
                    }
                }
                Wish::Forget => {
                    self.seats.remove(&slice);
                    ctx.output(crate::engine::Output::Persist { key: key(slice), value: None });
                    return;
                }
            }
        }
    }

    /// When to come back.
    pub(crate) fn poll_timeout(&self) -> Option<Millis> {
        self.seats.values().map(Seat::poll_timeout).min()
    }

    /// How many registers it keeps.
    pub(crate) fn len(&self) -> usize {
        self.seats.len()
    }
}

/// The key under which a register is persisted.
fn key(slice: SliceId) -> String {
    format!("{KEY_PREFIX}{slice}")
}
