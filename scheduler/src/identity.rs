//! Who signs, and what a signature means.
//!
//! A host and a tenant are each an Ed25519 key, named by the `PeerId` that carries the key itself. A
//! signature is made over a *purpose* and the bytes as sent, so that no statement can be taken for
//! another kind of statement, and is checked over the bytes as received.

use libp2p_identity::{Keypair, PeerId, PublicKey};
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// Names a host.
pub use libp2p_identity::PeerId as HostId;

/// Names a tenant: the key that signs slices and orders about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(pub PeerId);

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a signature is for; part of what is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// A tenant founds a slice.
    Charter,
    /// A tenant gives an order about a slice.
    Order,
    /// A steward lets a host into a network.
    Grant,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Charter => b"consort 1 charter\0",
            Self::Order => b"consort 1 order\0",
            Self::Grant => b"consort 1 grant\0",
        }
    }

    fn message(self, bytes: &[u8]) -> Vec<u8> {
        [self.label(), bytes].concat()
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature([u8; 32], [u8; 32]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

/// A signature that proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The name carries no Ed25519 key.
    #[error("the signer's name carries no Ed25519 key")]
    NotAnEd25519Name,
    /// The signature does not belong to these bytes and this key.
    #[error("the signature does not match")]
    Mismatch,
}

/// The key pair cannot sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the key pair is not Ed25519")]
pub struct NotEd25519;

/// Signs `bytes` for `purpose`.
///
/// # Errors
/// When the key pair is of another kind than Ed25519.
pub fn sign(keypair: &Keypair, purpose: Purpose, bytes: &[u8]) -> Result<Signature, NotEd25519> {
    let signed = keypair.sign(&purpose.message(bytes)).map_err(|_| NotEd25519)?;
    let signed: [u8; 64] = signed.try_into().map_err(|_| NotEd25519)?;
    let (mut low, mut high) = ([0; 32], [0; 32]);
    low.copy_from_slice(&signed[..32]);
    high.copy_from_slice(&signed[32..]);
    Ok(Signature(low, high))
}

/// Checks that `signer` signed `bytes` for `purpose`.
///
/// # Errors
/// When the name carries no key, or the signature is not of this key over these bytes.
pub fn verify(
    signer: &PeerId,
    purpose: Purpose,
    bytes: &[u8],
    signature: &Signature,
) -> Result<(), SignatureError> {
    let key = key_of(signer).ok_or(SignatureError::NotAnEd25519Name)?;
    let signed = [signature.0, signature.1].concat();
    if key.verify(&purpose.message(bytes), &signed) { Ok(()) } else { Err(SignatureError::Mismatch) }
}

/// The multihash code of a name that *is* the key (libp2p peer-ids specification: keys up to 42 bytes).
const IDENTITY_MULTIHASH: u64 = 0;

fn key_of(id: &PeerId) -> Option<PublicKey> {
    if id.as_ref().code() != IDENTITY_MULTIHASH {
        return None;
    }
    PublicKey::try_decode_protobuf(id.as_ref().digest()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keypair(byte: u8) -> Keypair {
        Keypair::ed25519_from_bytes([byte; 32]).unwrap()
    }

    #[test]
    fn a_signature_holds_for_its_key_purpose_and_bytes_only() {
        let (keys, id) = (keypair(1), keypair(1).public().to_peer_id());
        let signature = sign(&keys, Purpose::Grant, b"bytes").unwrap();
        assert_eq!(verify(&id, Purpose::Grant, b"bytes", &signature), Ok(()));
        let mismatch = Err(SignatureError::Mismatch);
        assert_eq!(verify(&id, Purpose::Order, b"bytes", &signature), mismatch);
        assert_eq!(verify(&id, Purpose::Grant, b"other", &signature), mismatch);
        let other = keypair(2).public().to_peer_id();
        assert_eq!(verify(&other, Purpose::Grant, b"bytes", &signature), mismatch);
    }

    #[test]
    fn a_name_that_is_only_a_hash_proves_nothing() {
        // sha2-256 multihash: code 0x12, 32 bytes.
        let hashed = PeerId::from_bytes(&[&[0x12, 0x20][..], &[7; 32]].concat()).unwrap();
        let signature = sign(&keypair(1), Purpose::Grant, b"").unwrap();
        let verdict = verify(&hashed, Purpose::Grant, b"", &signature);
        assert_eq!(verdict, Err(SignatureError::NotAnEd25519Name));
    }
}
