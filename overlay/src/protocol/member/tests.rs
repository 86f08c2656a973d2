//! The bytes of the handshake.

use super::*;
use crate::{
    membership::claim,
    testing::{NOW, chain, key, overlay, pair, ticket},
};

#[test]
fn golden_bytes_of_a_hello() {
    let hello = Hello { overlay: overlay(), session: 0x0102, proof: Proof::Member(chain(&[1])) };
    let mut expected = overlay().0.as_bytes().to_vec();
    expected.extend([0, 0, 0, 0, 0, 0, 1, 2, 1]);
    expected.extend(chain(&[1]).encode());
    assert_eq!(hello.encode(), expected);
    assert_eq!(Hello::decode(&expected), Ok(hello));
    let invitation = ticket(&[1], NOW.after(std::time::Duration::from_secs(1)));
    let claim = claim(&pair(7), overlay(), key(8));
    let proof = Proof::Newcomer { claim, invitation: invitation.chain().clone() };
    let newcomer = Hello { overlay: overlay(), session: 0, proof };
    let bytes = newcomer.encode();
    assert_eq!(bytes[40], 2);
    assert_eq!(bytes[41..105], claim);
    assert_eq!(Hello::decode(&bytes), Ok(newcomer));
}

#[test]
fn golden_bytes_of_an_answer() {
    let welcome = Welcome { session: 5, chain: chain(&[1]), admission: None };
    let mut expected = vec![0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 107];
    expected.extend(chain(&[1]).encode());
    assert_eq!(encode_answer(&Ok(welcome.clone())), expected);
    let admission = Admission { chain: chain(&[1, 2]), link_secret: LinkSecret::new([9; 32]) };
    expected.extend([9; 32]);
    expected.extend(chain(&[1, 2]).encode());
    let answer = Ok(Welcome { admission: Some(admission), ..welcome });
    assert_eq!(encode_answer(&answer), expected);
    assert_eq!(decode_answer(&expected), Ok(answer));
}

#[test]
fn every_refusal_has_a_code_of_its_own_and_comes_back() {
    let mut codes = std::collections::BTreeSet::new();
    for (code, refusal) in Refusal::CODES {
        assert!(code != ACCEPTED && codes.insert(code));
        assert_eq!(decode_answer(&encode_answer(&Err(refusal))), Ok(Err(refusal)));
        assert_eq!(decode_verdict(&encode_verdict(Err(refusal))), Ok(Err(refusal)));
    }
    assert_eq!(decode_verdict(&encode_verdict(Ok(()))), Ok(Ok(())));
    assert_eq!(decode_verdict(&[99]), Err(Malformed));
    assert_eq!(decode_answer(&[1, 0]), Err(Malformed), "a refusal says nothing more");
}

#[test]
fn the_largest_answer_fits_a_frame() {
    let members: Vec<u8> = (1..=16).collect();
    let admission = Admission { chain: chain(&members), link_secret: LinkSecret::new([0; 32]) };
    let largest = Ok(Welcome { session: 0, chain: chain(&members), admission: Some(admission) });
    assert!(encode_answer(&largest).len() <= FRAME_BYTES_MAX);
}
