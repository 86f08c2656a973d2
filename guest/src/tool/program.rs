//! `session` and `enter`: becoming the tenant's program.
//!
//! A driver never starts a tenant's file itself: it starts this program, from a read-only mount, and this program becomes the
//! tenant's. So `/proc/self/exe` of a starting program is never the driver's own file, which a tenant could otherwise open for
//! writing on a host where both have one user (the attack on runc of 2019, CVE-2019-5736).

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use super::Failure;
use crate::text::Arguments;

/// `enter DIR PROGRAM ARGUMENT...`: goes to a directory and becomes the program.
///
/// # Errors
/// The program cannot be started.
pub fn enter(words: Vec<String>) -> Result<ExitCode, Failure> {
    let mut arguments = Arguments::new(words);
    let directory = arguments.word("the directory")?;
    let program = arguments.word("the program")?;
    std::env::set_current_dir(&directory)
        .map_err(|error| Failure::NotStarted { words: format!("{directory}: {error}"), code: 126 })?;
    Err(become_program(&program, &arguments.rest()))
}

/// `session TTY PROGRAM ARGUMENT...`: makes the terminal the controlling one of a new session and becomes the program.
///
/// # Errors
/// The terminal or the program cannot be had.
pub fn session(words: Vec<String>) -> Result<ExitCode, Failure> {
    let mut arguments = Arguments::new(words);
    let terminal = arguments.word("the terminal")?;
    let program = arguments.word("the program")?;
    rustix::process::setsid().map_err(Failure::at("begin a session"))?;
    let tty = File::options().read(true).write(true).open(&terminal).map_err(Failure::at(&terminal))?;
    rustix::process::ioctl_tiocsctty(&tty)
        .map_err(Failure::at(format!("take {terminal} as the controlling terminal")))?;
    rustix::stdio::dup2_stdin(&tty)
        .and_then(|()| rustix::stdio::dup2_stdout(&tty))
        .and_then(|()| rustix::stdio::dup2_stderr(&tty))
        .map_err(Failure::at("put the terminal in place"))?;
    drop(tty);
    Err(become_program(&program, &arguments.rest()))
}

fn become_program(program: &str, arguments: &[String]) -> Failure {
    // When the machine's memory is used up, its programs are to go before its init. A kernel without this file has no killer to tell.
    let _ = std::fs::write("/proc/self/oom_score_adj", "100");
    let error = Command::new(program).args(arguments).exec();
    let code = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
    Failure::NotStarted { words: format!("{program}: {error}"), code }
}
