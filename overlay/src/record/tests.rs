//! The rules of host records.

use super::*;
use crate::testing::{NOW, chain, key, overlay, pair, record, revocation};
use proptest::prelude::*;

fn none() -> Revocations {
    Revocations::default()
}

fn verify(bytes: &[u8]) -> Result<HostRecord, RecordRefusal> {
    Unverified::decode(bytes)?.verify(overlay(), NOW, &none(), None)
}

#[test]
fn golden_bytes_of_a_record() {
    let record = record(&[1, 2], 0x0102);
    let mut body = vec![2]; // version
    body.extend(key(2).as_bytes());
    body.extend([0, 0, 0, 0, 0, 0, 1, 2]); // sequence
    body.extend(NOW.0.to_be_bytes()); // issued
    body.extend([3, 0x84]); // 900 s
    body.extend([1, 4, 10, 0, 0, 1, 0x0f, 0xa1]); // one address
    body.push(1); // one relay
    body.extend(key(1).as_bytes());
    body.extend([0, 7]);
    body.extend(b"payload");
    let bytes = record.bytes();
    assert_eq!(bytes[..2], u16::try_from(body.len()).unwrap().to_be_bytes());
    let end = 2 + body.len();
    assert_eq!(bytes[2..end], body);
    let signed = [b"consort host record 1\0".as_slice(), overlay().0.as_bytes(), &body].concat();
    assert!(pair(2).public().verify(&signed, &bytes[end..end + 64]));
    assert_eq!(bytes[end + 64..], chain(&[1, 2]).encode());
    assert_eq!(verify(bytes), Ok(record));
}

#[test]
fn a_record_dies_when_its_lifetime_is_over() {
    let record = record(&[1], 1);
    let at = |now| Unverified::decode(record.bytes()).unwrap().verify(overlay(), now, &none(), None).err();
    assert_eq!(at(UnixSeconds(NOW.0 + 299)), None);
    assert_eq!(at(NOW.after(RECORD_LIFETIME)), Some(RecordRefusal::Expired));
    assert_eq!(at(UnixSeconds(NOW.0 - 121)), Some(RecordRefusal::NotYet));
}

#[test]
fn a_record_names_a_member_or_is_refused() {
    // Signed by member 3, over the chain of member 2.
    let draft =
        Draft { sequence: 1, issued: NOW, addresses: &[], relays: &[], payload: &[], chain: &chain(&[1, 2]) };
    let borrowed = HostRecord::issue(&pair(3), overlay(), &draft);
    assert_eq!(verify(borrowed.bytes()), Err(RecordRefusal::Membership(ChainRefusal::Holder)));
    let mut out = none();
    out.take(overlay(), revocation(1, &[1, 2])).unwrap();
    let revoked = Unverified::decode(record(&[1, 2], 1).bytes()).unwrap().verify(overlay(), NOW, &out, None);
    assert_eq!(revoked, Err(RecordRefusal::Membership(ChainRefusal::Revoked(key(2)))));
    // A chain that was verified before is not taken on trust when it was put out since.
    let known = chain(&[1, 2]);
    let revoked =
        Unverified::decode(record(&[1, 2], 1).bytes()).unwrap().verify(overlay(), NOW, &out, Some(&known));
    assert_eq!(revoked, Err(RecordRefusal::Membership(ChainRefusal::Revoked(key(2)))));
}

#[test]
fn a_claimed_lifetime_has_a_limit() {
    let mut bytes = record(&[1], 1).bytes().to_vec();
    bytes[47..49].copy_from_slice(&901u16.to_be_bytes());
    assert_eq!(Unverified::decode(&bytes).err(), Some(RecordRefusal::Lifetime));
}

#[test]
fn the_largest_record_fits_its_limit() {
    let members: Vec<u8> = (1..=16).collect();
    let address = "[2001:db8::1]:4001".parse().unwrap();
    let draft = Draft {
        sequence: u64::MAX,
        issued: NOW,
        addresses: &[address; ADDRESSES],
        relays: &[key(1).host().unwrap(); RELAYS_MAX + 1],
        payload: &[0; PAYLOAD_BYTES_MAX],
        chain: &chain(&members),
    };
    let largest = HostRecord::issue(&pair(16), overlay(), &draft);
    assert!(largest.bytes().len() <= RECORD_BYTES_MAX, "{}", largest.bytes().len());
    assert_eq!(largest.relays.len(), RELAYS_MAX, "those that are too many are left out");
    assert_eq!(verify(largest.bytes()), Ok(largest));
}

#[test]
fn more_relays_than_a_host_may_name_are_refused() {
    let mut bytes = record(&[1], 1).bytes().to_vec();
    let count = 2 + 55;
    assert_eq!(bytes[count], 1);
    bytes[count] = u8::try_from(RELAYS_MAX).unwrap() + 1;
    assert_eq!(Unverified::decode(&bytes).err(), Some(RecordRefusal::Malformed(Malformed)));
}

const ADDRESSES: usize = crate::bytes::ADDRESSES_MAX;

proptest! {
    /// No flipped bit leaves a record that passes: the body is signed, the chain is, and lengths have one meaning.
    #[test]
    fn no_flipped_bit_survives(at in 0usize..400, bit in 0u8..8) {
        let mut bytes = record(&[1, 2], 1).bytes().to_vec();
        prop_assume!(at < bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(verify(&bytes).is_err());
    }

    #[test]
    fn no_cut_record_survives(len in 0usize..400) {
        let bytes = record(&[1, 2], 1).bytes().to_vec();
        prop_assume!(len < bytes.len());
        prop_assert!(Unverified::decode(&bytes[..len]).is_err());
    }
}
