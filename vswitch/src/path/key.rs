//! The key of two hosts' probes: known to both before any handshake, from their static keys and the overlay's secret.

use std::fmt;

use snow::{
    params::DHChoice,
    resolvers::{CryptoResolver as _, DefaultResolver},
};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    session::{PublicKey, SharedSecret, StaticSecret},
    wire::{MAC_BYTES, PROBE_TAG_BYTES, array_at, probe_covered},
};

/// Names the sender of a probe to its receiver.
pub(crate) type Tag = [u8; PROBE_TAG_BYTES];

/// See the module.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct ProbeKey([u8; 32]);

impl ProbeKey {
    /// One Diffie-Hellman product, once for each peer.
    pub(crate) fn new(own: &StaticSecret, peer: &PublicKey, overlay: &SharedSecret) -> Self {
        let mut exchange =
            DefaultResolver.resolve_dh(&DHChoice::Curve25519).expect("snow is built with Curve25519");
        exchange.set(own.bytes());
        let mut product = Zeroizing::new([0; 32]);
        // A peer's key of small order makes the product zero; the overlay's secret still keeps strangers out.
        if exchange.dh(&peer.0, &mut *product).is_err() {
            product.fill(0);
        }
        let mut hasher = blake3::Hasher::new_derive_key("consort path v1 probes");
        hasher.update(&*product).update(overlay.bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// The tag of what the host with this public key sends.
    pub(crate) fn tag(&self, sender: &PublicKey) -> Tag {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"tag").update(&sender.0);
        array_at(hasher.finalize().as_bytes(), 0)
    }

    /// The code over a probe's other bytes.
    pub(crate) fn mac(&self, covered: &[u8]) -> [u8; MAC_BYTES] {
        array_at(blake3::keyed_hash(&self.0, covered).as_bytes(), 0)
    }

    /// Whether a probe or reply was made with this key.
    pub(crate) fn made(&self, bytes: &[u8]) -> bool {
        let Some((covered, mac)) = probe_covered(bytes) else { return false };
        // BLAKE3's own comparison takes constant time; the rest of the hash is not sent, hence compared by bytes without a branch.
        self.mac(covered).iter().zip(mac).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

impl fmt::Debug for ProbeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProbeKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_have_one_key_others_have_another_and_tags_differ_each_way() {
        let secret = |number| StaticSecret::new([number; 32]);
        let (a, b, c) = (secret(1), secret(2), secret(3));
        let psk = SharedSecret::new([9; 32]);
        let ab = ProbeKey::new(&a, &b.public(), &psk);
        let ba = ProbeKey::new(&b, &a.public(), &psk);
        assert_eq!(ab.0, ba.0);
        assert_ne!(ab.0, ProbeKey::new(&a, &c.public(), &psk).0);
        assert_ne!(ab.0, ProbeKey::new(&a, &b.public(), &SharedSecret::new([8; 32])).0);
        assert_ne!(ab.tag(&a.public()), ab.tag(&b.public()));
        assert_eq!(format!("{ab:?}"), "ProbeKey(..)");
    }
}
