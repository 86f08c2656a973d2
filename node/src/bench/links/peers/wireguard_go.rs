//! wireguard-go, WireGuard's own in Go (with segmentation offload since 2023; Debian 12 has one of 2022), between IP addresses only. Source: its README.

use std::io;

use super::{CommandLine, Peer, Site, uapi};
use crate::bench::links::contender::{Daemon, Layer};

const PORT: u16 = 51823;

pub(super) const PEER: Peer = Peer {
    name: "wireguard-go",
    layer: Layer::Ip,
    cipher: "ChaCha20-Poly1305",
    programs: &["wireguard-go", "unshare"],
    version: &["--version"],
    mtu: uapi::MTU,
    prepare,
    configure: Some(configure),
};

fn prepare(_: &Site) -> io::Result<[Vec<CommandLine>; 2]> {
    Ok(uapi::command_lines(["wireguard-go", "--foreground", PEER.name]))
}

fn configure(site: &Site, side: usize, daemon: &Daemon) -> io::Result<()> {
    uapi::configure(site, side, daemon, PEER.name, PORT)
}
