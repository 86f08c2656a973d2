//! Who signs: Ed25519 keys, the names made of them, and the one way in which this crate signs.
//!
//! A host, an overlay and an invitation are all a [`Key`]. A host's key and its [`HostId`] are the same 32 bytes: a `PeerId` over an Ed25519
//! key carries the key itself (libp2p peer-ids specification, "identity" multihash of at most 42 bytes).
//!
//! Everything signed is `context ‖ 0 ‖ overlay key ‖ body`: the context keeps a signature made for one purpose from serving another, the
//! overlay key keeps it from serving another overlay.

use crate::bytes::Malformed;
use data_encoding::{BASE32_NOPAD, Encoding};
use libp2p_identity::ed25519;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

pub use libp2p_identity::PeerId as HostId;
/// A host's own key pair; its secret half never leaves the node.
pub use libp2p_identity::ed25519::Keypair;

/// Length of an Ed25519 signature (RFC 8032).
pub(crate) const SIGNATURE_BYTES: usize = 64;
/// What stands before the key in the bytes of an Ed25519 `PeerId`: identity multihash, 36 bytes, protobuf of type 1 and 32 bytes.
const HOST_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// Lower case, so that it reads well and a double click takes the whole of it.
pub(crate) fn base32(bytes: &[u8]) -> String {
    encoding().encode(bytes).to_ascii_lowercase()
}

pub(crate) fn from_base32(text: &str) -> Result<Vec<u8>, Malformed> {
    encoding().decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| Malformed)
}

fn encoding() -> Encoding {
    BASE32_NOPAD
}

/// An Ed25519 public key: of a host, of an invitation, or of an overlay.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 32]);

impl Key {
    /// Wraps the bytes; whether they are a point of the curve shows when a signature is checked.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public half of a pair.
    pub fn of(pair: &Keypair) -> Self {
        Self(pair.public().to_bytes())
    }

    /// The key inside a host's name; `None` for names over other kinds of key, which no member has.
    pub fn of_host(host: &HostId) -> Option<Self> {
        let bytes = host.to_bytes();
        let key = bytes.strip_prefix(&HOST_ID_PREFIX)?;
        Some(Self(key.try_into().ok()?))
    }

    /// The name of the host that has this key; `None` if the bytes are no Ed25519 key.
    pub fn host(&self) -> Option<HostId> {
        ed25519::PublicKey::try_from_bytes(&self.0)
            .ok()
            .map(|key| libp2p_identity::PublicKey::from(key).to_peer_id())
    }

    /// Whether this key signed `body` for `purpose` in `overlay`.
    pub(crate) fn verifies(
        &self,
        purpose: Purpose,
        overlay: OverlayKey,
        body: &[u8],
        signature: &[u8],
    ) -> bool {
        ed25519::PublicKey::try_from_bytes(&self.0)
            .is_ok_and(|key| key.verify(&signed_bytes(purpose, overlay, body), signature))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// The text is neither 52 characters of base32 nor a HostId.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key: expected a HostId (12D3Koo…) or the 52 letters and digits of a key")]
pub struct ParseKeyError;

impl FromStr for Key {
    type Err = ParseKeyError;

    /// Takes a HostId as well as the key's own text, since people have the former at hand.
    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        if let Ok(host) = text.parse::<HostId>() {
            return Self::of_host(&host).ok_or(ParseKeyError);
        }
        from_base32(text).ok().and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(ParseKeyError)
    }
}

impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The key that all members of one overlay trust; what `[overlay] key` pins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OverlayKey(pub Key);

impl OverlayKey {
    /// The short name of the overlay, for protocol names.
    pub fn id(&self) -> OverlayId {
        let hash = blake3::derive_key("consort 2026 overlay id", self.0.as_bytes());
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        OverlayId(id)
    }
}

impl fmt::Display for OverlayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for OverlayKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        text.parse().map(Self)
    }
}

/// Eight bytes that tell overlays apart in protocol names. Not a secret and no proof of anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OverlayId([u8; 8]);

impl fmt::Display for OverlayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a signature is for; each has its own context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Certificate,
    Claim,
    Record,
    Revocation,
    Document,
}

impl Purpose {
    const fn context(self) -> &'static [u8] {
        match self {
            Self::Certificate => b"consort certificate 1",
            Self::Claim => b"consort claim 1",
            Self::Record => b"consort host record 1",
            Self::Revocation => b"consort revocation 1",
            Self::Document => b"consort document 1",
        }
    }
}

fn signed_bytes(purpose: Purpose, overlay: OverlayKey, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(64 + body.len());
    message.extend_from_slice(purpose.context());
    message.push(0);
    message.extend_from_slice(overlay.0.as_bytes());
    message.extend_from_slice(body);
    message
}

/// Signs `body` for `purpose` in `overlay`.
pub(crate) fn sign(
    pair: &Keypair,
    purpose: Purpose,
    overlay: OverlayKey,
    body: &[u8],
) -> [u8; SIGNATURE_BYTES] {
    pair.sign(&signed_bytes(purpose, overlay, body)).try_into().expect("an Ed25519 signature has 64 bytes")
}

/// A pair from its 32-byte seed.
pub(crate) fn pair_from_seed(seed: &[u8; 32]) -> Keypair {
    let mut copy = zeroize::Zeroizing::new(*seed);
    ed25519::SecretKey::try_from_bytes(&mut copy[..]).expect("any 32 bytes are an Ed25519 seed").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(n: u8) -> Keypair {
        pair_from_seed(&[n; 32])
    }

    #[test]
    fn a_host_and_its_key_are_the_same_bytes() {
        let key = Key::of(&pair(1));
        let host = key.host().unwrap();
        assert_eq!(Key::of_host(&host), Some(key));
        assert_eq!(host, libp2p_identity::Keypair::from(pair(1)).public().to_peer_id());
        assert_eq!(host.to_string().parse::<Key>(), Ok(key));
        assert_eq!(key.to_string().parse::<Key>(), Ok(key));
    }

    #[test]
    fn a_name_without_a_key_is_no_member() {
        assert_eq!(Key::of_host(&HostId::random()), None);
    }

    #[test]
    fn a_signature_serves_one_purpose_in_one_overlay() {
        let (signer, overlay, other) =
            (pair(1), OverlayKey(Key::of(&pair(2))), OverlayKey(Key::of(&pair(3))));
        let signature = sign(&signer, Purpose::Record, overlay, b"body");
        let key = Key::of(&signer);
        assert!(key.verifies(Purpose::Record, overlay, b"body", &signature));
        assert!(!key.verifies(Purpose::Certificate, overlay, b"body", &signature));
        assert!(!key.verifies(Purpose::Record, other, b"body", &signature));
        assert!(!key.verifies(Purpose::Record, overlay, b"bodY", &signature));
        assert!(!Key::of(&pair(4)).verifies(Purpose::Record, overlay, b"body", &signature));
        assert!(!key.verifies(Purpose::Record, overlay, b"body", &signature[..63]));
    }

    #[test]
    fn key_text_is_refused_when_it_is_something_else() {
        for text in ["", "abc", "consort1abc", "12D3Koo", &"a".repeat(53)] {
            assert_eq!(text.parse::<Key>(), Err(ParseKeyError), "{text}");
        }
    }
}
