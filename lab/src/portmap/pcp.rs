//! PCP (RFC 6887): opcodes ANNOUNCE and MAP.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::{Desk, change};
use crate::nat::{Nat, NotPinned, Protocol};

pub(super) const VERSION: u8 = 2;

const ANSWER: u8 = 128;
const ANNOUNCE: u8 = 0;
const MAP: u8 = 1;
const HEAD_BYTES: usize = 24;
const MAP_BYTES: usize = 36;
/// Section 7.
const BYTES_MAX: usize = 1100;
/// The one option that is understood; others that must be (below 128) are refused.
const PREFER_FAILURE: u8 = 2;
/// What an error holds at the host for: short, the next try may be another.
const ERROR_LIFE_S: u32 = 30;

/// Result codes of section 7.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Code {
    UnsupportedVersion = 1,
    NotAuthorized = 2,
    Malformed = 3,
    UnsupportedOpcode = 4,
    UnsupportedOption = 5,
    MalformedOption = 6,
    NoResources = 8,
    UnsupportedProtocol = 9,
    CannotProvide = 11,
    AddressMismatch = 12,
}

/// The answer; none to what is no request.
pub(super) fn answer(
    desk: &mut Desk,
    now: Duration,
    from: Ipv4Addr,
    asked: &[u8],
    nat: &mut Nat,
) -> Option<Vec<u8>> {
    if asked.len() < 2 || asked[1] & ANSWER != 0 {
        return None;
    }
    Some(match judge(desk, now, from, asked, nat) {
        Ok((life, body)) => [head(asked[1], 0, life, now), body].concat(),
        Err(code) => refusal(asked, code, now),
    })
}

fn judge(
    desk: &mut Desk,
    now: Duration,
    from: Ipv4Addr,
    asked: &[u8],
    nat: &mut Nat,
) -> Result<(u32, Vec<u8>), Code> {
    if asked.len() < HEAD_BYTES || asked.len() > BYTES_MAX || !asked.len().is_multiple_of(4) {
        return Err(Code::Malformed);
    }
    let (head, body) = asked.split_at(HEAD_BYTES);
    if head[8..24] != from.to_ipv6_mapped().octets() {
        return Err(Code::AddressMismatch);
    }
    match asked[1] {
        ANNOUNCE => Ok((0, body.to_vec())),
        MAP => map(desk, now, from, (u32::from_be_bytes([head[4], head[5], head[6], head[7]]), body), nat),
        _ => Err(Code::UnsupportedOpcode),
    }
}

fn map(
    desk: &mut Desk,
    now: Duration,
    from: Ipv4Addr,
    (life, body): (u32, &[u8]),
    nat: &mut Nat,
) -> Result<(u32, Vec<u8>), Code> {
    let (body, options) = body.split_at_checked(MAP_BYTES).ok_or(Code::Malformed)?;
    let exact = prefers_failure(options)?;
    let nonce: [u8; 12] = body[..12].try_into().map_err(|_| Code::Malformed)?;
    let protocol = match body[12] {
        17 => Protocol::Udp,
        6 => Protocol::Tcp,
        _ => return Err(Code::UnsupportedProtocol),
    };
    let inside = u16::from_be_bytes([body[16], body[17]]);
    let wanted = u16::from_be_bytes([body[18], body[19]]);
    if inside == 0 {
        return Err(Code::Malformed);
    }
    let of = (protocol, SocketAddrV4::new(from, inside));
    let is_held = nat.pinned(now, of).is_some();
    if !desk.is_its_maker(of, nonce, is_held) {
        return Err(Code::NotAuthorized);
    }
    let (outside, life) = change(nat, now, of, (wanted, exact), life).map_err(|error| match error {
        NotPinned::Full => Code::NoResources,
        NotPinned::Taken => Code::CannotProvide,
    })?;
    // Section 15: what is taken back is told as it was asked.
    let port = if life == 0 { wanted } else { outside.port() };
    let mut answer = body[..18].to_vec();
    answer.extend(port.to_be_bytes());
    answer.extend(outside.ip().to_ipv6_mapped().octets());
    answer.extend(options);
    Ok((life, answer))
}

/// Section 7.3: code, reserved, length, that many bytes, padded to four.
fn prefers_failure(mut options: &[u8]) -> Result<bool, Code> {
    let mut prefers = false;
    while let [code, _, high, low, rest @ ..] = options {
        let length = usize::from(u16::from_be_bytes([*high, *low])).next_multiple_of(4);
        options = rest.get(length..).ok_or(Code::MalformedOption)?;
        match *code {
            PREFER_FAILURE => prefers = true,
            0..128 => return Err(Code::UnsupportedOption),
            _ => {}
        }
    }
    Ok(prefers)
}

/// To any version but 2, also of NAT-PMP (section 9).
pub(super) fn unsupported_version(now: Duration, asked: &[u8]) -> Vec<u8> {
    let opcode = asked.get(1).copied().unwrap_or_default() & !ANSWER;
    head(opcode, Code::UnsupportedVersion as u8, ERROR_LIFE_S, now)
}

/// What was asked goes back with it (section 8.3).
fn refusal(asked: &[u8], code: Code, now: Duration) -> Vec<u8> {
    let body = asked.get(HEAD_BYTES..).unwrap_or_default();
    let body = &body[..body.len().min(BYTES_MAX - HEAD_BYTES) & !3];
    [head(asked[1], code as u8, ERROR_LIFE_S, now).as_slice(), body].concat()
}

fn head(opcode: u8, code: u8, life: u32, now: Duration) -> Vec<u8> {
    let epoch = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
    [&[VERSION, ANSWER | opcode, 0, code][..], &life.to_be_bytes(), &epoch.to_be_bytes(), &[0; 12]].concat()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{HOST, NOW, OUTSIDE, nat};
    use super::super::{Desk, PortMapping};
    use super::*;

    fn request(nonce: u8, inside: u16, wanted: u16, life: u32, options: &[u8]) -> Vec<u8> {
        let head = [&[2, 1, 0, 0][..], &life.to_be_bytes(), &HOST.to_ipv6_mapped().octets()].concat();
        let map = [
            &[nonce; 12][..],
            &[17, 0, 0, 0],
            &inside.to_be_bytes(),
            &wanted.to_be_bytes(),
            &Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets(),
        ]
        .concat();
        [head.as_slice(), &map, options].concat()
    }

    fn said(desk: &mut Desk, nat: &mut Nat, asked: &[u8]) -> (u8, u32, u16) {
        let answer = answer(desk, NOW, HOST, asked, nat).unwrap();
        assert_eq!((answer[0], answer[1], answer.len() % 4), (2, 0x80 | asked[1], 0));
        let port = answer.get(42..44).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
        (answer[3], u32::from_be_bytes([answer[4], answer[5], answer[6], answer[7]]), port)
    }

    #[test]
    fn a_map_answer_is_that_of_the_rfc() {
        let (mut desk, mut nat) = (Desk::new(vec![PortMapping::Pcp]), nat("port-cone"));
        let asked = request(7, 7441, 7441, 3600, &[]);
        let answer = answer(&mut desk, NOW, HOST, &asked, &mut nat).unwrap();
        // Figure 3: version, R and opcode, reserved, result, life, epoch, reserved.
        assert_eq!(answer[..12], [2, 0x81, 0, 0, 0, 0, 0x0e, 0x10, 0, 0, 0, 9]);
        assert_eq!(answer[12..24], [0; 12]);
        // Figure 10: nonce, protocol, reserved, inside port, outside port, outside address.
        assert_eq!(answer[24..36], [7; 12]);
        assert_eq!(answer[36..44], [17, 0, 0, 0, 0x1d, 0x11, 0x1d, 0x11]);
        assert_eq!(answer[44..], OUTSIDE.to_ipv6_mapped().octets());
    }

    #[test]
    fn who_made_a_mapping_renews_it_and_takes_it_back_and_nobody_else_does() {
        let (mut desk, mut nat) = (Desk::new(vec![PortMapping::Pcp]), nat("port-cone"));
        let mut ask = |nonce, life| said(&mut desk, &mut nat, &request(nonce, 7441, 7441, life, &[]));
        assert_eq!(ask(7, 600), (0, 600, 7441));
        assert_eq!(ask(8, 600).0, Code::NotAuthorized as u8);
        assert_eq!(ask(8, 0).0, Code::NotAuthorized as u8);
        assert_eq!(ask(7, 1_000_000), (0, 7200, 7441), "no longer than two hours");
        assert_eq!(ask(7, 0), (0, 0, 7441));
        assert_eq!(ask(8, 600), (0, 600, 7441), "free again");
    }

    #[test]
    fn what_cannot_be_done_is_said_by_its_code() {
        let (mut desk, mut nat) = (Desk::new(vec![PortMapping::Pcp]), nat("port-cone"));
        let mut code = |asked: &[u8]| said(&mut desk, &mut nat, asked).0;
        let good = request(7, 7441, 7441, 600, &[]);
        assert_eq!(code(&good[..40]), Code::Malformed as u8);
        assert_eq!(code(&good[..59]), Code::Malformed as u8);
        let mut other = good.clone();
        other[23] = 99;
        assert_eq!(code(&other), Code::AddressMismatch as u8);
        let mut other = good.clone();
        other[1] = 2;
        assert_eq!(code(&other), Code::UnsupportedOpcode as u8, "PEER");
        let mut other = good.clone();
        other[36] = 132;
        assert_eq!(code(&other), Code::UnsupportedProtocol as u8);
        assert_eq!(code(&request(7, 7441, 7441, 600, &[1, 0, 0, 0])), Code::UnsupportedOption as u8);
        assert_eq!(code(&request(7, 7441, 7441, 600, &[2, 0, 0, 9])), Code::MalformedOption as u8);
        assert_eq!(code(&good), 0);
        let taken = request(7, 7442, 7441, 600, &[PREFER_FAILURE, 0, 0, 0]);
        assert_eq!(code(&taken), Code::CannotProvide as u8);
    }
}
