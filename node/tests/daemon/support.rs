//! Daemons of the real program on loopback, each in a directory of its own; killed when dropped.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use consort_node::config::paths::socket_in;
use consort_node::control::client::Client;
use serde_json::Value;

/// The program under test.
pub(crate) fn consort() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_consort"));
    command.env_remove("CONSORT_SOCKET").env_remove("CONSORT_LOG").stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    consort().args(arguments).output().unwrap()
}

/// What a failed run said: its exit code and the one line on standard error.
pub(crate) fn said(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.trim().lines().count(), 1, "not one line: {text}");
    (output.status.code(), text.trim().to_owned())
}

/// A running daemon.
pub(crate) struct Daemon {
    child: Child,
    /// Its state directory.
    pub(crate) dir: PathBuf,
    /// What it said when it was ready.
    pub(crate) ready: Value,
}

impl Daemon {
    /// Starts a daemon on any free port of loopback and waits until it says that it is ready.
    pub(crate) fn start(dir: &Path, more: &[&str]) -> Self {
        let mut child = consort()
            .args(["--json", "node", "--log", "error", "--listen", "127.0.0.1:0", "--state-dir"])
            .arg(dir)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("the daemon did not become ready: {line}"));
        Self { child, dir: dir.to_owned(), ready }
    }

    /// Its API.
    pub(crate) fn client(&self) -> Client {
        Client::new(&socket_in(&self.dir))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and gives its exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}
