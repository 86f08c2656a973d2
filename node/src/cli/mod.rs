//! The commands: what each asks the daemon, and what it prints.
//!
//! Owns: the texts people read. Refuses to know: how anything is done; whatever is done is done by the daemon, through
//! [`crate::control::client`].

pub mod doctor;
mod machine;
mod net;
mod node;
pub mod output;
mod overlay;
mod session;
mod slice;
mod topology;
mod why;

use std::path::{Path, PathBuf};

use crate::config::args::{Cli, Command, SliceCommand};
use crate::config::paths;
use crate::control::client::Client;
use crate::failure::{Exit, Failure};
use output::Output;

/// The daemon's API, at the socket given or the default one.
#[must_use]
pub fn client(socket: Option<&Path>) -> Client {
    let socket = socket.map_or_else(|| paths::socket_in(&paths::default_state_dir()), Path::to_owned);
    Client::new(&socket)
}

/// Runs a command that talks to the daemon.
///
/// # Errors
/// Whatever the daemon or the command itself refuses.
pub async fn run(cli: &Cli) -> Result<Exit, Failure> {
    let output = Output { json: cli.json };
    let client = client(cli.socket.as_deref());
    match &cli.command {
        Command::Invite(args) => overlay::invite(&client, args, output).await,
        Command::Join(args) => overlay::join(&client, args, output).await,
        Command::Members => overlay::members(&client, output).await,
        Command::Revoke(args) => overlay::revoke(&client, args, output).await,
        Command::Status => node::status(&client, output).await,
        Command::Peers => node::peers(&client, output).await,
        Command::Slice(SliceCommand::Plan(args)) => slice::plan(&client, &args.file, output).await,
        Command::Slice(SliceCommand::Create(args)) => slice::create(&client, args, output).await,
        Command::Slice(SliceCommand::Ls) => slice::list(&client, output).await,
        Command::Slice(SliceCommand::Show(args)) => slice::show(&client, &args.name, output).await,
        Command::Slice(SliceCommand::Events(args)) => slice::events(&client, &args.name, output).await,
        Command::Slice(SliceCommand::Extend(args)) => slice::extend(&client, args, output).await,
        Command::Slice(SliceCommand::Rm(args)) => slice::remove(&client, &args.name, output).await,
        Command::Slice(SliceCommand::Grow(_)) => Err(Failure::not_yet_supported("`consort slice grow`")),
        Command::Slice(SliceCommand::Shrink(_)) => Err(Failure::not_yet_supported("`consort slice shrink`")),
        Command::Machine(command) => machine::run(&client, command, output).await,
        Command::Net(command) => net::run(&client, command, output).await,
        Command::Why(args) => why::why(&client, args, output).await,
        Command::Topology(command) => topology::run(&client, command, output).await,
        Command::Image(_) => Err(Failure::not_yet_supported("`consort image`")
            .remedy("every node carries the image `mini`, which needs no download")),
        Command::Demo(_) | Command::Node(_) | Command::Doctor(_) | Command::Bench(_) => {
            Err(Failure::input("command", "this command does not talk to a daemon"))
        }
    }
}

/// The text of a slice file.
fn read_slice_file(path: &PathBuf) -> Result<String, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::input("slice_file", format!("cannot read the slice file {}: {error}", path.display()))
            .remedy("check the path and its permissions")
    };
    let length = std::fs::metadata(path).map_err(cannot)?.len();
    if length > SLICE_FILE_BYTES_MAX {
        return Err(Failure::input(
            "slice_file",
            format!("{} has {length} bytes, more than a slice file may have", path.display()),
        )
        .remedy(format!("a slice file has at most {SLICE_FILE_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(path).map_err(cannot)
}

/// The longest slice file sent to a daemon: well under [`crate::control::server::BODY_BYTES_MAX`] even when JSON doubles it.
const SLICE_FILE_BYTES_MAX: u64 = 100 * 1024;
