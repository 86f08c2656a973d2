//! A worker: one thread that moves frames between the TAP queues it reads and its UDP socket.
//!
//! A turn takes what is there, in bounded portions, so that one busy queue does not starve another ([`READS_PER_TURN`],
//! [`SENT_BYTES_PER_TURN`], [`RUNS_PER_TURN`]); what it gathered leaves at the end of each portion, so nothing waits for
//! more to come. What ports gave waits in a [`Backlog`], where flows take turns.

mod queues;

use std::{
    cell::RefCell,
    collections::HashMap,
    io::{ErrorKind, IoSlice},
    sync::{Arc, atomic::Ordering::Acquire},
    time::{Duration, Instant},
};

use super::{
    backlog::Backlog,
    clock,
    counters::WorkerCounters,
    inbox::Input,
    keeper::{Alarm, KeeperShared},
    pacer::Pacer,
    poll::{Poll, Waker},
    published::{Published, Seen},
    readers::Readers,
    sender::Sender,
    tap::TapQueue,
    udp::{ARENA_BYTES, RECEIVE_MAX, Socket},
    underlay::{Out, Pacing, Sockets},
};
use crate::{
    link::{Arrived, Egress, Ingress, RefusalCounters, RelayCounters, Routes, Transmitted},
    offload::{HEADER_BYTES, Joiner, Received, VnetHeader},
    path::{Origin, SocketId},
    switch::{self, Decision, NetworkId, PeerIndex, PortId},
};
use queues::Queues;

/// Frames or super-frames read from one TAP queue before others get their turn. Fewer than are sent in a turn when they are small, so
/// that a flood of them waits in the kernel, where refusing costs nothing; more when they are large, so that what is small
/// gets past them.
const READS_PER_TURN: usize = 64;
/// Bytes sent from the backlog before other queues and the socket get their turn: a tenth of a millisecond of sealing and
/// sending, which whatever else comes to this worker has to wait at most.
const SENT_BYTES_PER_TURN: usize = 64 * 1024;
/// Runs of datagrams received before ports get their turn.
const RUNS_PER_TURN: usize = 4 * RECEIVE_MAX;
/// Runs asked for where one comes at a time: with two the kernel itself sees that there is no second, without another call.
const RUNS_ASKED_MIN: usize = 2;
/// A worker that waited longer than this had nothing to do before: what it was woken by goes at once, before it looks for company.
/// Less is what a wait takes that finds something ready.
const RESTED: Duration = Duration::from_micros(5);
/// A super-frame with its virtio header: 64 KiB of packet and Ethernet header with tags.
const FRAME_BYTES: usize = 65_536 + 64 + HEADER_BYTES;

const WAKER: u64 = 0;
const SOCKET: u64 = 1;
/// The second half of the tokens: sockets of port searches.
const FIRST_OTHER_SOCKET: u64 = 1 << 63;
const FIRST_PORT: u64 = 1 << 16;

/// A machine's attachment.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) id: PortId,
    /// Those that are read, all with virtio headers, all of one device.
    pub(crate) queues: Vec<TapQueue>,
    /// The one that is written to where there are several.
    pub(crate) writer: Option<TapQueue>,
    /// Which worker reads each.
    pub(crate) readers: Readers,
}

/// The ports as workers see them.
pub(crate) type Ports = HashMap<PortId, Arc<Port>>;

/// What the workers share with the data plane's handles.
#[derive(Debug)]
pub(crate) struct WorkersShared {
    pub(crate) keeper: Arc<KeeperShared>,
    pub(crate) ports: Arc<Published<Ports>>,
    pub(crate) refusals: Arc<RefusalCounters>,
    pub(crate) relayed: Arc<RelayCounters>,
    pub(crate) counters: Arc<WorkerCounters>,
    /// How long after the last frame this worker looks for more before it sleeps.
    pub(crate) busy_poll: Duration,
}

/// Where a frame that arrived lies.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In the arena.
    Arena(Received),
    /// Among the joined ones.
    Joined(usize, usize),
}

/// A frame that arrived from a peer.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    peer: PeerIndex,
    network: NetworkId,
    place: Place,
}

/// One thread's state.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<WorkersShared>,
    number: usize,
    workers: usize,
    switch: switch::Worker,
    routes: Seen<Routes>,
    ports: Seen<Ports>,
    queues: Queues,
    poll: Poll,
    waker: Arc<Waker>,
    socket: Arc<Socket>,
    sockets: Seen<Sockets>,
    /// Of them, those this worker waits for.
    listened: Sockets,
    ingress: Ingress,
    egress: Egress,
    pacer: RefCell<Pacer>,
    joiner: Joiner<PortId>,
    arena: Box<[u8]>,
    /// Runs of datagrams the next receive call is asked for: about as many as the last ones gave.
    asked: usize,
    backlog: Backlog,
    /// For a frame that goes to several peers, each of which spoils its own copy.
    copy: Box<[u8]>,
    arrivals: Vec<Arrival>,
    joined: Vec<u8>,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<WorkersShared>,
        number: u8,
        workers: usize,
        switch: switch::Worker,
        socket: Arc<Socket>,
        waker: Arc<Waker>,
    ) -> std::io::Result<Self> {
        let poll = Poll::new()?;
        poll.add(&*waker, WAKER)?;
        poll.add(&*socket, SOCKET)?;
        Ok(Self {
            number: number.into(),
            workers,
            switch,
            routes: Seen::new(Arc::clone(&shared.keeper.routes)),
            ports: Seen::new(Arc::clone(&shared.ports)),
            queues: Queues::default(),
            poll,
            waker,
            socket,
            sockets: Seen::new(Arc::clone(&shared.keeper.sockets)),
            listened: Sockets::new(),
            ingress: Ingress::new(Arc::clone(&shared.refusals)),
            egress: Egress::new(number),
            pacer: RefCell::default(),
            joiner: Joiner::new(),
            arena: vec![0; ARENA_BYTES].into(),
            asked: RUNS_ASKED_MIN,
            backlog: Backlog::new(FRAME_BYTES),
            copy: vec![0; FRAME_BYTES].into(),
            arrivals: Vec::new(),
            joined: Vec::new(),
            shared,
        })
    }

    /// Runs until it is stopped.
    pub(crate) fn run(mut self) {
        let _alarm = Alarm(Arc::clone(&self.shared.keeper));
        let mut ready = Vec::new();
        let mut awake_until = clock::now();
        self.watch(awake_until);
        self.listen();
        while !self.shared.keeper.stop.load(Acquire) {
            ready.clear();
            let now = clock::now();
            // While something waits to be sent, others are only looked after; so they are for a while after the last frame, if asked for.
            let busy = !self.backlog.is_empty() || now < awake_until;
            let deadline = if busy { Some(now) } else { self.pacer.get_mut().next_at() };
            if let Err(error) = self.poll.wait(now, deadline, |token| ready.push(token)) {
                tracing::error!(%error, worker = self.number, "waiting for frames failed; the worker ends");
                return;
            }
            let woken = clock::now();
            let rested = woken.saturating_duration_since(now) > RESTED;
            let now = woken;
            if !ready.is_empty() {
                awake_until = now + self.shared.busy_poll;
            }
            self.switch.refresh();
            self.routes.refresh();
            if self.ports.refresh() {
                self.watch(now);
            }
            if self.sockets.refresh() {
                self.listen();
            }
            for token in &ready {
                match *token {
                    WAKER => {
                        self.waker.clear();
                        self.take_given(now);
                    }
                    SOCKET => self.receive(now, SocketId::MAIN),
                    token if token >= FIRST_OTHER_SOCKET => self.receive(now, other_socket(token)),
                    token => self.read_port(now, token, rested),
                }
            }
            self.send_backlog(now);
            self.send_due(now);
            self.look(now);
        }
    }

    /// Sends what waited for its line.
    fn send_due(&mut self, now: Instant) {
        let out = Out::plain(&self.socket, self.sockets.value());
        self.pacer.get_mut().send_due(now, &out, &self.shared.counters);
    }

    /// Waits for this worker's share of the sockets beside its own, and no longer for those that were closed.
    fn listen(&mut self) {
        let (number, workers) = (self.number, self.workers);
        let share = |(id, _): &(&SocketId, &Arc<Socket>)| {
            id.second_of().unwrap_or(usize::from(id.0) % workers) == number
        };
        let wanted: Sockets =
            self.sockets.value().iter().filter(share).map(|(id, socket)| (*id, Arc::clone(socket))).collect();
        for (id, socket) in &self.listened {
            if !wanted.contains_key(id)
                && let Err(error) = self.poll.remove(&**socket)
            {
                tracing::warn!(%error, "a socket could not be let go");
            }
        }
        for (id, socket) in &wanted {
            if !self.listened.contains_key(id)
                && let Err(error) = self.poll.add(&**socket, FIRST_OTHER_SOCKET + u64::from(id.0))
            {
                tracing::warn!(%error, "a socket cannot be waited for");
            }
        }
        self.listened = wanted;
    }

    // ── from the network to ports ──

    fn receive(&mut self, now: Instant, socket: SocketId) {
        let mut runs = 0;
        while runs < RUNS_PER_TURN {
            let asked = self.asked;
            let taken = self.receive_once(now, socket, asked);
            self.deliver(now);
            self.asked = if taken < asked { taken.max(RUNS_ASKED_MIN) } else { RECEIVE_MAX.min(2 * asked) };
            if taken < asked {
                break;
            }
            runs += taken;
        }
    }

    /// Opens what one receive call gives that is asked for so many runs of datagrams; how many there were.
    fn receive_once(&mut self, now: Instant, id: SocketId, asked: usize) -> usize {
        let Self {
            shared, routes, socket, sockets, listened, ingress, arena, arrivals, joined, pacer, ..
        } = self;
        let inbox = &shared.keeper.inbox;
        let pacing = Pacing { now, pacer, counters: &shared.counters };
        let out = Out { own: socket, others: sockets.value(), pacing: Some(pacing) };
        let from = if id == SocketId::MAIN { Some(&*socket) } else { listened.get(&id) };
        let Some(from) = from else { return 0 };
        let taken = from.receive(arena, asked, |start, received, buffer| {
            if received.cut {
                return shared.refusals.cut_by_kernel.one();
            }
            let from = Origin { socket: id.known_as(), address: received.from, token: None };
            // After it came: it may be sealed with keys that were agreed meanwhile, or sent from where a probe has just been answered.
            routes.refresh();
            ingress.receive(now, routes.value(), from, buffer, received.stride, |arrived| {
                let taken = match arrived {
                    Arrived::Frame { peer, network, start: at, frame, partial } => {
                        let received = Received { start: start + at, end: start + at + frame.len(), partial };
                        arrivals.push(Arrival { peer, network, place: Place::Arena(received) });
                        true
                    }
                    Arrived::Joined { peer, network, frame } => {
                        let at = joined.len();
                        joined.extend_from_slice(frame);
                        arrivals.push(Arrival { peer, network, place: Place::Joined(at, joined.len()) });
                        true
                    }
                    Arrived::Handshake { origin, datagram } => {
                        inbox.push(Input::Handshake { from: origin, datagram: datagram.to_vec() })
                    }
                    Arrived::Probe { peer, origin, datagram } => {
                        inbox.push(Input::Probe { peer, from: origin, datagram: datagram.to_vec() })
                    }
                    Arrived::Relayed { run, stride } => {
                        let relay = &routes.value().relay;
                        if let Some((via, at)) = relay.forward(now, &from, run, stride, &shared.relayed)
                            && out.transmit_at(at, &via, run, stride) != Transmitted::Sent
                        {
                            shared.relayed.send_failed.add(run.len().div_ceil(stride) as u64);
                        }
                        true
                    }
                    Arrived::Control { peer, body } => {
                        inbox.push(Input::Control { peer, body: body.to_vec() })
                    }
                    Arrived::Touched { peer, index, origin, newest } => {
                        inbox.push(Input::Touched { peer, index, from: origin, newest })
                    }
                    Arrived::UnknownChannel { peer, channel } => {
                        inbox.push(Input::UnknownChannel { peer, channel })
                    }
                };
                if !taken {
                    shared.refusals.queue_full.one();
                }
            });
        });
        taken.unwrap_or_else(|error| {
            tracing::debug!(%error, "receiving failed");
            shared.counters.receive_failed.one();
            0
        })
    }

    /// Hands what arrived to the ports.
    fn deliver(&mut self, now: Instant) {
        let Self { shared, switch, ports, joiner, arena, arrivals, joined, .. } = self;
        let (ports, counters) = (&**ports.value(), &*shared.counters);
        let (number, load) = (self.number, self.queues.load());
        let mut write = |port: PortId, slices: &[IoSlice<'_>]| {
            if let Some(port) = ports.get(&port) {
                port.readers.brought_by(number, load);
                write_port(port, slices, counters);
            }
        };
        // Whose frame the joiner took last: what continues it goes where it went, and is not judged again.
        let mut source = None;
        let mut alike = 0;
        for Arrival { peer, network, place } in arrivals.drain(..) {
            if let Place::Arena(received) = place
                && source == Some((peer, network))
                && joiner.extend(arena, received)
            {
                alike += 1;
                continue;
            }
            source = None;
            let frame = match place {
                Place::Arena(received) => &arena[received.start..received.end],
                Place::Joined(start, end) => &joined[start..end],
            };
            let mut to = |port: PortId| match place {
                Place::Arena(received) => {
                    let Some(takes) = ports.get(&port).map(|port| port.queues[0].takes()) else { return };
                    if let Err(refusal) = joiner.push(arena, port, takes, received, &mut write) {
                        counters.offload.count(refusal);
                    }
                }
                Place::Joined(..) => {
                    joiner.flush(arena, &mut write);
                    write(port, &[IoSlice::new(&VnetHeader::PLAIN.encode()), IoSlice::new(frame)]);
                }
            };
            match switch.from_peer(now, peer, network, frame) {
                Decision::Port(port) => {
                    to(port);
                    source = Some((peer, network));
                }
                Decision::Many(egress) => egress.ports().for_each(to),
                // Links' frames never go to links, and peers are not answered.
                Decision::Peer(..) | Decision::Answer(_) | Decision::Drop(_) => {}
            }
        }
        switch.alike(alike);
        joiner.flush(arena, &mut write);
        joined.clear();
    }

    // ── from ports to everywhere ──

    /// Moves what a queue holds to the backlog, at most [`READS_PER_TURN`] frames. What a rested worker finds first is sent at once and
    /// alone: mostly there is no more, and where there is, the poll that follows says so.
    fn read_port(&mut self, now: Instant, token: u64, rested: bool) {
        let (id, queue) = port_of(token);
        let Some(port) = self.queues.port(id) else { return };
        let mut bytes = 0;
        for _ in 0..READS_PER_TURN {
            match port.queues[queue].read(self.backlog.room()) {
                Ok(len) => {
                    bytes += len;
                    let dropped = self.backlog.push(now, id, len, HEADER_BYTES);
                    self.shared.counters.backlog_full.add(dropped);
                    if rested {
                        self.send_backlog(now);
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!(%error, port = %id, "reading a port failed");
                    self.shared.counters.read_failed.one();
                    // The device is gone: waiting for it would spin.
                    self.let_go(&port, queue);
                    break;
                }
            }
        }
        self.queues.note(id, queue, bytes);
    }

    /// Sends from the backlog, at most [`SENT_BYTES_PER_TURN`].
    fn send_backlog(&mut self, now: Instant) {
        let mut bytes = 0;
        while bytes < SENT_BYTES_PER_TURN {
            let Some(mut waiting) = self.backlog.pop(now) else { break };
            let frame = waiting.bytes();
            bytes += frame.len();
            let (port, congested) = (waiting.port, waiting.congested);
            self.forward(now, port, congested, waiting.bytes());
            self.backlog.recycle(waiting);
        }
        let pacing = Pacing { now, pacer: &self.pacer, counters: &self.shared.counters };
        let mut out = Out { own: &self.socket, others: self.sockets.value(), pacing: Some(pacing) };
        self.egress.flush(&mut out);
        self.shared.keeper.inbox.report(self.egress.take_reports());
    }

    /// One frame or super-frame that a machine sent.
    fn forward(&mut self, now: Instant, port: PortId, congested: bool, bytes: &mut [u8]) {
        let Self { shared, switch, routes, ports, socket, sockets, egress, copy, pacer, .. } = self;
        let counters = &*shared.counters;
        let (head, frame) = bytes.split_at(HEADER_BYTES.min(bytes.len()));
        let header = match VnetHeader::parse(head) {
            Ok(header) => header,
            Err(refusal) => return counters.offload.count(refusal),
        };
        let write = |to: PortId, slices: &[IoSlice<'_>]| {
            if let Some(port) = ports.value().get(&to) {
                write_port(port, slices, counters);
            }
        };
        let whole = |to: PortId, frame: &[u8]| write(to, &[IoSlice::new(head), IoSlice::new(frame)]);
        let pacing = Some(Pacing { now, pacer, counters });
        let out = Out { own: socket, others: sockets.value(), pacing };
        let mut sender = Sender { now, shared, egress, out, congested };
        match switch.from_port(now, port, frame) {
            Decision::Port(to) => whole(to, frame),
            Decision::Peer(network, peer) => {
                sender.send(routes.value(), peer, network, header, bytes);
            }
            Decision::Many(egress) => {
                egress.ports().for_each(|to| whole(to, frame));
                for peer in egress.peers {
                    let copy = &mut copy[..bytes.len()];
                    copy.copy_from_slice(bytes);
                    sender.send(routes.value(), *peer, egress.network, header, copy);
                }
            }
            Decision::Answer(answer) => {
                let header = VnetHeader::PLAIN.encode();
                write(port, &[IoSlice::new(&header), IoSlice::new(answer.frame())]);
            }
            Decision::Drop(_) => {}
        }
    }
}

fn write_port(port: &Port, slices: &[IoSlice<'_>], counters: &WorkerCounters) {
    let writer = port.writer.as_ref().unwrap_or(&port.queues[0]);
    if writer.write(slices).is_err() {
        counters.write_failed.one();
    }
}

fn token(port: PortId, queue: usize) -> u64 {
    (u64::from(port.0) << 16 | queue as u64) + FIRST_PORT
}

fn other_socket(token: u64) -> SocketId {
    SocketId(u16::try_from(token - FIRST_OTHER_SOCKET).expect("made from a socket's number"))
}

fn port_of(token: u64) -> (PortId, usize) {
    let token = token - FIRST_PORT;
    let port = u32::try_from(token >> 16).expect("made from a port's number");
    (PortId(port), usize::try_from(token & 0xffff).expect("sixteen bits"))
}
