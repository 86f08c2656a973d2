//! The daemon's side of a keeper's socket.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use crate::driver::ControlError;
use crate::keeper::SOCKET;
use crate::rights::receive_with;
use crate::session::ExecSession;
use crate::wire::Frame;
use crate::wire::frame::{Decoder, HEADER_LEN};
use crate::wire::message::{Reply, Request};

/// What a keeper keeps of a console is about a megabyte; more than this is not the log of one.
const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Between two attempts at a keeper whose queue of connections is full.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

/// A connection.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
}

impl Client {
    pub(super) fn over(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream: UnixStream::from_std(stream)? })
    }

    /// Connects to the keeper of a machine's directory, whose path may be longer than a socket's address.
    pub(super) async fn connect(directory: &Path) -> io::Result<Self> {
        let held = openat(CWD, directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", held.as_raw_fd());
        loop {
            match UnixStream::connect(&path).await {
                // The keeper's queue is full, and a Unix socket does not tell when it is not; the caller bounds the time.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(QUEUE_FULL_PAUSE).await
                }
                Err(error) => return Err(error),
                Ok(stream) => return Ok(Self { stream }),
            }
        }
    }

    /// Length (4 bytes, little endian) and JSON; the first thing said to a keeper.
    pub(super) async fn send_order(&mut self, order: &[u8]) -> Result<(), ControlError> {
        let length = u32::try_from(order.len()).expect("an order is bounded");
        let bytes = [&length.to_le_bytes()[..], order].concat();
        self.stream.write_all(&bytes).await.map_err(|source| keeper("give the keeper its order", source))
    }

    pub(super) async fn send(&mut self, request: &Request) -> Result<(), ControlError> {
        let bytes = request.frame()?.encode();
        self.stream.write_all(&bytes).await.map_err(|source| keeper("ask the keeper", source))
    }

    /// Reads one reply and not a byte more, since a session's frames may follow it.
    pub(super) async fn reply(&mut self) -> Result<(Reply, Vec<OwnedFd>), ControlError> {
        let fail = |source| keeper("hear the keeper", source);
        let mut header = [0; HEADER_LEN];
        let mut descriptors = Vec::new();
        let mut held = 0;
        while held < HEADER_LEN {
            let (length, came) = self
                .stream
                .async_io(Interest::READABLE, || {
                    receive_with(&self.stream, &mut header[held..], RecvFlags::DONTWAIT)
                })
                .await
                .map_err(fail)?;
            if length == 0 {
                return Err(fail(io::ErrorKind::UnexpectedEof.into()));
            }
            held += length;
            descriptors.extend(came);
        }
        let mut decoder = Decoder::default();
        decoder.push(&header);
        let protocol = |error: &dyn std::fmt::Display| ControlError::Protocol(error.to_string());
        let mut frame = decoder.next().map_err(|error| protocol(&error))?;
        if frame.is_none() {
            let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
            let mut payload = vec![0; usize::try_from(length).expect("the decoder bounds it")];
            self.stream.read_exact(&mut payload).await.map_err(fail)?;
            decoder.push(&payload);
            frame = decoder.next().map_err(|error| protocol(&error))?;
        }
        match frame {
            Some(Frame::Reply(bytes)) => {
                let reply = serde_json::from_slice(&bytes).map_err(|error| protocol(&error))?;
                Ok((reply, descriptors))
            }
            other => Err(ControlError::Protocol(format!("{other:?} for a reply"))),
        }
    }

    pub(super) fn into_session(self) -> ExecSession {
        ExecSession { stream: self.stream }
    }

    /// Everything a session prints until its exit.
    pub(super) async fn collect_output(mut self) -> Result<Vec<u8>, ControlError> {
        let mut decoder = Decoder::default();
        let mut output = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            while let Some(frame) =
                decoder.next().map_err(|error| ControlError::Protocol(error.to_string()))?
            {
                match frame {
                    Frame::Stdout(bytes) => output.extend_from_slice(&bytes),
                    Frame::Stderr(words) => {
                        return Err(ControlError::Refused(String::from_utf8_lossy(&words).trim().to_owned()));
                    }
                    Frame::Exit(_) => return Ok(output),
                    other => return Err(ControlError::Protocol(format!("{other:?} in a log"))),
                }
                if output.len() > OUTPUT_BYTES_MAX {
                    return Err(ControlError::Protocol("a log without end".to_owned()));
                }
            }
            match self.stream.read(&mut buffer).await {
                Ok(0) => return Err(keeper("read the log", io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => decoder.push(&buffer[..length]),
                Err(source) => return Err(keeper("read the log", source)),
            }
        }
    }
}

fn keeper(attempt: &str, source: io::Error) -> ControlError {
    ControlError::Keeper { attempt: attempt.to_owned(), source }
}
