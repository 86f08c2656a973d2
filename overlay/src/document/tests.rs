use super::{set::REFUSED_MAX, *};
use crate::{
    membership::Revocations,
    testing::{NOW, document, key, overlay, pair, revocation},
};

const KIND: &str = "test/kind";

fn check(body: &[u8]) -> Result<(), String> {
    if body.starts_with(b"bad") { Err("it starts with \"bad\"".to_owned()) } else { Ok(()) }
}

fn set() -> Documents {
    Documents::new(vec![DocumentKind { name: KIND, check }])
}

fn take(set: &mut Documents, document: Document) -> Result<TakenDocument, DocumentRefusal> {
    set.take(overlay(), document, NOW, &Revocations::default())
}

fn operators(version: u64, keys: &[u8]) -> Document {
    let keys: Vec<Key> = keys.iter().map(|number| key(*number)).collect();
    Document::issue(&pair(0), overlay(), OPERATORS, version, NOW, encode_operators(&keys))
}

const NEW: TakenDocument = TakenDocument::New { void: Vec::new() };

#[test]
fn the_bytes_have_one_form() {
    let bytes = document(0, 0x0102, b"body").encode();
    let mut expected = vec![1, 9];
    expected.extend(b"test/kind");
    expected.extend([0, 0, 0, 0, 0, 0, 1, 2]); // version
    expected.extend(NOW.0.to_be_bytes());
    expected.extend(key(0).as_bytes()); // signer
    assert_eq!(bytes[..expected.len()], expected);
    assert_eq!(bytes.len(), expected.len() + 64 + 4);
    assert!(bytes.ends_with(b"body"));
    assert_eq!(Document::decode(&bytes), Ok(document(0, 0x0102, b"body")));
}

#[test]
fn what_is_too_large_or_has_no_kind_is_refused() {
    let mut bytes = document(0, 1, &vec![0; DOCUMENT_BYTES_MAX]).encode();
    assert!(Document::decode(&bytes).is_ok());
    bytes.push(0);
    assert_eq!(Document::decode(&bytes), Err(Malformed));
    let shouting = Document::issue(&pair(0), overlay(), "LOUD", 1, NOW, Vec::new());
    assert_eq!(Document::decode(&shouting.encode()), Err(Malformed));
}

#[test]
fn the_newest_holds_and_an_older_one_changes_nothing() {
    let mut set = set();
    assert_eq!(take(&mut set, document(0, 2, b"two")), Ok(NEW));
    assert_eq!(take(&mut set, document(0, 1, b"one")), Ok(TakenDocument::Stale));
    assert_eq!(take(&mut set, document(0, 2, b"two")), Ok(TakenDocument::Stale));
    assert_eq!(set.get(KIND).unwrap().body(), b"two");
    assert_eq!(take(&mut set, document(0, 3, b"three")), Ok(NEW));
}

#[test]
fn of_two_with_one_version_the_same_wins_in_whichever_order_they_come() {
    let (a, b) = (document(0, 1, b"a"), document(0, 1, b"b"));
    let (mut one, mut other) = (set(), set());
    for document in [&a, &b] {
        take(&mut one, document.clone()).unwrap();
    }
    for document in [&b, &a] {
        take(&mut other, document.clone()).unwrap();
    }
    assert_eq!(one.get(KIND), other.get(KIND));
    assert_eq!(one.digest(), other.digest());
}

#[test]
fn only_the_overlay_key_and_operators_are_heard() {
    let mut set = set();
    assert_eq!(take(&mut set, document(5, 1, b"x")), Err(DocumentRefusal::Authority(key(5))));
    assert_eq!(take(&mut set, operators(1, &[5])), Ok(NEW));
    assert_eq!(take(&mut set, document(5, 1, b"x")), Ok(NEW));
    // An operator makes no operators.
    let list = Document::issue(&pair(5), overlay(), OPERATORS, 2, NOW, encode_operators(&[key(6)]));
    assert_eq!(take(&mut set, list), Err(DocumentRefusal::Authority(key(5))));
}

#[test]
fn what_an_operator_said_is_void_when_it_is_none_any_more() {
    let mut set = set();
    take(&mut set, operators(1, &[5])).unwrap();
    take(&mut set, document(5, 1, b"x")).unwrap();
    let void = TakenDocument::New { void: vec![KIND.to_owned()] };
    assert_eq!(take(&mut set, operators(2, &[])), Ok(void));
    assert_eq!(set.get(KIND), None);

    take(&mut set, operators(3, &[5])).unwrap();
    take(&mut set, document(5, 1, b"x")).unwrap();
    let mut revocations = Revocations::default();
    revocations.take(overlay(), revocation(1, &[1, 5])).unwrap();
    assert_eq!(set.drop_void(overlay(), &revocations), [KIND]);
    let refused = set.take(overlay(), document(5, 2, b"y"), NOW, &revocations);
    assert_eq!(refused, Err(DocumentRefusal::Authority(key(5))));
}

#[test]
fn a_forged_a_future_and_an_unknown_one_are_refused() {
    let mut set = set();
    let mut forged = document(0, 1, b"x");
    forged.body = b"y".to_vec();
    assert_eq!(take(&mut set, forged), Err(DocumentRefusal::Signature));
    let later = NOW.after(crate::CLOCK_SKEW_MAX * 2);
    let future = Document::issue(&pair(0), overlay(), KIND, 1, later, Vec::new());
    assert_eq!(take(&mut set, future), Err(DocumentRefusal::NotYet(later)));
    let unknown = Document::issue(&pair(0), overlay(), "other", 1, NOW, Vec::new());
    assert_eq!(take(&mut set, unknown), Err(DocumentRefusal::Kind));
}

#[test]
fn a_bad_body_is_refused_with_its_reason_and_not_wanted_again() {
    let (mut here, mut there) = (set(), Documents::new(vec![DocumentKind { name: KIND, check: |_| Ok(()) }]));
    take(&mut here, document(0, 1, b"good")).unwrap();
    take(&mut there, document(0, 2, b"bad")).unwrap();
    let (held, unwanted) = here.tags();
    let offered = there.lacking(&held, &unwanted);
    assert_eq!(offered.len(), 1);
    let refused = take(&mut here, (*offered[0]).clone());
    assert_eq!(refused, Err(DocumentRefusal::Content("it starts with \"bad\"".to_owned())));
    assert_eq!(here.get(KIND).unwrap().body(), b"good", "what held before holds on");
    let (held, unwanted) = here.tags();
    assert!(there.lacking(&held, &unwanted).is_empty());
    assert!(!here.lacks(&there.tags().0));
    for version in 3..40 {
        take(&mut here, document(0, version, b"bad")).unwrap_err();
    }
    assert_eq!(here.tags().1.len(), REFUSED_MAX);
}

#[test]
fn a_stored_set_comes_back_with_the_operators_first() {
    let mut before = set();
    take(&mut before, operators(1, &[5])).unwrap();
    take(&mut before, document(5, 1, b"x")).unwrap();
    let mut stored: Vec<Document> = before.iter().map(|document| (**document).clone()).collect();
    for _ in 0..2 {
        stored.reverse();
        let text = serde_json::to_string(&stored).unwrap();
        let mut after = set();
        after.restore(overlay(), serde_json::from_str(&text).unwrap(), NOW, &Revocations::default());
        assert_eq!(after.digest(), before.digest());
    }
}
