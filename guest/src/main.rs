//! The guest program: one static file, several commands, chosen by the name it is called by or by its first argument.

use std::process::ExitCode;

fn main() -> ExitCode {
    consort_guest::tool::run(std::env::args().collect())
}
