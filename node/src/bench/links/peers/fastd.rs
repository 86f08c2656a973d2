//! fastd with TAP devices. Source: its manual, "Configuration".

use std::io;

use super::{CommandLine, Peer, Site, command_line, said_by};
use crate::bench::links::contender::Layer;

const PORT: u16 = 10_000;

pub(super) const PEER: Peer = Peer {
    name: "fastd",
    layer: Layer::Ethernet,
    cipher: "aes128-ctr+umac",
    programs: &["fastd"],
    version: &["--version"],
    // The wire's 1500 without IPv4, UDP, its own 24 bytes and the inner Ethernet header.
    mtu: 1434,
    prepare,
    configure: None,
};

/// The value behind a word in what `fastd --generate-key` says.
fn value(said: &str, word: &str) -> io::Result<String> {
    said.lines()
        .find_map(|line| line.strip_prefix(word))
        .map(|value| value.trim().to_owned())
        .ok_or_else(|| io::Error::other("fastd made no key"))
}

fn prepare(site: &Site) -> io::Result<[Vec<CommandLine>; 2]> {
    let mut keys = Vec::with_capacity(2);
    for _ in 0..2 {
        let said = said_by(["fastd", "--generate-key"])?;
        keys.push((value(&said, "Secret:")?, value(&said, "Public:")?));
    }
    let line = |side: usize| -> io::Result<Vec<CommandLine>> {
        let settings = format!(
            "log level warn;\ninterface \"{}\";\nmode tap;\nmtu {};\nmethod \"{}\";\nbind {}:{PORT};\nsecret \"{}\";\n\
             peer \"other\" {{ key \"{}\"; remote {}:{PORT}; }}\n",
            PEER.name,
            PEER.mtu,
            PEER.cipher,
            site.wire[side],
            keys[side].0,
            keys[1 - side].1,
            site.wire[1 - side]
        );
        Ok(vec![command_line(["fastd", "-c", &site.write(side, "conf", &settings)?])])
    };
    Ok([line(0)?, line(1)?])
}
