//! Probes and their replies: whether a path works, how long it takes, and from where the other end sees us.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 4 | common | kind 5 (probe) or 6 (reply) |
//! | 4 | 8 | tag | names sender and receiver to the receiver alone: derived from the key only the two have, other each way |
//! | 12 | 8 | serial | of this sender's probes to this receiver, growing (from the wall clock's microseconds on); a reply repeats it |
//! | 20 | 1 | flags | of a probe: [`ProbeFlags`]; of a reply: zero |
//! | 21 | 3 | reserved | zero |
//! | 24 | 18 | address | of a probe: where it was sent; of a reply: where the probe came from. 16 bytes of IPv6 (IPv4 mapped), 2 of port, masked |
//! | 42 | 6 | reserved | zero |
//! | 48 | 16 | mac | BLAKE3 keyed with the two hosts' key over all before it |
//!
//! A reply is as long as its probe: a forged source address gains nothing. The mask (the serial, over and over) keeps NATs that rewrite
//! addresses inside datagrams from doing so, as in STUN (RFC 8489 section 14.2).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{COMMON_BYTES, Kind, MAC_BYTES, Refusal, array_at, common, u64_at};

/// Bytes of a probe and of its reply.
pub const PROBE_BYTES: usize = MAC + MAC_BYTES;
/// Bytes of a tag.
pub const TAG_BYTES: usize = 8;

const TAG: usize = COMMON_BYTES;
const SERIAL: usize = TAG + TAG_BYTES;
const FLAGS: usize = SERIAL + 8;
const ADDRESS: usize = FLAGS + 4;
const PORT: usize = ADDRESS + 16;
const PADDING: usize = PORT + 2;
const MAC: usize = PADDING + 6;

/// What a probe says beside asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProbeFlags {
    /// The sender, whose choice goes first, sends on this path.
    pub nominate: bool,
    /// The sender has another address since now: what goes to it shall come here.
    pub moved: bool,
    /// It comes from a socket that only asks: no way to the sender leads there.
    pub aside: bool,
}

impl ProbeFlags {
    fn parse(byte: u8) -> Option<Self> {
        let flags = Self { nominate: byte & 1 != 0, moved: byte & 2 != 0, aside: byte & 4 != 0 };
        (byte & !7 == 0).then_some(flags)
    }

    fn encode(self) -> u8 {
        u8::from(self.nominate) | u8::from(self.moved) << 1 | u8::from(self.aside) << 2
    }
}

/// Probe or reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// Asks.
    Probe(ProbeFlags),
    /// Answers.
    Reply,
}

/// A probe or reply, taken apart. Whether its mac is right is for who has the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Which of the two.
    pub kind: ProbeKind,
    /// See the layout.
    pub tag: [u8; TAG_BYTES],
    /// See the layout.
    pub serial: u64,
    /// See the layout; none where it has no meaning (through a relay).
    pub address: Option<SocketAddr>,
}

impl Probe {
    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = super::kind(bytes)?;
        if bytes.len() != PROBE_BYTES {
            return Err(Refusal::Length);
        }
        let kind = match (kind, ProbeFlags::parse(bytes[FLAGS])) {
            (Kind::Probe, Some(flags)) => ProbeKind::Probe(flags),
            (Kind::ProbeReply, Some(flags)) if flags == ProbeFlags::default() => ProbeKind::Reply,
            _ => return Err(Refusal::Foreign),
        };
        if bytes[FLAGS + 1..ADDRESS] != [0; 3] || bytes[PADDING..MAC] != [0; 6] {
            return Err(Refusal::Foreign);
        }
        let serial = u64_at(bytes, SERIAL);
        let mut address = array_at::<18>(bytes, ADDRESS);
        mask(serial, &mut address);
        Ok(Self { kind, tag: array_at(bytes, TAG), serial, address: address_of(address) })
    }

    /// Writes it; `mac` makes the code over what it is given.
    pub fn encode(&self, mac: impl FnOnce(&[u8]) -> [u8; MAC_BYTES]) -> [u8; PROBE_BYTES] {
        let mut bytes = [0; PROBE_BYTES];
        let (kind, flags) = match self.kind {
            ProbeKind::Probe(flags) => (Kind::Probe, flags),
            ProbeKind::Reply => (Kind::ProbeReply, ProbeFlags::default()),
        };
        bytes[..TAG].copy_from_slice(&common(kind));
        bytes[TAG..SERIAL].copy_from_slice(&self.tag);
        bytes[SERIAL..FLAGS].copy_from_slice(&self.serial.to_le_bytes());
        bytes[FLAGS] = flags.encode();
        let mut address = bytes_of(self.address);
        mask(self.serial, &mut address);
        bytes[ADDRESS..PADDING].copy_from_slice(&address);
        let code = mac(&bytes[..MAC]);
        bytes[MAC..].copy_from_slice(&code);
        bytes
    }
}

/// The tag of a probe or reply, if it has the length of one.
pub(crate) fn tag(bytes: &[u8]) -> Option<[u8; TAG_BYTES]> {
    (bytes.len() == PROBE_BYTES).then(|| array_at(bytes, TAG))
}

/// What a probe's or reply's mac is over, and the mac.
pub(crate) fn covered(bytes: &[u8]) -> Option<(&[u8], [u8; MAC_BYTES])> {
    (bytes.len() == PROBE_BYTES).then(|| (&bytes[..MAC], array_at(bytes, MAC)))
}

fn mask(serial: u64, bytes: &mut [u8; 18]) {
    for (byte, mask) in bytes.iter_mut().zip(serial.to_le_bytes().iter().cycle()) {
        *byte ^= mask;
    }
}

fn bytes_of(address: Option<SocketAddr>) -> [u8; 18] {
    let mut bytes = [0; 18];
    if let Some(address) = address {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        bytes[..16].copy_from_slice(&ip.octets());
        bytes[16..].copy_from_slice(&address.port().to_le_bytes());
    }
    bytes
}

fn address_of(bytes: [u8; 18]) -> Option<SocketAddr> {
    let ip = Ipv6Addr::from(array_at::<16>(&bytes, 0)).to_canonical();
    let port = super::u16_at(&bytes, 16);
    (!ip.is_unspecified() && port != 0).then_some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> Probe {
        Probe {
            kind: ProbeKind::Probe(ProbeFlags { nominate: true, ..ProbeFlags::default() }),
            tag: [1, 2, 3, 4, 5, 6, 7, 8],
            serial: 0x1000_0000_0000_0009,
            address: Some("192.0.2.1:513".parse().unwrap()),
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = probe().encode(|covered| {
            assert_eq!(covered.len(), 48);
            [0xcc; 16]
        });
        assert_eq!(bytes[..12], [5, 1, 0, 0, /* tag */ 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes[12..20], [9, 0, 0, 0, 0, 0, 0, 0x10]); // serial
        assert_eq!(bytes[20..24], [1, 0, 0, 0]); // nominate
        // ::ffff:192.0.2.1, each eighth byte from the first masked by 9, from the eighth by 0x10.
        assert_eq!(bytes[24..40], [9, 0, 0, 0, 0, 0, 0, 0x10, 9, 0, 0xff, 0xff, 192, 0, 2, 0x11]);
        assert_eq!(bytes[40..42], [1 ^ 9, 2]); // port 0x0201, masked
        assert_eq!(bytes[42..48], [0; 6]);
        assert_eq!(bytes[48..], [0xcc; 16]);
        assert_eq!(Probe::parse(&bytes), Ok(probe()));
    }

    #[test]
    fn replies_and_every_kind_of_address_come_back_as_they_were() {
        for address in
            [None, Some("[2001:db8::7]:65535".parse().unwrap()), Some("10.0.0.1:1".parse().unwrap())]
        {
            for kind in [
                ProbeKind::Reply,
                ProbeKind::Probe(ProbeFlags { moved: true, aside: true, ..ProbeFlags::default() }),
            ] {
                let probe = Probe { kind, address, ..probe() };
                assert_eq!(Probe::parse(&probe.encode(|_| [0; 16])), Ok(probe));
            }
        }
    }

    #[test]
    fn reserved_bytes_unknown_flags_and_other_lengths_are_refused() {
        let bytes = probe().encode(|_| [0; 16]);
        for at in (21..24).chain(42..48) {
            let mut changed = bytes;
            changed[at] = 1;
            assert_eq!(Probe::parse(&changed), Err(Refusal::Foreign), "byte {at}");
        }
        let mut flags = bytes;
        flags[20] = 8;
        assert_eq!(Probe::parse(&flags), Err(Refusal::Foreign));
        let mut reply = bytes;
        reply[0] = 6;
        assert_eq!(Probe::parse(&reply), Err(Refusal::Foreign), "a reply has no flags");
        assert_eq!(Probe::parse(&bytes[..63]), Err(Refusal::Length));
        assert_eq!(Probe::parse(&[&bytes[..], &[0]].concat()), Err(Refusal::Length));
    }
}
