//! What the tests of several rooms need: a moment, hostile bytes, finished sessions.

use std::time::{Duration, Instant};

use crate::{
    entropy::Entropy,
    session::{Costs, Identity, Initiator, PublicKey, Received, Session, SharedSecret, StaticSecret},
    switch::PeerIndex,
    wire::Datagram,
};

/// Some moment, far enough from the clock's beginning to subtract from.
#[expect(clippy::disallowed_methods, reason = "an Instant can be made in no other way; tests only add to it")]
pub(crate) fn now() -> Instant {
    Instant::now() + Duration::from_secs(1_000_000)
}

pub(crate) fn peer(number: u32) -> PeerIndex {
    PeerIndex(number)
}

pub(crate) fn identity(number: u8) -> Identity {
    Identity {
        secret: StaticSecret::new([number; 32]),
        shared: SharedSecret::new([9; 32]),
        instance: [number; 8],
        costs: Costs([200, 100, 300, 150]),
    }
}

/// Two ends of one session: initiator (index 1), responder (index 2).
pub(crate) fn session_pair(refuse_datagrams: u64) -> (Session, Session) {
    let (a, b) = (identity(1), identity(2));
    let mut entropy = Entropy::new([5; 32]);
    let to: PublicKey = b.secret.public();
    let (mut initiator, datagram) = Initiator::start(&a, &to, 1, 1, &mut entropy);
    let Ok(Datagram::Initiation(initiation)) = Datagram::parse(&datagram) else {
        panic!("not an initiation")
    };
    let received = Received::open(&b, &initiation, &mut entropy).unwrap();
    assert_eq!(received.peer, a.secret.public());
    let (responder, datagram) = received.answer(&b, peer(1), 2, now(), refuse_datagrams).unwrap();
    let Ok(Datagram::Response(response)) = Datagram::parse(&datagram) else { panic!("not a response") };
    let ready = initiator.finish(&response, peer(2), now(), refuse_datagrams).unwrap();
    (ready.session, responder)
}

/// A session with this local index.
pub(crate) fn session(index: u32) -> Session {
    let (a, b) = (identity(1), identity(2));
    let mut entropy = Entropy::new([5; 32]);
    let (_, datagram) = Initiator::start(&a, &b.secret.public(), 1, 1, &mut entropy);
    let Ok(Datagram::Initiation(initiation)) = Datagram::parse(&datagram) else {
        panic!("not an initiation")
    };
    let received = Received::open(&b, &initiation, &mut entropy).unwrap();
    received.answer(&b, peer(1), index, now(), u64::MAX).unwrap().0
}

/// Feeds random bytes, and bytes that begin like one of ours, to a decoder.
pub(crate) fn hostile_bytes(rounds: u32, len_max: u32, mut decode: impl FnMut(&[u8])) {
    let mut entropy = Entropy::new([77; 32]);
    for _ in 0..rounds {
        let len = usize::try_from(entropy.below(len_max)).unwrap();
        let mut bytes = vec![0; len];
        entropy.fill(&mut bytes);
        decode(&bytes);
        for (place, byte) in bytes.iter_mut().zip([u8::try_from(entropy.below(12)).unwrap(), 1, 0, 0]) {
            *place = byte;
        }
        decode(&bytes);
    }
}

pub(crate) fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut entropy = Entropy::new(key);
    for i in (1..items.len()).rev() {
        let j = usize::try_from(entropy.below(u32::try_from(i + 1).unwrap())).unwrap();
        items.swap(i, j);
    }
}
