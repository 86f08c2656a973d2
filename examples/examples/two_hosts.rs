//! Two hosts, one virtual LAN, two machines: what a virtual switch does with their frames.
//!
//! The switch is a value: frames go in as bytes, decisions come out. No socket, no device, no encryption here; those are the
//! driver's, around this core.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use consort_vswitch::switch::{Decision, Switch};
use consort_vswitch::{Guard, HostId, MacAddr, MachineBinding, NetworkConfig, NetworkId, PortConfig, PortId};
use libp2p_identity::Keypair;

const LAN: NetworkId = NetworkId(*b"consort/example1");
const ANNA: (MacAddr, Ipv4Addr) = (MacAddr([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 7, 0, 2));
const BERT: (MacAddr, Ipv4Addr) = (MacAddr([2, 0, 0, 0, 0, 2]), Ipv4Addr::new(10, 7, 0, 3));

fn main() -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a program, not a core: it may read the clock")]
    let now = Instant::now();
    let (first, second) = (host(1)?, host(2)?);
    let (first_switch, anna) = switch(now, first, second, ANNA)?;
    let (second_switch, bert) = switch(now, second, first, BERT)?;

    println!(
        "machine anna ({} {}) on the first host, bert ({} {}) on the second",
        ANNA.0, ANNA.1, BERT.0, BERT.1
    );

    let mut at_first = first_switch.worker();
    at_first.refresh();
    let mut at_second = second_switch.worker();
    at_second.refresh();

    println!("\nanna broadcasts an ARP request: who has {}?", BERT.1);
    match at_first.from_port(now, anna, &arp_request(ANNA, BERT.1)) {
        Decision::Answer(answer) => {
            println!("  answered on her own host from the slice's record: {}", hex(&answer.frame()[6..12]));
            println!("  nothing crosses the link");
        }
        other => anyhow::bail!("expected an answer, got {other:?}"),
    }

    println!("\nanna sends bert an IPv4 packet");
    let frame = ipv4(ANNA, BERT, b"hello");
    let Decision::Peer(network, peer) = at_first.from_port(now, anna, &frame) else {
        anyhow::bail!("expected the other host");
    };
    println!(
        "  to host {} on network {network}",
        first_switch.host_of(peer).map_or_else(String::new, |id| id.to_string())
    );
    let from = second_switch.peer(first)?;
    match at_second.from_peer(now, from, network, &frame) {
        Decision::Port(port) if port == bert => println!("  there: to bert's port, and nowhere else"),
        other => anyhow::bail!("expected bert's port, got {other:?}"),
    }

    println!("\nanna pretends to be bert");
    match at_first.from_port(now, anna, &ipv4(BERT, ANNA, b"trust me")) {
        Decision::Drop(reason) => println!("  dropped and counted: {reason:?}"),
        other => anyhow::bail!("expected a drop, got {other:?}"),
    }

    println!("\nthe second host's view of a frame that claims to come from bert, who is its own");
    match at_second.from_peer(now, from, network, &ipv4(BERT, ANNA, b"echo")) {
        Decision::Drop(reason) => println!("  dropped and counted: {reason:?}"),
        other => anyhow::bail!("expected a drop, got {other:?}"),
    }
    Ok(())
}

fn host(byte: u8) -> anyhow::Result<HostId> {
    Ok(Keypair::ed25519_from_bytes([byte; 32])?.public().to_peer_id())
}

/// The switch of `here`, with its machine attached, told of both machines as the slice's record would.
fn switch(
    now: Instant,
    here: HostId,
    there: HostId,
    (mac, ipv4): (MacAddr, Ipv4Addr),
) -> anyhow::Result<(Arc<Switch>, PortId)> {
    let switch = Switch::new(here, now, 7);
    let machine = |(mac, ip), host| MachineBinding { mac, ipv4: vec![ip], ipv6: Vec::new(), host };
    let (annas, berts) = if mac == ANNA.0 { (here, there) } else { (there, here) };
    switch.set_network(&NetworkConfig {
        id: LAN,
        mtu: 1500,
        machines: vec![machine(ANNA, annas), machine(BERT, berts)],
        hosts: vec![there],
        allow_unknown: false,
    })?;
    let port = PortConfig { mac, ipv4: vec![ipv4], ipv6: Vec::new(), guard: Guard::Strict, vnet_hdr: false };
    let port = switch.attach(LAN, port)?;
    Ok((switch, port))
}

/// RFC 826, over Ethernet.
fn arp_request((mac, ip): (MacAddr, Ipv4Addr), wanted: Ipv4Addr) -> Vec<u8> {
    let mut frame = [[0xff; 6], mac.0].concat();
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(mac.0.iter().chain(&ip.octets()).chain(&[0; 6]).chain(&wanted.octets()));
    frame
}

/// An IPv4 packet (RFC 791) of protocol 253, kept for experiments (RFC 3692).
fn ipv4(from: (MacAddr, Ipv4Addr), to: (MacAddr, Ipv4Addr), payload: &[u8]) -> Vec<u8> {
    let mut frame = [to.0.0, from.0.0].concat();
    frame.extend([0x08, 0x00]);
    let total = u8::try_from(20 + payload.len()).expect("the example's payloads are short");
    frame.extend([0x45, 0, 0, total, 0, 0, 0x40, 0, 64, 253, 0, 0]);
    frame.extend(from.1.octets().iter().chain(&to.1.octets()));
    let sum: u32 =
        frame[14..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from(folded & 0xffff).expect("masked");
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(payload);
    frame
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}
