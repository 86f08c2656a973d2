//! What goes through a relay: any other datagram behind eight bytes.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 4 | common | kind 7: to be forwarded by token; kind 8: at its end, the token says which way it came |
//! | 4 | 4 | token | of the relay it goes to (kind 7), or as the last relay and the receiver agreed (kind 8) |
//! | 8 | n | inner | a datagram of another kind, untouched from end to end |
//!
//! A relay changes the first byte at the last hop and the token, and nothing else. Two kinds, so that a host that is relay and end at once never
//! takes one number for the other.

use super::{COMMON_BYTES, Kind, Refusal, common, u32_at};

/// Bytes before the inner datagram.
pub const RELAYED_BYTES: usize = COMMON_BYTES + 4;

/// Whether a relayed datagram goes on from where it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onward {
    /// To another relay.
    Relay,
    /// To its end.
    End,
}

/// The eight bytes of a datagram for a relay or from one.
pub fn relayed_header(onward: Onward, token: u32) -> [u8; RELAYED_BYTES] {
    let kind = match onward {
        Onward::Relay => Kind::Relayed,
        Onward::End => Kind::Delivered,
    };
    let mut bytes = [0; RELAYED_BYTES];
    bytes[..COMMON_BYTES].copy_from_slice(&common(kind));
    bytes[COMMON_BYTES..].copy_from_slice(&token.to_le_bytes());
    bytes
}

/// The token of a datagram whose kind is one of the two, and that an inner datagram could follow.
#[inline]
pub fn relayed_token(bytes: &[u8]) -> Result<u32, Refusal> {
    if bytes.len() < RELAYED_BYTES + COMMON_BYTES {
        return Err(Refusal::Length);
    }
    Ok(u32_at(bytes, COMMON_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::kind;

    #[test]
    fn golden_bytes() {
        let mut bytes = relayed_header(Onward::Relay, 0x0403_0201).to_vec();
        assert_eq!(bytes, [7, 1, 0, 0, /* token */ 1, 2, 3, 4]);
        assert_eq!(relayed_header(Onward::End, 1), [8, 1, 0, 0, 1, 0, 0, 0]);
        assert_eq!(relayed_token(&bytes), Err(Refusal::Length));
        bytes.extend([4, 1, 0, 0]);
        assert_eq!((kind(&bytes), relayed_token(&bytes)), (Ok(Kind::Relayed), Ok(0x0403_0201)));
    }
}
