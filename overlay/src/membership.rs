//! Who belongs.
//!
//! The story: the first node makes an Ed25519 key pair for the overlay and signs a [`Certificate`] for its own host key. Any member may make
//! an invitation key, sign a certificate for it with an end, and hand out a ticket with that key's seed. The newcomer dials a member, shows
//! the invitation's chain and a claim (the invitation key's signature over the newcomer's host key); the member checks all of it against its
//! own clock and answers with a certificate of its own for the newcomer. From then on the newcomer shows its own [`Chain`].
//!
//! Why the member signs anew instead of the chain leading through the invitation key: the newcomer holds the invitation's seed, and could
//! back-date whatever that seed signs; the end of a ticket would mean nothing.
//!
//! It refuses to know connections, addresses and records. Invariant: what this module calls verified was checked against the overlay key by
//! signature, and a [`Chain`] counts for a peer only when its last key is the key the connection itself proved.

mod certificate;
mod chain;
mod revocation;

pub use certificate::{Certificate, Standing};
pub use chain::{Chain, ChainRefusal, DEPTH_MAX, TooDeep};
pub use revocation::{REVOCATIONS_MAX, Revocation, RevocationRefusal, Revocations, Taken};

pub(crate) use chain::CHAIN_BYTES_MAX;
pub(crate) use revocation::REVOCATION_BYTES_MAX;

use crate::identity::{Key, Keypair, OverlayKey, Purpose, SIGNATURE_BYTES, sign};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// 32 bytes only members have; node derives the data plane's pre-shared key from it. Comes with admission, not with the ticket: a ticket
/// that leaks after its end gives nothing away.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LinkSecret(Zeroizing<[u8; 32]>);

impl LinkSecret {
    /// Wraps the bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for deriving keys from.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for LinkSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkSecret(…)")
    }
}

/// The seed of a key pair: wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Seed(pub(crate) Zeroizing<[u8; 32]>);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(…)")
    }
}

/// What a member has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The overlay.
    pub overlay: OverlayKey,
    /// The proof for this host's key.
    pub chain: Chain,
    /// What members share.
    pub link_secret: LinkSecret,
    /// The founder keeps the overlay's own seed: with it, it may revoke anyone.
    pub(crate) overlay_seed: Option<Seed>,
}

/// The invitation key's word for a newcomer: a signature over the newcomer's host key.
pub(crate) fn claim(invitation: &Keypair, overlay: OverlayKey, newcomer: Key) -> [u8; SIGNATURE_BYTES] {
    sign(invitation, Purpose::Claim, overlay, newcomer.as_bytes())
}

/// Whether `invitation` signed the claim of `newcomer`.
pub(crate) fn claim_holds(
    invitation: Key,
    overlay: OverlayKey,
    newcomer: Key,
    signature: &[u8; SIGNATURE_BYTES],
) -> bool {
    invitation.verifies(Purpose::Claim, overlay, newcomer.as_bytes(), signature)
}

#[cfg(test)]
mod tests;
