//! What a session seals.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 4 | common | kind 4 |
//! | 4 | 4 | receiver | the receiver's index of the session |
//! | 8 | 8 | counter | of this datagram in this session and direction; the AEAD's nonce, never used twice |
//! | 16 | n | sealed | [`Inner`] and its body |
//! | 16+n | 16 | tag | of the AEAD |
//!
//! The header needs no associated data: another index is another key, another counter another nonce, and the common bytes have
//! one legal value, so that any changed bit is refused.
//!
//! Inside, before the body:
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 3 | channel | which network on this link, as the receiver numbered it; 0 for control |
//! | 3 | 1 | kind | [`InnerKind`] |

use super::{COMMON_BYTES, Kind, Refusal, array_at, common, u32_at, u64_at};

/// Bytes before what is sealed.
pub const DATA_HEADER_BYTES: usize = COMMON_BYTES + 4 + 8;
/// Bytes at its start that all datagrams of one session and direction have in common.
pub const DATA_MARK_BYTES: usize = COUNTER;
/// Bytes of [`Inner`].
pub const INNER_BYTES: usize = 4;
/// Bytes of the AEAD's tag, for every suite.
pub const TAG_BYTES: usize = 16;
/// What a datagram is longer than the frame in it.
pub const DATA_OVERHEAD: usize = DATA_HEADER_BYTES + INNER_BYTES + TAG_BYTES;
/// The shortest datagram of the kind: an empty body.
pub const DATA_BYTES_MIN: usize = DATA_OVERHEAD;
/// The largest channel number: 24 bits. Numbers are not used twice in the life of a link.
pub const CHANNEL_MAX: u32 = (1 << 24) - 1;

const RECEIVER: usize = COMMON_BYTES;
const COUNTER: usize = RECEIVER + 4;

/// A checked view of a sealed datagram.
#[derive(Debug, Clone, Copy)]
pub struct Data<'a>(&'a [u8]);

impl<'a> Data<'a> {
    #[inline]
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        if bytes.len() >= DATA_BYTES_MIN { Ok(Self(bytes)) } else { Err(Refusal::Length) }
    }

    /// The receiver's index.
    #[inline]
    pub fn receiver(&self) -> u32 {
        u32_at(self.0, RECEIVER)
    }

    /// The counter.
    #[inline]
    pub fn counter(&self) -> u64 {
        Self::counter_of(self.0)
    }

    /// The counter of what has been parsed before.
    #[inline]
    pub(crate) fn counter_of(bytes: &[u8]) -> u64 {
        u64_at(bytes, COUNTER)
    }

    /// What is sealed, with its tag.
    pub fn sealed(&self) -> &'a [u8] {
        &self.0[DATA_HEADER_BYTES..]
    }

    /// The bytes before what is sealed.
    #[inline]
    pub fn header(receiver: u32, counter: u64) -> [u8; DATA_HEADER_BYTES] {
        let mut bytes = [0; DATA_HEADER_BYTES];
        bytes[..COMMON_BYTES].copy_from_slice(&common(Kind::Data));
        bytes[RECEIVER..COUNTER].copy_from_slice(&receiver.to_le_bytes());
        bytes[COUNTER..].copy_from_slice(&counter.to_le_bytes());
        bytes
    }
}

/// What a body is; the only place where these numbers stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum InnerKind {
    /// A whole Ethernet frame, checksums complete.
    Frame = 0,
    /// A part of one: see [`super::fragment`].
    Fragment = 1,
    /// A message of the link itself, on channel 0: see [`super::control`].
    Control = 2,
    /// A whole Ethernet frame whose transport checksum is left to be completed by the kernel that reads it
    /// (see [`crate::offload`]): the seal protects it meanwhile.
    Partial = 3,
}

/// The first bytes inside a sealed datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// The channel, at most [`CHANNEL_MAX`].
    pub channel: u32,
    /// What the body is.
    pub kind: InnerKind,
}

impl Inner {
    /// Reads it and gives the body.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Refusal> {
        if bytes.len() < INNER_BYTES {
            return Err(Refusal::Length);
        }
        let [a, b, c, kind] = array_at(bytes, 0);
        let kind = match kind {
            0 => InnerKind::Frame,
            1 => InnerKind::Fragment,
            2 => InnerKind::Control,
            3 => InnerKind::Partial,
            _ => return Err(Refusal::Foreign),
        };
        let channel = u32::from_le_bytes([a, b, c, 0]);
        if (channel == 0) != (kind == InnerKind::Control) {
            return Err(Refusal::Foreign);
        }
        Ok((Self { channel, kind }, &bytes[INNER_BYTES..]))
    }

    /// Writes it.
    #[inline]
    pub fn encode(self) -> [u8; INNER_BYTES] {
        debug_assert!(self.channel <= CHANNEL_MAX, "channel numbers have 24 bits");
        let [a, b, c, _] = self.channel.to_le_bytes();
        [a, b, c, self.kind as u8]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Datagram;

    #[test]
    fn golden_bytes() {
        let mut bytes = Data::header(0x0403_0201, 0x0c0b_0a09_0807_0605).to_vec();
        assert_eq!(bytes, [4, 1, 0, 0, /* receiver */ 1, 2, 3, 4, /* counter */ 5, 6, 7, 8, 9, 10, 11, 12]);
        bytes.extend([0xee; 20]); // sealed inner header, tag
        let Ok(Datagram::Data(view)) = Datagram::parse(&bytes) else { panic!("not data") };
        assert_eq!((view.receiver(), view.counter()), (0x0403_0201, 0x0c0b_0a09_0807_0605));
        assert_eq!(view.sealed(), [0xee; 20]);
        assert!(matches!(Datagram::parse(&bytes[..35]), Err(Refusal::Length)));
    }

    #[test]
    fn golden_bytes_of_the_inner_header() {
        let inner = Inner { channel: 0x03_0201, kind: InnerKind::Fragment };
        assert_eq!(inner.encode(), [1, 2, 3, /* kind */ 1]);
        assert_eq!(Inner::parse(&[1, 2, 3, 1, 9]), Ok((inner, &[9][..])));
        assert_eq!(Inner::parse(&[1, 2, 3]), Err(Refusal::Length));
        assert_eq!(Inner::parse(&[1, 2, 3, 4]), Err(Refusal::Foreign)); // no such kind
        assert_eq!(Inner::parse(&[0, 0, 0, 0]), Err(Refusal::Foreign)); // a frame needs a channel
        assert_eq!(Inner::parse(&[1, 0, 0, 2]), Err(Refusal::Foreign)); // control has none
    }
}
