//! Real sandboxes, made, looked at from inside and outside, and broken.
//!
//! Every test runs in each *world* that this host allows, and says aloud which worlds and tests are left out and why:
//!
//! | world | the daemon is | machines' users | TAPs |
//! |---|---|---|---|
//! | `here` | whoever runs the tests | a range each, if that is root | if `/dev/net/tun` can be opened |
//! | `single` | uid 0 of a user namespace with one uid | that one uid | likewise |
//! | `nobody` | uid 65534 of the host, if root runs the tests, in a user namespace with one uid | that one uid | likewise |
//! | `plain` | uid 65534 of the host, if root runs the tests, without any privilege | that one uid | likewise |
//!
//! The last three are processes of their own, entered by running this program again before it has any thread; `single` and `nobody` have
//! own user, mount, pid and network namespaces as well, and whatever a test leaves behind ends with them. No test waits by sleeping a fixed time, and none depends on
//! another.

mod checks;
mod inside;
mod lifecycle;
mod limits;
mod network;
mod world;

use std::process::ExitCode;

use nix::sys::signal::{SigHandler, Signal};
use world::World;

/// A test: its name and what it does.
pub(crate) type Test = (&'static str, fn(&World) -> anyhow::Result<Outcome>);

/// What came of a test that did not fail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It held.
    Passed,
    /// This world lacks what it needs.
    Skipped(String),
}

fn tests() -> Vec<Test> {
    [inside::TESTS, lifecycle::TESTS, limits::TESTS, network::TESTS].concat()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--enter") => return world::enter(&arguments[1], &arguments[2..]),
        Some("--world") => {
            if let Err(error) = world::settle(&arguments[1]) {
                println!("world {}: SKIPPED: {error:#}", arguments[1]);
                return ExitCode::SUCCESS;
            }
            let filters: Vec<String> = arguments[2..].to_vec();
            return run_here(&arguments[1], &filters);
        }
        // What cargo and other runners ask of a test program.
        Some("--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    let filters: Vec<String> = arguments.into_iter().filter(|word| !word.starts_with('-')).collect();
    let mut ok = run_here("here", &filters) == ExitCode::SUCCESS;
    for world in ["single", "nobody", "plain"] {
        ok &= world::run_in(world, &filters);
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The daemon as nohup(1) starts it: no machine may notice.
#[expect(
    unsafe_code,
    reason = "setting a signal's disposition is unsafe in nix because of handlers; none is set here"
)]
fn ignore_hang_up() {
    // SAFETY: "Ignore" involves no handler.
    unsafe { nix::sys::signal::signal(Signal::SIGHUP, SigHandler::SigIgn) }.expect("SIGHUP can be ignored");
}

fn run_here(name: &str, filters: &[String]) -> ExitCode {
    ignore_hang_up();
    let world = match World::open(name) {
        Ok(world) => world,
        // Only this is for the host to allow; any other failure is a fault.
        Err(error)
            if ["make namespaces", "make a proc file system"]
                .iter()
                .any(|step| format!("{error:#}").contains(step)) =>
        {
            println!("world {name}: SKIPPED, no sandbox can be made here: {error:#}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            println!("world {name}: FAILED: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    println!("world {name}: {}", world.describe());
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
    for (test, body) in tests() {
        if !filters.is_empty() && !filters.iter().any(|filter| test.contains(filter.as_str())) {
            continue;
        }
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&world))) {
            Ok(Ok(Outcome::Passed)) => {
                passed += 1;
                println!("test {name}::{test} ... ok");
            }
            Ok(Ok(Outcome::Skipped(why))) => {
                skipped += 1;
                println!("test {name}::{test} ... SKIPPED: {why}");
            }
            Ok(Err(error)) => {
                println!("test {name}::{test} ... FAILED: {error:#}");
                failed.push(test);
            }
            Err(_) => {
                println!("test {name}::{test} ... FAILED: it panicked");
                failed.push(test);
            }
        }
    }
    println!("world {name}: {passed} passed, {} failed, {skipped} skipped", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
