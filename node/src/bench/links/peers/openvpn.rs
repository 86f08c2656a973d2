//! OpenVPN with TAP devices, peer to peer, each end knowing the other's certificate. Source: openvpn(8).

use std::io;

use super::{CommandLine, Peer, Site, command_line, said_by};
use crate::bench::links::contender::Layer;

const PORT: &str = "1194";

pub(super) const PEER: Peer = Peer {
    name: "openvpn",
    layer: Layer::Ethernet,
    cipher: "AES-128-GCM",
    programs: &["openvpn", "openssl"],
    version: &["--version"],
    // The wire's 1500 without IPv4, UDP, opcode, packet id, tag and the inner Ethernet header.
    mtu: 1430,
    prepare,
    configure: None,
};

fn prepare(site: &Site) -> io::Result<[Vec<CommandLine>; 2]> {
    let path = |side, name: &str| site.file(side, name).display().to_string();
    let mut prints = Vec::with_capacity(2);
    for side in [0, 1] {
        let (key, certificate) = (path(side, "key"), path(side, "cert"));
        said_by([
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=bench",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ])?;
        let said = said_by(["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", &certificate])?;
        let print = said.trim().split_once('=').map(|(_, print)| print.to_owned());
        prints.push(print.ok_or_else(|| io::Error::other("openssl told no fingerprint"))?);
    }
    Ok([0, 1].map(|side| {
        let mut line = command_line([
            "openvpn",
            "--dev",
            PEER.name,
            "--dev-type",
            "tap",
            "--proto",
            "udp4",
            "--port",
            PORT,
            "--dh",
            "none",
            "--data-ciphers",
            PEER.cipher,
            "--mssfix",
            "0",
            "--disable-dco",
            "--fast-io",
            "--verb",
            "1",
        ]);
        line.extend(command_line([
            "--local",
            &site.wire[side].to_string(),
            "--remote",
            &site.wire[1 - side].to_string(),
            "--tun-mtu",
            &PEER.mtu.to_string(),
            "--key",
            &path(side, "key"),
            "--cert",
            &path(side, "cert"),
            "--peer-fingerprint",
            &prints[1 - side],
            if side == 0 { "--tls-server" } else { "--tls-client" },
        ]));
        vec![line]
    }))
}
