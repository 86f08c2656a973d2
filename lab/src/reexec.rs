//! Internal subcommands: how a program that uses the lab starts itself again as one of the lab's processes.
//!
//! Namespaces of users and processes can be entered only by a single-threaded process, and `fork` without `exec` is not safe once
//! threads run. So each lab process is the program itself, started afresh with an internal subcommand. A program that uses the lab
//! calls [`main`] first thing, before a runtime or a thread exists:
//!
//! ```no_run
//! let args: Vec<_> = std::env::args_os().collect();
//! if let Some(code) = consort_lab::reexec::main(&args) {
//!     std::process::exit(code);
//! }
//! ```
//! A test binary has no such `main`; it names a program that has (see [`crate::harness`]), and all that it starts inherits the
//! name in `CONSORT_LAB_PROGRAM`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Names the program that has the internal subcommands, for processes inside a lab.
pub(crate) const PROGRAM_VARIABLE: &str = "CONSORT_LAB_PROGRAM";
/// This process' own program, also when its file was moved or replaced meanwhile.
pub(crate) const SELF_PROGRAM: &str = "/proc/self/exe";

/// Namespaces are not to be had here (the reason was printed): tests take it as "skipped".
pub const EXIT_UNAVAILABLE: i32 = 77;
/// A lab process failed for another reason (printed).
pub(crate) const EXIT_FAILED: i32 = 125;

pub(crate) const ENTER: &str = "lab-enter";
pub(crate) const INIT: &str = "lab-init";
pub(crate) const HOST: &str = "lab-host";
pub(crate) const HOST_INIT: &str = "lab-host-init";
pub(crate) const SPAWN: &str = "lab-spawn";
pub(crate) const EXEC: &str = "lab-exec";
pub(crate) const MIDDLEBOX: &str = "lab-middlebox";
pub(crate) const GATEWAY: &str = "lab-gateway";

/// Runs an internal subcommand if `args` (with the program's name first) asks for one, and returns its exit code.
pub fn main(args: &[OsString]) -> Option<i32> {
    let arguments = Arguments::parse(args.get(2..).unwrap_or_default());
    let code = match args.get(1)?.to_str()? {
        ENTER => crate::enter::janitor::main(&arguments),
        INIT => crate::enter::init::main(&arguments),
        HOST => crate::host::init::outer_main(&arguments),
        HOST_INIT => crate::host::init::main(&arguments),
        SPAWN => crate::host::spawn::main(&arguments),
        EXEC => crate::host::spawn::exec_main(&arguments),
        GATEWAY => crate::gateway::process::main(&arguments),
        MIDDLEBOX => crate::middlebox::process::main(&arguments),
        _ => return None,
    };
    Some(code)
}

/// The program that has the internal subcommands.
pub fn program() -> PathBuf {
    std::env::var_os(PROGRAM_VARIABLE).map_or_else(|| PathBuf::from(SELF_PROGRAM), PathBuf::from)
}

/// The arguments of an internal subcommand: `--name value` pairs, then `--` and a command.
#[derive(Debug)]
pub(crate) struct Arguments<'a> {
    options: Vec<(&'a OsStr, &'a OsStr)>,
    pub(crate) command: &'a [OsString],
}

impl<'a> Arguments<'a> {
    fn parse(args: &'a [OsString]) -> Self {
        let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
        let options = args[..end].as_chunks::<2>().0.iter();
        Self {
            options: options.map(|[name, value]| (name.as_os_str(), value.as_os_str())).collect(),
            command: args.get(end + 1..).unwrap_or_default(),
        }
    }

    /// All values given for an option.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.options.iter().filter(move |(found, _)| *found == name).filter_map(|(_, value)| value.to_str())
    }

    /// The value of an option, parsed; `None` when it is absent or not of that type.
    pub(crate) fn value<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.all(name).next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_at_the_command() {
        let args: Vec<OsString> = ["--pid", "7", "--x", "a", "--x", "b", "--", "ls", "--pid", "9"]
            .iter()
            .map(OsString::from)
            .collect();
        let parsed = Arguments::parse(&args);
        assert_eq!(parsed.value::<u32>("--pid"), Some(7));
        assert_eq!(parsed.all("--x").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(parsed.command, ["ls", "--pid", "9"]);
        assert_eq!(parsed.value::<u32>("--none"), None);
    }

    #[test]
    fn other_subcommands_are_left_to_the_program() {
        let args: Vec<OsString> = ["consort", "demo"].iter().map(OsString::from).collect();
        assert_eq!(main(&args), None);
        assert_eq!(main(&args[..1]), None);
    }
}
