//! The answer to a first message under load: a sealed cookie that proves, in the next first message, that its sender receives
//! at the address it sends from.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 4 | common | kind 3 |
//! | 4 | 4 | receiver | the index the handshake message bore as sender |
//! | 8 | 24 | salt | random; the sealing key is derived from it and the responder's public key, so that each key seals once |
//! | 32 | 32 | sealed | 16 bytes of cookie and the tag; associated data is the mac1 of the message that is answered |

use super::{COMMON_BYTES, Kind, Refusal, TAG_BYTES, array_at, common, u32_at};

/// Bytes of the salt.
pub(crate) const SALT_BYTES: usize = 24;
/// Bytes of the cookie and its tag.
pub(crate) const SEALED_COOKIE_BYTES: usize = 16 + TAG_BYTES;
/// Bytes of the datagram. Less than half a first message: a forged source address gains nothing.
pub const COOKIE_REPLY_BYTES: usize = SEALED + SEALED_COOKIE_BYTES;

const RECEIVER: usize = COMMON_BYTES;
const SALT: usize = RECEIVER + 4;
const SEALED: usize = SALT + SALT_BYTES;

/// A checked view of a cookie reply.
#[derive(Debug, Clone, Copy)]
pub struct CookieReply<'a>(&'a [u8]);

impl<'a> CookieReply<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        if bytes.len() == COOKIE_REPLY_BYTES { Ok(Self(bytes)) } else { Err(Refusal::Length) }
    }

    /// The index of the handshake that is answered.
    pub fn receiver(&self) -> u32 {
        u32_at(self.0, RECEIVER)
    }

    /// See the layout.
    pub fn salt(&self) -> [u8; SALT_BYTES] {
        array_at(self.0, SALT)
    }

    /// See the layout.
    pub fn sealed(&self) -> [u8; SEALED_COOKIE_BYTES] {
        array_at(self.0, SEALED)
    }

    /// The datagram.
    pub fn encode(
        receiver: u32,
        salt: &[u8; SALT_BYTES],
        sealed: &[u8; SEALED_COOKIE_BYTES],
    ) -> [u8; COOKIE_REPLY_BYTES] {
        let mut bytes = [0; COOKIE_REPLY_BYTES];
        bytes[..COMMON_BYTES].copy_from_slice(&common(Kind::CookieReply));
        bytes[RECEIVER..SALT].copy_from_slice(&receiver.to_le_bytes());
        bytes[SALT..SEALED].copy_from_slice(salt);
        bytes[SEALED..].copy_from_slice(sealed);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Datagram;

    #[test]
    fn golden_bytes() {
        let bytes = CookieReply::encode(0x0403_0201, &[0xaa; SALT_BYTES], &[0xbb; SEALED_COOKIE_BYTES]);
        assert_eq!(bytes.len(), 64);
        assert_eq!(bytes[..8], [3, 1, 0, 0, /* receiver */ 1, 2, 3, 4]);
        assert_eq!(bytes[8..32], [0xaa; 24]); // salt
        assert_eq!(bytes[32..], [0xbb; 32]); // sealed cookie
        let Ok(Datagram::CookieReply(view)) = Datagram::parse(&bytes) else { panic!("not a cookie reply") };
        assert_eq!((view.receiver(), view.salt(), view.sealed()), (0x0403_0201, [0xaa; 24], [0xbb; 32]));
    }
}
