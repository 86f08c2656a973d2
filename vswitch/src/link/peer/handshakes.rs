//! Handshakes of one link: initiations both ways, responses, cookies, and what a new session changes.

use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, Instant},
};

use super::Link;
use crate::{
    link::{
        Now, Shared,
        event::{Event, LinkDownReason},
        liveness::Liveness,
        watch::Watch,
    },
    path::Origin,
    session::{Initiator, Received},
    wire::{CookieReply, Response},
};

/// A stranger's address list must not make us a source of floods.
const TRIED_AT_ONCE: usize = 4;
/// Between initiations of one peer that are answered, so that a peer cannot keep us at public-key work.
const INITIATION_PAUSE: Duration = Duration::from_millis(20);

impl Link {
    pub(in crate::link) fn handle_initiation(
        &mut self,
        shared: &mut Shared,
        now: Now,
        from: Origin,
        received: Received,
    ) {
        let timestamp = received.hello.timestamp;
        if let Some((newest, at)) = self.hello {
            if timestamp <= newest {
                return self.counters.initiations_stale.one();
            }
            if now.at < at + INITIATION_PAUSE {
                return self.counters.initiations_too_soon.one();
            }
        }
        // From here on it is taken note of, so that a recording of it is stale whatever becomes of it.
        self.hello = Some((timestamp, now.at));
        if self.slots.crossed(now.at, &shared.own_key, &self.key) {
            return self.counters.initiations_crossed.one();
        }
        let Some(back) = self.back(&from) else { return shared.refusals.way_unknown.one() };
        let instance = received.hello.instance;
        let index = shared.draw_index(self.peer);
        let limit = shared.limits.refuse_datagrams;
        let Ok((session, mut response)) = received.answer(&shared.identity, self.peer, index, now.at, limit)
        else {
            shared.indices.remove(&index);
            return shared.refusals.no_common_suite.one();
        };
        self.counters.initiations_answered.one();
        self.slots.answered(Arc::new(session), instance);
        self.changed = true;
        self.jar.stamp(now.at, &self.key, &mut response);
        shared.send(&back, &response);
        self.retire(shared);
    }

    pub(in crate::link) fn handle_response(
        &mut self,
        shared: &mut Shared,
        now: Now,
        from: Origin,
        response: &Response<'_>,
    ) {
        let Some(initiator) = self.slots.initiation(response.receiver()) else {
            return shared.refusals.unexpected.one();
        };
        let limit = shared.limits.refuse_datagrams;
        let Ok(ready) = initiator.finish(response, self.peer, now.at, limit) else {
            self.counters.handshakes_forged.one();
            return shared.refusals.handshake_forged.one();
        };
        self.slots.established(Arc::new(ready.session));
        self.begin(shared, now.at, from, ready.instance);
        self.retire(shared);
    }

    pub(in crate::link) fn handle_cookie(&mut self, shared: &mut Shared, now: Now, reply: &CookieReply<'_>) {
        if self.slots.initiation(reply.receiver()).is_none()
            && self.slots.by_index(reply.receiver()).is_none()
            || !self.jar.take(now.at, &self.key, reply)
        {
            return shared.refusals.unexpected.one();
        }
        // The next initiation proves our address; the refused one is not waited for.
        if let Some(attempt) = &mut self.slots.attempt {
            attempt.next_at = now.at + shared.entropy_jitter(Duration::from_millis(50));
        }
    }

    pub(super) fn initiate(&mut self, shared: &mut Shared, now: Now) {
        let index = shared.draw_index(self.peer);
        self.our_timestamp = now.wall_nanos.max(self.our_timestamp + 1);
        let (initiator, mut datagram) =
            Initiator::start(&shared.identity, &self.key, index, self.our_timestamp, &mut shared.entropy);
        self.jar.stamp(now.at, &self.key, &mut datagram);
        // The way that worked last, and a few of the others, each time other ones.
        let others = self.ways.tries.len().max(1);
        let tries = self.slots.attempt.as_ref().map_or(0, |attempt| attempt.tries as usize);
        let turn = tries * (TRIED_AT_ONCE - 1) % others;
        let tries = self.ways.tries.iter().cycle().skip(turn).take(self.ways.tries.len()).copied();
        let tries = tries.filter(|via| Some(*via) != self.via);
        self.tried = self.via.into_iter().chain(tries).take(TRIED_AT_ONCE).collect();
        for via in &self.tried {
            shared.send(via, &datagram);
            self.counters.initiations_sent.one();
        }
        let entropy = RefCell::new(&mut shared.entropy);
        self.slots.sent(now.at, index, initiator, |most| {
            let micros = u32::try_from(most.as_micros()).unwrap_or(u32::MAX);
            Duration::from_micros(entropy.borrow_mut().below(micros.max(1)).into())
        });
    }

    /// A session seals from now on.
    pub(super) fn begin(&mut self, shared: &mut Shared, now: Instant, from: Origin, instance: [u8; 8]) {
        self.counters.handshakes.one();
        if self.up {
            self.counters.rekeys.one();
        }
        let before = self.instance.replace(instance);
        if before != Some(instance) {
            self.notes.reborn = before.is_some();
            self.slots.drop_older();
            self.channels.values_mut().for_each(|channel| channel.reset(now));
        }
        // Until paths have judged it, answers go back where it came from.
        self.via = self.via.or_else(|| self.back(&from));
        self.notes.heard = Some(from);
        if !self.up {
            self.up = true;
            self.down = None;
            self.idle_since = None;
            self.mtu.restart(now);
            self.live = Liveness::new(now);
            self.watch = Watch::new(now);
            self.used_since = now;
            self.channels.values_mut().for_each(|channel| channel.ask_again(now));
            shared.tell(Event::LinkUp { peer: self.host });
        }
        self.live.ask_now(now);
        self.changed = true;
    }

    pub(super) fn go_down(&mut self, shared: &mut Shared, reason: LinkDownReason) {
        self.slots.clear();
        self.changed = true;
        if self.up {
            self.up = false;
            self.down = Some(reason);
            shared.tell(Event::LinkDown { peer: self.host, reason });
        }
    }
}
