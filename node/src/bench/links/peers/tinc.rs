//! tinc 1.0 as a switch. Sources: tinc.conf(5), tincd(8).

use std::fs;
use std::io;

use super::{CommandLine, Peer, Site, command_line, said_by};
use crate::bench::links::contender::Layer;

const PORT: u16 = 655;
const NAMES: [&str; 2] = ["a", "b"];

pub(super) const PEER: Peer = Peer {
    name: "tinc",
    layer: Layer::Ethernet,
    cipher: "its default: AES-256-CBC and SHA-256",
    programs: &["tincd"],
    version: &["--version"],
    // Room for two UDP and IP headers, sequence number, padding, MAC and the inner Ethernet header.
    mtu: 1400,
    prepare,
    configure: None,
};

fn prepare(site: &Site) -> io::Result<[Vec<CommandLine>; 2]> {
    for side in [0, 1] {
        let (directory, name, other) = (site.file(side, "etc"), NAMES[side], NAMES[1 - side]);
        fs::create_dir_all(directory.join("hosts"))?;
        let settings = format!(
            "Name = {name}\nConnectTo = {other}\nMode = switch\nDeviceType = tap\nInterface = {}\nAddressFamily = ipv4\nBindToAddress = {}\n",
            PEER.name, site.wire[side]
        );
        fs::write(directory.join("tinc.conf"), settings)?;
        fs::write(directory.join("hosts").join(name), format!("Address = {} {PORT}\n", site.wire[side]))?;
        // Without a terminal it takes the usual places: the public key goes into the file of the own name.
        said_by(["tincd", "-c", &directory.display().to_string(), "-K2048"])?;
    }
    for side in [0, 1] {
        let file = |place: usize, name: &str| site.file(place, "etc").join("hosts").join(name);
        fs::copy(file(side, NAMES[side]), file(1 - side, NAMES[side]))?;
    }
    Ok([0, 1].map(|side| {
        let (directory, pid) = (site.file(side, "etc"), site.file(side, "pid"));
        let [directory, pid] = [directory, pid].map(|path| path.display().to_string());
        vec![command_line(["tincd", "-D", "-c", &directory, &format!("--pidfile={pid}")])]
    }))
}
