//! A machine's keeper: one process for each machine, with one thread, that makes it, holds it, serves it and ends it.
//!
//! It is the node's own program started again with `machine-keeper`, so that no thread of the daemon is ever forked and the machine
//! survives the daemon. Its life:
//!
//! ```text
//! order on standard input ─▶ birth ─▶ "started" with descriptors ─▶ commit ─▶ serve: socket, console, log, lease ─▶ remove ─▶ end
//!                              │                                     │                                              ▲
//!                              └─ any step fails: undo, say why      └─ the daemon hung up: undo                     lease over
//! ```
//! Invariants: the machine's directory exists exactly as long as its keeper (a keeper that is killed leaves it, and
//! [`crate::sandbox`] sweeps it up); the machine's processes exist at most as long as its keeper (the kernel kills init with it, and
//! the pid namespace with init); at the end no process, mount, device, cgroup or file of the machine is left, and what could not be
//! removed is said on standard error, which is `keeper.log` in the machine's directory while that lasts.
//!
//! Refuses to know slices and networks: the descriptors of its TAPs are held, never read.

mod birth;
mod connection;
mod history;
mod life;
mod program;
mod record;
mod request;
mod serve;

pub(crate) use record::{Record, start_time};
pub(crate) use serve::SOCKET;

use std::io::Read;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::net::SendFlags;

use crate::rights::send_with;
use crate::setup::SetUpError;
use crate::setup::channel::timespec;
use crate::setup::process::close_from;
use crate::wire::Frame;
use crate::wire::frame::Decoder;
use crate::wire::message::{ORDER_BYTES_MAX, Order, Reply, Request};
use life::Machine;

/// Runs a keeper; the arguments after `machine-keeper` are for people who look at the list of processes and are not read. Must be
/// called before the program has started any thread.
#[must_use]
pub fn main(_arguments: &[String]) -> ExitCode {
    match keep() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keeper: {error}");
            ExitCode::FAILURE
        }
    }
}

fn keep() -> Result<(), SetUpError> {
    close_from(3).map_err(SetUpError::at("close inherited descriptors"))?;
    rustix::process::setsid().map_err(SetUpError::at("begin a session"))?;
    rustix::process::chdir(c"/").map_err(SetUpError::at("leave the directory"))?;
    let _ = rustix::thread::set_name(c"consort-keeper");
    let order = read_order()?;
    let deadline = Instant::now() + order.spec.start_within;
    let machine = match birth::bear(order, deadline) {
        Ok(machine) => machine,
        Err(error) => {
            // The daemon reads the reason if it is still there.
            let _ = answer(&Reply::Refused(error.to_string()), &[]);
            return Err(error);
        }
    };
    // The socket stands before the daemon is told, so that whoever learns of the machine finds its keeper.
    let committed = serve::Server::open(&machine).and_then(|server| offer(&machine).map(|()| server));
    match committed {
        Ok(server) => server.run(machine),
        Err(error) => {
            machine.destroy();
            Err(error)
        }
    }
}

/// Length (4 bytes, little endian) and JSON on standard input.
fn read_order() -> Result<Order, SetUpError> {
    let mut input = std::io::stdin().lock();
    let mut length = [0; 4];
    input.read_exact(&mut length).map_err(SetUpError::at("read the order from standard input"))?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > ORDER_BYTES_MAX {
        return Err(SetUpError(format!("an order of {length} bytes is no order")));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes).map_err(SetUpError::at("read the order from standard input"))?;
    let order: Order = serde_json::from_slice(&bytes).map_err(SetUpError::at("read the order"))?;
    order.spec.check().map_err(SetUpError::at("check the order"))?;
    Ok(order)
}

fn answer(reply: &Reply, descriptors: &[std::os::fd::BorrowedFd<'_>]) -> Result<(), SetUpError> {
    let bytes = reply.frame().encode();
    let sent = send_with(rustix::stdio::stdin(), &bytes, descriptors, SendFlags::empty());
    match sent.map_err(SetUpError::at("answer the daemon"))? {
        all if all == bytes.len() => Ok(()),
        part => Err(SetUpError(format!("the daemon took {part} of {} bytes", bytes.len()))),
    }
}

/// How long a daemon that has been told may take to want the machine: it reads the answer at once or not at all.
const COMMIT_WITHIN: Duration = Duration::from_secs(10);

/// Tells the daemon and waits until it wants the machine.
fn offer(machine: &Machine) -> Result<(), SetUpError> {
    let descriptors: Vec<_> = machine.queues.iter().map(AsFd::as_fd).collect();
    answer(&Reply::Started { limits: machine.limits.clone() }, &descriptors)?;
    let deadline = Instant::now() + COMMIT_WITHIN;
    let mut decoder = Decoder::default();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let stdin = rustix::stdio::stdin();
        let mut watched = [rustix::event::PollFd::new(&stdin, rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut watched, Some(&timespec(left))) {
            Ok(0) => {
                return Err(SetUpError("the daemon did not say whether it wants the machine".to_owned()));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(SetUpError(format!("wait for the daemon: {error}"))),
        }
        let mut buffer = [0; 256];
        let length = rustix::io::read(stdin, &mut buffer[..]).map_err(SetUpError::at("hear the daemon"))?;
        if length == 0 {
            return Err(SetUpError("the daemon hung up before it took the machine".to_owned()));
        }
        decoder.push(&buffer[..length]);
        match decoder.next().map_err(SetUpError::at("hear the daemon"))? {
            None => {}
            Some(Frame::Request(bytes)) if matches!(Request::decode(&bytes), Ok(Request::Commit)) => break,
            Some(_) => return Err(SetUpError("the daemon said something else than commit".to_owned())),
        }
    }
    // From here on nothing connects this process to the daemon that started it.
    let null = std::fs::File::open("/dev/null").map_err(SetUpError::at("open /dev/null"))?;
    crate::setup::process::place(null.as_fd(), 0).map_err(SetUpError::at("leave standard input"))
}
