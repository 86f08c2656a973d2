//! The keeper's loop: one thread, one `poll`, everything bounded.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};

use super::connection::{Connection, OUT_FULL, Role};
use super::life::{Machine, exit_code, now};
use super::program::Stream;
use super::request::{handle, resize_console};
use crate::setup::SetUpError;
use crate::setup::channel::timespec;
use crate::wire::Frame;
use crate::wire::frame::PAYLOAD_MAX;
use crate::wire::message::{Reply, Request};

/// The socket's name in the machine's directory.
pub(crate) const SOCKET: &str = "keeper.sock";
/// Connections at once; more wait in the socket's queue. A daemon uses one and each session one.
const CONNECTIONS_MAX: usize = 64;
/// `poll` does not count the time that the host sleeps, but a lease does: look at the clock at least this often.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(5);

/// What may have happened.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Init,
    Console,
    Client(u64),
    /// The client closed its side for good.
    ClientGone(u64),
    Program(u64, Stream),
    ProgramInput(u64),
}

/// The keeper's own descriptors and connections.
#[derive(Debug)]
pub(super) struct Server {
    listener: OwnedFd,
    signals: SignalFd,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    /// When a machine that was asked to end is killed.
    kill_at: Option<Duration>,
    /// Bytes typed at the console that it has not taken yet.
    typed: Vec<u8>,
}

impl Server {
    /// Opens the socket and takes the signals.
    pub(super) fn open(machine: &Machine) -> Result<Self, SetUpError> {
        let listener =
            listen_in(&machine.order.directory).map_err(SetUpError::at("open the keeper's socket"))?;
        let mut set = SigSet::empty();
        [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT].into_iter().for_each(|signal| set.add(signal));
        set.thread_block().map_err(SetUpError::at("block signals"))?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(SetUpError::at("take signals"))?;
        Ok(Self {
            listener,
            signals,
            connections: BTreeMap::new(),
            next: 0,
            kill_at: None,
            typed: Vec::new(),
        })
    }

    /// Serves until the machine is removed.
    pub(super) fn run(mut self, mut machine: Machine) -> Result<(), SetUpError> {
        // What ended before the signals were taken.
        self.collect(&mut machine);
        let asker = loop {
            let happened = match self.wait(&machine) {
                Ok(happened) => happened,
                Err(error) => {
                    machine.destroy();
                    return Err(SetUpError(format!("wait: {error}")));
                }
            };
            if let ControlFlow::Break(asker) = self.turn(&mut machine, happened) {
                break asker;
            }
        };
        machine.destroy();
        if let Some(mut connection) = asker.and_then(|id| self.connections.remove(&id)) {
            connection.finish(&Reply::Done.frame());
            connection.flush();
        }
        Ok(())
    }

    /// One round: what happened, what is due, what can be sent. Breaks when the machine is to be removed, with who asked.
    fn turn(&mut self, machine: &mut Machine, happened: Vec<Source>) -> ControlFlow<Option<u64>> {
        for source in happened {
            match source {
                Source::Signals => {
                    if self.take_signals(machine) {
                        return ControlFlow::Break(None);
                    }
                }
                Source::Listener => self.accept(),
                Source::Init => machine.hear_init(),
                Source::Console => self.console_printed(machine),
                Source::Client(id) => {
                    if self.hear(id, machine) {
                        return ControlFlow::Break(Some(id));
                    }
                }
                Source::ClientGone(id) => {
                    if let Some(connection) = self.connections.get_mut(&id) {
                        connection.break_off();
                    }
                }
                Source::Program(id, stream) => self.program_printed(id, stream),
                Source::ProgramInput(id) => {
                    if let Some(Role::Program(program)) =
                        self.connections.get_mut(&id).map(|connection| &mut connection.role)
                    {
                        program.write_pending();
                    }
                }
            }
        }
        let time = now();
        if time >= machine.lease_end {
            // Whoever is waiting for an answer gets it first.
            self.settle(machine);
            return ControlFlow::Break(None);
        }
        if self.kill_at.is_some_and(|at| time >= at) {
            self.kill_at = None;
            machine.kill();
        }
        self.type_pending(machine);
        self.settle(machine);
        ControlFlow::Continue(())
    }

    fn wait(&self, machine: &Machine) -> Result<Vec<Source>, Errno> {
        let mut sources: Vec<(Source, BorrowedFd<'_>, PollFlags)> =
            vec![(Source::Signals, self.signals.as_fd(), PollFlags::IN)];
        if self.connections.len() < CONNECTIONS_MAX {
            sources.push((Source::Listener, self.listener.as_fd(), PollFlags::IN));
        }
        if let Some(init) = &machine.init {
            sources.push((Source::Init, init.channel.as_fd(), PollFlags::IN));
        }
        if let Some(console) = &machine.console {
            let typing = if self.typed.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            sources.push((Source::Console, console.as_fd(), PollFlags::IN | typing));
        }
        for (id, connection) in &self.connections {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, connection.listens());
            flags.set(PollFlags::OUT, connection.has_output());
            sources.push((Source::Client(*id), connection.stream(), flags));
            if let Role::Program(program) = &connection.role {
                if let Some(input) = program.waiting_input() {
                    sources.push((Source::ProgramInput(*id), input, PollFlags::OUT));
                }
                for stream in [Stream::Output, Stream::Errors] {
                    if let Some(source) = program.source(stream).filter(|_| connection.has_room()) {
                        sources.push((Source::Program(*id, stream), source, PollFlags::IN));
                    }
                }
            }
        }
        let mut watched: Vec<_> = sources
            .iter()
            .map(|(_, descriptor, flags)| PollFd::from_borrowed_fd(*descriptor, *flags))
            .collect();
        let due = self.kill_at.map_or(machine.lease_end, |at| at.min(machine.lease_end));
        let timeout = due.saturating_sub(now()).min(LOOK_AT_CLOCK);
        match poll(&mut watched, Some(&timespec(timeout))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let happened = sources.iter().zip(&watched).filter(|(_, fd)| !fd.revents().is_empty());
        let happened = happened.map(|((source, _, asked), fd)| match source {
            // What it still has to say is not wanted now, and it will not be there when it is.
            Source::Client(id) if !asked.contains(PollFlags::IN) && fd.revents().contains(PollFlags::HUP) => {
                Source::ClientGone(*id)
            }
            source => *source,
        });
        Ok(happened.collect())
    }

    /// True if this keeper is asked to end.
    fn take_signals(&mut self, machine: &mut Machine) -> bool {
        let mut ending = false;
        while let Ok(Some(info)) = self.signals.read_signal() {
            ending |= info.ssi_signo.cast_signed() != Signal::SIGCHLD as i32;
        }
        self.collect(machine);
        ending
    }

    /// Collects every child that ended.
    fn collect(&mut self, machine: &mut Machine) {
        loop {
            let status = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(status) => status,
            };
            let Some(pid) = status.pid() else { continue };
            if machine.init.as_ref().is_some_and(|init| init.pid == pid) {
                machine.hear_init();
                machine.init_ended(exit_code(status));
                self.kill_at = None;
                continue;
            }
            for connection in self.connections.values_mut() {
                if let Role::Program(program) = &mut connection.role
                    && program.pid == pid
                {
                    program.exit = Some(exit_code(status));
                }
            }
        }
    }

    fn accept(&mut self) {
        while self.connections.len() < CONNECTIONS_MAX {
            match accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(stream) => {
                    self.connections.insert(self.next, Connection::new(stream));
                    self.next += 1;
                }
                Err(_) => return,
            }
        }
    }

    fn console_printed(&mut self, machine: &mut Machine) {
        let mut buffer = [0; 16 * 1024];
        let Some(console) = &machine.console else { return };
        match rustix::io::read(console, &mut buffer[..]) {
            Ok(length) if length > 0 => {
                machine.remember(&buffer[..length]);
                let frame = Frame::Stdout(buffer[..length].to_vec());
                self.connections
                    .values_mut()
                    .filter(|c| matches!(c.role, Role::Console))
                    .for_each(|c| c.send(&frame));
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody holds the terminal: while init lives it does, so the machine has ended.
            Ok(_) | Err(_) => machine.console = None,
        }
    }

    fn type_pending(&mut self, machine: &Machine) {
        let Some(console) = &machine.console else {
            self.typed.clear();
            return;
        };
        while !self.typed.is_empty() {
            match rustix::io::write(console, &self.typed) {
                Ok(written) => drop(self.typed.drain(..written)),
                Err(_) => return,
            }
        }
    }

    fn program_printed(&mut self, id: u64, stream: Stream) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Role::Program(program) = &mut connection.role
            && let Some(frame) = program.read(stream)
        {
            connection.send(&frame);
        }
    }

    /// Takes what a client says; true if it asks for the machine's removal.
    fn hear(&mut self, id: u64, machine: &mut Machine) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        connection.flush();
        if !connection.listens() {
            return false;
        }
        for frame in connection.receive() {
            match (&mut connection.role, frame) {
                (Role::Control, Frame::Request(bytes)) => match Request::decode(&bytes) {
                    Ok(Request::Remove) => return true,
                    Ok(request) => handle(connection, machine, &mut self.kill_at, request),
                    Err(error) => connection.reply(&Reply::Refused(error.to_string())),
                },
                (Role::Program(program), frame) => {
                    if let Err(error) = program.take(frame) {
                        eprintln!("keeper: {error}");
                        connection.break_off();
                    }
                }
                (Role::Console, Frame::Stdin(bytes)) => {
                    if self.typed.len() < PAYLOAD_MAX {
                        self.typed.extend_from_slice(&bytes);
                    }
                }
                (Role::Console, Frame::Resize(size)) => resize_console(machine, size),
                (Role::Console, Frame::StdinEnd) => {}
                (Role::Control | Role::AwaitsEnd | Role::Console, _) => connection.break_off(),
            }
        }
        false
    }

    /// Tells clients what has come to its end, sends what can be sent, and drops who is gone.
    fn settle(&mut self, machine: &Machine) {
        for connection in self.connections.values_mut() {
            match &mut connection.role {
                Role::AwaitsEnd if machine.is_over() => {
                    connection.reply(&Reply::Done);
                    connection.role = Role::Control;
                }
                Role::Console if machine.is_over() && machine.console.is_none() => {
                    connection.finish(&Frame::Exit(0));
                }
                Role::Program(program) => {
                    if program.exit.is_some() {
                        let mut frames = Vec::new();
                        for stream in [Stream::Output, Stream::Errors] {
                            while frames.len() * PAYLOAD_MAX < OUT_FULL
                                && let Some(frame) = program.read(stream)
                            {
                                frames.push(frame);
                            }
                        }
                        let finished = program.finished();
                        frames.iter().for_each(|frame| connection.send(frame));
                        if let Some(code) = finished {
                            connection.finish(&Frame::Exit(code));
                        }
                    }
                }
                Role::Control | Role::AwaitsEnd | Role::Console => {}
            }
            connection.flush();
        }
        self.connections.retain(|_, connection| {
            let over = connection.is_over();
            if let (true, Role::Program(program)) = (over, &connection.role) {
                program.abandon();
            }
            !over
        });
    }
}

/// A path of any length: the directory is named by its descriptor, since a Unix socket's address holds 108 bytes.
fn listen_in(directory: &Path) -> std::io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let held = rustix::fs::openat(
        CWD,
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let listener = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", held.as_raw_fd());
    let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = bind(&listener, &SocketAddrUnix::new(path.as_str())?);
    rustix::process::umask(mask);
    bound?;
    listen(&listener, 64)?;
    Ok(listener)
}
