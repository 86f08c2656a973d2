//! The rules of chains and revocations.

use super::*;
use crate::{
    bytes::Malformed,
    clock::UnixSeconds,
    identity::Key,
    testing::{NOW, chain, key, overlay, pair, revocation},
};
use proptest::prelude::*;
use std::time::Duration;

fn none() -> Revocations {
    Revocations::default()
}

/// Every byte of a chain of two, in the order of the tables.
#[test]
fn golden_bytes_of_a_chain() {
    let bytes = chain(&[1, 2]).encode();
    let time = NOW.0.to_be_bytes();
    let mut expected = vec![1, 2]; // version, count
    expected.push(1); // a member who came by no invitation: the founder
    expected.extend(key(1).as_bytes());
    expected.extend(time); // issued
    expected.extend([0; 4]); // no end
    assert_eq!(bytes[..43], expected);
    let first_signature = &bytes[43..107];
    let mut second = vec![2]; // a member by invitation
    second.extend(key(2).as_bytes());
    second.extend(time);
    second.extend([0; 4]);
    second.extend(key(200).as_bytes()); // the invitation
    assert_eq!(bytes[107..180], second);
    assert_eq!(bytes.len(), 180 + 64);
    // What is signed: context, zero, overlay key, issuer, then the fields.
    let signed = |issuer: Key, fields: &[u8]| {
        [b"consort certificate 1\0".as_slice(), overlay().0.as_bytes(), issuer.as_bytes(), fields].concat()
    };
    assert!(pair(0).public().verify(&signed(key(0), &expected[2..]), first_signature));
    assert!(pair(1).public().verify(&signed(key(1), &second), &bytes[180..]));
}

#[test]
fn a_chain_proves_its_holder_and_nobody_else() {
    let chain = chain(&[1, 2, 3]);
    assert_eq!(chain.verify_member(overlay(), key(3), NOW, &none()), Ok(()));
    assert_eq!(chain.verify_member(overlay(), key(2), NOW, &none()), Err(ChainRefusal::Holder));
    assert_eq!(
        chain.verify_member(OverlayKey(key(4)), key(3), NOW, &none()),
        Err(ChainRefusal::Signature { at: 0 })
    );
    assert_eq!(chain.voucher(), Some(key(2)));
    assert_eq!(Chain::decode(&chain.encode()), Ok(chain));
}

#[test]
fn an_invitation_is_no_membership_and_ends() {
    let until = NOW.after(Duration::from_secs(60));
    let invitation =
        chain(&[1]).extended(&pair(1), overlay(), key(5), Standing::Invitation, NOW, Some(until)).unwrap();
    assert_eq!(invitation.verify_invitation(overlay(), NOW, &none()), Ok(()));
    assert_eq!(
        invitation.verify_member(overlay(), key(5), NOW, &none()),
        Err(ChainRefusal::Standing { at: 1 })
    );
    assert_eq!(invitation.verify_invitation(overlay(), until, &none()), Err(ChainRefusal::Expired { until }));
    assert_eq!(
        chain(&[1]).verify_invitation(overlay(), NOW, &none()),
        Err(ChainRefusal::Standing { at: 0 }),
        "a membership is no invitation"
    );
    // The holder of an invitation signs a membership himself: it does not count.
    let own = invitation
        .extended(&pair(5), overlay(), key(6), Standing::Member { invitation: None }, NOW, None)
        .unwrap();
    assert_eq!(own.verify_member(overlay(), key(6), NOW, &none()), Err(ChainRefusal::Standing { at: 1 }));
}

#[test]
fn a_certificate_from_further_ahead_than_clocks_differ_is_refused() {
    let early = UnixSeconds(NOW.0 - 121);
    assert_eq!(
        chain(&[1]).verify_member(overlay(), key(1), early, &none()),
        Err(ChainRefusal::NotYet { issued: NOW })
    );
    let skewed = UnixSeconds(NOW.0 - 120);
    assert_eq!(chain(&[1]).verify_member(overlay(), key(1), skewed, &none()), Ok(()));
}

#[test]
fn chains_grow_to_their_depth_and_no_further() {
    let members: Vec<u8> = (1..=16).collect();
    let longest = chain(&members);
    assert_eq!(longest.certificates().len(), DEPTH_MAX);
    assert!(longest.encode().len() <= CHAIN_BYTES_MAX);
    let further = longest.extended(&pair(16), overlay(), key(17), Standing::Invitation, NOW, None);
    assert_eq!(further, Err(TooDeep));
    let mut bytes = longest.encode();
    bytes[1] = 17;
    assert_eq!(Chain::decode(&bytes), Err(Malformed));
    bytes[1] = 0;
    assert_eq!(Chain::decode(&bytes), Err(Malformed));
}

#[test]
fn a_revoked_key_ends_every_chain_it_stands_in() {
    for (target, through) in [(2, vec![1, 2]), (3, vec![1, 2, 3])] {
        let mut out = none();
        assert_eq!(out.take(overlay(), revocation(1, &through)), Ok(Taken::New));
        let refused = chain(&[1, 2, 3]).verify_member(overlay(), key(3), NOW, &out);
        assert_eq!(refused, Err(ChainRefusal::Revoked(key(target))));
        assert_eq!(chain(&[1, 4]).verify_member(overlay(), key(4), NOW, &out), Ok(()), "others stay");
    }
}

#[test]
fn a_revoked_invitation_ends_the_membership_of_all_who_used_it() {
    let evidence =
        chain(&[1]).extended(&pair(1), overlay(), key(200), Standing::Invitation, NOW, None).unwrap();
    let mut out = none();
    out.take(overlay(), Revocation::issue(&pair(1), overlay(), evidence, NOW)).unwrap();
    assert_eq!(
        chain(&[1, 2]).verify_member(overlay(), key(2), NOW, &out),
        Err(ChainRefusal::Revoked(key(200)))
    );
    assert_eq!(chain(&[1]).verify_member(overlay(), key(1), NOW, &out), Ok(()));
}

#[test]
fn only_those_above_and_the_key_itself_may_revoke() {
    let mut out = none();
    for signer in [0, 1, 2, 3] {
        assert_eq!(revocation(signer, &[1, 2, 3]).verify(overlay()), Ok(()), "signer {signer}");
    }
    assert_eq!(out.take(overlay(), revocation(4, &[1, 2, 3])), Err(RevocationRefusal::Authority));
    assert_eq!(revocation(1, &[1, 2]).verify(OverlayKey(key(9))), Err(RevocationRefusal::Signature));
    // A member that invents a chain of the overlay over its victim has no signature of the overlay key for it.
    let invented = Chain::found(&pair(7), key(1), NOW);
    assert_eq!(
        Revocation::issue(&pair(1), overlay(), invented, NOW).verify(overlay()),
        Err(RevocationRefusal::Evidence)
    );
    assert!(out.is_empty());
}

#[test]
fn golden_bytes_of_a_revocation() {
    let revocation = revocation(1, &[1, 2]);
    let bytes = revocation.encode();
    let mut fields = vec![1]; // version
    fields.extend(key(1).as_bytes()); // signer
    fields.extend(NOW.0.to_be_bytes());
    assert_eq!(bytes[..37], fields);
    let signed =
        [b"consort revocation 1\0".as_slice(), overlay().0.as_bytes(), key(2).as_bytes(), &fields].concat();
    assert!(pair(1).public().verify(&signed, &bytes[37..101]));
    assert_eq!(bytes[101..], chain(&[1, 2]).encode());
    assert_eq!(Revocation::decode(&bytes), Ok(revocation));
    assert_eq!(Revocation::decode(&[&bytes[..], &[0]].concat()), Err(Malformed));
}

/// Member 2 invents as many keys below itself as the set holds, and revokes them all.
#[test]
fn a_flood_of_invented_revocations_cannot_keep_its_author_in() {
    let mut out = none();
    let below = |n: u16| {
        let mut seed = [77; 32];
        seed[..2].copy_from_slice(&n.to_be_bytes());
        let invented = Key::of(&crate::identity::pair_from_seed(&seed));
        let standing = Standing::Member { invitation: None };
        let evidence = chain(&[1, 2]).extended(&pair(2), overlay(), invented, standing, NOW, None).unwrap();
        Revocation::issue(&pair(2), overlay(), evidence, NOW)
    };
    for n in 0..u16::try_from(REVOCATIONS_MAX).unwrap() {
        assert_eq!(out.take(overlay(), below(n)), Ok(Taken::New));
    }
    assert_eq!(out.take(overlay(), below(9999)), Err(RevocationRefusal::Full));
    assert_eq!(out.take(overlay(), revocation(1, &[1, 2])), Ok(Taken::New));
    assert_eq!(out.len(), REVOCATIONS_MAX);
    assert!(out.covers(key(2)));
    assert_eq!(out.take(overlay(), revocation(1, &[1, 2])), Ok(Taken::Known));
}

#[test]
fn the_digest_is_equal_exactly_for_equal_sets() {
    let (mut one, mut other) = (none(), none());
    assert_eq!(one.digest(), other.digest());
    one.take(overlay(), revocation(1, &[1, 2])).unwrap();
    assert_ne!(one.digest(), other.digest());
    other.take(overlay(), revocation(0, &[1, 2])).unwrap();
    assert_eq!(one.digest(), other.digest(), "who signed does not matter");
}

#[test]
fn a_stored_set_is_checked_again() {
    let stored = vec![revocation(1, &[1, 2]), revocation(4, &[1, 3])];
    let restored = Revocations::restore(overlay(), stored);
    assert_eq!((restored.len(), restored.covers(key(2))), (1, true));
}

#[test]
fn a_claim_is_for_one_newcomer() {
    let signature = claim(&pair(5), overlay(), key(6));
    assert!(claim_holds(key(5), overlay(), key(6), &signature));
    assert!(!claim_holds(key(5), overlay(), key(7), &signature));
    assert!(!claim_holds(key(4), overlay(), key(6), &signature));
    assert!(!claim_holds(key(5), OverlayKey(key(9)), key(6), &signature));
}

#[test]
fn secrets_do_not_print() {
    let membership = crate::testing::membership(&[1]);
    assert!(format!("{membership:?}").contains("LinkSecret(…)"));
    assert!(!format!("{:?}", Seed(Zeroizing::new([7; 32]))).contains('7'));
}

proptest! {
    /// Whatever single bit is flipped, the chain is refused or is not decoded.
    #[test]
    fn no_flipped_bit_survives(at in 0usize..244, bit in 0u8..8) {
        let mut bytes = chain(&[1, 2]).encode();
        bytes[at] ^= 1 << bit;
        let verdict = Chain::decode(&bytes).map(|chain| chain.verify_member(overlay(), key(2), NOW, &none()));
        prop_assert!(!matches!(verdict, Ok(Ok(()))), "{verdict:?}");
    }

    /// Certificates of genuine chains in another order or number prove nothing but the genuine chain itself.
    #[test]
    fn no_other_arrangement_of_genuine_certificates_holds(picks in proptest::collection::vec(0usize..4, 1..6)) {
        let certificates: Vec<Vec<u8>> = {
            let bytes = chain(&[1, 2, 3, 4]).encode();
            let mut parts = vec![bytes[2..107].to_vec()];
            parts.extend(bytes[107..].chunks(137).map(<[u8]>::to_vec));
            parts
        };
        let mut bytes = vec![1, u8::try_from(picks.len()).unwrap()];
        picks.iter().for_each(|pick| bytes.extend(&certificates[*pick]));
        let chain = Chain::decode(&bytes).unwrap();
        let holds = chain.verify_member(overlay(), chain.holder(), NOW, &none()).is_ok();
        let genuine = picks.iter().copied().eq(0..picks.len());
        prop_assert_eq!(holds, genuine);
    }
}
