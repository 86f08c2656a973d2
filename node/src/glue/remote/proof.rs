//! That a slice's tenant wants something done, from this node, on that host, now.
//!
//! What is signed, with the tenant's Ed25519 key:
//!
//! | size | field | why |
//! |---|---|---|
//! | 26 | `consort 1 machine access` and two zero bytes | no other signature of a tenant can be taken for one |
//! | 16 | slice | a proof for one slice is worthless in another |
//! | 1 + n | machine's name, with its length | nor for another machine |
//! | 1 + n | target host, with its length | a host that received it cannot use it on another |
//! | 1 + n | the asking node, with its length | nor can anybody who overheard it; the stream proves who asks |
//! | 8 | expiry, seconds since 1970, big endian | nor can the asking node for ever |
//!
//! The verifier takes the tenant from the slice's record, never from the request.

use libp2p_identity::{Keypair, PeerId, PublicKey};
use serde::{Deserialize, Serialize};

use super::message::MachineName;

const PURPOSE: &[u8; 26] = b"consort 1 machine access\0\0";

/// How long a proof is good. Longer than a slow dial; shorter than it takes to find a use for a stolen one.
pub const VALID_S: u64 = 60;

/// How far two hosts' clocks may be apart. Hosts without NTP drift minutes in a month.
pub const CLOCKS_APART_MAX_S: u64 = 300;

/// Bytes of an Ed25519 signature.
const SIGNATURE_LEN: usize = 64;

/// The proof as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    expires_s: u64,
    signature: Vec<u8>,
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Its time is over.
    #[error("the proof has expired {0} s ago by this host's clock")]
    Expired(u64),
    /// Its time is too far off to be meant.
    #[error("the proof expires {0} s from now by this host's clock, later than any may")]
    TooFarOff(u64),
    /// The tenant's name carries no key.
    #[error("the tenant's name carries no Ed25519 key")]
    NoKey,
    /// The tenant did not sign this.
    #[error("the tenant did not sign this")]
    NotSigned,
}

impl Proof {
    /// Signs, with the tenant's key, that the node `asking` may reach `machine` on `target` until [`VALID_S`] after `now_s`.
    ///
    /// # Errors
    /// If the key pair cannot sign.
    pub fn sign(
        tenant: &Keypair,
        machine: &MachineName,
        target: PeerId,
        asking: PeerId,
        now_s: u64,
    ) -> Result<Self, libp2p_identity::SigningError> {
        let expires_s = now_s.saturating_add(VALID_S);
        let signature = tenant.sign(&statement(machine, target, asking, expires_s))?;
        Ok(Self { expires_s, signature })
    }

    /// Checks that `tenant` signed this for `machine` on `target`, asked by `asking`, and that it is good at `now_s`.
    ///
    /// # Errors
    /// Says why it proves nothing.
    pub fn verify(
        &self,
        tenant: &PeerId,
        machine: &MachineName,
        target: PeerId,
        asking: PeerId,
        now_s: u64,
    ) -> Result<(), ProofError> {
        if self.expires_s.saturating_add(CLOCKS_APART_MAX_S) < now_s {
            return Err(ProofError::Expired(now_s - self.expires_s));
        }
        let latest_s = now_s.saturating_add(VALID_S + CLOCKS_APART_MAX_S);
        if self.expires_s > latest_s {
            return Err(ProofError::TooFarOff(self.expires_s - now_s));
        }
        let key = key_of(tenant).ok_or(ProofError::NoKey)?;
        let signed = self.signature.len() == SIGNATURE_LEN
            && key.verify(&statement(machine, target, asking, self.expires_s), &self.signature);
        if signed { Ok(()) } else { Err(ProofError::NotSigned) }
    }
}

fn statement(machine: &MachineName, target: PeerId, asking: PeerId, expires_s: u64) -> Vec<u8> {
    let mut bytes = PURPOSE.to_vec();
    bytes.extend_from_slice(&machine.slice);
    for part in [machine.machine.as_bytes(), &target.to_bytes(), &asking.to_bytes()] {
        // Machine names and host names are far below 256 bytes; a longer one is cut off here, and then signs for nothing.
        bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(part);
    }
    bytes.extend_from_slice(&expires_s.to_be_bytes());
    bytes
}

/// The key inside a name that *is* the key (libp2p peer-ids specification).
pub(crate) fn key_of(id: &PeerId) -> Option<PublicKey> {
    const IDENTITY_MULTIHASH: u64 = 0;
    if id.as_ref().code() != IDENTITY_MULTIHASH {
        return None;
    }
    PublicKey::try_decode_protobuf(id.as_ref().digest()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::message::SLICE_ID_LEN;
    use super::*;

    fn pair(byte: u8) -> Keypair {
        Keypair::ed25519_from_bytes([byte; 32]).unwrap()
    }

    fn host(byte: u8) -> PeerId {
        pair(byte).public().to_peer_id()
    }

    fn machine(name: &str) -> MachineName {
        MachineName { slice: [7; SLICE_ID_LEN], machine: name.to_owned() }
    }

    #[test]
    fn a_proof_holds_for_its_tenant_machine_host_and_asker_only() {
        let (name, now) = (machine("worker-0"), 1_000_000);
        let proof = Proof::sign(&pair(1), &name, host(2), host(3), now).unwrap();
        assert_eq!(proof.verify(&host(1), &name, host(2), host(3), now), Ok(()));
        let no = Err(ProofError::NotSigned);
        assert_eq!(proof.verify(&host(9), &name, host(2), host(3), now), no);
        assert_eq!(proof.verify(&host(1), &machine("worker-1"), host(2), host(3), now), no);
        assert_eq!(proof.verify(&host(1), &name, host(9), host(3), now), no);
        assert_eq!(proof.verify(&host(1), &name, host(2), host(9), now), no);
        let other_slice = MachineName { slice: [8; SLICE_ID_LEN], ..name };
        assert_eq!(proof.verify(&host(1), &other_slice, host(2), host(3), now), no);
    }

    #[test]
    fn a_proof_ends_and_cannot_be_made_for_ever() {
        let (name, now) = (machine("worker-0"), 1_000_000);
        let proof = Proof::sign(&pair(1), &name, host(2), host(3), now).unwrap();
        let late = now + VALID_S + CLOCKS_APART_MAX_S;
        assert_eq!(proof.verify(&host(1), &name, host(2), host(3), late), Ok(()));
        assert_eq!(
            proof.verify(&host(1), &name, host(2), host(3), late + 1),
            Err(ProofError::Expired(CLOCKS_APART_MAX_S + 1))
        );
        let early = now - CLOCKS_APART_MAX_S;
        assert_eq!(proof.verify(&host(1), &name, host(2), host(3), early), Ok(()));
        assert!(matches!(
            proof.verify(&host(1), &name, host(2), host(3), early - 1),
            Err(ProofError::TooFarOff(_))
        ));
    }

    #[test]
    fn any_changed_bit_of_the_signature_is_refused() {
        let (name, now) = (machine("worker-0"), 1_000_000);
        let proof = Proof::sign(&pair(1), &name, host(2), host(3), now).unwrap();
        for index in 0..proof.signature.len() {
            let mut changed = proof.clone();
            changed.signature[index] ^= 1;
            assert_eq!(
                changed.verify(&host(1), &name, host(2), host(3), now),
                Err(ProofError::NotSigned),
                "byte {index}"
            );
        }
    }
}
