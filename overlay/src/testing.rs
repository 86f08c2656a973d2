//! What this crate's unit tests share: keys by number, chains of members, one genuine sample for each decoder.

use crate::{
    clock::UnixSeconds,
    document::{Document, Tag},
    fuzz,
    identity::{Key, Keypair, OverlayKey, pair_from_seed},
    lan::Service,
    limit::Rate,
    membership::{Chain, LinkSecret, Membership, Revocation, Revocations, Standing, claim},
    protocol::{
        documents,
        member::{Admission, Hello, Proof, Welcome, encode_answer, encode_verdict},
        news::News,
        revocations::answer,
        rpc::RpcProtocol,
    },
    record::{Draft, HostRecord},
    ticket::Ticket,
    view::exchange::{self, Exchange},
};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use std::sync::Arc;

/// A time in 2026.
pub(crate) const NOW: UnixSeconds = UnixSeconds(1_795_000_000);

pub(crate) fn seeded(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// The same number, the same key pair.
pub(crate) fn pair(n: u8) -> Keypair {
    pair_from_seed(&[n; 32])
}

pub(crate) fn key(n: u8) -> Key {
    Key::of(&pair(n))
}

/// The overlay of all tests; its pair is number 0.
pub(crate) fn overlay() -> OverlayKey {
    OverlayKey(key(0))
}

/// A chain of members: each number's key admitted by the one before it, the first by the overlay key.
pub(crate) fn chain(members: &[u8]) -> Chain {
    let mut chain = Chain::found(&pair(0), key(members[0]), NOW);
    for two in members.windows(2) {
        let standing = Standing::Member { invitation: Some(key(200)) };
        chain = chain.extended(&pair(two[0]), overlay(), key(two[1]), standing, NOW, None).unwrap();
    }
    chain
}

pub(crate) fn membership(members: &[u8]) -> Membership {
    Membership {
        overlay: overlay(),
        chain: chain(members),
        link_secret: LinkSecret::new([9; 32]),
        overlay_seed: None,
    }
}

pub(crate) fn ticket(inviters: &[u8], until: UnixSeconds) -> Ticket {
    let inviter = pair(*inviters.last().unwrap());
    let addresses = vec!["10.0.0.1:4001".parse().unwrap(), "[2001:db8::1]:4001".parse().unwrap()];
    Ticket::issue(&inviter, overlay(), &chain(inviters), [201; 32], NOW, until, addresses).unwrap()
}

pub(crate) fn record(members: &[u8], sequence: u64) -> HostRecord {
    let draft = Draft {
        sequence,
        issued: NOW,
        addresses: &["10.0.0.1:4001".parse().unwrap()],
        relays: &[key(1).host().unwrap()],
        payload: b"payload",
        chain: &chain(members),
    };
    HostRecord::issue(&pair(*members.last().unwrap()), overlay(), &draft)
}

pub(crate) fn revocation(signer: u8, evidence: &[u8]) -> Revocation {
    Revocation::issue(&pair(signer), overlay(), chain(evidence), NOW)
}

/// A document by the key of that number.
pub(crate) fn document(signer: u8, version: u64, body: &[u8]) -> Document {
    Document::issue(&pair(signer), overlay(), "test/kind", version, NOW, body.to_vec())
}

pub(crate) const ECHO: RpcProtocol = RpcProtocol {
    name: "p",
    request_bytes_max: 64,
    response_bytes_max: 64,
    rate: Rate { per_second: 1, burst: 1 },
};

/// One of [`fuzz`]'s entries, and genuine bytes for it.
pub(crate) type Sample = (fn(&[u8]), Vec<u8>);

pub(crate) fn samples() -> Vec<Sample> {
    let until = NOW.after(std::time::Duration::from_secs(60));
    let invitation = ticket(&[1], until);
    let claim = claim(&invitation.invitation_pair(), overlay(), key(2));
    let hello = |proof| Hello { overlay: overlay(), session: 7, proof }.encode();
    let admission = Admission { chain: chain(&[1, 2]), link_secret: LinkSecret::new([9; 32]) };
    let welcome = |admission| encode_answer(&Ok(Welcome { session: 7, chain: chain(&[1]), admission }));
    let mut set = Revocations::default();
    set.take(overlay(), revocation(1, &[1, 2])).unwrap();
    let tag = Tag { kind: "test/kind".into(), version: 1, digest: [1; 16] };
    let question = documents::Question { held: vec![tag], unwanted: vec![[2; 16]] };
    let link = Service::of(OverlayKey(Key::from_bytes([0; 32])));
    let records = [Arc::new(record(&[1], 1)), Arc::new(record(&[1, 2], 1))];
    let held = records.iter().map(|record| exchange::Tag::of(record)).collect();
    vec![
        (fuzz::chain, chain(&[1, 2, 3]).encode()),
        (fuzz::ticket, invitation.to_string().into_bytes()),
        (fuzz::record, record(&[1, 2], 3).bytes().to_vec()),
        (fuzz::revocation, revocation(1, &[1, 2]).encode()),
        (fuzz::revocation, News::Revocation(revocation(1, &[1, 2])).encode()),
        (fuzz::revocation, answer(&set, &[0, 0]).unwrap()),
        (fuzz::member, hello(Proof::Member(chain(&[1])))),
        (fuzz::member, hello(Proof::Newcomer { claim, invitation: invitation.chain().clone() })),
        (fuzz::member, welcome(None)),
        (fuzz::member, welcome(Some(admission))),
        (fuzz::member, encode_verdict(Ok(()))),
        (fuzz::exchange, Exchange::new([1; 16], [2; 16], held, &records).encode()),
        (fuzz::document, document(0, 1, b"body").encode()),
        (fuzz::document, question.encode()),
        (fuzz::document, documents::encode_answer(&[Arc::new(document(0, 1, b"body"))])),
        (fuzz::link, link.question()),
        (fuzz::link, link.answer([7; 8], key(1), &["10.0.0.1:4001".parse().unwrap()])),
        (fuzz::rpc, [b"\x01p".as_slice(), &[0, 0, 0, 3], b"abc"].concat()),
    ]
}
