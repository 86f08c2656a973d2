//! A steward's word that a host belongs on a network.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | version | 1 | [`GRANT_VERSION`] |
//! | slice, network | 16 + 16 | what it lets into |
//! | host | 39 | whom it lets in; worthless in other hands |
//! | steward | 39 | who says so |
//! | epoch | varint | the record's version when it was issued |
//! | valid | varint | milliseconds it holds for, from the moment it is verified |
//! | signature | 64 | of the steward over all of the above |
//!
//! Hosts obtain grants when they read the record, and present one when they open a channel. There is no clock
//! that two hosts share, so a grant's end is not a point in time: the verifier holds it against *its own*
//! fresh view of the record, which it must renew within a lease, and never accepts for longer than
//! that view or the grant is good for. A host that is lost or was never placed is refused whatever it holds.

use libp2p_identity::Keypair;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::id::{NetworkId, SliceId};
use super::record::{Record, State};
use crate::bounded::Blob;
use crate::identity::{self, HostId, NotEd25519, Purpose, Signature};
use crate::limits::GRANT_BYTES_MAX;
use crate::units::Millis;

/// The first byte of every grant.
pub const GRANT_VERSION: u8 = 1;

/// A grant's bytes.
pub type GrantBytes = Blob<GRANT_BYTES_MAX>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Statement {
    slice: SliceId,
    network: NetworkId,
    host: HostId,
    steward: HostId,
    epoch: u64,
    valid: Millis,
}

/// Why a grant opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Error)]
#[non_exhaustive]
pub enum GrantRefusal {
    /// The bytes are not a grant.
    #[error("the bytes are not a grant")]
    Malformed,
    /// It is for another slice, network or host.
    #[error("the grant is for another slice, network or host")]
    NotForThis,
    /// Whoever issued it is no steward of the slice.
    #[error("no steward of the slice issued the grant")]
    NotASteward,
    /// The steward did not sign it.
    #[error("the grant's signature does not match")]
    Signature,
    /// The host has no machine on that network, or lost it.
    #[error("the host has no machine on that network")]
    NotAMember,
    /// The slice is not active.
    #[error("the slice is not active")]
    NotActive,
    /// The verifier's own view of the record has run out.
    #[error("this host's own lease has run out")]
    ViewExpired,
}

/// Issues a grant as a steward, good for the lease of the slice.
///
/// # Errors
/// When the key pair cannot sign.
pub fn issue(
    keypair: &Keypair,
    steward: HostId,
    record: &Record,
    network: NetworkId,
    host: HostId,
) -> Result<GrantBytes, NotEd25519> {
    let statement =
        Statement { slice: record.slice, network, host, steward, epoch: record.version, valid: record.lease };
    let mut bytes = vec![GRANT_VERSION];
    bytes.extend(postcard::to_stdvec(&statement).expect("a grant holds nothing postcard cannot write"));
    let signature = identity::sign(keypair, Purpose::Grant, &bytes)?;
    bytes.extend(postcard::to_stdvec(&signature).expect("a signature is plain bytes"));
    Ok(GrantBytes::try_from(bytes).expect("its parts are shorter than a grant"))
}

/// Checks a grant that `from` presents for `network`, against the record as this host last read it and the
/// end of this host's own lease. Says for how long it may be accepted.
///
/// # Errors
/// Says why it opens nothing.
pub fn verify_grant(
    record: &Record,
    lease_until: Millis,
    from: HostId,
    network: NetworkId,
    bytes: &[u8],
    now: Millis,
) -> Result<Millis, GrantRefusal> {
    if bytes.len() > GRANT_BYTES_MAX || bytes.first() != Some(&GRANT_VERSION) {
        return Err(GrantRefusal::Malformed);
    }
    let (statement, rest): (Statement, _) =
        postcard::take_from_bytes(&bytes[1..]).map_err(|_| GrantRefusal::Malformed)?;
    let signed = &bytes[..bytes.len() - rest.len()];
    let (signature, rest): (Signature, _) =
        postcard::take_from_bytes(rest).map_err(|_| GrantRefusal::Malformed)?;
    if !rest.is_empty() {
        return Err(GrantRefusal::Malformed);
    }
    if statement.slice != record.slice || statement.network != network || statement.host != from {
        return Err(GrantRefusal::NotForThis);
    }
    if !record.stewards.contains(&statement.steward) {
        return Err(GrantRefusal::NotASteward);
    }
    if record.state != State::Active {
        return Err(GrantRefusal::NotActive);
    }
    let index =
        record.networks.iter().position(|known| known.id == network).ok_or(GrantRefusal::NotAMember)?;
    if !record.hosts_on_network(index).contains(&from) {
        return Err(GrantRefusal::NotAMember);
    }
    if lease_until <= now {
        return Err(GrantRefusal::ViewExpired);
    }
    identity::verify(&statement.steward, Purpose::Grant, signed, &signature)
        .map_err(|_| GrantRefusal::Signature)?;
    Ok(statement.valid.min(lease_until.since(now)))
}
