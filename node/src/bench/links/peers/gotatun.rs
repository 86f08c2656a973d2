//! gotatun, Mullvad's WireGuard in Rust, between IP addresses only. Source: its README.

use std::io;

use super::{CommandLine, Peer, Site, uapi};
use crate::bench::links::contender::{Daemon, Layer};

const PORT: u16 = 51822;

pub(super) const PEER: Peer = Peer {
    name: "gotatun",
    layer: Layer::Ip,
    cipher: "ChaCha20-Poly1305",
    programs: &["gotatun", "unshare"],
    version: &["--version"],
    mtu: uapi::MTU,
    prepare,
    configure: Some(configure),
};

fn prepare(_: &Site) -> io::Result<[Vec<CommandLine>; 2]> {
    Ok(uapi::command_lines(["gotatun", "--foreground", "--disable-drop-privileges", PEER.name]))
}

fn configure(site: &Site, side: usize, daemon: &Daemon) -> io::Result<()> {
    uapi::configure(site, side, daemon, PEER.name, PORT)
}
