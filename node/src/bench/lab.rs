//! Measurements with real nodes on emulated hosts: the same command once more, inside a lab of its own.

use std::ffi::OsString;

use consort_lab::enter::Entry;
use consort_lab::reexec;

use crate::failure::{Exit, Failure};

/// Runs `consort bench WHAT` with these arguments in a lab.
pub(super) fn enter_again(what: &str, args: Vec<OsString>, json: bool) -> Result<Exit, Failure> {
    let mut body: Vec<OsString> = ["/proc/self/exe", "bench", what].map(OsString::from).to_vec();
    body.extend(args);
    body.extend(json.then(|| "--json".into()));
    let code = Entry { program: reexec::program(), body, expose: Vec::new() }
        .run()
        .map_err(|error| Failure::failed("lab", format!("cannot start the emulated hosts: {error}")))?;
    match code {
        0 => Ok(Exit::Done),
        reexec::EXIT_UNAVAILABLE => {
            Err(Failure::failed("lab_unavailable", "there are no emulated hosts to be had here")
                .remedy("the line above says why and what to do"))
        }
        _ => Ok(Exit::Failed),
    }
}

/// What drives the measurement inside.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("runtime", format!("cannot start a runtime: {error}")))
}
