//! A ticket: all that a newcomer needs, in one string.
//!
//! `consort1` followed by base32 (RFC 4648, lower case, no padding) of:
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 1 | version | 1 |
//! | 1 | 32 | overlay key | whom to trust |
//! | 33 | 32 | seed | of the invitation key |
//! | 65 | 2 + n | chain | the invitation's [`Chain`], with its length; the certificate before the last names the inviter |
//! | … | 1 + … | addresses | where the inviter listens, at most [`ADDRESSES_MAX`](crate::ADDRESSES_MAX) |
//! | … | 4 | checksum | first bytes of BLAKE3 of all before: tells a typing error from a forgery |
//!
//! It is a secret until it ends: whoever has it can join. It refuses to know how one dials.

use crate::{
    bytes::{Malformed, Reader, put_addresses, put_counted},
    clock::UnixSeconds,
    identity::{HostId, Key, Keypair, OverlayKey, base32, from_base32, pair_from_seed},
    membership::{CHAIN_BYTES_MAX, Chain, ChainRefusal, Revocations, Seed, Standing, TooDeep},
};
use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr, str::FromStr};
use zeroize::Zeroizing;

const PREFIX: &str = "consort1";
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;
/// The longest string that can be a ticket; longer input is refused before it is decoded.
pub const TICKET_CHARS_MAX: usize = 4096;

/// Why a string is no ticket, or a ticket is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// It does not start as tickets do.
    #[error("not a ticket: a ticket starts with \"{PREFIX}\"")]
    NotATicket,
    /// Characters are missing, changed or too many.
    #[error("the ticket is damaged (its checksum does not fit): copy it again, whole")]
    Damaged,
    /// The checksum fits, the content does not.
    #[error("the ticket's content has a form this version does not know")]
    Malformed,
    /// The seed is not that of the invitation the chain vouches for.
    #[error("the ticket was forged: its invitation key is not the one the chain vouches for")]
    Forged,
    /// Its chain proves nothing, or nothing any more.
    #[error("the ticket is not valid: {0}")]
    Refused(#[from] ChainRefusal),
}

/// An invitation with everything needed to use it.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    overlay: OverlayKey,
    seed: Seed,
    chain: Chain,
    inviter: HostId,
    addresses: Vec<SocketAddr>,
}

impl Ticket {
    /// Makes an invitation in the name of `inviter`, whose chain is `chain`, good until `until`.
    pub(crate) fn issue(
        inviter: &Keypair,
        overlay: OverlayKey,
        chain: &Chain,
        seed: [u8; 32],
        now: UnixSeconds,
        until: UnixSeconds,
        addresses: Vec<SocketAddr>,
    ) -> Result<Self, TooDeep> {
        let invitation = Key::of(&pair_from_seed(&seed));
        let chain = chain.extended(inviter, overlay, invitation, Standing::Invitation, now, Some(until))?;
        let inviter = Key::of(inviter).host().expect("a key pair's own public key is a key");
        Ok(Self { overlay, seed: Seed(Zeroizing::new(seed)), chain, inviter, addresses })
    }

    /// The overlay it leads to.
    pub fn overlay(&self) -> OverlayKey {
        self.overlay
    }

    /// The host that made it, and that a newcomer dials.
    pub fn inviter(&self) -> HostId {
        self.inviter
    }

    /// Where the inviter listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The invitation's public key: what `revoke` takes to make the ticket worthless and put out all who came by it.
    pub fn invitation(&self) -> Key {
        self.chain.holder()
    }

    /// When it ends.
    pub fn until(&self) -> Option<UnixSeconds> {
        self.chain.last().until
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    pub(crate) fn invitation_pair(&self) -> Keypair {
        pair_from_seed(&self.seed.0)
    }

    /// Whether it is genuine and still good, as far as one host can tell alone.
    pub fn verify(&self, now: UnixSeconds) -> Result<(), TicketError> {
        if Key::of(&self.invitation_pair()) != self.invitation() {
            return Err(TicketError::Forged);
        }
        Ok(self.chain.verify_invitation(self.overlay, now, &Revocations::default())?)
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(vec![VERSION]);
        out.extend_from_slice(self.overlay.0.as_bytes());
        out.extend_from_slice(&self.seed.0[..]);
        put_counted(&mut out, &self.chain.encode());
        put_addresses(&mut out, &self.addresses);
        let checksum = blake3::hash(&out);
        out.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, TicketError> {
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TicketError::Damaged)?;
        if blake3::hash(body).as_bytes()[..CHECKSUM_BYTES] != checksum[..] {
            return Err(TicketError::Damaged);
        }
        Self::read(body).map_err(|Malformed| TicketError::Malformed)
    }

    fn read(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        if reader.u8()? != VERSION {
            return Err(Malformed);
        }
        let overlay = OverlayKey(Key::from_bytes(reader.array()?));
        let seed = Seed(Zeroizing::new(reader.array()?));
        let chain = Chain::decode(reader.counted(CHAIN_BYTES_MAX)?)?;
        let inviter = chain.voucher().and_then(|key| key.host()).ok_or(Malformed)?;
        let addresses = reader.addresses()?;
        reader.end()?;
        Ok(Self { overlay, seed, chain, inviter, addresses })
    }
}

impl fmt::Display for Ticket {
    /// Writes the secret string: for the person who asked for it, not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", base32(&self.encode()))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("overlay", &self.overlay)
            .field("inviter", &self.inviter)
            .field("invitation", &self.invitation())
            .field("until", &self.until())
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        if text.len() > TICKET_CHARS_MAX {
            return Err(TicketError::Damaged);
        }
        let body = text.strip_prefix(PREFIX).ok_or(TicketError::NotATicket)?;
        let bytes = Zeroizing::new(from_base32(body).map_err(|_| TicketError::Damaged)?);
        Self::decode(&bytes)
    }
}

impl Serialize for Ticket {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ticket {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
