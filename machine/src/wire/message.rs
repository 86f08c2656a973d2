//! What the daemon asks a keeper, and what it answers: JSON in control frames.
//!
//! The first connection is the keeper's standard input: the daemon sends an [`Order`], the keeper makes the machine, answers
//! [`Reply::Started`] with the TAP descriptors beside it, and waits for [`Request::Commit`]. If the daemon hangs up before that
//! (it was killed, or nobody waits for the machine any more), the keeper undoes everything and ends. From then on it serves its
//! socket; each connection asks one thing at a time, and one that asks for a program or the console becomes its session.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::frame::PAYLOAD_MAX;
use crate::driver::{LimitsReport, MachineStatus, PausedBy, Uids};
use crate::session::{ExecRequest, WinSize};
use crate::spec::{MachineSpec, SpecError};

/// The version of this protocol; a keeper of another one is left alone until its lease is over.
pub const PROTOCOL: u32 = 1;

/// An order at most: the largest spec (8192 hosts) fits.
pub const ORDER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// All that a keeper is told when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The machine.
    pub spec: MachineSpec,
    /// The machine's directory, made by the driver, absolute.
    pub directory: PathBuf,
    /// The image's tree.
    pub image_root: PathBuf,
    /// The static guest program's file.
    pub guest: PathBuf,
    /// Whose the machine's users are.
    pub uids: Uids,
}

/// What a daemon asks of a keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// On the first connection only: the machine is wanted.
    Commit,
    /// What is it doing?
    Status,
    /// Its TAP descriptors.
    Attach,
    /// Live this much longer.
    Renew(Duration),
    /// Halt.
    Pause,
    /// Continue.
    Resume,
    /// End, in this time at most. The reply comes when it has ended.
    Stop {
        /// The time init has.
        grace: Duration,
    },
    /// End at once and remove everything, the keeper included. The reply comes before the keeper ends.
    Remove,
    /// A program; the connection becomes its session.
    Exec(ExecRequest),
    /// The console; the connection becomes its session.
    Console(Option<WinSize>),
    /// The end of what the console printed, in stdout frames and an exit frame.
    Logs {
        /// At most so many bytes.
        bytes_max: usize,
    },
}

/// What a keeper answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The machine runs; the descriptors of its queues come with the first byte of this frame, in the order of the nics.
    Started {
        /// Which limits hold.
        limits: LimitsReport,
    },
    /// It is done.
    Done,
    /// It is halted, in this way.
    Paused(PausedBy),
    /// What it is doing.
    Status(Box<MachineStatus>),
    /// The descriptors come with the first byte of this frame.
    Attached {
        /// The version this keeper speaks.
        protocol: u32,
        /// Name and number of queues of each nic, in the order of the descriptors.
        nics: Vec<(String, u16)>,
    },
    /// It is not, in words for people.
    Refused(String),
}

/// Why a request was refused before it was tried.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It is not a request of this version.
    #[error("not a request: {0}")]
    Json(#[from] serde_json::Error),
    /// It breaks a rule.
    #[error(transparent)]
    Rule(#[from] SpecError),
}

impl Request {
    /// Reads and checks a request.
    ///
    /// # Errors
    /// It is no JSON of a request, or a program's request breaks its rules.
    pub fn decode(bytes: &[u8]) -> Result<Self, RequestError> {
        let request: Self = serde_json::from_slice(bytes)?;
        if let Self::Exec(exec) = &request {
            exec.check()?;
        }
        Ok(request)
    }

    /// The request's frame. A checked request always fits; one that does not is refused here.
    ///
    /// # Errors
    /// The request is larger than a frame.
    pub fn frame(&self) -> Result<super::Frame, SpecError> {
        let bytes = serde_json::to_vec(self).expect("a request is plain data with string keys");
        if bytes.len() > PAYLOAD_MAX {
            return Err(SpecError {
                field: "command",
                value: format!("{} bytes", bytes.len()),
                rule: "at most 64 KiB as JSON",
            });
        }
        Ok(super::Frame::Request(bytes))
    }
}

impl Reply {
    /// The reply's frame.
    #[must_use]
    pub fn frame(&self) -> super::Frame {
        let bytes = serde_json::to_vec(self).expect("a reply is plain data with string keys");
        if bytes.len() > PAYLOAD_MAX {
            return Self::Refused("the answer is larger than a frame".to_owned()).frame();
        }
        super::Frame::Reply(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_as_written() {
        for (request, text) in [
            (Request::Commit, "\"commit\""),
            (Request::Renew(Duration::from_millis(1500)), r#"{"renew":{"secs":1,"nanos":500000000}}"#),
            (Request::Logs { bytes_max: 5 }, r#"{"logs":{"bytes_max":5}}"#),
            (Request::Console(None), r#"{"console":null}"#),
            (
                Request::Exec(ExecRequest::of(["ls"])),
                r#"{"exec":{"argv":["ls"],"env":[],"cwd":null,"tty":null}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(Request::decode(text.as_bytes()).unwrap(), request);
        }
    }

    #[test]
    fn hostile_requests_are_refused() {
        let nested = "[".repeat(10_000);
        for text in [
            "",
            "null",
            "\"fly\"",
            r#"{"exec":{"argv":[],"env":[],"cwd":null,"tty":null}}"#,
            "{\"renew\":1e999}",
            &nested,
        ] {
            assert!(Request::decode(text.as_bytes()).is_err(), "{text:.40}");
        }
        let zero = r#"{"exec":{"argv":["a\u0000b"],"env":[],"cwd":null,"tty":null}}"#;
        assert!(matches!(Request::decode(zero.as_bytes()), Err(RequestError::Rule(_))));
    }
}
