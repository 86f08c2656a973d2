//! A program in a machine, or its console, joined to this terminal or to pipes.
//!
//! Owns: the terminal's mode (put back whatever happens), standard input, and what each frame of the session means here.
//! Refuses to know: how the stream reaches the machine. The frames are [`consort_machine::wire::frame`]'s.

use std::io::IsTerminal;
use std::os::fd::BorrowedFd;

use consort_machine::session::WinSize;
use consort_machine::wire::frame::{Decoder, Frame};
use rustix::termios::{OptionalActions, Termios};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::control::client::Stream;
use crate::failure::Failure;

/// Read from standard input or the session at once; well under a frame's largest payload.
const READ_BYTES: usize = 16 * 1024;

/// Pieces of input on their way to one session; a session that does not read makes its writer wait, not this process grow.
const INPUT_QUEUE: usize = 8;

/// `ctrl-]`, as in telnet: leaves a console.
const LEAVE: u8 = 0x1d;

/// Something for the machine.
#[derive(Debug, Clone)]
pub(super) enum Input {
    Bytes(Vec<u8>),
    Resize(WinSize),
}

/// Something from the machine.
#[derive(Debug)]
pub(super) enum Piece {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The program ended with this code.
    Exit(i32),
    /// The stream ended without one: the machine, its host, or the way to it is gone.
    BrokeOff,
}

/// Where a session's input comes from; the session tells the program of its end when the sender is dropped.
pub(super) fn input_queue() -> (mpsc::Sender<Input>, mpsc::Receiver<Input>) {
    mpsc::channel(INPUT_QUEUE)
}

/// Carries a session until it ends.
pub(super) async fn carry(
    stream: Stream,
    mut input: mpsc::Receiver<Input>,
    mut output: impl FnMut(Piece) -> Result<(), Failure>,
) -> Result<Ended, Failure> {
    let (mut from_machine, mut to_machine) = tokio::io::split(stream);
    let sending = tokio::spawn(async move {
        while let Some(input) = input.recv().await {
            let frame = match input {
                Input::Bytes(bytes) => Frame::Stdin(bytes),
                Input::Resize(size) => Frame::Resize(size),
            };
            to_machine.write_all(&frame.encode()).await?;
        }
        to_machine.write_all(&Frame::StdinEnd.encode()).await?;
        // The writing half stays open: hanging up would end the program.
        std::future::pending::<std::io::Result<()>>().await
    });
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; READ_BYTES];
    let ended = 'reading: loop {
        let length = match from_machine.read(&mut buffer).await {
            Ok(0) | Err(_) => break Ok(Ended::BrokeOff),
            Ok(length) => length,
        };
        decoder.push(&buffer[..length]);
        loop {
            let frame = match decoder.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => break 'reading Err(not_a_session(&error)),
            };
            let given = match frame {
                Frame::Stdout(bytes) => output(Piece::Stdout(bytes)),
                Frame::Stderr(bytes) => output(Piece::Stderr(bytes)),
                Frame::Exit(code) => break 'reading Ok(Ended::Exit(code)),
                other => Err(not_a_session(&format!("unexpected {other:?}"))),
            };
            if let Err(failure) = given {
                break 'reading Err(failure);
            }
        }
    };
    sending.abort();
    ended
}

fn not_a_session(why: &dyn std::fmt::Display) -> Failure {
    Failure::failed("session", format!("the machine's session cannot be understood: {why}"))
}

/// Passes standard input to all of `sessions` until it ends, or `ctrl-]` where that leaves.
pub(super) async fn pass_stdin(sessions: Vec<mpsc::Sender<Input>>, leave: Option<mpsc::Sender<()>>) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(length @ 1..) = stdin.read(&mut buffer).await {
        let bytes = &buffer[..length];
        if let Some(leave) = &leave
            && bytes.contains(&LEAVE)
        {
            // Nobody listens any more only where the session has ended by itself.
            let _ended_already = leave.send(()).await;
            return;
        }
        for session in &sessions {
            // A session that has ended takes no input; the others go on.
            let _ended_already = session.send(Input::Bytes(bytes.to_vec())).await;
        }
    }
}

/// Tells the session of each new size of this terminal.
pub(super) async fn pass_sizes(session: mpsc::Sender<Input>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    while changes.recv().await.is_some() {
        let Some(size) = terminal_size() else { continue };
        if session.send(Input::Resize(size)).await.is_err() {
            return;
        }
    }
}

/// Whether both standard input and output are a terminal.
pub(super) fn on_a_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// The size of the terminal on standard output.
pub(super) fn terminal_size() -> Option<WinSize> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    Some(WinSize { rows: size.ws_row, columns: size.ws_col })
}

/// The terminal, passing every key on as it is; put back on drop.
pub(super) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Nothing where standard input is no terminal.
    pub(super) fn enter() -> Option<Self> {
        let before = rustix::termios::tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Err(error) = rustix::termios::tcsetattr(stdin(), OptionalActions::Now, &self.before) {
            eprintln!("consort: the terminal could not be put back ({error}); run `reset`");
        }
    }
}

fn stdin() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}
