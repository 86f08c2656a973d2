//! The commands of the guest program.
//!
//! Exit codes: 0 done, 1 failed or not all reached, 2 bad usage; `enter` and `session` end as the program they become, or with 126 or
//! 127 as a shell would when it cannot be started.

pub mod addr;
pub mod http;
pub mod init;
pub mod ping;
pub mod program;
pub mod throughput;
pub mod wait;

use std::process::ExitCode;

const USAGE: &str = "usage: consort-guest COMMAND
  ping [-c COUNT] [-s BYTES] [-i MS] [-w MS] [-D] [--until-answer] [--json] TARGET...
  http serve [--port N] [--dir DIR]     GET /bytes/N gives N bytes that any other guest can recompute
  http fetch [--json] [--out FILE] http://HOST[:PORT]/PATH
  http expect N                         the SHA-256 of /bytes/N
  throughput serve [--port N]
  throughput send [--port N] [--seconds S] [--streams N] [--json] HOST
  addr [--json]
  wait [--timeout MS] tcp HOST:PORT | addr
  init, session, enter                  for the driver";

/// Runs a command; the first word is the program's name.
#[must_use]
pub fn run(words: Vec<String>) -> ExitCode {
    let called = words.first().and_then(|path| path.rsplit('/').next()).unwrap_or_default().to_owned();
    let mut words = words.into_iter().skip(1);
    let command = if matches!(called.as_str(), "ping" | "http" | "throughput" | "init") {
        called
    } else {
        words.next().unwrap_or_default()
    };
    let words: Vec<String> = words.collect();
    let outcome = match command.as_str() {
        "init" => init::run(),
        "ping" => ping::run(words),
        "http" => http::run(words),
        "throughput" => throughput::run(words),
        "addr" => addr::run(words),
        "wait" => wait::run(words),
        "session" => program::session(words),
        "enter" => program::enter(words),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => Err(Failure::Usage(USAGE.to_owned())),
    };
    match outcome {
        Ok(code) => code,
        Err(Failure::Usage(words)) => {
            eprintln!("{words}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(words)) => {
            eprintln!("{command}: {words}");
            ExitCode::from(1)
        }
        Err(Failure::NotStarted { words, code }) => {
            eprintln!("{words}");
            ExitCode::from(code)
        }
    }
}

/// Why a command did not do its work.
#[derive(Debug)]
pub enum Failure {
    /// It was not asked properly.
    Usage(String),
    /// It tried.
    Failed(String),
    /// The program to become is not there (127) or cannot be run (126).
    NotStarted {
        /// What to say.
        words: String,
        /// The exit code.
        code: u8,
    },
}

impl Failure {
    /// For `map_err`: what was attempted, and the error.
    pub fn at<E: std::fmt::Display>(attempt: impl std::fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| Self::Failed(format!("{attempt}: {error}"))
    }
}
