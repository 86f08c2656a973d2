//! Programs started in a machine, and its console: what is asked for, and the stream that carries it.
//!
//! A session is one duplex stream of [frames](crate::wire::frame), the same from the keeper's socket through the daemon and the
//! overlay to the command line: whoever is between copies bytes and need not understand them. The client sends
//! [`Stdin`](crate::wire::Frame::Stdin), [`StdinEnd`](crate::wire::Frame::StdinEnd) and [`Resize`](crate::wire::Frame::Resize); the
//! machine sends [`Stdout`](crate::wire::Frame::Stdout), [`Stderr`](crate::wire::Frame::Stderr) and, last,
//! [`Exit`](crate::wire::Frame::Exit). A client that hangs up before that ends the program: its process group is killed. A program may
//! end before it has read its input, so a client's write may fail; what the machine sent, up to the exit, is still there to be read.

use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use crate::spec::{SpecError, check_words};

/// A program to start in a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The program and its arguments; a program without a slash is looked for in `PATH`.
    pub argv: Vec<String>,
    /// Variables beside `PATH`, `HOME`, `HOSTNAME` and `TERM`, which they may replace.
    pub env: Vec<(String, String)>,
    /// Where it starts, `/` if absent.
    pub cwd: Option<String>,
    /// A terminal of this size for its three streams; pipes if absent.
    pub tty: Option<WinSize>,
}

impl ExecRequest {
    /// A program with pipes and nothing special.
    #[must_use]
    pub fn of<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), env: Vec::new(), cwd: None, tty: None }
    }

    /// Checks the bounds of every field.
    ///
    /// # Errors
    /// The first field that breaks its rule.
    pub fn check(&self) -> Result<(), SpecError> {
        check_words("command", &self.argv)?;
        if !self.env.is_empty() {
            let words: Vec<String> = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
            check_words("environment", &words)?;
            if let Some((name, _)) = self.env.iter().find(|(name, _)| name.is_empty() || name.contains('=')) {
                return Err(SpecError {
                    field: "environment",
                    value: name.clone(),
                    rule: "named, and the name free of =",
                });
            }
        }
        if let Some(cwd) = &self.cwd
            && (!cwd.starts_with('/') || cwd.len() > 4095 || cwd.contains('\0'))
        {
            return Err(SpecError {
                field: "cwd",
                value: cwd.chars().take(80).collect(),
                rule: "an absolute path",
            });
        }
        Ok(())
    }
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WinSize {
    /// Lines.
    pub rows: u16,
    /// Characters to a line.
    pub columns: u16,
}

/// A program in a machine, or its console, as a stream of frames.
#[derive(Debug)]
pub struct ExecSession {
    /// The stream; copy it, or read it with [`crate::wire::frame::Decoder`].
    pub stream: UnixStream,
}
