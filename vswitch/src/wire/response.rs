//! The second message of a handshake.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 4 | common | kind 2 |
//! | 4 | 4 | sender | the index by which the responder wants to be addressed |
//! | 8 | 4 | receiver | the initiator's index, from the first message |
//! | 12 | 64 | noise | `e, ee, se, psk` of IKpsk2: 32 ephemeral, 32 sealed [`Welcome`] |
//! | 76 | 16 | mac1 | as in the first message, under the initiator's public key |
//! | 92 | 16 | mac2 | as in the first message |
//!
//! The sealed [`Welcome`]:
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 8 | instance | as in the hello |
//! | 8 | 1 | suite | the [`Suite`](crate::session::Suite) both use from now on |
//! | 9 | 1 | reserved | zero is sent, ignored on receipt |
//! | 10 | 2 | features | as in the hello |
//! | 12 | 4 | reserved | zero is sent, ignored on receipt |

use super::{COMMON_BYTES, Kind, MAC_BYTES, Refusal, array_at, common, u16_at, u32_at};

/// Bytes of [`Welcome`].
pub const WELCOME_BYTES: usize = 16;
/// Bytes of the Noise message.
pub const RESPONSE_NOISE_BYTES: usize = 32 + WELCOME_BYTES + 16;
/// Bytes of the datagram.
pub const RESPONSE_BYTES: usize = NOISE + RESPONSE_NOISE_BYTES + 2 * MAC_BYTES;

const SENDER: usize = COMMON_BYTES;
const RECEIVER: usize = SENDER + 4;
const NOISE: usize = RECEIVER + 4;

/// A checked view of a second message.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a>(&'a [u8]);

impl<'a> Response<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        if bytes.len() == RESPONSE_BYTES { Ok(Self(bytes)) } else { Err(Refusal::Length) }
    }

    /// The responder's index.
    pub fn sender(&self) -> u32 {
        u32_at(self.0, SENDER)
    }

    /// The initiator's index.
    pub fn receiver(&self) -> u32 {
        u32_at(self.0, RECEIVER)
    }

    /// The Noise message.
    pub fn noise(&self) -> &'a [u8] {
        &self.0[NOISE..NOISE + RESPONSE_NOISE_BYTES]
    }

    /// The whole datagram, for the macs.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// A datagram with these indices and Noise message; the macs are still zero.
    pub fn encode(sender: u32, receiver: u32, noise: &[u8; RESPONSE_NOISE_BYTES]) -> [u8; RESPONSE_BYTES] {
        let mut bytes = [0; RESPONSE_BYTES];
        bytes[..COMMON_BYTES].copy_from_slice(&common(Kind::Response));
        bytes[SENDER..RECEIVER].copy_from_slice(&sender.to_le_bytes());
        bytes[RECEIVER..NOISE].copy_from_slice(&receiver.to_le_bytes());
        bytes[NOISE..NOISE + RESPONSE_NOISE_BYTES].copy_from_slice(noise);
        bytes
    }
}

/// What the responder says inside the second message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// Which life of the peer's data plane this is.
    pub instance: [u8; 8],
    /// The number of the suite that was chosen.
    pub suite: u8,
    /// Bits for what later versions may ask; unknown ones are ignored.
    pub features: u16,
}

impl Welcome {
    /// Reads it; every combination of bytes has a meaning.
    pub fn parse(bytes: &[u8; WELCOME_BYTES]) -> Self {
        Self { instance: array_at(bytes, 0), suite: bytes[8], features: u16_at(bytes, 10) }
    }

    /// Writes it.
    pub fn encode(&self) -> [u8; WELCOME_BYTES] {
        let mut bytes = [0; WELCOME_BYTES];
        bytes[..8].copy_from_slice(&self.instance);
        bytes[8] = self.suite;
        bytes[10..12].copy_from_slice(&self.features.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Datagram;

    #[test]
    fn golden_bytes() {
        let bytes = Response::encode(0x0403_0201, 0x0807_0605, &[0xee; RESPONSE_NOISE_BYTES]);
        assert_eq!(bytes.len(), 108);
        assert_eq!(bytes[..12], [2, 1, 0, 0, /* sender */ 1, 2, 3, 4, /* receiver */ 5, 6, 7, 8]);
        assert_eq!(bytes[12..76], [0xee; 64]); // Noise message
        assert_eq!(bytes[76..], [0; 32]); // mac1, mac2
        let Ok(Datagram::Response(view)) = Datagram::parse(&bytes) else { panic!("not a response") };
        assert_eq!((view.sender(), view.receiver()), (0x0403_0201, 0x0807_0605));
        assert_eq!(view.noise(), [0xee; 64]);
    }

    #[test]
    fn golden_bytes_of_the_welcome() {
        let welcome = Welcome { instance: *b"instance", suite: 2, features: 0x0100 };
        let mut golden = b"instance".to_vec();
        golden.extend([2, 0, 0, 1, 0, 0, 0, 0]); // suite, reserved, features, reserved
        assert_eq!(welcome.encode()[..], golden);
        assert_eq!(Welcome::parse(&welcome.encode()), welcome);
    }
}
