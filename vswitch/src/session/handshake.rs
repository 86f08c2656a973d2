//! Noise_IKpsk2 between two hosts, as values: bytes in, bytes and a session out.
//!
//! The prologue binds the protocol's name and version; the pre-shared key the overlay. Ephemeral keys come from the caller's
//! entropy, so that a seed decides everything in a simulation.

use std::{fmt, time::Instant};

use snow::{
    Builder, HandshakeState,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{BoxedCryptoResolver, CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::{Zeroize, Zeroizing};

use super::{
    Costs, PublicKey, Session, SharedSecret, StaticSecret, Suite,
    cipher::Aead,
    transport::{Parts, Role},
};
use crate::{
    entropy::Entropy,
    switch::PeerIndex,
    wire::{
        HELLO_BYTES, Hello, INITIATION_NOISE_BYTES, Initiation, RESPONSE_NOISE_BYTES, Response,
        WELCOME_BYTES, Welcome, array_at,
    },
};

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"consort link v1";

/// What this host is in every handshake.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) secret: StaticSecret,
    pub(crate) shared: SharedSecret,
    pub(crate) instance: [u8; 8],
    pub(crate) costs: Costs,
}

/// An initiation under way.
pub(crate) struct Initiator {
    noise: HandshakeState,
    index: u32,
    costs: Costs,
}

/// What the response to an initiation made.
#[derive(Debug)]
pub(crate) struct InitiatorReady {
    pub(crate) session: Session,
    pub(crate) instance: [u8; 8],
}

/// A first message that was opened: who sent it, and what he says. Nothing is kept until it is answered.
pub(crate) struct Received {
    noise: HandshakeState,
    remote_index: u32,
    pub(crate) peer: PublicKey,
    pub(crate) hello: Hello,
}

/// The peer's message does not open, or says what cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the message was not made for this host and overlay, or was changed")]
    Forged,
    #[error("the two hosts have no cipher in common")]
    NoCommonSuite,
}

impl Initiator {
    /// Begins a handshake with a peer; `index` is what the peer shall address us by.
    pub(crate) fn start(
        identity: &Identity,
        peer: &PublicKey,
        index: u32,
        timestamp: u64,
        entropy: &mut Entropy,
    ) -> (Self, [u8; crate::wire::INITIATION_BYTES]) {
        let mut noise = builder(identity, entropy)
            .remote_public_key(&peer.0)
            .and_then(Builder::build_initiator)
            .expect("all that IKpsk2 needs of an initiator is given");
        let hello = Hello { timestamp, instance: identity.instance, costs: identity.costs.0 };
        let mut message = [0; INITIATION_NOISE_BYTES];
        let len =
            noise.write_message(&hello.encode(), &mut message).expect("the buffer has the message's length");
        debug_assert_eq!(len, message.len(), "the length of IK's first message is fixed");
        (Self { noise, index, costs: identity.costs }, Initiation::encode(index, &message))
    }

    /// Finishes the handshake. On an error the initiation goes on waiting: a forged response changes nothing.
    pub(crate) fn finish(
        &mut self,
        response: &Response<'_>,
        peer: PeerIndex,
        now: Instant,
        refuse_datagrams: u64,
    ) -> Result<InitiatorReady, HandshakeError> {
        let mut payload = [0; WELCOME_BYTES];
        match self.noise.read_message(response.noise(), &mut payload) {
            Ok(WELCOME_BYTES) => {}
            _ => return Err(HandshakeError::Forged),
        }
        let welcome = Welcome::parse(&payload);
        let suite = Suite::from_number(welcome.suite)
            .filter(|suite| self.costs.offers(*suite))
            .ok_or(HandshakeError::NoCommonSuite)?;
        let parts = split(&mut self.noise, Role::Initiator, suite, self.index, response.sender());
        let session = Session::new(parts, peer, now, refuse_datagrams);
        Ok(InitiatorReady { session, instance: welcome.instance })
    }
}

impl Received {
    /// Opens a first message: two Diffie-Hellman products.
    pub(crate) fn open(
        identity: &Identity,
        initiation: &Initiation<'_>,
        entropy: &mut Entropy,
    ) -> Result<Self, HandshakeError> {
        let mut noise = builder(identity, entropy)
            .build_responder()
            .expect("all that IKpsk2 needs of a responder is given");
        let mut payload = [0; HELLO_BYTES];
        match noise.read_message(initiation.noise(), &mut payload) {
            Ok(HELLO_BYTES) => {}
            _ => return Err(HandshakeError::Forged),
        }
        let peer = noise.get_remote_static().filter(|key| key.len() == 32).ok_or(HandshakeError::Forged)?;
        let peer = PublicKey(array_at(peer, 0));
        Ok(Self { noise, remote_index: initiation.sender(), peer, hello: Hello::parse(&payload) })
    }

    /// Answers it: the datagram, and the session that waits for the first sealed one.
    pub(crate) fn answer(
        mut self,
        identity: &Identity,
        peer: PeerIndex,
        index: u32,
        now: Instant,
        refuse_datagrams: u64,
    ) -> Result<(Session, [u8; crate::wire::RESPONSE_BYTES]), HandshakeError> {
        let suite = identity.costs.choose(Costs(self.hello.costs)).ok_or(HandshakeError::NoCommonSuite)?;
        let welcome = Welcome { instance: identity.instance, suite: suite as u8, features: 0 };
        let mut message = [0; RESPONSE_NOISE_BYTES];
        // An ephemeral key of small order makes the product zero, which snow refuses.
        let len =
            self.noise.write_message(&welcome.encode(), &mut message).map_err(|_| HandshakeError::Forged)?;
        debug_assert_eq!(len, message.len(), "the length of IK's second message is fixed");
        let parts = split(&mut self.noise, Role::Responder, suite, index, self.remote_index);
        let session = Session::new(parts, peer, now, refuse_datagrams);
        Ok((session, Response::encode(index, self.remote_index, &message)))
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator").field("index", &self.index).finish_non_exhaustive()
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("peer", &self.peer).finish_non_exhaustive()
    }
}

fn builder<'a>(identity: &'a Identity, entropy: &mut Entropy) -> Builder<'a> {
    let resolver: BoxedCryptoResolver = Box::new(SeededResolver { seed: Zeroizing::new(entropy.array()) });
    Builder::with_resolver(PATTERN.parse().expect("the pattern's name is right"), resolver)
        .local_private_key(identity.secret.bytes())
        .and_then(|builder| builder.psk(2, identity.shared.bytes()))
        .and_then(|builder| builder.prologue(PROLOGUE))
        .expect("each parameter is given once")
}

fn split(noise: &mut HandshakeState, role: Role, suite: Suite, local_index: u32, remote_index: u32) -> Parts {
    let (mut from_initiator, mut from_responder) = noise.dangerously_get_raw_split();
    let (seal, open) = match role {
        Role::Initiator => (&from_initiator, &from_responder),
        Role::Responder => (&from_responder, &from_initiator),
    };
    let parts = Parts {
        role,
        suite,
        local_index,
        remote_index,
        seal: Aead::new(suite, seal),
        open: Aead::new(suite, open),
    };
    from_initiator.zeroize();
    from_responder.zeroize();
    parts
}

/// snow's own primitives with our randomness.
struct SeededResolver {
    seed: Zeroizing<[u8; 32]>,
}

impl CryptoResolver for SeededResolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Seeded(Entropy::new(*self.seed))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Seeded(Entropy);

impl Random for Seeded {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill(dest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{testing, wire::Datagram};

    struct Two {
        a: Identity,
        b: Identity,
        entropy: Entropy,
    }

    impl Two {
        fn new() -> Self {
            Self { a: testing::identity(1), b: testing::identity(2), entropy: Entropy::new([3; 32]) }
        }

        fn start(&mut self) -> (Initiator, Vec<u8>) {
            let (initiator, datagram) =
                Initiator::start(&self.a, &self.b.secret.public(), 11, 5, &mut self.entropy);
            (initiator, datagram.to_vec())
        }

        fn open(&mut self, datagram: &[u8]) -> Result<Received, HandshakeError> {
            let Ok(Datagram::Initiation(initiation)) = Datagram::parse(datagram) else {
                panic!("no initiation")
            };
            Received::open(&self.b, &initiation, &mut self.entropy)
        }

        fn answer(&self, received: Received) -> Result<(Session, Vec<u8>), HandshakeError> {
            let (session, datagram) =
                received.answer(&self.b, testing::peer(1), 22, testing::now(), u64::MAX)?;
            Ok((session, datagram.to_vec()))
        }
    }

    fn finish(initiator: &mut Initiator, datagram: &[u8]) -> Result<InitiatorReady, HandshakeError> {
        let Ok(Datagram::Response(response)) = Datagram::parse(datagram) else { panic!("no response") };
        initiator.finish(&response, testing::peer(2), testing::now(), u64::MAX)
    }

    #[test]
    fn both_ends_know_each_other_and_choose_one_suite() {
        let mut two = Two::new();
        let (mut initiator, datagram) = two.start();
        let received = two.open(&datagram).unwrap();
        assert_eq!((received.peer, received.hello.timestamp), (two.a.secret.public(), 5));
        assert_eq!(received.hello.instance, two.a.instance);
        let (session, datagram) = two.answer(received).unwrap();
        let ready = finish(&mut initiator, &datagram).unwrap();
        assert_eq!(ready.instance, two.b.instance);
        assert_eq!((ready.session.suite(), session.suite()), (Suite::Aes128Gcm, Suite::Aes128Gcm));
        assert_eq!((ready.session.role(), session.role()), (Role::Initiator, Role::Responder));
        assert!(session.unproved() && !ready.session.unproved());
    }

    #[test]
    fn another_overlay_another_host_and_changed_bytes_are_refused() {
        let mut two = Two::new();
        two.b.shared = SharedSecret::new([8; 32]);
        let (mut initiator, datagram) = two.start();
        let received = two.open(&datagram).unwrap();
        let (_, datagram) = two.answer(received).unwrap();
        assert_eq!(finish(&mut initiator, &datagram).unwrap_err(), HandshakeError::Forged, "another overlay");
        let mut two = Two::new();
        let (_, datagram) = two.start();
        two.b = testing::identity(3);
        assert_eq!(two.open(&datagram).unwrap_err(), HandshakeError::Forged, "another host");
        let mut two = Two::new();
        let (_, datagram) = two.start();
        for at in 8..8 + INITIATION_NOISE_BYTES {
            let mut changed = datagram.clone();
            changed[at] ^= 1;
            assert!(two.open(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_forged_response_leaves_the_initiation_waiting() {
        let mut two = Two::new();
        let (mut initiator, datagram) = two.start();
        let received = two.open(&datagram).unwrap();
        let (_, datagram) = two.answer(received).unwrap();
        for at in 12..12 + RESPONSE_NOISE_BYTES {
            let mut forged = datagram.clone();
            forged[at] ^= 1;
            assert!(finish(&mut initiator, &forged).is_err(), "byte {at}");
        }
        assert!(finish(&mut initiator, &datagram).is_ok());
    }

    #[test]
    fn hosts_without_a_common_suite_say_so() {
        let mut two = Two::new();
        two.a.costs = Costs([0, 0, 1, 0]);
        two.b.costs = Costs([1, 1, 0, 1]);
        let (_, datagram) = two.start();
        let received = two.open(&datagram).unwrap();
        assert_eq!(two.answer(received).unwrap_err(), HandshakeError::NoCommonSuite);
    }
}
