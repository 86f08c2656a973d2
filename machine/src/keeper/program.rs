//! A program that was started in the machine, and its streams.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::life::Machine;
use crate::session::{ExecRequest, WinSize};
use crate::setup::SetUpError;
use crate::setup::console::set_size;
use crate::setup::enter::{Errand, Streams};
use crate::wire::Frame;

/// How long the program's process may take to place its streams.
const PLACE_WITHIN: Duration = Duration::from_secs(5);
/// Bytes taken from the program in one read; its frame fits a client's buffer.
const READ_BYTES: usize = 16 * 1024;
/// Ends a terminal's input, as Ctrl-D does.
const END_OF_TRANSMISSION: u8 = 4;

/// A running program.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) pid: Pid,
    pub(super) exit: Option<i32>,
    input: Option<OwnedFd>,
    pending: Vec<u8>,
    input_ended: bool,
    output: Option<OwnedFd>,
    errors: Option<OwnedFd>,
    terminal: bool,
}

/// Which of a program's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Output,
    Errors,
}

impl Program {
    /// Starts it.
    pub(super) fn start(machine: &Machine, request: &ExecRequest) -> Result<Self, SetUpError> {
        let mut words = vec![request.cwd.clone().unwrap_or_else(|| "/".to_owned())];
        words.extend(request.argv.iter().cloned());
        let environment = environment(machine, request);
        match request.tty {
            Some(size) => Self::on_terminal(machine, &words, &environment, size),
            None => Self::on_pipes(machine, &words, &environment),
        }
    }

    fn on_terminal(
        machine: &Machine,
        words: &[String],
        environment: &[(String, String)],
        size: WinSize,
    ) -> Result<Self, SetUpError> {
        let errand = Errand::Become { words, environment, streams: Streams::Terminal(size) };
        let mut holder = None;
        let pid = machine.enter(&errand, &mut |channel| {
            holder = channel.expect("placed", Some(Instant::now() + PLACE_WITHIN))?.pop();
            Ok(())
        })?;
        let holder = holder.ok_or_else(|| SetUpError("the terminal did not come".to_owned()))?;
        rustix::io::ioctl_fionbio(&holder, true).map_err(SetUpError::at("hold the terminal"))?;
        let input = holder.try_clone().map_err(SetUpError::at("hold the terminal"))?;
        Ok(Self::new(pid, input, holder, None, true))
    }

    fn on_pipes(
        machine: &Machine,
        words: &[String],
        environment: &[(String, String)],
    ) -> Result<Self, SetUpError> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(SetUpError::at("make a pipe"));
        let ((stdin, input), (output, stdout), (errors, stderr)) = (pipe()?, pipe()?, pipe()?);
        for ours in [&input, &output, &errors] {
            rustix::fs::fcntl_setfl(ours, OFlags::NONBLOCK).map_err(SetUpError::at("hold a pipe"))?;
        }
        let errand = Errand::Become { words, environment, streams: Streams::Pipes([stdin, stdout, stderr]) };
        let pid = machine.enter(&errand, &mut |channel| {
            channel.expect("placed", Some(Instant::now() + PLACE_WITHIN)).map(drop)
        })?;
        Ok(Self::new(pid, input, output, Some(errors), false))
    }

    fn new(pid: Pid, input: OwnedFd, output: OwnedFd, errors: Option<OwnedFd>, terminal: bool) -> Self {
        Self {
            pid,
            exit: None,
            input: Some(input),
            pending: Vec::new(),
            input_ended: false,
            output: Some(output),
            errors,
            terminal,
        }
    }

    /// Takes a client's frame.
    pub(super) fn take(&mut self, frame: Frame) -> Result<(), SetUpError> {
        match frame {
            Frame::Stdin(bytes) if !self.input_ended => {
                if self.input.is_some() {
                    self.pending.extend_from_slice(&bytes);
                }
            }
            Frame::StdinEnd => {
                if self.terminal && !self.input_ended {
                    self.pending.push(END_OF_TRANSMISSION);
                }
                self.input_ended = true;
            }
            Frame::Resize(size) => {
                if let (true, Some(terminal)) = (self.terminal, &self.output) {
                    set_size(terminal, size).map_err(SetUpError::at("resize the terminal"))?;
                }
            }
            other => return Err(SetUpError(format!("a program's client may not send {other:?}"))),
        }
        self.write_pending();
        Ok(())
    }

    /// Gives the program what waits for it, as far as it takes it.
    pub(super) fn write_pending(&mut self) {
        while let (Some(input), false) = (&self.input, self.pending.is_empty()) {
            match rustix::io::write(input, &self.pending) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(Errno::AGAIN | Errno::INTR) => return,
                // It reads no more; what it would have read is of no use.
                Err(_) => {
                    self.pending.clear();
                    self.input = None;
                }
            }
        }
        if self.input_ended && !self.terminal {
            self.input = None;
        }
    }

    /// Reads once from one of its streams; `None` when there is nothing now.
    pub(super) fn read(&mut self, stream: Stream) -> Option<Frame> {
        let source = match stream {
            Stream::Output => &mut self.output,
            Stream::Errors => &mut self.errors,
        };
        let mut buffer = [0; READ_BYTES];
        match rustix::io::read(source.as_ref()?, &mut buffer[..]) {
            Ok(length) if length > 0 => {
                let bytes = buffer[..length].to_vec();
                Some(if stream == Stream::Output { Frame::Stdout(bytes) } else { Frame::Stderr(bytes) })
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                // The program is gone, and whatever it left running may hold the stream for ever: that does not belong to this session.
                if self.exit.is_some() {
                    *source = None;
                }
                None
            }
            // The end of a pipe, or EIO from a terminal that nobody holds.
            Ok(_) | Err(_) => {
                *source = None;
                None
            }
        }
    }

    /// The code, when it has ended and all it wrote has been read.
    pub(super) fn finished(&self) -> Option<i32> {
        self.exit.filter(|_| self.output.is_none() && self.errors.is_none())
    }

    /// Whether more input may be read from the client.
    pub(super) fn hungry(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn waiting_input(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().filter(|_| !self.pending.is_empty()).map(AsFd::as_fd)
    }

    pub(super) fn source(&self, stream: Stream) -> Option<BorrowedFd<'_>> {
        match stream {
            Stream::Output => self.output.as_ref(),
            Stream::Errors => self.errors.as_ref(),
        }
        .map(AsFd::as_fd)
    }

    /// Its client is gone: ends the program and what it started in its process group.
    pub(super) fn abandon(&self) {
        if self.exit.is_none() {
            // It leads its own session, so its number is its group's. One that ended meanwhile is still uncollected, so the number
            // cannot be another's.
            let _ = nix::sys::signal::killpg(self.pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

fn environment(machine: &Machine, request: &ExecRequest) -> Vec<(String, String)> {
    let own = [
        ("PATH", "/bin:/usr/bin:/sbin:/usr/sbin:/usr/local/bin:/usr/local/sbin:/consort"),
        ("HOME", "/root"),
        ("HOSTNAME", &machine.order.spec.hostname),
        ("TERM", if request.tty.is_some() { "xterm" } else { "dumb" }),
    ];
    let mut all: Vec<(String, String)> = own
        .into_iter()
        .filter(|(name, _)| !request.env.iter().any(|(given, _)| given == name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    all.extend(request.env.iter().cloned());
    all
}
