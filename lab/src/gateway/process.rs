//! The gateway as a process in a network namespace of its own: reads frames, asks the router, sends.
//!
//! It learns what it is, and what it becomes, as a line of JSON on standard input. What crosses the cable to the world goes through a
//! [`Line`] each way where the cable is impaired, and straight where it is not.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::time::TimeSpec;

use super::router::{Action, Router};
use super::{LAN, Order, UPLINK};
use crate::middlebox::{Impairment, Line};
use crate::nat::Side;
use crate::packet_socket::PacketSocket;
use crate::portmap::PortMapping;
use crate::portmap::serve::{self, WithNat};
use crate::process::{attempted, follow};
use crate::reexec::{Arguments, EXIT_FAILED};
use crate::sysctl;

/// A frame of the largest MTU there is, with room to spare.
const FRAME_BYTES_MAX: usize = 66_000;
/// Frames taken from one side before the other has its turn.
const BURST: usize = 64;
/// Orders that were not read yet; the lab waits for nobody, but says little.
const ORDERS_BYTES_MAX: usize = 1 << 20;

/// `lab-gateway`: prints "ready" when its namespace stands, waits for an order, prints "running", runs until killed.
pub(crate) fn main(arguments: &Arguments<'_>) -> i32 {
    match start(arguments) {
        Ok(()) => 0,
        Err(reason) => {
            eprintln!("consort: the gateway failed: {reason}");
            EXIT_FAILED
        }
    }
}

fn start(arguments: &Arguments<'_>) -> Result<(), String> {
    follow(Signal::SIGKILL, arguments)?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(attempted("make its namespace"))?;
    // The kernel carries frames here and says nothing itself.
    sysctl::set("net/ipv6/conf/default/disable_ipv6", "1").map_err(|error| error.to_string())?;
    say("ready")?;
    let mut control = BufReader::new(io::stdin());
    let mut first = String::new();
    control.read_line(&mut first).map_err(attempted("read its orders"))?;
    let order: Order = serde_json::from_str(&first).map_err(attempted("understand its orders"))?;
    let lan = PacketSocket::open(LAN).map_err(attempted("open its LAN"))?;
    let uplink = PacketSocket::open(UPLINK).map_err(attempted("open its cable"))?;
    say("running")?;
    let orders = Orders { control, pending: Vec::new() };
    let port_mapping = (order.setup.port_mapping.clone(), order.setup.inside.ipv4);
    let gateway = Gateway::new(order, lan, uplink);
    if let (speaks @ [_, ..], Some((own, _))) = (port_mapping.0.as_slice(), port_mapping.1) {
        gateway.serve_ports(own, speaks).map_err(attempted("listen for who wants a port"))?;
    }
    gateway.run(orders).map_err(attempted("move frames"))
}

fn say(line: &str) -> Result<(), String> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(attempted("report to the lab"))
}

struct Gateway {
    /// Shared with who asks the NAT for ports.
    router: Arc<Mutex<Router>>,
    lan: PacketSocket,
    uplink: PacketSocket,
    impairment: Impairment,
    /// On the way out and on the way in.
    out: Line,
    r#in: Line,
    started: Instant,
}

impl Gateway {
    fn new(order: Order, lan: PacketSocket, uplink: PacketSocket) -> Self {
        let seed = order.setup.seed;
        Self {
            router: Arc::new(Mutex::new(Router::new(order.setup))),
            lan,
            uplink,
            impairment: order.impairment,
            out: Line::new(order.impairment, seed),
            r#in: Line::new(order.impairment, !seed),
            started: Instant::now(),
        }
    }

    fn serve_ports(&self, own: Ipv4Addr, speaks: &[PortMapping]) -> io::Result<()> {
        let router = Arc::clone(&self.router);
        let with_nat: WithNat = Arc::new(move |act| {
            if let Some(nat) = locked(&router).nat() {
                act(nat);
            }
        });
        serve::start(own, speaks.to_vec(), self.started, &with_nat)
    }

    fn run(mut self, mut orders: Orders) -> io::Result<()> {
        fcntl(orders.control.get_ref(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        loop {
            if let Some(order) = orders.latest()? {
                self.obey(order);
            }
            let waiting = [self.take_from_lan(&mut buffer)?, self.take_from_uplink(&mut buffer)?];
            self.deliver_late_ones()?;
            if waiting == [false; 2] {
                self.wait(&orders)?;
            }
        }
    }

    fn obey(&mut self, order: Order) {
        locked(&self.router).change(order.setup);
        self.impairment = order.impairment;
        self.out.change(order.impairment);
        self.r#in.change(order.impairment);
    }

    /// Whether there may be more.
    fn take_from_lan(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        for _ in 0..BURST {
            let Some(length) = self.lan.receive(buffer)? else { return Ok(false) };
            self.route(Side::Inside, &mut buffer[..length])?;
        }
        Ok(true)
    }

    fn take_from_uplink(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        for _ in 0..BURST {
            let Some(length) = self.uplink.receive(buffer)? else { return Ok(false) };
            if self.is_clear(&self.r#in) {
                self.route(Side::Outside, &mut buffer[..length])?;
            } else {
                self.r#in.handle_frame(self.started.elapsed(), &buffer[..length]);
            }
        }
        Ok(true)
    }

    fn route(&mut self, from: Side, frame: &mut [u8]) -> io::Result<()> {
        let action = locked(&self.router).handle_frame(self.started.elapsed(), from, frame);
        match action {
            Action::Forward(to) => self.send(to, frame),
            Action::Say(to, frame) => self.send(to, &frame),
            Action::Nothing => Ok(()),
        }
    }

    fn send(&mut self, to: Side, frame: &[u8]) -> io::Result<()> {
        match to {
            Side::Inside => self.lan.send(frame),
            Side::Outside if self.is_clear(&self.out) => self.uplink.send(frame),
            Side::Outside => {
                self.out.handle_frame(self.started.elapsed(), frame);
                Ok(())
            }
        }
    }

    /// Whether a frame may pass a line by: nothing would happen to it, and none is before it.
    fn is_clear(&self, line: &Line) -> bool {
        self.impairment == Impairment::default() && line.poll_timeout().is_none()
    }

    fn deliver_late_ones(&mut self) -> io::Result<()> {
        while let Some(frame) = self.out.poll_output(self.started.elapsed()) {
            self.uplink.send(&frame)?;
        }
        while let Some(mut frame) = self.r#in.poll_output(self.started.elapsed()) {
            self.route(Side::Outside, &mut frame)?;
        }
        Ok(())
    }

    fn wait(&self, orders: &Orders) -> io::Result<()> {
        let next = [self.out.poll_timeout(), self.r#in.poll_timeout()].into_iter().flatten().min();
        let timeout = next.map(|at| TimeSpec::from_duration(at.saturating_sub(self.started.elapsed())));
        let stdin = orders.control.get_ref();
        let mut watched = [self.lan.as_fd(), self.uplink.as_fd(), stdin.as_fd()]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        ppoll(&mut watched, timeout, None)?;
        Ok(())
    }
}

fn locked(router: &Mutex<Router>) -> MutexGuard<'_, Router> {
    router.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Orders that come while frames move; the last complete one counts.
struct Orders {
    control: BufReader<io::Stdin>,
    pending: Vec<u8>,
}

impl Orders {
    fn latest(&mut self) -> io::Result<Option<Order>> {
        let mut bytes = [0; 4096];
        match self.control.read(&mut bytes) {
            // The lab is gone, or has dropped the gateway; its death signal is on the way.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) if self.pending.len() + length > ORDERS_BYTES_MAX => {
                return Err(io::Error::other("orders without an end"));
            }
            Ok(length) => self.pending.extend_from_slice(&bytes[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let Some(end) = self.pending.iter().rposition(|byte| *byte == b'\n') else { return Ok(None) };
        let complete: Vec<u8> = self.pending.drain(..=end).collect();
        let last = complete.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
        last.map(serde_json::from_slice).transpose().map_err(io::Error::other)
    }
}
