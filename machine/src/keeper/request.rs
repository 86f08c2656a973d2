//! What a keeper does when it is asked.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::connection::{Connection, Role};
use super::life::{Machine, now};
use super::program::Program;
use crate::driver::MachineState;
use crate::session::{ExecRequest, WinSize};
use crate::setup::SetUpError;
use crate::setup::console::set_size;
use crate::wire::Frame;
use crate::wire::frame::PAYLOAD_MAX;
use crate::wire::message::{PROTOCOL, Reply, Request};

/// What a client of the console is shown of its past.
const REPLAY_BYTES: usize = 64 * 1024;

/// Does what is asked, and replies or lets the connection become what it is to be. `kill_at` is set when the machine was asked to end.
pub(super) fn handle(
    connection: &mut Connection,
    machine: &mut Machine,
    kill_at: &mut Option<Duration>,
    request: Request,
) {
    let outcome = match request {
        Request::Commit | Request::Remove => Ok(Reply::Done),
        Request::Status => Ok(Reply::Status(Box::new(machine.status()))),
        Request::Attach => return attach(connection, machine),
        Request::Renew(lease) => {
            machine.lease_end = now() + lease;
            Ok(Reply::Done)
        }
        Request::Pause => machine.pause().map(Reply::Paused),
        Request::Resume => machine.resume().map(|()| Reply::Done),
        Request::Stop { grace } if !machine.is_over() => {
            let asked = machine.ask_to_end();
            *kill_at = Some(now() + if asked.is_ok() { grace } else { Duration::ZERO });
            connection.role = Role::AwaitsEnd;
            return;
        }
        Request::Stop { .. } => Ok(Reply::Done),
        Request::Exec(exec) => match start_program(machine, &exec) {
            Ok(program) => {
                connection.reply(&Reply::Done);
                connection.role = Role::Program(program);
                return;
            }
            Err(error) => Err(error),
        },
        Request::Console(size) => {
            if let Some(size) = size {
                resize_console(machine, size);
            }
            connection.reply(&Reply::Done);
            send_past(connection, machine, REPLAY_BYTES);
            connection.role = Role::Console;
            return;
        }
        Request::Logs { bytes_max } => {
            connection.reply(&Reply::Done);
            send_past(connection, machine, bytes_max);
            connection.finish(&Frame::Exit(0));
            return;
        }
    };
    connection.reply(&outcome.unwrap_or_else(|error| Reply::Refused(error.to_string())));
}

fn start_program(machine: &Machine, exec: &ExecRequest) -> Result<Program, SetUpError> {
    if matches!(machine.status().state, MachineState::Paused(_)) {
        return Err(SetUpError("the machine is paused".to_owned()));
    }
    Program::start(machine, exec)
}

fn attach(connection: &mut Connection, machine: &Machine) {
    let copies: Result<Vec<_>, _> = machine.queues.iter().map(OwnedFd::try_clone).collect();
    match copies {
        Ok(copies) => {
            let nics = machine.order.spec.nics.iter().map(|nic| (nic.name.clone(), nic.queues));
            let nics = if copies.is_empty() { Vec::new() } else { nics.collect() };
            connection.reply_with(&Reply::Attached { protocol: PROTOCOL, nics }, copies);
        }
        Err(error) => connection.reply(&Reply::Refused(format!("copy the descriptors: {error}"))),
    }
}

fn send_past(connection: &mut Connection, machine: &Machine, bytes_max: usize) {
    let past = machine.history.as_ref().map_or(Ok(Vec::new()), |history| history.tail(bytes_max));
    match past {
        Ok(bytes) => {
            bytes.chunks(PAYLOAD_MAX).for_each(|part| connection.send(&Frame::Stdout(part.to_vec())))
        }
        Err(error) => connection
            .send(&Frame::Stderr(format!("the console's past cannot be read: {error}\n").into_bytes())),
    }
}

/// Tells the console its size.
pub(super) fn resize_console(machine: &Machine, size: WinSize) {
    if let Some(console) = &machine.console
        && let Err(error) = set_size(console, size)
    {
        eprintln!("keeper: resize the console: {error}");
    }
}
