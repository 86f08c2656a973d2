//! A keeper as a program of its own, for programs that make machines and are not the node: this crate's tests, and examples.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    consort_machine::keeper::main(&arguments)
}
