//! The AEAD of a session: which ones there are, which one two hosts use, and sealing in place.
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
//! The nonce is four zero bytes and the counter, little-endian.

use std::{fmt, time::Duration};

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use zeroize::Zeroize;

use crate::wire::TAG_BYTES;

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
}

impl Suite {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 3] = [Self::Aes256Gcm, Self::Aes128Gcm, Self::ChaCha20Poly1305];

    /// The suite of this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    pub(crate) fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes256Gcm => &AES_256_GCM,
            Self::Aes128Gcm => &AES_128_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }

    fn context(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "consort link v1 AES-256-GCM",
            Self::Aes128Gcm => "consort link v1 AES-128-GCM",
            Self::ChaCha20Poly1305 => "consort link v1 ChaCha20-Poly1305",
        }
    }
}

/// What a kilobyte costs this host with each suite, in nanoseconds, in order of [`Suite::ALL`]; 0: not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs(pub [u16; 3]);

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
pub(crate) struct Aead(LessSafeKey);

impl Aead {
    /// The key of one direction, from Noise's split.
    pub(crate) fn new(suite: Suite, split: &[u8; 32]) -> Self {
        let mut key = blake3::derive_key(suite.context(), split);
        let algorithm = suite.algorithm();
        let unbound = UnboundKey::new(algorithm, &key[..algorithm.key_len()])
            .expect("the key has the length of its algorithm");
        key.zeroize();
        Self(LessSafeKey::new(unbound))
    }

    /// Seals all but the last [`TAG_BYTES`] of the buffer, and writes the tag there.
    #[inline]
    pub(crate) fn seal(&self, counter: u64, buffer: &mut [u8]) {
        let (text, place) = buffer.split_at_mut(buffer.len() - TAG_BYTES);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(counter), Aad::empty(), text)
            .expect("a datagram is shorter than any AEAD's limit");
        place.copy_from_slice(tag.as_ref());
    }

    /// Opens the buffer in place; the text is all but the last [`TAG_BYTES`]. False if it was not sealed with this key and counter.
    #[inline]
    pub(crate) fn open(&self, counter: u64, buffer: &mut [u8]) -> bool {
        self.0.open_in_place(nonce(counter), Aad::empty(), buffer).is_ok()
    }
}

impl fmt::Debug for Aead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aead(..)")
    }
}

#[inline]
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[NONCE_LEN - 8..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
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
    fn suites_do_not_share_keys() {
        let mut sealed = [0; 32];
        Aead::new(Suite::Aes256Gcm, &[3; 32]).seal(0, &mut sealed);
        assert!(!Aead::new(Suite::Aes128Gcm, &[3; 32]).open(0, &mut sealed.clone()));
    }

    #[test]
    fn the_slower_end_decides() {
        let fast_aes = Costs([80, 70, 500]);
        let no_aes_instructions = Costs([3000, 2500, 600]);
        assert_eq!(fast_aes.choose(fast_aes), Some(Suite::Aes128Gcm));
        assert_eq!(fast_aes.choose(no_aes_instructions), Some(Suite::ChaCha20Poly1305));
        assert_eq!(no_aes_instructions.choose(fast_aes), Some(Suite::ChaCha20Poly1305));
        assert_eq!(Costs([1, 0, 0]).choose(Costs([0, 1, 1])), None);
        assert_eq!(Costs([9, 0, 0]).choose(fast_aes), Some(Suite::Aes256Gcm));
    }

    #[test]
    fn measuring_offers_every_suite() {
        let mut calls = 0;
        let costs = Costs::measure(|work| {
            work();
            calls += 1;
            Duration::from_micros(64)
        });
        assert_eq!(costs, Costs([1000; 3]));
        assert!(calls >= 6);
    }
}
