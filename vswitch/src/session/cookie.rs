//! mac1, mac2 and the cookie: what stands before any public-key work.
//!
//! - *mac1* is a keyed hash under the responder's public key. Whoever cannot name the host costs it one hash.
//! - *mac2* is a keyed hash under a cookie, which the responder gave to the address the message comes from. It is asked for only
//!   under load: more first messages than [`CALM_PER_SECOND`] in a second.
//! - With the cookie, each address may still send only [`PER_ADDRESS_PER_SECOND`].
//!
//! The cookie is a keyed hash of the address under a secret that changes every [`COOKIE_LIFE`] and is kept for one more, so nothing
//! is stored per address to give one. It travels sealed under a key that only who knows the public key can derive, bound to the
//! mac1 it answers, so that nobody beside the path can hand a false cookie to an initiator.
//!
//! Source: WireGuard paper sections 5.3 and 5.4.7. BLAKE3 is the keyed hash; a random salt in the key's derivation replaces
//! XChaCha20's long nonce.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::PublicKey;
use crate::{
    entropy::Entropy,
    wire::{COOKIE_REPLY_BYTES, CookieReply, MAC_BYTES, array_at},
};

/// First messages in a second that are simply worked on. Each costs about 0.2 ms: a tenth of one core at most.
pub(crate) const CALM_PER_SECOND: u32 = 500;
/// First messages a second from one address (IPv6: one /64) under load.
const PER_ADDRESS_PER_SECOND: u32 = 20;
/// Addresses that are counted at once under load; more are refused until the next second. 64 KiB.
const ADDRESSES_MAX: usize = 2048;
/// How long a secret makes cookies.
const COOKIE_LIFE: Duration = Duration::from_secs(120);

type Mac = [u8; MAC_BYTES];
type Cookie = [u8; 16];

/// The guard of a host against first messages.
#[derive(Debug)]
pub(crate) struct Cookies {
    mac1_key: [u8; 32],
    seal_base: PublicKey,
    secret: Zeroizing<[u8; 32]>,
    previous: Zeroizing<[u8; 32]>,
    renewed: Instant,
    entropy: Entropy,
    second: Instant,
    in_second: u32,
    addresses: HashMap<IpAddr, u32>,
    calm_per_second: u32,
}

/// What is to be done with a handshake message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Work on it.
    Proceed,
    /// mac1 is wrong: it is not for us.
    Foreign,
    /// We are under load: send this and forget it.
    ProveAddress([u8; COOKIE_REPLY_BYTES]),
    /// The address has had its share.
    TooMany,
}

impl Cookies {
    pub(crate) fn new(own: PublicKey, mut entropy: Entropy, calm_per_second: u32, now: Instant) -> Self {
        Self {
            mac1_key: mac1_key(&own),
            seal_base: own,
            secret: Zeroizing::new(entropy.array()),
            previous: Zeroizing::new(entropy.array()),
            renewed: now,
            entropy,
            second: now,
            in_second: 0,
            addresses: HashMap::new(),
            calm_per_second,
        }
    }

    /// Judges a handshake message whose two macs are its last bytes and whose sender index is `index`.
    pub(crate) fn judge(&mut self, now: Instant, from: SocketAddr, index: u32, message: &[u8]) -> Judgement {
        let (body, macs) = message.split_at(message.len() - 2 * MAC_BYTES);
        let (mac1, mac2) = (array_at::<MAC_BYTES>(macs, 0), array_at::<MAC_BYTES>(macs, MAC_BYTES));
        if !equal(&mac(&self.mac1_key, body), &mac1) {
            return Judgement::Foreign;
        }
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.in_second = 0;
            self.addresses.clear();
        }
        self.in_second = self.in_second.saturating_add(1);
        if self.in_second <= self.calm_per_second {
            return Judgement::Proceed;
        }
        self.renew(now);
        let covered = &message[..message.len() - MAC_BYTES];
        let proved = [&self.secret, &self.previous]
            .into_iter()
            .any(|secret| equal(&mac(&mac2_key(&cookie(secret, from)), covered), &mac2));
        if !proved {
            return Judgement::ProveAddress(self.reply(from, index, &mac1));
        }
        let address = subscriber(from.ip());
        if self.addresses.len() >= ADDRESSES_MAX && !self.addresses.contains_key(&address) {
            return Judgement::TooMany;
        }
        let count = self.addresses.entry(address).or_default();
        *count += 1;
        if *count > PER_ADDRESS_PER_SECOND { Judgement::TooMany } else { Judgement::Proceed }
    }

    fn renew(&mut self, now: Instant) {
        if now.saturating_duration_since(self.renewed) >= COOKIE_LIFE {
            self.previous = std::mem::replace(&mut self.secret, Zeroizing::new(self.entropy.array()));
            self.renewed = now;
        }
    }

    fn reply(&mut self, to: SocketAddr, index: u32, mac1: &Mac) -> [u8; COOKIE_REPLY_BYTES] {
        let salt = self.entropy.array();
        let mut sealed = [0; 32];
        let (text, place) = sealed.split_at_mut(16);
        text.copy_from_slice(&cookie(&self.secret, to));
        let tag = seal_key(&self.seal_base, &salt)
            .seal_in_place_separate_tag(once(), Aad::from(mac1), text)
            .expect("sixteen bytes are below any limit");
        place.copy_from_slice(tag.as_ref());
        CookieReply::encode(index, &salt, &sealed)
    }
}

/// What an initiator (or responder) knows of one peer's cookies.
#[derive(Debug, Default)]
pub(crate) struct CookieJar {
    cookie: Option<(Cookie, Instant)>,
    last_mac1: Option<Mac>,
}

impl CookieJar {
    /// Writes both macs of a message to this peer.
    pub(crate) fn stamp(&mut self, now: Instant, peer: &PublicKey, message: &mut [u8]) {
        let (mac1_at, mac2_at) = (message.len() - 2 * MAC_BYTES, message.len() - MAC_BYTES);
        let mac1 = mac(&mac1_key(peer), &message[..mac1_at]);
        message[mac1_at..mac2_at].copy_from_slice(&mac1);
        self.last_mac1 = Some(mac1);
        if let Some((cookie, received)) = &self.cookie
            && now.saturating_duration_since(*received) < COOKIE_LIFE
        {
            let mac2 = mac(&mac2_key(cookie), &message[..mac2_at]);
            message[mac2_at..].copy_from_slice(&mac2);
        }
    }

    /// Takes a cookie that answers our last message; false if it does not.
    pub(crate) fn take(&mut self, now: Instant, peer: &PublicKey, reply: &CookieReply<'_>) -> bool {
        let Some(mac1) = self.last_mac1 else { return false };
        let mut sealed = reply.sealed();
        if seal_key(peer, &reply.salt()).open_in_place(once(), Aad::from(&mac1), &mut sealed).is_err() {
            return false;
        }
        self.cookie = Some((array_at(&sealed, 0), now));
        // One message is answered by one cookie.
        self.last_mac1 = None;
        true
    }
}

fn mac1_key(of: &PublicKey) -> [u8; 32] {
    blake3::derive_key("consort link v1 mac1", &of.0)
}

fn mac2_key(cookie: &Cookie) -> [u8; 32] {
    blake3::derive_key("consort link v1 mac2", cookie)
}

fn seal_key(of: &PublicKey, salt: &[u8]) -> LessSafeKey {
    let mut hasher = blake3::Hasher::new_derive_key("consort link v1 cookie");
    hasher.update(&of.0).update(salt);
    let key = Zeroizing::new(*hasher.finalize().as_bytes());
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &*key).expect("the key has 32 bytes"))
}

/// The nonce of a key that seals once.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn mac(key: &[u8; 32], bytes: &[u8]) -> Mac {
    array_at(blake3::keyed_hash(key, bytes).as_bytes(), 0)
}

fn cookie(secret: &[u8; 32], address: SocketAddr) -> Cookie {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    match address.ip() {
        IpAddr::V4(ip) => hasher.update(&ip.octets()),
        IpAddr::V6(ip) => hasher.update(&ip.octets()),
    };
    hasher.update(&address.port().to_le_bytes());
    array_at(hasher.finalize().as_bytes(), 0)
}

/// Who an address is counted as: an IPv6 subscriber has at least a /64.
fn subscriber(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => std::net::Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        },
    }
}

/// In constant time: BLAKE3's hash type compares so.
fn equal(a: &Mac, b: &Mac) -> bool {
    let widen = |mac: &Mac| {
        let mut bytes = [0; 32];
        bytes[..MAC_BYTES].copy_from_slice(mac);
        blake3::Hash::from_bytes(bytes)
    };
    widen(a) == widen(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        session::StaticSecret,
        testing,
        wire::{Datagram, INITIATION_BYTES, INITIATION_NOISE_BYTES, Initiation},
    };

    const CALM: u32 = 3;

    fn host() -> (PublicKey, Cookies, Instant) {
        let (own, now) = (StaticSecret::new([1; 32]).public(), testing::now());
        (own, Cookies::new(own, Entropy::new([2; 32]), CALM, now), now)
    }

    fn from(number: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, number], 9))
    }

    fn message(jar: &mut CookieJar, now: Instant, to: &PublicKey) -> [u8; INITIATION_BYTES] {
        let mut message = Initiation::encode(7, &[3; INITIATION_NOISE_BYTES]);
        jar.stamp(now, to, &mut message);
        message
    }

    fn flood(cookies: &mut Cookies, now: Instant, own: &PublicKey) {
        let message = message(&mut CookieJar::default(), now, own);
        for _ in 0..CALM {
            assert_eq!(cookies.judge(now, from(200), 7, &message), Judgement::Proceed);
        }
    }

    fn reply(judgement: Judgement) -> [u8; COOKIE_REPLY_BYTES] {
        let Judgement::ProveAddress(reply) = judgement else { panic!("{judgement:?}") };
        reply
    }

    fn take(jar: &mut CookieJar, now: Instant, own: &PublicKey, bytes: &[u8]) -> bool {
        let Ok(Datagram::CookieReply(reply)) = Datagram::parse(bytes) else { panic!("no cookie reply") };
        assert_eq!(reply.receiver(), 7);
        jar.take(now, own, &reply)
    }

    #[test]
    fn who_does_not_know_the_key_is_refused_also_in_calm() {
        let (own, mut cookies, now) = host();
        let good = message(&mut CookieJar::default(), now, &own);
        for at in 0..INITIATION_BYTES - MAC_BYTES {
            let mut bad = good;
            bad[at] ^= 1;
            assert_eq!(cookies.judge(now, from(1), 7, &bad), Judgement::Foreign, "byte {at}");
        }
        assert_eq!(cookies.judge(now, from(1), 7, &good), Judgement::Proceed);
    }

    #[test]
    fn under_load_an_address_is_proved_by_its_cookie_and_only_there() {
        let (own, mut cookies, now) = host();
        flood(&mut cookies, now, &own);
        let mut jar = CookieJar::default();
        let first = message(&mut jar, now, &own);
        let reply = reply(cookies.judge(now, from(1), 7, &first));
        assert!(take(&mut jar, now, &own, &reply));
        let second = message(&mut jar, now, &own);
        assert!(
            matches!(cookies.judge(now, from(2), 7, &second), Judgement::ProveAddress(_)),
            "another address"
        );
        assert_eq!(cookies.judge(now, from(1), 7, &second), Judgement::Proceed);
    }

    #[test]
    fn a_cookie_answers_one_message_and_cannot_be_forged() {
        let (own, mut cookies, now) = host();
        flood(&mut cookies, now, &own);
        let mut jar = CookieJar::default();
        let sent = message(&mut jar, now, &own);
        let genuine = reply(cookies.judge(now, from(1), 7, &sent));
        for at in 8..COOKIE_REPLY_BYTES {
            let mut forged = genuine;
            forged[at] ^= 1;
            assert!(!take(&mut jar, now, &own, &forged), "byte {at}");
        }
        assert!(take(&mut jar, now, &own, &genuine));
        assert!(!take(&mut jar, now, &own, &genuine), "twice");
        assert!(!take(&mut CookieJar::default(), now, &own, &genuine), "to nothing that was sent");
    }

    #[test]
    fn a_cookie_outlives_one_change_of_the_secret_and_no_more() {
        let (own, mut cookies, start) = host();
        flood(&mut cookies, start, &own);
        let mut jar = CookieJar::default();
        let sent = message(&mut jar, start, &own);
        assert!(take(&mut jar, start, &own, &reply(cookies.judge(start, from(1), 7, &sent))));
        let proved = message(&mut jar, start, &own);
        for (after, expected) in [(1, true), (2, false)] {
            let now = start + COOKIE_LIFE * after;
            flood(&mut cookies, now, &own);
            assert_eq!(
                cookies.judge(now, from(1), 7, &proved) == Judgement::Proceed,
                expected,
                "{after} changes"
            );
        }
    }

    #[test]
    fn also_a_proved_address_has_a_share_only() {
        let (own, mut cookies, now) = host();
        flood(&mut cookies, now, &own);
        let mut jar = CookieJar::default();
        let sent = message(&mut jar, now, &own);
        assert!(take(&mut jar, now, &own, &reply(cookies.judge(now, from(1), 7, &sent))));
        let proved = message(&mut jar, now, &own);
        for _ in 0..PER_ADDRESS_PER_SECOND {
            assert_eq!(cookies.judge(now, from(1), 7, &proved), Judgement::Proceed);
        }
        assert_eq!(cookies.judge(now, from(1), 7, &proved), Judgement::TooMany);
        let (a, b) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        assert_eq!(subscriber(a), subscriber(b), "one subscriber has many IPv6 addresses");
    }
}
