//! n2n: a supernode beside the first edge, which the edges ask once. Sources: supernode(1), edge(8).

use std::io;

use super::{CommandLine, Peer, Site, command_line};
use crate::bench::links::contender::Layer;

const SUPERNODE_PORT: u16 = 7654;
const EDGE_PORT: u16 = 7655;

pub(super) const PEER: Peer = Peer {
    name: "n2n",
    layer: Layer::Ethernet,
    cipher: "its default: Twofish-CBC, no authentication",
    programs: &["edge", "supernode"],
    version: &["-h"],
    // Its default.
    mtu: 1400,
    prepare,
    configure: None,
};

fn prepare(site: &Site) -> io::Result<[Vec<CommandLine>; 2]> {
    let edge = |side: usize| {
        command_line([
            "edge",
            "-d",
            PEER.name,
            "-a",
            &site.inside[side].to_string(),
            "-c",
            "bench",
            "-k",
            "what is measured is no secret",
            "-l",
            &format!("{}:{SUPERNODE_PORT}", site.wire[0]),
            "-p",
            &EDGE_PORT.to_string(),
            "-M",
            &PEER.mtu.to_string(),
            // The lab knows no other users.
            "-u",
            "0",
            "-g",
            "0",
        ])
    };
    let supernode = command_line(["supernode", "-l", &SUPERNODE_PORT.to_string()]);
    Ok([vec![supernode, edge(0)], vec![edge(1)]])
}
