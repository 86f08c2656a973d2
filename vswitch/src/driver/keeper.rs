//! The keeper's thread: takes what workers could not do, feeds the links' core, carries out what it asks for.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Acquire},
    },
    time::Duration,
};

use super::{
    clock,
    events::EventSender,
    inbox::{Inbox, Input},
    interfaces::{self, Bound, Changes},
    poll::{Poll, Waker},
    published::Published,
    udp::Socket,
    underlay::{self, Out, Sockets},
};
use crate::{
    link::{Egress, Event, Links, NotSent, Output, Routes},
    path::SocketId,
};

/// The keeper's number among those that cut frames; workers count from 0.
pub(crate) const KEEPER_NUMBER: u8 = u8::MAX;

/// Between two looks at the interfaces: on a router, routes may change all the time.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

const WAKER: u64 = 0;
const INTERFACES: u64 = 1;

/// What the keeper shares with the data plane's handles and the workers.
#[derive(Debug)]
pub(crate) struct KeeperShared {
    links: Mutex<Links>,
    /// Wakes the workers, once they are there.
    pub(crate) workers: OnceLock<Vec<Arc<Waker>>>,
    pub(crate) inbox: Inbox,
    pub(crate) routes: Arc<Published<Routes>>,
    /// Sockets of port searches and of the second IP version, beside the workers' own.
    pub(crate) sockets: Arc<Published<Sockets>>,
    pub(crate) events: EventSender,
    pub(crate) stop: AtomicBool,
}

impl KeeperShared {
    pub(crate) fn new(
        links: Links,
        inbox: Inbox,
        routes: Arc<Published<Routes>>,
        events: EventSender,
    ) -> Self {
        let sockets = Arc::new(Published::new(Sockets::new()));
        Self {
            links: Mutex::new(links),
            workers: OnceLock::new(),
            inbox,
            routes,
            sockets,
            events,
            stop: AtomicBool::new(false),
        }
    }

    /// Changes the links; the keeper carries out what follows.
    pub(crate) fn with_links<T>(&self, change: impl FnOnce(&mut Links) -> T) -> T {
        let mut links = self.links();
        let result = change(&mut links);
        self.publish(&mut links);
        drop(links);
        self.inbox.waker().wake();
        result
    }

    /// Looks at the links.
    pub(crate) fn read_links<T>(&self, look: impl FnOnce(&Links) -> T) -> T {
        look(&self.links())
    }

    /// Sockets beside the workers' own come or go; workers look at once.
    pub(crate) fn change_sockets(&self, change: impl FnOnce(&mut Sockets)) {
        self.sockets.update(|sockets| {
            let mut sockets = sockets.clone();
            change(&mut sockets);
            sockets
        });
        self.workers.get().into_iter().flatten().for_each(|waker| waker.wake());
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        // A panic half-way through a change is a fault of ours; the links go on with what they have.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, links: &mut Links) {
        if let Some(routes) = links.take_routes() {
            self.routes.publish(routes);
        }
    }
}

/// Ends the events when a thread of the data plane panics, so that node does not go on with half of it.
#[derive(Debug)]
pub(crate) struct Alarm(pub(crate) Arc<KeeperShared>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.events.close();
        }
    }
}

/// The thread's own state.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<KeeperShared>,
    socket: Arc<Socket>,
    poll: Poll,
    interfaces: Changes,
    egress: Egress,
    inputs: VecDeque<Input>,
    outputs: Vec<Output>,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<KeeperShared>, socket: Arc<Socket>) -> std::io::Result<Self> {
        let poll = Poll::new()?;
        let interfaces = Changes::new()?;
        poll.add(shared.inbox.waker(), WAKER)?;
        poll.add(&interfaces, INTERFACES)?;
        Ok(Self {
            shared,
            socket,
            poll,
            interfaces,
            egress: Egress::new(KEEPER_NUMBER),
            inputs: VecDeque::new(),
            outputs: Vec::new(),
        })
    }

    /// Runs until it is stopped; says farewell to the peers then.
    pub(crate) fn run(mut self) {
        let _alarm = Alarm(Arc::clone(&self.shared));
        self.look_at_interfaces();
        let (mut looked, mut changed) = (clock::now(), false);
        while !self.shared.stop.load(Acquire) {
            let now = clock::now();
            let deadline = self.shared.read_links(Links::poll_timeout);
            let look_at = changed.then(|| looked + LOOK_PAUSE);
            let deadline = deadline.into_iter().chain(look_at).min();
            if let Err(error) = self.poll.wait(now, deadline, |token| changed |= token == INTERFACES) {
                tracing::error!(%error, "waiting for work failed; the keeper of links ends");
                break;
            }
            self.shared.inbox.waker().clear();
            if changed {
                self.interfaces.clear();
                let now = clock::now();
                if now >= looked + LOOK_PAUSE {
                    (looked, changed) = (now, false);
                    self.look_at_interfaces();
                }
            }
            self.turn(|_| ());
        }
        self.turn(|links| links.leave(clock::now()));
        self.shared.events.close();
    }

    fn look_at_interfaces(&self) {
        let second = self.shared.sockets.read().get(&SocketId::SECOND).map(Arc::clone);
        let sockets = [Some(Bound::of(&self.socket)), second.map(|second| Bound::of(&second))];
        let local = interfaces::addresses(&sockets.into_iter().flatten().collect::<Vec<_>>());
        self.shared.with_links(|links| links.set_local(clock::now(), local));
    }

    fn turn(&mut self, last: impl FnOnce(&mut Links)) {
        let shared = Arc::clone(&self.shared);
        shared.inbox.take(&mut self.inputs);
        let mut links = shared.links();
        for input in self.inputs.drain(..) {
            feed(&mut links, input);
        }
        links.handle_timeout(clock::both());
        last(&mut links);
        // Before anything is sent: its answer may come at once.
        shared.publish(&mut links);
        while let Some(output) = links.poll_output() {
            match output {
                Output::Tell(event) => {
                    let question = match &event {
                        Event::ChannelRequested { request, .. } => Some(*request),
                        _ => None,
                    };
                    if !shared.events.send(event)
                        && let Some(request) = question
                    {
                        links.forget_question(&request);
                    }
                }
                output => self.outputs.push(output),
            }
        }
        drop(links);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        let routes = self.shared.routes.read();
        let mut sockets = self.shared.sockets.read();
        for output in self.outputs.drain(..) {
            let mut out = Out::plain(&self.socket, &sockets);
            match output {
                Output::Send { via, hops, datagram } => {
                    // Lost or refused, it is sent again by whoever misses the answer.
                    let _ = out.send(&via, hops, &datagram);
                }
                Output::OpenSocket(id) => {
                    open(&self.shared, &self.socket, id);
                    sockets = self.shared.sockets.read();
                }
                Output::CloseSocket(id) => {
                    self.shared.change_sockets(|sockets| drop(sockets.remove(&id)));
                    sockets = self.shared.sockets.read();
                }
                Output::Release { peer, network, frames } => {
                    let Some(route) = routes.peers.get(&peer) else { continue };
                    let now = clock::now();
                    for frame in frames {
                        if self.egress.send(now, route, network, &frame, &mut out) == Err(NotSent::Waiting) {
                            self.shared.inbox.push(Input::Frame { peer, network, frame });
                        }
                    }
                }
                Output::Tell(_) => {}
            }
        }
        self.egress.flush(&mut Out::plain(&self.socket, &sockets));
        self.shared.inbox.report(self.egress.take_reports());
    }
}

/// A socket that cannot be opened is one chance less for a port search, and no more.
fn open(shared: &KeeperShared, main: &Socket, id: SocketId) {
    // Port searches are for NATs, and those are of IPv4.
    let second = shared.sockets.read().get(&SocketId::SECOND).map(|second| second.local_addr());
    let local = second.filter(|second| second.is_ipv4()).unwrap_or(main.local_addr());
    match underlay::another(local) {
        Ok(socket) => shared.change_sockets(|sockets| drop(sockets.insert(id, Arc::new(socket)))),
        Err(error) => tracing::debug!(%error, "a socket for a port search could not be opened"),
    }
}

fn feed(links: &mut Links, input: Input) {
    let now = clock::both();
    match input {
        Input::Handshake { from, datagram } => links.handle_datagram(now, from, &datagram),
        Input::Probe { peer, from, datagram } => links.handle_probe(now.at, peer, from, &datagram),
        Input::Woken { peer } => links.handle_woken(now.at, peer),
        Input::Control { peer, body } => links.handle_control(now, peer, &body),
        Input::Touched { peer, index, from, newest } => links.handle_touched(now, peer, index, from, newest),
        Input::UnknownChannel { peer, channel } => links.handle_unknown_channel(now.at, peer, channel),
        Input::TooLarge { peer, size } => links.handle_too_large(now.at, peer, size),
        Input::Frame { peer, network, frame } => links.handle_frame(now.at, peer, network, frame),
    }
}
