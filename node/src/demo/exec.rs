//! One command in one machine, through a daemon's API, with its output taken whole.

use consort_machine::wire::frame::{Decoder, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stage::DEADLINE;
use crate::control::api::ExecBody;
use crate::control::client::{Client, Stream, segment};
use crate::failure::Failure;

/// Output of one command at most; the demo's commands say a few lines.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Read from a session at once.
const READ_BYTES: usize = 16 * 1024;

/// What a command said, and its exit code.
#[derive(Debug, Default)]
pub struct Said {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit code.
    pub code: i32,
}

impl Said {
    /// Its standard output as the JSON document it should be.
    ///
    /// # Errors
    /// If it said something else, with that.
    pub fn json(&self) -> Result<serde_json::Value, Failure> {
        serde_json::from_str(&self.stdout).map_err(|_| {
            Failure::failed("session", format!("a command in a machine said: {}", self.last_line()))
        })
    }

    /// The last line of what it said, for a person.
    #[must_use]
    pub fn last_line(&self) -> &str {
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        text.trim().lines().last().unwrap_or("nothing")
    }
}

/// Runs a command in a machine and waits for its end.
///
/// # Errors
/// If it cannot be started, or the way to the machine breaks. An exit code other than zero is no error here.
pub async fn exec(client: &Client, machine: &str, argv: &[&str]) -> Result<Said, Failure> {
    let mut session = Session::open(client, machine, argv).await?;
    session.stream.write_all(&Frame::StdinEnd.encode()).await.map_err(|error| session.failure(&error))?;
    let ended = tokio::time::timeout(DEADLINE, async {
        while session.code.is_none() {
            session.read().await?;
        }
        Ok(())
    });
    let ended = ended.await;
    ended.unwrap_or_else(|_| Err(session.failure(&format!("no end within {} s", DEADLINE.as_secs()))))?;
    Ok(session.said())
}

/// A command that goes on in a machine until this is dropped.
#[derive(Debug)]
pub struct Background {
    _session: Session,
}

impl Background {
    /// Starts it and waits until it says `word`.
    ///
    /// # Errors
    /// If it cannot be started, or ends first.
    pub async fn start(client: &Client, machine: &str, argv: &[&str], word: &str) -> Result<Self, Failure> {
        let mut session = Session::open(client, machine, argv).await?;
        while !String::from_utf8_lossy(&session.stdout).contains(word) {
            if session.code.is_some() {
                let said = session.said();
                return Err(session.failure(&format!("it ended with {}: {}", said.code, said.last_line())));
            }
            session.read().await?;
        }
        Ok(Self { _session: session })
    }
}

/// A session and what came of it so far.
#[derive(Debug)]
struct Session {
    what: String,
    stream: Stream,
    decoder: Decoder,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    code: Option<i32>,
}

impl Session {
    async fn open(client: &Client, machine: &str, argv: &[&str]) -> Result<Self, Failure> {
        let body = ExecBody {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            env: Vec::new(),
            tty: None,
        };
        let stream = client.upgrade(&format!("/v1/machines/{}/exec", segment(machine)), &body).await?;
        Ok(Self {
            what: format!("`{}` in {machine}", argv.join(" ")),
            stream,
            decoder: Decoder::default(),
            stdout: Vec::new(),
            stderr: Vec::new(),
            code: None,
        })
    }

    /// Takes in one piece of what the machine sends.
    async fn read(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; READ_BYTES];
        let length = self.stream.read(&mut buffer).await.map_err(|error| self.failure(&error))?;
        if length == 0 || self.stdout.len() + self.stderr.len() > OUTPUT_BYTES_MAX {
            return Err(self.failure(&"the session broke off"));
        }
        self.decoder.push(&buffer[..length]);
        while let Some(frame) = self.decoder.next().map_err(|error| self.failure(&error))? {
            match frame {
                Frame::Stdout(bytes) => self.stdout.extend_from_slice(&bytes),
                Frame::Stderr(bytes) => self.stderr.extend_from_slice(&bytes),
                Frame::Exit(code) => self.code = Some(code),
                other => return Err(self.failure(&format!("unexpected {other:?}"))),
            }
        }
        Ok(())
    }

    fn said(&self) -> Said {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { stdout: text(&self.stdout), stderr: text(&self.stderr), code: self.code.unwrap_or_default() }
    }

    fn failure(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::failed("session", format!("{}: {why}", self.what))
    }
}
