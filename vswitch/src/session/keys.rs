//! Key types that do not print and are wiped.

use std::fmt;

use snow::resolvers::{CryptoResolver, DefaultResolver};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A host's static X25519 secret.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct StaticSecret([u8; 32]);

impl StaticSecret {
    /// Any 32 random bytes; X25519 clamps them itself (RFC 7748 section 5).
    pub fn new(mut bytes: [u8; 32]) -> Self {
        let this = Self(bytes);
        bytes.zeroize();
        this
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        let mut dh = DefaultResolver
            .resolve_dh(&snow::params::DHChoice::Curve25519)
            .expect("snow is built with Curve25519");
        dh.set(&self.0);
        PublicKey(crate::wire::array_at(dh.pubkey(), 0))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for StaticSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StaticSecret(..)")
    }
}

/// What all hosts of an overlay know; without it no handshake succeeds.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SharedSecret([u8; 32]);

impl SharedSecret {
    /// From the overlay's link secret.
    pub fn new(mut bytes: [u8; 32]) -> Self {
        let this = Self(bytes);
        bytes.zeroize();
        this
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

/// A host's static X25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", StaticSecret::new([7; 32])), "StaticSecret(..)");
        assert_eq!(format!("{:?}", SharedSecret::new([7; 32])), "SharedSecret(..)");
    }

    /// RFC 7748 section 5.2: one iteration from scalar and u-coordinate 9.
    #[test]
    fn public_key_is_that_of_rfc_7748() {
        let mut scalar = [0; 32];
        scalar[0] = 9;
        let public = StaticSecret::new(scalar).public();
        let text: String = public.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
    }
}
