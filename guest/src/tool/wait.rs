//! `wait`: until a TCP port answers, or until every link has its address.

use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::Failure;
use crate::netlink::Netlink;
use crate::settings::{SETTINGS_PATH, Settings};
use crate::text::{Arguments, resolve_port, unknown};

/// Between two attempts; a machine is reachable within some tens of milliseconds.
const PAUSE: Duration = Duration::from_millis(10);

/// Runs the command.
///
/// # Errors
/// Bad usage, or the time is over.
pub fn run(words: Vec<String>) -> Result<ExitCode, Failure> {
    let mut arguments = Arguments::new(words);
    let mut timeout = Duration::from_secs(10);
    while let Some(option) = arguments.option() {
        match option.as_str() {
            "--timeout" => timeout = Duration::from_millis(arguments.value(&option)?),
            other => return Err(unknown(other)),
        }
    }
    let deadline = Instant::now() + timeout;
    match arguments.word("what to wait for")?.as_str() {
        "tcp" => {
            let address = resolve_port(&arguments.word("HOST:PORT")?, None)?;
            arguments.end()?;
            until(deadline, &format!("{address} did not answer"), || answers(address, deadline))
        }
        "addr" => {
            arguments.end()?;
            until(deadline, "not every address is set", addressed)
        }
        other => Err(Failure::Usage(format!("{other}: wait for tcp or addr"))),
    }
}

fn until(
    deadline: Instant,
    late: &str,
    mut done: impl FnMut() -> Result<bool, Failure>,
) -> Result<ExitCode, Failure> {
    while !done()? {
        if Instant::now() >= deadline {
            return Err(Failure::Failed(format!("{late} in time")));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(ExitCode::SUCCESS)
}

fn answers(address: SocketAddr, deadline: Instant) -> Result<bool, Failure> {
    let left = deadline.saturating_duration_since(Instant::now()).max(PAUSE);
    Ok(TcpStream::connect_timeout(&address, left).is_ok())
}

fn addressed() -> Result<bool, Failure> {
    let text =
        std::fs::read_to_string(SETTINGS_PATH).map_err(Failure::at(format!("read {SETTINGS_PATH}")))?;
    let settings = Settings::decode(&text).map_err(Failure::at(SETTINGS_PATH))?;
    let links = Netlink::open()
        .and_then(|mut netlink| netlink.links())
        .map_err(Failure::at("ask the kernel for links"))?;
    Ok(settings.nics.iter().all(|nic| {
        links.iter().any(|link| {
            link.name == nic.name
                && link.up
                && nic.addresses.iter().all(|address| link.addresses.contains(address))
        })
    }))
}
