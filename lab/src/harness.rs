//! Tests inside a lab of their own: the test starts its own binary again in fresh namespaces, to run itself alone there.
//!
//! A test says [`inside`] with its own name and a program that has the internal subcommands, and a body. Outside a lab the body is
//! not run; the same test is started inside instead, and its verdict taken. Where namespaces are not to be had, the test says so
//! aloud and passes.

use std::path::{Path, PathBuf};

use crate::enter::{self, Entry};
use crate::reexec::EXIT_UNAVAILABLE;

/// Runs `body` in a lab. `program` is a program that calls [`crate::reexec::main`], as `env!("CARGO_BIN_EXE_…")` names it; `test`
/// is the test's name as the test binary lists it.
///
/// # Panics
/// When the body fails, with its output; that is the test's failure.
pub fn inside(program: &str, test: &str, body: impl FnOnce()) {
    if enter::directory().is_some() {
        return body();
    }
    let own = std::env::current_exe().expect("a test binary knows its path");
    let entry = Entry {
        program: PathBuf::from(program),
        body: [own.as_os_str(), test.as_ref(), "--exact".as_ref(), "--nocapture".as_ref()]
            .map(ToOwned::to_owned)
            .to_vec(),
        expose: Vec::new(),
    };
    let output = entry.command().output().expect("the lab's program starts");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(EXIT_UNAVAILABLE) {
        skip(Path::new(test), &text);
        return;
    }
    assert!(output.status.success(), "{test} failed in its lab ({}):\n{text}", output.status);
    assert!(text.contains("1 passed"), "no test is called {test}:\n{text}");
}

/// Past the capture of test output: who runs the tests shall see what was not tested.
fn skip(test: &Path, reason: &str) {
    use std::io::Write as _;
    let line = format!("SKIPPED {}: {}\n", test.display(), reason.trim());
    // A terminal that is gone is no reason to fail.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
