//! VpnCloud as a switch. Source: vpncloud(1).

use std::io;

use super::{CommandLine, Peer, Site, command_line};
use crate::bench::links::contender::Layer;

const PORT: u16 = 3210;

pub(super) const PEER: Peer = Peer {
    name: "vpncloud",
    layer: Layer::Ethernet,
    cipher: "the fastest of its AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305",
    programs: &["vpncloud"],
    version: &["--version"],
    // The wire's 1500 without IPv4, UDP, its header, tag and the inner Ethernet header.
    mtu: 1420,
    prepare,
    configure: None,
};

fn prepare(site: &Site) -> io::Result<[Vec<CommandLine>; 2]> {
    Ok([0, 1].map(|side| {
        vec![command_line([
            "vpncloud",
            "--type",
            "tap",
            "--device",
            PEER.name,
            "--mode",
            "switch",
            "--no-port-forwarding",
            "--quiet",
            "--listen",
            &format!("{}:{PORT}", site.wire[side]),
            "--peer",
            &format!("{}:{PORT}", site.wire[1 - side]),
            "--password",
            "what is measured is no secret",
        ])]
    }))
}
