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
    let (statement, signed, signature) = decode(bytes).ok_or(GrantRefusal::Malformed)?;
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

/// The statement, the bytes that were signed, and the signature.
fn decode(bytes: &[u8]) -> Option<(Statement, &[u8], Signature)> {
    if bytes.len() > GRANT_BYTES_MAX || bytes.first() != Some(&GRANT_VERSION) {
        return None;
    }
    let (statement, rest): (Statement, _) = postcard::take_from_bytes(&bytes[1..]).ok()?;
    let signed = &bytes[..bytes.len() - rest.len()];
    let (signature, rest): (Signature, _) = postcard::take_from_bytes(rest).ok()?;
    rest.is_empty().then_some((statement, signed, signature))
}

/// Fuzz entry: no bytes may panic the decoder, and what it reads ends where the bytes end.
///
/// # Panics
/// When the decoder is wrong.
pub fn fuzz(bytes: &[u8]) {
    if let Some((_, signed, _)) = decode(bytes) {
        assert_eq!(signed.len() + SIGNATURE_BYTES, bytes.len(), "a grant is a statement and a signature");
    }
}

/// Bytes of an Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Resources;
    use crate::slice::record::{Assignment, LossReason, Standing};
    use crate::slice::spec::Category;
    use crate::specimen::{founded, host, keypair};

    const UNTIL: Millis = Millis(5000);
    const NOW: Millis = Millis(1000);

    /// Machines on hosts 4 and 5; stewards 1, 2 and 3.
    fn record() -> Record {
        let assignment = |number, byte| Assignment {
            group: 0,
            number,
            host: host(byte),
            category: Category::Sandbox,
            size: Resources::NONE,
        };
        let forming = Record::forming(&founded("count = 2"), &[assignment(0, 4), assignment(1, 5)]);
        Record { state: State::Active, ..forming }
    }

    fn grant(record: &Record) -> Vec<u8> {
        issue(&keypair(2), host(2), record, record.networks[0].id, host(4)).unwrap().to_vec()
    }

    fn verify(record: &Record, from: HostId, bytes: &[u8]) -> Result<Millis, GrantRefusal> {
        verify_grant(record, UNTIL, from, record.networks[0].id, bytes, NOW)
    }

    #[test]
    fn a_grant_lets_its_host_in_for_as_long_as_the_verifiers_own_lease() {
        let record = record();
        assert_eq!(verify(&record, host(4), &grant(&record)), Ok(Millis(4000)));
        let late = verify_grant(&record, UNTIL, host(4), record.networks[0].id, &grant(&record), UNTIL);
        assert_eq!(late, Err(GrantRefusal::ViewExpired));
    }

    #[test]
    fn a_grant_is_worthless_in_other_hands_and_elsewhere() {
        let record = record();
        let bytes = grant(&record);
        assert_eq!(verify(&record, host(5), &bytes), Err(GrantRefusal::NotForThis));
        let other = verify_grant(&record, UNTIL, host(4), NetworkId([1; 16]), &bytes, NOW);
        assert_eq!(other, Err(GrantRefusal::NotForThis));
    }

    #[test]
    fn a_lost_host_is_refused_whatever_it_holds() {
        let bytes = grant(&record());
        let mut lost = record();
        for machine in lost.machines.iter_mut().filter(|machine| machine.host == host(4)) {
            machine.standing = Standing::Lost(LossReason::LeaseLapsed);
        }
        assert_eq!(verify(&lost, host(4), &bytes), Err(GrantRefusal::NotAMember));
        let over = Record { state: State::Ended(crate::slice::record::EndReason::TermOver), ..record() };
        assert_eq!(verify(&over, host(4), &bytes), Err(GrantRefusal::NotActive));
    }

    #[test]
    fn only_a_steward_can_issue_one() {
        let record = record();
        let network = record.networks[0].id;
        let stranger = issue(&keypair(7), host(7), &record, network, host(4)).unwrap();
        assert_eq!(verify(&record, host(4), &stranger), Err(GrantRefusal::NotASteward));
        let forged = issue(&keypair(7), host(2), &record, network, host(4)).unwrap();
        assert_eq!(verify(&record, host(4), &forged), Err(GrantRefusal::Signature));
    }

    #[test]
    fn any_flipped_bit_cut_or_trailing_byte_is_refused() {
        let record = record();
        let good = grant(&record);
        assert!(good.len() <= GRANT_BYTES_MAX);
        for index in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[index] ^= 1 << bit;
                fuzz(&bytes);
                assert!(verify(&record, host(4), &bytes).is_err(), "byte {index} bit {bit}");
            }
            fuzz(&good[..index]);
            assert!(verify(&record, host(4), &good[..index]).is_err());
        }
        assert_eq!(verify(&record, host(4), &[&good[..], &[0]].concat()), Err(GrantRefusal::Malformed));
    }
}
