//! The program `consort`: exit codes, and which kind of process this is.

use std::process::ExitCode;

use clap::Parser;
use consort_node::cli::output::Output;
use consort_node::cli::{self, doctor};
use consort_node::config::args::{Cli, Command};
use consort_node::failure::{Exit, Failure};
use consort_node::{bench, daemon, demo, privilege};
use nix::sys::signal::{SigSet, Signal};

/// Threads of the daemon's runtime. The control plane is far from busy, frames have threads of their own, and each thread costs memory.
const RUNTIME_THREADS: usize = 2;

/// The first argument of a machine's keeper ([`consort_machine::spec::KeeperCommand::own`]).
const MACHINE_KEEPER: &str = "machine-keeper";

fn main() -> ExitCode {
    // Before any thread exists: processes that this program starts from itself.
    let argv: Vec<_> = std::env::args_os().skip(1).collect();
    if argv.first().is_some_and(|first| first == privilege::NAMESPACE_PROBE) {
        return privilege::namespace_probe();
    }
    if argv.first().is_some_and(|first| first == MACHINE_KEEPER) {
        return consort_machine::keeper::main(&[]);
    }
    if let Some(exit) = demo::reexec(&argv) {
        return exit;
    }
    let cli = Cli::parse();
    let output = Output { json: cli.json };
    run(&cli, output).unwrap_or_else(|failure| output.failure(&failure)).into()
}

fn run(cli: &Cli, output: Output) -> Result<Exit, Failure> {
    match &cli.command {
        Command::Demo(args) => demo::run(args, cli.json),
        Command::Bench(args) => bench::run(args, cli.json),
        Command::Doctor(args) => doctor::run(args, cli.socket.as_deref(), output),
        Command::Node(args) => {
            take_signals()?;
            runtime(tokio::runtime::Builder::new_multi_thread().worker_threads(RUNTIME_THREADS))?
                .block_on(daemon::run(args, output))
        }
        _ => {
            let runtime = runtime(&mut tokio::runtime::Builder::new_current_thread())?;
            let ended = runtime.block_on(cli::run(cli));
            // A read from standard input may be under way and would keep the process until a key is pressed.
            runtime.shutdown_background();
            ended
        }
    }
}

/// Whoever started the daemon may have blocked the signals that end it, and a blocked signal is inherited.
fn take_signals() -> Result<(), Failure> {
    let mut ending = SigSet::empty();
    ending.add(Signal::SIGTERM);
    ending.add(Signal::SIGINT);
    ending
        .thread_unblock()
        .map_err(|error| Failure::failed("signals", format!("cannot take signals: {error}")))
}

fn runtime(builder: &mut tokio::runtime::Builder) -> Result<tokio::runtime::Runtime, Failure> {
    builder
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("runtime", format!("cannot start the runtime: {error}")))
}
