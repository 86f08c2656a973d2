//! The link to one peer. It routes inputs to its parts ([`Slots`], [`Channel`]s, [`PathMtu`], [`Liveness`], [`Hold`]) and turns
//! what they ask for into sealed messages and events; rules stand in the parts.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    HELD_BYTES_MAX, Now, Output, Shared,
    channel::{Act, Channel, Question, Sendable},
    counters::LinkCounters,
    event::{ChannelRequest, Event, LinkDownReason},
    hold::Hold,
    liveness::{Liveness, SILENCE_MAX},
    path_mtu::{BASE, Change, PathMtu},
    route::{Route, SendState, Sending},
    slots::Slots,
    snapshot::{ChannelSnapshot, LinkSnapshot, LinkState},
};
use crate::{
    HostId,
    session::{CookieJar, Due, Initiator, PublicKey, Received, Role},
    switch::{NetworkId, PeerIndex},
    wire::{
        CHANNEL_MAX, CookieReply, DATA_HEADER_BYTES, DATA_OVERHEAD, INNER_BYTES, Inner, InnerKind, Response,
        TAG_BYTES,
        control::{Control, GrantDigest, GrantRefusal, PROBE_BYTES_MIN},
    },
};

/// Networks one link carries: more than two hosts of one tenant share; a channel takes about 1 KiB with its grant.
const CHANNELS_MAX: usize = 256;
/// Addresses of a peer that are tried: its own and what others saw of it. The first [`TRIED_AT_ONCE`] get each initiation.
const ADDRESSES_MAX: usize = 16;
/// A stranger's address list must not make us a source of floods.
const TRIED_AT_ONCE: usize = 4;
/// Between initiations of one peer that are answered, so that a peer cannot keep us at public-key work.
const INITIATION_PAUSE: Duration = Duration::from_millis(20);
/// Without a shared network, a link is kept so long.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Probes that may still be confirmed: three rounds of a sweep.
const PROBES_MAX: usize = 32;
/// Grants one peer may put to node in a second.
const QUESTIONS_PER_SECOND: u32 = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: PeerIndex,
    pub(super) host: HostId,
    pub(super) key: PublicKey,
    addresses: Vec<SocketAddr>,
    endpoint: Option<SocketAddr>,
    slots: Slots,
    jar: CookieJar,
    /// The newest timestamp of the peer's initiations, and when it was taken.
    hello: Option<(u64, Instant)>,
    our_timestamp: u64,
    instance: Option<[u8; 8]>,
    channels: BTreeMap<NetworkId, Channel>,
    channel_serial: u32,
    mtu: PathMtu,
    probes: VecDeque<(u32, u16)>,
    probe_serial: u32,
    live: Liveness,
    hold: Hold,
    counters: Arc<LinkCounters>,
    up: bool,
    down: Option<LinkDownReason>,
    idle_since: Option<Instant>,
    unknown_told: Option<Instant>,
    questions: (Instant, u32),
    /// Workers must see another route.
    changed: bool,
}

impl Link {
    pub(super) fn new(
        peer: PeerIndex,
        host: HostId,
        key: PublicKey,
        now: Instant,
        datagram_limit: u16,
    ) -> Self {
        Self {
            peer,
            host,
            key,
            addresses: Vec::new(),
            endpoint: None,
            slots: Slots::default(),
            jar: CookieJar::default(),
            hello: None,
            our_timestamp: 0,
            instance: None,
            channels: BTreeMap::new(),
            channel_serial: 0,
            mtu: PathMtu::new(now, datagram_limit),
            probes: VecDeque::new(),
            probe_serial: 0,
            live: Liveness::new(now),
            hold: Hold::default(),
            counters: Arc::default(),
            up: false,
            down: None,
            idle_since: None,
            unknown_told: None,
            questions: (now, 0),
            changed: true,
        }
    }

    // ── what node wants ──

    pub(super) fn set_addresses(&mut self, now: Instant, mut addresses: Vec<SocketAddr>) {
        addresses.truncate(ADDRESSES_MAX);
        if addresses == self.addresses {
            return;
        }
        self.addresses = addresses;
        if let Some(attempt) = &mut self.slots.attempt {
            attempt.next_at = now;
        }
    }

    pub(super) fn offer_grant(
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

    pub(super) fn remove_network(&mut self, shared: &mut Shared, network: NetworkId) {
        if self.channels.remove(&network).is_some() {
            self.counters.held_dropped.add(self.hold.take(network).len() as u64);
            self.say(shared, &Control::Close { network });
            self.changed = true;
        }
    }

    pub(super) fn answer(
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

    pub(super) fn forget_question(&mut self, network: NetworkId) {
        if let Some(channel) = self.channels.get_mut(&network) {
            channel.forget_question();
        }
    }

    /// Says farewell and forgets all keys.
    pub(super) fn leave(&mut self, shared: &mut Shared, reason: LinkDownReason) {
        self.say(shared, &Control::Bye);
        self.go_down(shared, reason);
        self.slots.give_up();
        self.retire(shared);
    }

    // ── handshakes ──

    pub(super) fn handle_initiation(
        &mut self,
        shared: &mut Shared,
        now: Now,
        from: SocketAddr,
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
        shared.outputs.push_back(Output::Send { to: from, datagram: response.to_vec() });
        self.retire(shared);
    }

    pub(super) fn handle_response(
        &mut self,
        shared: &mut Shared,
        now: Now,
        from: SocketAddr,
        response: &Response<'_>,
    ) {
        let Some(initiator) = self.slots.initiation(response.receiver()) else {
            return shared.refusals.unexpected.one();
        };
        let limit = shared.limits.refuse_datagrams;
        let Ok(ready) = initiator.finish(response, self.peer, now.at, limit) else {
            return shared.refusals.handshake_forged.one();
        };
        self.slots.established(Arc::new(ready.session));
        self.begin(shared, now.at, from, ready.instance);
        self.retire(shared);
    }

    pub(super) fn handle_cookie(&mut self, shared: &mut Shared, now: Now, reply: &CookieReply<'_>) {
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

    fn initiate(&mut self, shared: &mut Shared, now: Now) {
        let index = shared.draw_index(self.peer);
        self.our_timestamp = now.wall_nanos.max(self.our_timestamp + 1);
        let (initiator, mut datagram) =
            Initiator::start(&shared.identity, &self.key, index, self.our_timestamp, &mut shared.entropy);
        self.jar.stamp(now.at, &self.key, &mut datagram);
        // The address that worked last, and a few of the others, each time other ones.
        let others = self.addresses.len().max(1);
        let tries = self.slots.attempt.as_ref().map_or(0, |attempt| attempt.tries as usize);
        let turn = tries * (TRIED_AT_ONCE - 1) % others;
        let addresses = self.addresses.iter().cycle().skip(turn).take(self.addresses.len()).copied();
        let addresses = addresses.filter(|address| Some(*address) != self.endpoint);
        for to in self.endpoint.into_iter().chain(addresses).take(TRIED_AT_ONCE) {
            shared.outputs.push_back(Output::Send { to, datagram: datagram.to_vec() });
            self.counters.initiations_sent.one();
        }
        let entropy = std::cell::RefCell::new(&mut shared.entropy);
        self.slots.sent(now.at, index, initiator, |most| {
            let micros = u32::try_from(most.as_micros()).unwrap_or(u32::MAX);
            Duration::from_micros(entropy.borrow_mut().below(micros.max(1)).into())
        });
    }

    /// A session seals from now on.
    fn begin(&mut self, shared: &mut Shared, now: Instant, from: SocketAddr, instance: [u8; 8]) {
        self.counters.handshakes.one();
        if self.up {
            self.counters.rekeys.one();
        }
        if self.instance.replace(instance) != Some(instance) {
            self.slots.drop_older();
            self.channels.values_mut().for_each(|channel| channel.reset(now));
        }
        self.moved(shared, now, from);
        if !self.up {
            self.up = true;
            self.down = None;
            self.idle_since = None;
            self.mtu.restart(now);
            self.live = Liveness::new(now);
            self.channels.values_mut().for_each(|channel| channel.ask_again(now));
            shared.tell(Event::LinkUp { peer: self.host });
        }
        self.live.ask_now(now);
        self.changed = true;
    }

    fn moved(&mut self, shared: &mut Shared, now: Instant, to: SocketAddr) {
        if let Some(from) = self.endpoint.replace(to)
            && from != to
        {
            self.counters.roamed.one();
            self.mtu.restart(now);
            shared.tell(Event::Roamed { peer: self.host, from, to });
        }
        self.changed = true;
    }

    fn go_down(&mut self, shared: &mut Shared, reason: LinkDownReason) {
        self.slots.clear();
        self.changed = true;
        if self.up {
            self.up = false;
            self.down = Some(reason);
            shared.tell(Event::LinkDown { peer: self.host, reason });
        }
    }

    // ── what was opened ──

    /// A datagram of this session was opened that makes the session proved, or the peer's address another.
    pub(super) fn handle_touched(
        &mut self,
        shared: &mut Shared,
        now: Now,
        index: u32,
        from: SocketAddr,
        newest: bool,
    ) {
        if let Some(instance) = self.slots.confirmed(index) {
            self.begin(shared, now.at, from, instance);
        } else if newest && self.endpoint != Some(from) && self.is_current(index) {
            self.moved(shared, now.at, from);
        }
        self.retire(shared);
    }

    /// An old session's datagram may come late from the old address; it moves nothing.
    fn is_current(&self, index: u32) -> bool {
        self.slots.current().is_some_and(|session| session.local_index() == index)
    }

    pub(super) fn handle_control(&mut self, shared: &mut Shared, now: Now, bytes: &[u8]) {
        let Ok(message) = Control::parse(bytes) else { return self.counters.malformed.one() };
        match message {
            Control::Ping { id } => self.say(shared, &Control::Pong { id }),
            Control::Pong { id } => self.live.pong(now.at, id),
            Control::Probe { id, .. } => self.say(shared, &Control::ProbeSeen { id }),
            Control::ProbeSeen { id } => {
                if let Some(place) = self.probes.iter().position(|(own, _)| *own == id)
                    && let Some((_, size)) = self.probes.remove(place)
                    && self.mtu.seen(now.at, size) == Change::Size
                {
                    self.changed = true;
                }
            }
            Control::Open { network, grant } => self.handle_open(shared, now.at, network, grant),
            Control::Accept { network, grant, channel: number, seconds } => {
                if let Some(channel) = self.channels.get_mut(&network) {
                    channel.accepted(now.at, grant, number, seconds);
                    self.changed = true;
                    self.release(shared, network);
                }
            }
            Control::Refuse { network, grant, reason } => {
                if let Some(channel) = self.channels.get_mut(&network)
                    && channel.refused(now.at, grant)
                {
                    self.changed = true;
                    self.drop_held(network);
                    shared.tell(Event::ChannelRefused { peer: self.host, network, reason });
                }
            }
            Control::Close { network } => {
                if let Some(channel) = self.channels.get_mut(&network) {
                    channel.closed(now.at);
                    self.changed = true;
                }
            }
            Control::Unknown { channel: number } => {
                self.channels.values_mut().for_each(|channel| channel.unknown(now.at, number));
                self.changed = true;
            }
            Control::Bye => {
                self.go_down(shared, LinkDownReason::PeerLeft);
                self.retire(shared);
            }
        }
    }

    fn handle_open(&mut self, shared: &mut Shared, now: Instant, network: NetworkId, grant: &[u8]) {
        let digest = GrantDigest::of(grant);
        if now >= self.questions.0 + Duration::from_secs(1) {
            self.questions = (now, 0);
        }
        let Ok(channel) = self.channel_entry(network) else {
            return self.say(shared, &Control::Refuse { network, grant: digest, reason: GrantRefusal::Full });
        };
        match channel.opened_by_peer(now, digest) {
            Question::Wait => {}
            Question::Accept { number, left } => self.say(shared, &accept(network, digest, number, left)),
            Question::Refuse(reason) => self.say(shared, &Control::Refuse { network, grant: digest, reason }),
            Question::AskNode if self.questions.1 >= QUESTIONS_PER_SECOND => self.forget_question(network),
            Question::AskNode => {
                self.questions.1 += 1;
                let request = ChannelRequest { peer: self.peer, network, digest: digest.0 };
                let grant = grant.to_vec();
                shared.tell(Event::ChannelRequested { request, peer: self.host, network, grant });
                // The peer has the network now, whatever it said before.
                if let Some(channel) = self.channels.get_mut(&network)
                    && channel.sendable() == Sendable::No
                {
                    channel.ask_again(now);
                }
            }
        }
    }

    /// Frames come on a channel that is not known here.
    pub(super) fn handle_unknown_channel(&mut self, shared: &mut Shared, now: Instant, channel: u32) {
        if self.unknown_told.is_some_and(|told| now < told + Duration::from_secs(1)) {
            return;
        }
        self.unknown_told = Some(now);
        self.say(shared, &Control::Unknown { channel });
    }

    // ── what is to be sent ──

    /// A frame that no worker could send, as the channel was not open.
    pub(super) fn handle_frame(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        network: NetworkId,
        frame: Vec<u8>,
    ) {
        match self.channels.get(&network).map_or(Sendable::No, Channel::sendable) {
            Sendable::No => self.counters.no_grant_sent.one(),
            Sendable::Open { until, .. } if self.up && now < until => {
                shared.outputs.push_back(Output::Release { peer: self.peer, network, frames: vec![frame] });
            }
            Sendable::Open { .. } | Sendable::Waiting if shared.held_bytes + frame.len() > HELD_BYTES_MAX => {
                self.counters.held_dropped.one();
            }
            Sendable::Open { .. } | Sendable::Waiting => {
                self.counters.held.one();
                self.counters.held_dropped.add(self.hold.push(now, network, frame));
            }
        }
    }

    /// Bytes of frames held for the link.
    pub(super) fn held_bytes(&self) -> usize {
        self.hold.bytes()
    }

    /// The local interface refused a datagram of this size.
    pub(super) fn handle_too_large(&mut self, now: Instant, size: u16) {
        if self.mtu.too_large_here(now, size) == Change::Size {
            self.changed = true;
        }
    }

    fn release(&mut self, shared: &mut Shared, network: NetworkId) {
        let open = matches!(self.channels.get(&network).map(Channel::sendable), Some(Sendable::Open { .. }));
        if self.up && open {
            let frames = self.hold.take(network);
            if !frames.is_empty() {
                shared.outputs.push_back(Output::Release { peer: self.peer, network, frames });
            }
        }
    }

    fn drop_held(&mut self, network: NetworkId) {
        self.counters.held_dropped.add(self.hold.take(network).len() as u64);
    }

    /// Seals a message for the peer, if there is a session to do it with.
    fn say(&self, shared: &mut Shared, message: &Control<'_>) {
        let (Some(session), Some(to)) = (self.slots.current(), self.endpoint) else { return };
        let Ok(counter) = session.reserve(1) else { return self.counters.session_exhausted.one() };
        let mut datagram = vec![0; DATA_HEADER_BYTES];
        datagram.extend(Inner { channel: 0, kind: InnerKind::Control }.encode());
        message.encode(&mut datagram);
        datagram.resize(datagram.len() + TAG_BYTES, 0);
        session.seal(counter, &mut datagram);
        shared.outputs.push_back(Output::Send { to, datagram });
    }

    // ── time ──

    pub(super) fn handle_timeout(&mut self, shared: &mut Shared, now: Now) {
        self.age_sessions(shared, now.at);
        if self.up {
            self.keep_alive(shared, now.at);
        }
        if self.up {
            self.search_mtu(shared, now.at);
            self.ask_for_channels(shared, now.at);
            self.leave_if_unused(shared, now.at);
        }
        let dropped = self.hold.expire(now.at);
        self.counters.held_dropped.add(dropped);
        if !self.up {
            if self.wanted() {
                self.slots.want_handshake(now.at);
            } else {
                self.slots.give_up();
            }
        }
        if self.slots.attempt.as_ref().is_some_and(|attempt| attempt.next_at <= now.at) {
            self.initiate(shared, now);
        }
        self.retire(shared);
    }

    fn age_sessions(&mut self, shared: &mut Shared, now: Instant) {
        let due: Vec<_> = self
            .slots
            .opening()
            .map(|session| {
                let age = now.saturating_duration_since(session.established());
                let initiator = session.role() == Role::Initiator;
                (session.local_index(), shared.limits.due(initiator, age, session.sealed()))
            })
            .collect();
        for (index, due) in due {
            match due {
                Due::Nothing => {}
                Due::Rekey if self.is_current(index) => self.slots.want_handshake(now),
                Due::Rekey => {}
                Due::End => {
                    self.slots.drop_session(index);
                    self.changed = true;
                }
            }
        }
        if self.up && self.slots.current().is_none() {
            self.go_down(shared, LinkDownReason::SessionEnded);
        }
    }

    fn keep_alive(&mut self, shared: &mut Shared, now: Instant) {
        if self.heard_at().is_none_or(|heard| heard + SILENCE_MAX <= now) {
            return self.go_down(shared, LinkDownReason::Silent);
        }
        if let Some(id) = self.live.ping(now) {
            self.say(shared, &Control::Ping { id });
        }
    }

    /// When the peer was last heard on any session; a session counts from its handshake.
    fn heard_at(&self) -> Option<Instant> {
        let current = self.slots.current().map(|session| session.established());
        self.slots.opening().filter_map(|session| session.last_opened()).chain(current).max()
    }

    fn search_mtu(&mut self, shared: &mut Shared, now: Instant) {
        let mut sizes = Vec::new();
        let large = self.counters.large_datagrams_sent.read();
        let change = self.mtu.handle_timeout(now, self.live.round_trip(), large, |size| sizes.push(size));
        if change == Change::Size {
            self.counters.black_holes.one();
            self.changed = true;
        }
        for size in sizes {
            self.probe_serial = self.probe_serial.wrapping_add(1);
            if self.probes.len() == PROBES_MAX {
                self.probes.pop_front();
            }
            self.probes.push_back((self.probe_serial, size));
            self.counters.probes_sent.one();
            let padding = usize::from(size) - DATA_OVERHEAD - PROBE_BYTES_MIN;
            self.say(shared, &Control::Probe { id: self.probe_serial, padding });
        }
    }

    fn ask_for_channels(&mut self, shared: &mut Shared, now: Instant) {
        let mut ask = Vec::new();
        for (network, channel) in &mut self.channels {
            if channel.poll_timeout().is_some_and(|at| at <= now) {
                if channel.handle_timeout(now) == Act::Ask {
                    ask.push(*network);
                }
                self.changed = true;
            }
        }
        for network in ask {
            if let Some(grant) = self.channels.get(&network).and_then(Channel::grant) {
                self.say(shared, &Control::Open { network, grant });
            }
        }
    }

    fn leave_if_unused(&mut self, shared: &mut Shared, now: Instant) {
        if self.wanted() || self.channels.values().any(|channel| !channel.idle()) {
            self.idle_since = None;
        } else if now >= *self.idle_since.get_or_insert(now) + IDLE_MAX {
            self.channels.clear();
            self.leave(shared, LinkDownReason::Unused);
        }
    }

    /// When [`Self::handle_timeout`] has something to do, at the latest.
    pub(super) fn poll_timeout(&self, now: Instant, shared: &Shared) -> Option<Instant> {
        let mut earliest = self.hold.poll_timeout();
        let mut at =
            |deadline: Instant| earliest = Some(earliest.map_or(deadline, |other| other.min(deadline)));
        if let Some(attempt) = &self.slots.attempt {
            at(attempt.next_at);
        } else if !self.up && self.wanted() {
            at(now);
        }
        if self.up {
            at(self.live.poll_timeout());
            at(self.mtu.poll_timeout());
            self.channels.values().filter_map(Channel::poll_timeout).for_each(&mut at);
            if let Some(heard) = self.heard_at() {
                at(heard + SILENCE_MAX);
            }
            if let Some(since) = self.idle_since {
                at(since + IDLE_MAX);
            }
        }
        for session in self.slots.opening() {
            let rekey = self.is_current(session.local_index()) && self.slots.attempt.is_none();
            let after = match session.role() {
                Role::Initiator if rekey => shared.limits.rekey_after,
                _ => shared.limits.refuse_after,
            };
            at(session.established() + after);
        }
        earliest
    }

    // ── what others see ──

    fn wanted(&self) -> bool {
        self.channels.values().any(Channel::wanted)
    }

    fn channel_entry(&mut self, network: NetworkId) -> Result<&mut Channel, ChannelsFull> {
        if !self.channels.contains_key(&network) && self.channels.len() >= CHANNELS_MAX {
            // Entries that hold nothing but a number are given up: the peer is told that its number is unknown.
            self.channels.retain(|_, channel| !channel.idle());
            if self.channels.len() >= CHANNELS_MAX {
                return Err(ChannelsFull);
            }
        }
        Ok(self.channels.entry(network).or_insert_with(Channel::new))
    }

    fn retire(&mut self, shared: &mut Shared) {
        for index in self.slots.take_retired() {
            shared.indices.remove(&index);
            self.changed = true;
        }
    }

    /// Whether workers must see another route; asked once.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn route(&self) -> Route {
        let sending = match (self.slots.current(), self.endpoint) {
            (Some(session), Some(endpoint)) if self.up => Some(Sending {
                session: Arc::clone(session),
                endpoint,
                datagram_bytes: self.mtu.datagram_bytes().into(),
            }),
            _ => None,
        };
        let send = self.channels.iter().filter_map(|(network, channel)| match channel.sendable() {
            Sendable::Open { number: channel, until } if self.up => {
                Some((*network, SendState::Open { channel, until }))
            }
            Sendable::Open { .. } | Sendable::Waiting => Some((*network, SendState::Waiting)),
            Sendable::No => None,
        });
        let mut receive: Vec<_> = self
            .channels
            .iter()
            .filter_map(|(network, channel)| {
                channel.receivable().map(|(number, until)| (number, *network, until))
            })
            .collect();
        receive.sort_unstable_by_key(|(number, ..)| *number);
        Route {
            peer: self.peer,
            sending,
            send: send.collect(),
            receive,
            counters: Arc::clone(&self.counters),
        }
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = &Arc<crate::session::Session>> {
        self.slots.opening()
    }

    pub(super) fn snapshot(&self, now: Instant) -> LinkSnapshot {
        let session = self.slots.current();
        let loss = session.map_or(0.0, |session| {
            let (opened, sealed) = session.opened();
            #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
            if sealed == 0 { 0.0 } else { 1.0 - (opened.min(sealed) as f64 / sealed as f64) }
        });
        LinkSnapshot {
            peer: self.host,
            state: match (self.up, self.down) {
                (true, _) => LinkState::Up,
                (false, _) if self.slots.attempt.is_some() => LinkState::Connecting,
                (false, Some(reason)) => LinkState::Down(reason),
                (false, None) => LinkState::Idle,
            },
            address: self.endpoint,
            round_trip_micros: self
                .live
                .round_trip()
                .map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            loss,
            datagram_bytes: self.mtu.datagram_bytes(),
            frame_bytes: self.mtu.datagram_bytes() - FRAME_OVERHEAD,
            suite: session.map(|session| session.suite()),
            session_seconds: session
                .map(|session| now.saturating_duration_since(session.established()).as_secs()),
            channels: self
                .channels
                .iter()
                .map(|(network, channel)| {
                    let (outbound, inbound) = channel.words(now);
                    ChannelSnapshot { network: *network, outbound, inbound }
                })
                .collect(),
            counts: self.counters.read(),
        }
    }
}

/// What a datagram is longer than its frame, as a size of datagrams.
const FRAME_OVERHEAD: u16 = 36;
const _: () = assert!(FRAME_OVERHEAD as usize == DATA_OVERHEAD && INNER_BYTES == 4 && BASE > FRAME_OVERHEAD);

/// More networks than a link carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChannelsFull;

fn accept(network: NetworkId, grant: GrantDigest, channel: u32, left: Duration) -> Control<'static> {
    let seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
    Control::Accept { network, grant, channel, seconds }
}
