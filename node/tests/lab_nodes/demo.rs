//! `consort demo` as a user runs it: from outside, as one command.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use consort_lab::reexec::EXIT_UNAVAILABLE;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Waiting for something that must come; never asserted as a time.
const DEADLINE: Duration = Duration::from_secs(60);

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_consort"));
    command.arg("demo").args(arguments).stdin(Stdio::null());
    command
}

/// Whether the demo said that there is nothing to stand on here; then aloud.
fn skipped(test: &str, stderr: &str) -> bool {
    let unavailable = stderr.contains("no emulated hosts to be had");
    if unavailable {
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {}", stderr.lines().next().unwrap_or_default());
    }
    unavailable
}

#[test]
fn the_demo_shows_what_it_promises() {
    let output = demo(&["--json", "--hosts", "3", "--machines", "3"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    if skipped("the_demo_shows_what_it_promises", &stderr) {
        return;
    }
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() >= 8, "{report:#}");
    for check in checks {
        // Whether the loss was noticed *in time* is measured by the clock, and computers that run tests are busy.
        if check["name"] != "a killed host is noticed" {
            assert_ne!(check["passed"], false, "{check:#}\n{stderr}");
        }
    }
    assert_ne!(output.status.code(), Some(EXIT_UNAVAILABLE));
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    let mut command = demo(&["--keep", "--hosts", "2", "--machines", "2"]);
    let mut demo = Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut said = String::new();
    // Open to the end: it has more to say, and a demo that cannot speak ends.
    let mut lines = BufReader::new(demo.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let socket = lines.find_map(|line| {
        said.push_str(&line);
        let (_, rest) = line.split_once("--socket ")?;
        Some(PathBuf::from(rest.split(' ').next()?))
    });
    let Some(socket) = socket else {
        assert!(skipped("an_interrupted_demo_leaves_nothing", &said), "{said}");
        return;
    };
    // Reachable from outside while it stands.
    let consort = env!("CARGO_BIN_EXE_consort");
    let listed = Command::new(consort).arg("--socket").arg(&socket).args(["slice", "ls"]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("demo"), "{listed:?}");

    let directory = socket.parent().and_then(Path::parent).unwrap().to_owned();
    let processes = with_argument(&directory);
    assert!(processes.len() >= 2, "a node on each host");
    kill(Pid::from_raw(demo.0.id().cast_signed()), Signal::SIGINT).unwrap();
    demo.0.wait().unwrap();
    let start = Instant::now();
    while directory.exists() || !with_argument(&directory).is_empty() {
        assert!(start.elapsed() < DEADLINE, "{} or its processes are left", directory.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A demo that does not outlive a test that failed.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processes whose command line names something in a directory.
fn with_argument(directory: &Path) -> Vec<u32> {
    let directory = directory.to_str().unwrap().to_owned();
    let names = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&directory)
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(names).collect()
}
