//! The rules of tickets.

use super::*;
use crate::testing::{NOW, chain, key, overlay, ticket};
use proptest::prelude::*;
use std::time::Duration;

const UNTIL: UnixSeconds = UnixSeconds(NOW.0 + 60);

#[test]
fn golden_bytes_of_a_ticket() {
    let ticket = ticket(&[1], UNTIL);
    let text = ticket.to_string();
    let bytes = from_base32(text.strip_prefix("consort1").unwrap()).unwrap();
    assert_eq!(bytes[0], 1); // version
    assert_eq!(bytes[1..33], *overlay().0.as_bytes());
    assert_eq!(bytes[33..65], [201; 32]); // the invitation's seed
    assert_eq!(bytes[65..67], 212u16.to_be_bytes()); // two certificates of 105 bytes
    let chain = Chain::decode(&bytes[67..279]).unwrap();
    assert_eq!(chain.holder(), ticket.invitation());
    let mut addresses = vec![2, 4, 10, 0, 0, 1, 0x0f, 0xa1, 6];
    addresses.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x0f, 0xa1]);
    assert_eq!(bytes[279..306], addresses);
    assert_eq!(bytes[306..], blake3::hash(&bytes[..306]).as_bytes()[..4]);
    assert_eq!(text.len(), 8 + 496);
}

#[test]
fn a_ticket_survives_its_string_and_names_its_inviter() {
    let ticket = ticket(&[1, 2], UNTIL);
    let read: Ticket = format!("  {ticket}\n").parse().unwrap();
    assert_eq!(read, ticket);
    assert_eq!(read.inviter(), key(2).host().unwrap());
    assert_eq!(read.overlay(), overlay());
    assert_eq!(read.until(), Some(UNTIL));
    assert_eq!(read.verify(NOW), Ok(()));
    let upper: Ticket = format!("consort1{}", ticket.to_string()[8..].to_uppercase()).parse().unwrap();
    assert_eq!(upper, ticket);
}

#[test]
fn an_expired_ticket_says_so() {
    let refused = ticket(&[1], UNTIL).verify(UNTIL);
    assert_eq!(refused, Err(TicketError::Refused(ChainRefusal::Expired { until: UNTIL })));
}

#[test]
fn a_string_that_is_something_else_says_so() {
    assert_eq!("hello".parse::<Ticket>(), Err(TicketError::NotATicket));
    assert_eq!("consort1".parse::<Ticket>(), Err(TicketError::Damaged));
    assert_eq!("consort1!!!!".parse::<Ticket>(), Err(TicketError::Damaged));
    assert_eq!("a".repeat(TICKET_CHARS_MAX + 1).parse::<Ticket>(), Err(TicketError::Damaged));
}

/// Changed content with a checksum made to fit: a forgery, not a typing error.
#[test]
fn forged_content_is_seen_behind_a_right_checksum() {
    let genuine = ticket(&[1], UNTIL);
    let forge = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut body = genuine.encode().to_vec();
        body.truncate(body.len() - CHECKSUM_BYTES);
        change(&mut body);
        let checksum = blake3::hash(&body);
        body.extend(&checksum.as_bytes()[..CHECKSUM_BYTES]);
        format!("{PREFIX}{}", base32(&body)).parse::<Ticket>().and_then(|ticket| ticket.verify(NOW))
    };
    assert_eq!(forge(&|_| {}), Ok(()));
    assert_eq!(forge(&|body| body[33] ^= 1), Err(TicketError::Forged), "another seed");
    assert_eq!(forge(&|body| body[1] ^= 1), Err(ChainRefusal::Signature { at: 0 }.into()), "another overlay");
    // The end of the invitation: version, count, 105 bytes, kind, subject, issued.
    let until = 67 + 2 + 105 + 1 + 32 + 4;
    assert_eq!(
        forge(&|body| body[until + 3] ^= 1),
        Err(ChainRefusal::Signature { at: 1 }.into()),
        "another end"
    );
    assert_eq!(forge(&|body| body.push(0)), Err(TicketError::Malformed));
    assert_eq!(forge(&|body| body[0] = 2), Err(TicketError::Malformed));
}

#[test]
fn a_ticket_does_not_print_its_secret() {
    let printed = format!("{:?}", ticket(&[1], UNTIL));
    assert!(!printed.contains("201"), "{printed}");
    assert!(printed.contains(&ticket(&[1], UNTIL).invitation().to_string()));
}

#[test]
fn a_member_at_full_depth_cannot_invite() {
    let members: Vec<u8> = (1..=16).collect();
    let refused = Ticket::issue(
        &crate::testing::pair(16),
        overlay(),
        &chain(&members),
        [1; 32],
        NOW,
        UNTIL,
        Vec::new(),
    );
    assert_eq!(refused, Err(TooDeep));
    let longest = ticket(&members[..15], NOW.after(Duration::from_secs(1)));
    assert!(longest.to_string().len() <= TICKET_CHARS_MAX);
    assert_eq!(longest.to_string().parse::<Ticket>(), Ok(longest));
}

proptest! {
    /// One character changed, or some missing: never a ticket.
    #[test]
    fn typing_errors_are_found(at in 8usize..504, replacement in "[a-z2-7]", cut in 0usize..504) {
        let text = ticket(&[1], UNTIL).to_string();
        let mut changed = text.clone();
        changed.replace_range(at..=at, &replacement);
        prop_assert!(changed == text || changed.parse::<Ticket>().is_err());
        prop_assert!(text[..cut].parse::<Ticket>().is_err());
    }
}
