//! One connection to a keeper's socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::program::Program;
use crate::rights::send_with;
use crate::wire::Frame;
use crate::wire::frame::{Decoder, FrameError};
use crate::wire::message::Reply;

/// Bytes waiting for a client above which nothing more is read for it.
pub(super) const OUT_FULL: usize = 128 * 1024;
/// Bytes waiting for a client of the console above which it is dropped: the console waits for nobody.
pub(super) const OUT_HOPELESS: usize = 2 * 1024 * 1024;

/// What a connection is for.
#[derive(Debug)]
pub(super) enum Role {
    /// Requests and replies.
    Control,
    /// Waits for the machine's end.
    AwaitsEnd,
    /// A program's session.
    Program(Program),
    /// The console.
    Console,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: OwnedFd,
    decoder: Decoder,
    out: Vec<u8>,
    rights: Vec<OwnedFd>,
    pub(super) role: Role,
    /// To be closed when everything is sent.
    closing: bool,
    /// The other side is gone, or what it said cannot be understood.
    broken: bool,
}

impl Connection {
    pub(super) fn new(stream: OwnedFd) -> Self {
        let (decoder, out, rights) = (Decoder::default(), Vec::new(), Vec::new());
        Self { stream, decoder, out, rights, role: Role::Control, closing: false, broken: false }
    }

    pub(super) fn stream(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether its client may say more now.
    pub(super) fn listens(&self) -> bool {
        let ready = match &self.role {
            Role::Program(program) => program.hungry(),
            Role::Control | Role::AwaitsEnd | Role::Console => true,
        };
        ready && !self.closing && self.out.len() < OUT_FULL
    }

    pub(super) fn has_room(&self) -> bool {
        self.out.len() < OUT_FULL
    }

    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    pub(super) fn is_over(&self) -> bool {
        self.broken || (self.closing && self.out.is_empty())
    }

    /// Reads once and gives the frames that are whole.
    pub(super) fn receive(&mut self) -> Vec<Frame> {
        let mut buffer = [0; 16 * 1024];
        match rustix::net::recv(&self.stream, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => self.broken = true,
            Ok((length, _)) => self.decoder.push(&buffer[..length]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.broken = true,
        }
        let mut frames = Vec::new();
        loop {
            match self.decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return frames,
                Err(error) => {
                    self.refuse_bytes(error);
                    return frames;
                }
            }
        }
    }

    fn refuse_bytes(&mut self, error: FrameError) {
        eprintln!("keeper: a client sent {error}");
        self.broken = true;
    }

    pub(super) fn break_off(&mut self) {
        self.broken = true;
    }

    pub(super) fn send(&mut self, frame: &Frame) {
        if !self.closing {
            self.out.extend_from_slice(&frame.encode());
            if self.out.len() > OUT_HOPELESS {
                self.broken = true;
            }
        }
    }

    pub(super) fn reply(&mut self, reply: &Reply) {
        self.send(&reply.frame());
    }

    /// A reply with descriptors, which go with its first byte.
    pub(super) fn reply_with(&mut self, reply: &Reply, rights: Vec<OwnedFd>) {
        if self.out.is_empty() {
            self.rights = rights;
            self.reply(reply);
        } else {
            self.reply(&Reply::Refused("ask for descriptors after reading what came before".to_owned()));
        }
    }

    /// The last frame.
    pub(super) fn finish(&mut self, frame: &Frame) {
        self.send(frame);
        self.closing = true;
    }

    /// Sends what waits, as far as it goes now.
    pub(super) fn flush(&mut self) {
        while !self.out.is_empty() && !self.broken {
            let rights: Vec<_> = self.rights.iter().map(AsFd::as_fd).collect();
            match send_with(&self.stream, &self.out, &rights, SendFlags::DONTWAIT) {
                Ok(sent) => {
                    self.rights.clear();
                    self.out.drain(..sent);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => self.broken = true,
            }
        }
    }
}
