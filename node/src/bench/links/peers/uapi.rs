//! What all userspace WireGuards have in common: they make their device, then are told keys and peers over a socket.
//!
//! Source: <https://www.wireguard.com/xplatform/>.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use consort_vswitch::StaticSecret;

use super::{CommandLine, Site, command_line};
use crate::bench::links::contender::{Daemon, GLANCE, START_MAX};

/// An answer takes no longer; it is a few bytes.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// WireGuard's 1420: the wire's 1500 without IPv6, UDP, header and tag.
pub(super) const MTU: u32 = 1420;

/// Secrets of the two ends; what is measured is no secret.
const SECRETS: [[u8; 32]; 2] = [[0x41; 32], [0x42; 32]];

/// The same for all: a `/run` of its own for the socket, which would else lie about on the computer, then the program in the foreground.
pub(super) fn command_lines<const N: usize>(words: [&str; N]) -> [Vec<CommandLine>; 2] {
    const OWN_RUN: &str = "mount -t tmpfs run /run && mkdir -p /run/wireguard && exec \"$@\"";
    [(); 2].map(|()| {
        let mut line = command_line(["unshare", "--mount", "sh", "-c", OWN_RUN, "sh"]);
        line.extend(words.map(str::to_owned));
        vec![line]
    })
}

/// Tells an end its key, its port and its peer.
pub(super) fn configure(
    site: &Site,
    side: usize,
    daemon: &Daemon,
    device: &str,
    port: u16,
) -> io::Result<()> {
    let path = format!("/proc/{}/root/run/wireguard/{device}.sock", daemon.pid());
    let began = Instant::now();
    let mut socket = loop {
        match UnixStream::connect(&path) {
            Ok(socket) => break socket,
            Err(error) if began.elapsed() > START_MAX => return Err(error),
            Err(_not_yet) => std::thread::sleep(GLANCE),
        }
    };
    let peer = StaticSecret::new(SECRETS[1 - side]).public().0;
    write!(
        socket,
        "set=1\nprivate_key={}\nlisten_port={port}\nreplace_peers=true\npublic_key={}\nendpoint={}:{port}\nallowed_ip={}/32\n\n",
        hex(&SECRETS[side]),
        hex(&peer),
        site.wire[1 - side],
        site.inside[1 - side],
    )?;
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    let mut answer = Vec::new();
    let mut piece = [0; 256];
    while !answer.ends_with(b"\n\n") {
        match socket.read(&mut piece)? {
            0 => break,
            length => answer.extend_from_slice(&piece[..length]),
        }
    }
    let _closed_already = socket.shutdown(Shutdown::Both);
    match String::from_utf8_lossy(&answer).trim() {
        "errno=0" => Ok(()),
        refusal => Err(io::Error::other(format!("it did not take its settings: {refusal}"))),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
