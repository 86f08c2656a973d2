//! `consort-lab`: a command inside a lab of its own, for looking around and for the lab's tests.

use std::ffi::OsString;
use std::process::exit;

use consort_lab::enter::Entry;
use consort_lab::reexec;

const USAGE: &str =
    "usage: consort-lab COMMAND [ARGUMENT]...   run a command as root of namespaces of its own";

fn main() {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = reexec::main(&args) {
        exit(code);
    }
    let body = args[1.min(args.len())..].to_vec();
    if body.is_empty() {
        eprintln!("{USAGE}");
        exit(2);
    }
    match (Entry { program: reexec::program(), body, expose: Vec::new() }).run() {
        Ok(code) => exit(code),
        Err(error) => {
            eprintln!("consort-lab: {error}");
            exit(1);
        }
    }
}
