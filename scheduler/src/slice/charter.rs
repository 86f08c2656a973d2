//! A slice as founded: the wish, the tenant, the coordinator and the first stewards, signed.
//!
//! The slice's name is the hash of these bytes, so the tenant's signature covers the first steward set
//! (design 5.3) and nobody can found a second slice of the same name with other stewards. Signatures and
//! hashes are over the bytes as received; a charter is decoded once and then trusted.

use libp2p_identity::Keypair;
use rand_core::Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::id::SliceId;
use super::spec::{Spec, SpecError};
use crate::bounded::{Blob, List};
use crate::identity::{self, HostId, NotEd25519, Purpose, Signature, SignatureError, TenantId};
use crate::limits::{CHARTER_BYTES_MAX, STEWARDS_MAX};

/// The founding statement of a slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charter {
    /// Who wants it.
    pub tenant: TenantId,
    /// Makes each founding its own, also of the same wish twice.
    pub nonce: [u8; 16],
    /// The node that runs the request; together with the stewards, the only ones who may write the record.
    pub coordinator: HostId,
    /// Who keeps the record: 1, 3 or 5 hosts.
    pub stewards: List<HostId, STEWARDS_MAX>,
    /// The wish.
    pub spec: Spec,
}

/// A charter as it travels: bytes and the tenant's signature over them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedCharter {
    body: Blob<CHARTER_BYTES_MAX>,
    signature: Signature,
}

/// A charter that was checked, with its name and the bytes that prove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founded {
    /// The slice's name.
    pub slice: SliceId,
    /// What was founded.
    pub charter: Charter,
    /// The proof, to pass on.
    pub signed: SignedCharter,
}

/// Why a charter could not be signed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FoundError {
    /// The wish breaks a rule.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The number of stewards is not 1, 3 or 5, or one is named twice.
    #[error("a slice has 1, 3 or 5 different stewards")]
    Stewards,
    /// The wish is too long, though each part is within its bound.
    #[error("the slice's description takes {len} bytes where {CHARTER_BYTES_MAX} fit: shorten its run lines")]
    TooLong {
        /// How long it is.
        len: usize,
    },
    /// The key pair cannot sign.
    #[error(transparent)]
    Key(#[from] NotEd25519),
}

/// Why a charter from a peer proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CharterError {
    /// The bytes are not a charter.
    #[error("the bytes are not a charter")]
    Malformed,
    /// The tenant did not sign these bytes.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The wish breaks a rule.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The number of stewards is not 1, 3 or 5, or one is named twice.
    #[error("a slice has 1, 3 or 5 different stewards")]
    Stewards,
}

fn stewards_are_sound(stewards: &[HostId]) -> bool {
    let mut sorted = stewards.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    matches!(stewards.len(), 1 | 3 | 5) && sorted.len() == stewards.len()
}

impl Charter {
    /// Founds a slice: draws its nonce and signs it with the tenant's key.
    ///
    /// # Errors
    /// When the wish breaks a rule, the stewards are not 1, 3 or 5, or the key cannot sign.
    pub fn found(
        spec: Spec,
        tenant: &Keypair,
        coordinator: HostId,
        stewards: &[HostId],
        rng: &mut impl Rng,
    ) -> Result<Founded, FoundError> {
        spec.check()?;
        if !stewards_are_sound(stewards) {
            return Err(FoundError::Stewards);
        }
        let mut nonce = [0; 16];
        rng.fill_bytes(&mut nonce);
        let stewards = List::first_of(stewards.iter().copied());
        let tenant_id = TenantId(tenant.public().to_peer_id());
        let charter = Self { tenant: tenant_id, nonce, coordinator, stewards, spec };
        let bytes = postcard::to_stdvec(&charter).expect("a charter holds nothing postcard cannot write");
        let body = Blob::try_from(bytes).map_err(|long| FoundError::TooLong { len: long.len })?;
        let signature = identity::sign(tenant, Purpose::Charter, &body)?;
        let slice = name_of(&body);
        Ok(Founded { slice, charter, signed: SignedCharter { body, signature } })
    }
}

fn name_of(body: &[u8]) -> SliceId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"consort slice\0").update(body);
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    SliceId(id)
}

/// Fuzz entry: no bytes may panic the decoder or the rules, signed or not.
pub fn fuzz(bytes: &[u8]) {
    if let Ok((charter, _)) = postcard::take_from_bytes::<Charter>(bytes) {
        let _sound = charter.spec.check().is_ok() && stewards_are_sound(&charter.stewards);
    }
}

impl SignedCharter {
    /// The name of the slice these bytes found, whether or not they are in order.
    #[must_use]
    pub fn slice(&self) -> SliceId {
        name_of(&self.body)
    }

    /// Checks signature and rules.
    ///
    /// # Errors
    /// Says what is not in order.
    pub fn open(self) -> Result<Founded, CharterError> {
        let (charter, rest): (Charter, _) =
            postcard::take_from_bytes(&self.body).map_err(|_| CharterError::Malformed)?;
        if !rest.is_empty() {
            return Err(CharterError::Malformed);
        }
        identity::verify(&charter.tenant.0, Purpose::Charter, &self.body, &self.signature)?;
        charter.spec.check()?;
        if !stewards_are_sound(&charter.stewards) {
            return Err(CharterError::Stewards);
        }
        Ok(Founded { slice: self.slice(), charter, signed: self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slice::file;
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    fn host(byte: u8) -> HostId {
        Keypair::ed25519_from_bytes([byte; 32]).unwrap().public().to_peer_id()
    }

    fn founded() -> Founded {
        let spec = file::parse("name = \"a\"\n[machine.m]\nimage = \"mini\"\n").unwrap();
        let tenant = Keypair::ed25519_from_bytes([9; 32]).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        Charter::found(spec, &tenant, host(1), &[host(1), host(2), host(3)], &mut rng).unwrap()
    }

    #[test]
    fn a_charter_opens_to_what_was_founded() {
        let founded = founded();
        assert_eq!(founded.signed.clone().open(), Ok(founded));
    }

    #[test]
    fn any_changed_bit_is_refused() {
        let founded = founded();
        for index in 0..founded.signed.body.len() {
            let mut signed = founded.signed.clone();
            let mut bytes = signed.body.into_vec();
            bytes[index] ^= 1;
            signed.body = Blob::try_from(bytes).unwrap();
            assert_ne!(signed.slice(), founded.slice);
            assert!(signed.open().is_err(), "byte {index}");
        }
    }

    /// The fuzz target's body, for a moment.
    #[test]
    fn hostile_bytes_are_refused_and_nothing_else() {
        let good = founded().signed.body.into_vec();
        for index in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[index] ^= 1 << bit;
                fuzz(&bytes);
            }
            fuzz(&good[..index]);
        }
    }

    #[test]
    fn stewards_are_one_three_or_five_and_different() {
        let (tenant, mut rng) = (Keypair::ed25519_from_bytes([9; 32]).unwrap(), ChaCha8Rng::seed_from_u64(1));
        let spec = founded().charter.spec;
        for stewards in [vec![], vec![host(1), host(2)], vec![host(1), host(2), host(1)]] {
            let found = Charter::found(spec.clone(), &tenant, host(1), &stewards, &mut rng);
            assert_eq!(found, Err(FoundError::Stewards));
        }
    }
}
