//! NAT-PMP (RFC 6886): the outside address, and ports.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::change;
use crate::nat::{Nat, Protocol};

pub(super) const VERSION: u8 = 0;

const ANSWER: u8 = 128;
const DONE: u16 = 0;
const UNSUPPORTED_VERSION: u16 = 1;
const OUT_OF_RESOURCES: u16 = 4;
const UNSUPPORTED_OPCODE: u16 = 5;

/// The answer; none to what is too short to be answered.
pub(super) fn answer(now: Duration, from: Ipv4Addr, asked: &[u8], nat: &mut Nat) -> Option<Vec<u8>> {
    let protocol = match (asked.get(1)?, asked.len()) {
        (0, 2) => return Some([head(0, DONE, now).as_slice(), &nat.address().octets()].concat()),
        (1, 12) => Protocol::Udp,
        (2, 12) => Protocol::Tcp,
        (0..=2, _) => return None,
        (opcode, _) => return Some(head(*opcode, UNSUPPORTED_OPCODE, now)),
    };
    let inside = [asked[4], asked[5]];
    let wanted = u16::from_be_bytes([asked[6], asked[7]]);
    let life = u32::from_be_bytes([asked[8], asked[9], asked[10], asked[11]]);
    let of = (protocol, SocketAddrV4::new(from, u16::from_be_bytes(inside)));
    let (result, port, life) = match change(nat, now, of, (wanted, false), life) {
        // Section 3.4: a mapping that was taken back has port 0.
        Ok((_, 0)) => (DONE, 0, 0),
        Ok((outside, life)) => (DONE, outside.port(), life),
        Err(_) => (OUT_OF_RESOURCES, 0, 0),
    };
    let body = [inside, port.to_be_bytes()].concat();
    Some([head(asked[1], result, now), body, life.to_be_bytes().to_vec()].concat())
}

/// Section 3.5: to any version but 0.
pub(super) fn unsupported_version(now: Duration, asked: &[u8]) -> Vec<u8> {
    head(asked.get(1).copied().unwrap_or_default() & !ANSWER, UNSUPPORTED_VERSION, now)
}

fn head(opcode: u8, result: u16, now: Duration) -> Vec<u8> {
    let epoch = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
    [&[VERSION, ANSWER | opcode][..], &result.to_be_bytes(), &epoch.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{HOST, NOW, nat};
    use super::*;

    #[test]
    fn the_messages_are_those_of_the_rfc() {
        let mut nat = nat("port-cone");
        // Section 3.2: version, opcode 128, result, epoch, address.
        assert_eq!(
            answer(NOW, HOST, &[0, 0], &mut nat).unwrap(),
            [0, 128, 0, 0, 0, 0, 0, 9, 198, 51, 100, 7]
        );
        // Section 3.3: UDP, inside 7441 (0x1d11), outside the same, an hour.
        let ask = [0, 1, 0, 0, 0x1d, 0x11, 0x1d, 0x11, 0, 0, 0x0e, 0x10];
        let given = [0, 129, 0, 0, 0, 0, 0, 9, 0x1d, 0x11, 0x1d, 0x11, 0, 0, 0x0e, 0x10];
        assert_eq!(answer(NOW, HOST, &ask, &mut nat).unwrap(), given);
        assert_eq!(answer(NOW, HOST, &ask, &mut nat).unwrap(), given, "the same again renews it");
        // Section 3.4: life 0 takes it back; asked once more, it is taken back still.
        let back = [0, 1, 0, 0, 0x1d, 0x11, 0, 0, 0, 0, 0, 0];
        let gone = [0, 129, 0, 0, 0, 0, 0, 9, 0x1d, 0x11, 0, 0, 0, 0, 0, 0];
        for _ in 0..2 {
            assert_eq!(answer(NOW, HOST, &back, &mut nat).unwrap(), gone);
        }
        assert_eq!(answer(NOW, HOST, &[0, 9], &mut nat).unwrap(), [0, 137, 0, 5, 0, 0, 0, 9]);
        assert_eq!(answer(NOW, HOST, &ask[..11], &mut nat), None);
    }
}
