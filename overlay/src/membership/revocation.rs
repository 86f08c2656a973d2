//! Putting a key out, and the bounded set of those that were.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 1 | version | 1 |
//! | 1 | 32 | signer | a subject of the evidence (the target itself included), or the overlay key |
//! | 33 | 4 | issued | seconds since 1970 |
//! | 37 | 64 | signature | by the signer, over `target ‖` all fields before |
//! | 101 | … | evidence | the target's [`Chain`]: shows that the signer stands above the target |
//!
//! The target is the evidence's holder. Whoever vouched for a key, directly or further up, may put it out, and with it all whom it vouched
//! for; nobody else may. A revocation has no end and no clock is needed to check it.
//!
//! The set is bounded by [`REVOCATIONS_MAX`]. A member can invent any number of keys below itself and revoke them; so when the set is full,
//! the one furthest from the overlay key makes room, and only for one that is nearer. The revocation of such a member is nearer than
//! anything it can invent.

use super::chain::{CHAIN_BYTES_MAX, Chain};
use crate::{
    bytes::{Malformed, Reader},
    clock::UnixSeconds,
    identity::{Key, Keypair, OverlayKey, Purpose, SIGNATURE_BYTES, sign},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most keys that can be out at once. At under 2.3 KiB each the set stays below 600 KiB in the worst case, and far below in the usual one.
pub const REVOCATIONS_MAX: usize = 256;
/// The largest revocation in bytes.
pub(crate) const REVOCATION_BYTES_MAX: usize = 101 + CHAIN_BYTES_MAX;
const VERSION: u8 = 1;

/// Why a revocation was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevocationRefusal {
    /// The evidence does not lead from the overlay key to the target.
    #[error("its evidence is not a chain of this overlay")]
    Evidence,
    /// The signer does not stand above the target.
    #[error("its signer vouched neither for the target nor for anyone above it")]
    Authority,
    /// The signature is not the signer's.
    #[error("its signature is wrong")]
    Signature,
    /// No room, and it is no nearer to the overlay key than those that are kept.
    #[error("{REVOCATIONS_MAX} revocations nearer to the overlay key are kept already")]
    Full,
}

/// One key's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    signer: Key,
    issued: UnixSeconds,
    signature: [u8; SIGNATURE_BYTES],
    evidence: Chain,
}

impl Revocation {
    /// Signs the end of `evidence`'s holder. That `pair` may do so is for the caller and for every receiver to check.
    pub(crate) fn issue(pair: &Keypair, overlay: OverlayKey, evidence: Chain, issued: UnixSeconds) -> Self {
        let mut revocation =
            Self { signer: Key::of(pair), issued, signature: [0; SIGNATURE_BYTES], evidence };
        revocation.signature = sign(pair, Purpose::Revocation, overlay, &revocation.signed_body());
        revocation
    }

    /// The key that is out.
    pub fn target(&self) -> Key {
        self.evidence.holder()
    }

    /// Who put it out.
    pub fn signer(&self) -> Key {
        self.signer
    }

    /// When, by the signer's clock.
    pub fn issued(&self) -> UnixSeconds {
        self.issued
    }

    /// Whether `signer` may put out the holder of `evidence`.
    pub(crate) fn has_authority(signer: Key, overlay: OverlayKey, evidence: &Chain) -> bool {
        signer == overlay.0 || evidence.has_subject(signer)
    }

    /// Whether it is what it says, in `overlay`.
    pub fn verify(&self, overlay: OverlayKey) -> Result<(), RevocationRefusal> {
        if !Self::has_authority(self.signer, overlay, &self.evidence) {
            return Err(RevocationRefusal::Authority);
        }
        if !self.signer.verifies(Purpose::Revocation, overlay, &self.signed_body(), &self.signature) {
            return Err(RevocationRefusal::Signature);
        }
        self.evidence.verify_signatures(overlay).map_err(|_| RevocationRefusal::Evidence)
    }

    fn signed_body(&self) -> Vec<u8> {
        let mut body = self.target().as_bytes().to_vec();
        self.put_fields(&mut body);
        body
    }

    fn put_fields(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(self.signer.as_bytes());
        out.extend_from_slice(&self.issued.0.to_be_bytes());
    }

    /// The bytes of the table above.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put_fields(&mut out);
        out.extend_from_slice(&self.signature);
        out.extend_from_slice(&self.evidence.encode());
        out
    }

    /// Exactly one revocation; trailing bytes are refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Malformed);
        }
        Ok(Self {
            signer: Key::from_bytes(reader.array()?),
            issued: UnixSeconds(reader.u32()?),
            signature: reader.array()?,
            evidence: Chain::decode(reader.rest())?,
        })
    }
}

impl Serialize for Revocation {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.encode())
    }
}

impl<'de> Deserialize<'de> for Revocation {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        Self::decode(&bytes).map_err(serde::de::Error::custom)
    }
}

/// What became of a revocation that was offered to the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is news.
    New,
    /// Its target was out already.
    Known,
}

/// The keys that are out. Everything in it has been verified.
#[derive(Debug, Clone, Default)]
pub struct Revocations {
    by_target: BTreeMap<Key, Revocation>,
}

impl Revocations {
    /// Takes over what a state file holds, dropping what does not verify.
    pub(crate) fn restore(overlay: OverlayKey, revocations: Vec<Revocation>) -> Self {
        let mut set = Self::default();
        for revocation in revocations.into_iter().take(REVOCATIONS_MAX) {
            if let Err(refusal) = set.take(overlay, revocation) {
                tracing::warn!(%refusal, "a stored revocation was dropped");
            }
        }
        set
    }

    /// Verifies and keeps it.
    pub fn take(&mut self, overlay: OverlayKey, revocation: Revocation) -> Result<Taken, RevocationRefusal> {
        if self.covers(revocation.target()) {
            return Ok(Taken::Known);
        }
        let furthest = (self.by_target.len() >= REVOCATIONS_MAX).then(|| self.furthest()).flatten();
        if furthest.is_some_and(|(_, depth)| depth <= revocation.depth()) {
            return Err(RevocationRefusal::Full);
        }
        revocation.verify(overlay)?;
        if let Some((target, _)) = furthest {
            self.by_target.remove(&target);
        }
        self.by_target.insert(revocation.target(), revocation);
        Ok(Taken::New)
    }

    fn furthest(&self) -> Option<(Key, usize)> {
        self.by_target
            .iter()
            .map(|(key, revocation)| (*key, revocation.depth()))
            .max_by_key(|(_, depth)| *depth)
    }

    /// Whether `key` is out.
    pub fn covers(&self, key: Key) -> bool {
        self.by_target.contains_key(&key)
    }

    /// All of them, by target.
    pub fn iter(&self) -> impl Iterator<Item = &Revocation> {
        self.by_target.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_target.len()
    }

    /// Whether nobody was put out.
    pub fn is_empty(&self) -> bool {
        self.by_target.is_empty()
    }

    /// Equal in two nodes exactly when they have put out the same keys; what exchanges compare.
    pub(crate) fn digest(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_derive_key("consort 2026 revocations digest");
        for target in self.by_target.keys() {
            hasher.update(target.as_bytes());
        }
        let mut digest = [0; 16];
        hasher.finalize_xof().fill(&mut digest);
        digest
    }
}

impl Revocation {
    fn depth(&self) -> usize {
        self.evidence.certificates().len()
    }
}
