//! The first message of a handshake.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 4 | common | kind 1 |
//! | 4 | 4 | sender | the index by which the initiator wants to be addressed |
//! | 8 | 120 | noise | `e, es, s, ss` of IK: 32 ephemeral, 48 sealed static key, 40 sealed [`Hello`] |
//! | 128 | 16 | mac1 | keyed hash of all before, under the responder's public key: who does not know the key costs us one hash |
//! | 144 | 16 | mac2 | keyed hash of all before, under the cookie last received; zero without one |
//!
//! The sealed [`Hello`]:
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 8 | timestamp | nanoseconds of Unix time; must grow from each initiator, so that a recorded first message is refused |
//! | 8 | 8 | instance | drawn at the start of the data plane; another one means that the peer has lost its state |
//! | 16 | 2·4 | costs | nanoseconds per kilobyte for [`Suite`](crate::session::Suite) in order of its numbers; 0: not offered |
//!
//! Nodes of before November 2026 knew three suites; they send zero in the place of the fourth, and ignore what stands there.

use super::{COMMON_BYTES, Kind, MAC_BYTES, Refusal, array_at, common, u16_at, u32_at, u64_at};
use crate::session::SUITES;

/// Bytes of [`Hello`].
pub const HELLO_BYTES: usize = 24;
/// Bytes of the Noise message.
pub const INITIATION_NOISE_BYTES: usize = 32 + 48 + HELLO_BYTES + 16;
/// Bytes of the datagram.
pub const INITIATION_BYTES: usize = NOISE + INITIATION_NOISE_BYTES + 2 * MAC_BYTES;

const SENDER: usize = COMMON_BYTES;
const NOISE: usize = SENDER + 4;

/// A checked view of a first message.
#[derive(Debug, Clone, Copy)]
pub struct Initiation<'a>(&'a [u8]);

impl<'a> Initiation<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        if bytes.len() == INITIATION_BYTES { Ok(Self(bytes)) } else { Err(Refusal::Length) }
    }

    /// The initiator's index.
    pub fn sender(&self) -> u32 {
        u32_at(self.0, SENDER)
    }

    /// The Noise message.
    pub fn noise(&self) -> &'a [u8] {
        &self.0[NOISE..NOISE + INITIATION_NOISE_BYTES]
    }

    /// The whole datagram, for the macs.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// A datagram with this sender and Noise message; the macs are still zero.
    pub fn encode(sender: u32, noise: &[u8; INITIATION_NOISE_BYTES]) -> [u8; INITIATION_BYTES] {
        let mut bytes = [0; INITIATION_BYTES];
        bytes[..COMMON_BYTES].copy_from_slice(&common(Kind::Initiation));
        bytes[SENDER..NOISE].copy_from_slice(&sender.to_le_bytes());
        bytes[NOISE..NOISE + INITIATION_NOISE_BYTES].copy_from_slice(noise);
        bytes
    }
}

/// What the initiator says inside the first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Nanoseconds of Unix time, growing.
    pub timestamp: u64,
    /// Which life of the peer's data plane this is.
    pub instance: [u8; 8],
    /// Nanoseconds per kilobyte of each suite; 0: not offered.
    pub costs: [u16; SUITES],
}

impl Hello {
    /// Reads it; every combination of bytes has a meaning.
    pub fn parse(bytes: &[u8; HELLO_BYTES]) -> Self {
        Self {
            timestamp: u64_at(bytes, 0),
            instance: array_at(bytes, 8),
            costs: std::array::from_fn(|number| u16_at(bytes, 16 + 2 * number)),
        }
    }

    /// Writes it.
    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        bytes[..8].copy_from_slice(&self.timestamp.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.instance);
        for (cost, place) in self.costs.iter().zip(bytes[16..].chunks_exact_mut(2)) {
            place.copy_from_slice(&cost.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Datagram;

    #[test]
    fn golden_bytes() {
        let bytes = Initiation::encode(0x0403_0201, &[0xee; INITIATION_NOISE_BYTES]);
        assert_eq!(bytes.len(), 160);
        assert_eq!(bytes[..8], [1, 1, 0, 0, /* sender */ 1, 2, 3, 4]);
        assert_eq!(bytes[8..128], [0xee; 120]); // Noise message
        assert_eq!(bytes[128..], [0; 32]); // mac1, mac2
        let Ok(Datagram::Initiation(view)) = Datagram::parse(&bytes) else { panic!("not an initiation") };
        assert_eq!(view.sender(), 0x0403_0201);
        assert_eq!(view.noise(), [0xee; 120]);
    }

    #[test]
    fn golden_bytes_of_the_hello() {
        let hello = Hello {
            timestamp: 0x0807_0605_0403_0201,
            instance: *b"instance",
            costs: [0x102, 0x304, 0, 0x506],
        };
        let mut golden = vec![1, 2, 3, 4, 5, 6, 7, 8]; // timestamp
        golden.extend(b"instance");
        golden.extend([2, 1, 4, 3, 0, 0, 6, 5]); // costs
        assert_eq!(hello.encode()[..], golden);
        assert_eq!(Hello::parse(&hello.encode()), hello);
    }
}
