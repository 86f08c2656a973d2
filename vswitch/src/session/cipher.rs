//! The AEAD of a session: which ones there are, which one two hosts use, and sealing, in place or from one place to another.
//!
//! # Provider
//! Measured on an AMD EPYC with VAES, one core, in place, ns per datagram (seal / open; 64 B, 1400 B, 9000 B):
//!
//! | | ring 0.17.14 | aws-lc-rs 1.19.0 |
//! |---|---|---|
//! | AES-256-GCM | 80/91, 271/274, 1119/1114 | 101/104, 274/300, 980/1065 |
//! | AES-128-GCM | 76/91, 243/250, 986/1004 | 94/105, 252/278, 855/940 |
//! | ChaCha20-Poly1305 | 182/179, 726/705, 3469/3599 | 182/186, 733/713, 3481/3609 |
//!
//! ring is faster at the sizes that datagrams have, is in the tree anyway, and builds in seconds; aws-lc-rs would win above 4 KiB only.
//!
//! AEGIS-128L (draft-irtf-cfrg-aegis-aead; its sibling AEGIS-128 is in the final portfolio of CAESAR) is in neither of them. libaegis, by the draft's first
//! author, takes less than a half of AES-GCM's time for a datagram on a computer of the same kind (`consort bench frames` prints all beside each other): it needs
//! AES rounds only, and no second pass for the tag. One key may seal far more than with GCM (the draft's security considerations), and has the same 128 bits
//! as AES-128-GCM's. Without AES instructions it is slow, and so is not chosen.
//!
//! # Choice
//! Each host measures at start what a kilobyte costs it with each suite ([`Costs`]). The initiator offers its costs; the responder
//! takes the suite whose *larger* cost of the two ends is least, so that the slower end decides. AES-128 is as good as AES-256
//! for keys that live for minutes, and is a tenth faster.
//!
//! # Keys
//! Keys are wiped where they are ours. Neither ring nor snow wipes what it derives from them (expanded keys, a handshake's state);
//! they are freed when the session ends, minutes later.
//!
//! Noise's split gives two 32-byte keys; each is run through BLAKE3 with the suite's context, so that no key serves two suites.
//! The nonce is zeros and the counter, little-endian, in its last eight bytes.

use std::{fmt, time::Duration};

use aegis::aegis128l::{Aegis128L, Key as AegisKey};
use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use zeroize::Zeroizing;

use super::one_pass;
use crate::wire::{TAG_BYTES, array_at};

/// The AEADs a session can use; the numbers are those of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Suite {
    /// AES-256 in Galois/counter mode.
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm = 0,
    /// AES-128 in Galois/counter mode.
    #[serde(rename = "aes-128-gcm")]
    Aes128Gcm = 1,
    /// ChaCha20 and Poly1305, RFC 8439.
    #[serde(rename = "chacha20-poly1305")]
    ChaCha20Poly1305 = 2,
    /// AEGIS-128L with tags of 16 bytes, draft-irtf-cfrg-aegis-aead.
    #[serde(rename = "aegis-128l")]
    Aegis128L = 3,
}

/// Suites there are.
pub const SUITES: usize = 4;

impl Suite {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; SUITES] =
        [Self::Aes256Gcm, Self::Aes128Gcm, Self::ChaCha20Poly1305, Self::Aegis128L];

    /// The suite of this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// What seals it.
    pub(crate) fn maker(self) -> Maker {
        match self {
            Self::Aes256Gcm => Maker::Ring(&AES_256_GCM),
            Self::Aes128Gcm => Maker::Ring(&AES_128_GCM),
            Self::ChaCha20Poly1305 => Maker::Ring(&CHACHA20_POLY1305),
            Self::Aegis128L => Maker::Aegis,
        }
    }

    fn context(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "consort link v1 AES-256-GCM",
            Self::Aes128Gcm => "consort link v1 AES-128-GCM",
            Self::ChaCha20Poly1305 => "consort link v1 ChaCha20-Poly1305",
            Self::Aegis128L => "consort link v1 AEGIS-128L",
        }
    }
}

/// The library of a suite.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Maker {
    Ring(&'static Algorithm),
    Aegis,
}

/// What a kilobyte costs this host with each suite, in nanoseconds, in order of [`Suite::ALL`]; 0: not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs(pub [u16; SUITES]);

impl Costs {
    /// Takes each suite's time for some rounds of sealing, as told by `elapsed`, which is called with the work to be timed.
    /// About a millisecond on a current CPU.
    pub fn measure(mut elapsed: impl FnMut(&mut dyn FnMut()) -> Duration) -> Self {
        const ROUNDS: u32 = 64;
        const BYTES: usize = 1024;
        let mut buffer = [0; BYTES + TAG_BYTES];
        Self(Suite::ALL.map(|suite| {
            let key = Aead::new(suite, &[0; 32]);
            // The first round warms up; the lesser of the others is taken, as whatever else runs only adds.
            let nanos = (0..4)
                .map(|_| {
                    elapsed(&mut || {
                        for counter in 0..ROUNDS {
                            key.seal(counter.into(), &mut buffer);
                        }
                    })
                })
                .skip(1)
                .min()
                .unwrap_or_default()
                .as_nanos()
                / u128::from(ROUNDS);
            u16::try_from(nanos).unwrap_or(u16::MAX).max(1)
        }))
    }

    /// The suite for two hosts: the least of the larger costs; none if they have no suite in common.
    pub fn choose(self, other: Self) -> Option<Suite> {
        Suite::ALL
            .into_iter()
            .zip(self.0.into_iter().zip(other.0))
            .filter(|(_, (ours, theirs))| *ours != 0 && *theirs != 0)
            .min_by_key(|(_, (ours, theirs))| *ours.max(theirs))
            .map(|(suite, _)| suite)
    }

    /// Whether this suite is offered.
    pub fn offers(self, suite: Suite) -> bool {
        self.0[suite as usize] != 0
    }
}

/// One direction's key.
pub(crate) struct Aead(Key);

#[expect(
    clippy::large_enum_variant,
    reason = "a session has two; behind a pointer each datagram would have to follow it"
)]
enum Key {
    Ring(LessSafeKey),
    Aegis(Zeroizing<AegisKey>),
}

impl Aead {
    /// The key of one direction, from Noise's split.
    pub(crate) fn new(suite: Suite, split: &[u8; 32]) -> Self {
        let key = Zeroizing::new(blake3::derive_key(suite.context(), split));
        Self(match suite.maker() {
            Maker::Ring(algorithm) => {
                let unbound = UnboundKey::new(algorithm, &key[..algorithm.key_len()])
                    .expect("the key has the length of its algorithm");
                Key::Ring(LessSafeKey::new(unbound))
            }
            Maker::Aegis => {
                one_pass::prepare();
                Key::Aegis(Zeroizing::new(array_at(&*key, 0)))
            }
        })
    }

    /// Seals all but the last [`TAG_BYTES`] of the buffer, and writes the tag there.
    #[inline]
    pub(crate) fn seal(&self, counter: u64, buffer: &mut [u8]) {
        let (text, place) = buffer.split_at_mut(buffer.len() - TAG_BYTES);
        match &self.0 {
            Key::Ring(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce(counter));
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::empty(), text)
                    .expect("a datagram is shorter than any AEAD's limit");
                place.copy_from_slice(tag.as_ref());
            }
            Key::Aegis(key) => {
                let state = Aegis128L::<TAG_BYTES>::new(key, &nonce(counter));
                place.copy_from_slice(&state.encrypt_in_place(text, &[]));
            }
        }
    }

    /// Seals `text` into `sealed`, which is longer by [`TAG_BYTES`]: the same as copying it there and [sealing](Self::seal) it.
    #[inline]
    pub(crate) fn seal_from(&self, counter: u64, text: &[u8], sealed: &mut [u8]) {
        match &self.0 {
            Key::Ring(_) => {
                sealed[..text.len()].copy_from_slice(text);
                self.seal(counter, sealed);
            }
            Key::Aegis(key) => one_pass::seal_from(key, &nonce(counter), text, sealed),
        }
    }

    /// Opens the buffer in place; the text is all but the last [`TAG_BYTES`]. False if it was not sealed with this key and counter.
    #[inline]
    pub(crate) fn open(&self, counter: u64, buffer: &mut [u8]) -> bool {
        match &self.0 {
            Key::Ring(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce(counter));
                key.open_in_place(nonce, Aad::empty(), buffer).is_ok()
            }
            Key::Aegis(key) => {
                let Some((text, tag)) = buffer.split_last_chunk_mut() else { return false };
                let state = Aegis128L::<TAG_BYTES>::new(key, &nonce(counter));
                state.decrypt_in_place(text, tag, &[]).is_ok()
            }
        }
    }
}

impl fmt::Debug for Aead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aead(..)")
    }
}

/// As long as the suite has it.
#[inline]
fn nonce<const BYTES: usize>(counter: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[BYTES - 8..].copy_from_slice(&counter.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_suite_seals_what_it_opens_and_nothing_else() {
        for suite in Suite::ALL {
            let key = Aead::new(suite, &[3; 32]);
            let mut sealed = *b"some text and its tag: 0123456789abcdef";
            key.seal(7, &mut sealed);
            let whole = sealed;
            assert_ne!(&whole[..9], b"some text");
            assert!(!key.open(8, &mut sealed.clone()), "another counter");
            assert!(!Aead::new(suite, &[4; 32]).open(7, &mut sealed.clone()), "another key");
            for bit in 0..whole.len() * 8 {
                let mut flipped = whole;
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(!key.open(7, &mut flipped), "bit {bit}");
            }
            assert!(key.open(7, &mut sealed));
            assert_eq!(&sealed[..9], b"some text");
        }
    }

    #[test]
    fn sealed_from_elsewhere_is_sealed_in_place() {
        let text: Vec<u8> = (0..=255).cycle().take(9000).collect();
        for suite in Suite::ALL {
            let key = Aead::new(suite, &[3; 32]);
            for bytes in (0..140).chain([1399, 1400, 9000]) {
                let mut in_place = text[..bytes].to_vec();
                in_place.resize(bytes + TAG_BYTES, 0xee);
                let mut from = vec![0xdd; bytes + TAG_BYTES];
                key.seal(9, &mut in_place);
                key.seal_from(9, &text[..bytes], &mut from);
                assert_eq!(from, in_place, "{suite:?}, {bytes} bytes");
            }
        }
    }

    #[test]
    fn suites_do_not_share_keys() {
        let mut sealed = [0; 32];
        Aead::new(Suite::Aes256Gcm, &[3; 32]).seal(0, &mut sealed);
        assert!(!Aead::new(Suite::Aes128Gcm, &[3; 32]).open(0, &mut sealed.clone()));
    }

    #[test]
    fn the_slower_end_decides() {
        let fast_aes = Costs([80, 70, 500, 30]);
        let no_aes_instructions = Costs([3000, 2500, 600, 2000]);
        let without_aegis = Costs([80, 70, 500, 0]);
        assert_eq!(fast_aes.choose(fast_aes), Some(Suite::Aegis128L));
        assert_eq!(fast_aes.choose(without_aegis), Some(Suite::Aes128Gcm));
        assert_eq!(fast_aes.choose(no_aes_instructions), Some(Suite::ChaCha20Poly1305));
        assert_eq!(no_aes_instructions.choose(fast_aes), Some(Suite::ChaCha20Poly1305));
        assert_eq!(Costs([1, 0, 0, 0]).choose(Costs([0, 1, 1, 1])), None);
        assert_eq!(Costs([9, 0, 0, 0]).choose(fast_aes), Some(Suite::Aes256Gcm));
    }

    #[test]
    fn measuring_offers_every_suite() {
        let mut calls = 0;
        let costs = Costs::measure(|work| {
            work();
            calls += 1;
            Duration::from_micros(64)
        });
        assert_eq!(costs, Costs([1000; SUITES]));
        assert!(calls >= 6);
    }
}
