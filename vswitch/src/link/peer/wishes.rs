//! What node wants of a link: addresses, grants, answers, its end.

use std::time::{Duration, Instant};

use super::{CHANNELS_MAX, ChannelsFull, Link, accept};
use crate::{
    link::{
        Shared,
        channel::Channel,
        event::{ChannelRequest, LinkDownReason},
    },
    switch::NetworkId,
    wire::{
        CHANNEL_MAX,
        control::{Control, GrantRefusal},
    },
};

impl Link {
    pub(in crate::link) fn offer_grant(
        &mut self,
        now: Instant,
        network: NetworkId,
        grant: Vec<u8>,
    ) -> Result<(), ChannelsFull> {
        self.channel_entry(network)?.offer(now, grant);
        self.idle_since = None;
        self.changed = true;
        Ok(())
    }

    /// The link is kept up from now on, or only while it is used.
    pub(in crate::link) fn set_kept(&mut self, now: Instant, kept: bool) {
        if std::mem::replace(&mut self.kept, kept) != kept && kept && !self.watch.in_use(now) {
            self.begin_use(now);
        }
    }

    pub(in crate::link) fn remove_network(&mut self, shared: &mut Shared, network: NetworkId) {
        if self.channels.remove(&network).is_some() {
            self.counters.held_dropped.add(self.hold.take(network).len() as u64);
            self.say(shared, &Control::Close { network });
            self.changed = true;
        }
    }

    pub(in crate::link) fn answer(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        request: &ChannelRequest,
        answer: Result<Duration, GrantRefusal>,
    ) {
        let Some(channel) = self.channels.get_mut(&request.network) else { return };
        let serial = &mut self.channel_serial;
        let number = || {
            (*serial < CHANNEL_MAX).then(|| {
                *serial += 1;
                *serial
            })
        };
        let Some(answer) = channel.answer(now, request.digest(), answer, number) else { return };
        let (network, grant) = (request.network, request.digest());
        self.changed = true;
        match answer {
            Ok((number, left)) => {
                self.say(shared, &accept(network, grant, number, left));
                self.release(shared, network);
            }
            Err(reason) => self.say(shared, &Control::Refuse { network, grant, reason }),
        }
    }

    pub(in crate::link) fn forget_question(&mut self, network: NetworkId) {
        if let Some(channel) = self.channels.get_mut(&network) {
            channel.forget_question();
        }
    }

    /// Says farewell and forgets all keys.
    pub(in crate::link) fn leave(&mut self, shared: &mut Shared, reason: LinkDownReason) {
        self.say(shared, &Control::Bye);
        self.go_down(shared, reason);
        self.slots.give_up();
        self.retire(shared);
    }

    pub(super) fn channel_entry(&mut self, network: NetworkId) -> Result<&mut Channel, ChannelsFull> {
        if !self.channels.contains_key(&network) && self.channels.len() >= CHANNELS_MAX {
            // Entries that hold nothing but a number are given up: the peer is told that its number is unknown.
            self.channels.retain(|_, channel| !channel.idle());
            if self.channels.len() >= CHANNELS_MAX {
                return Err(ChannelsFull);
            }
        }
        Ok(self.channels.entry(network).or_insert_with(Channel::new))
    }

    pub(super) fn retire(&mut self, shared: &mut Shared) {
        for index in self.slots.take_retired() {
            shared.indices.remove(&index);
            self.changed = true;
        }
    }
}
