//! Sealing and opening, with each suite, beside the library called plainly and a copy of the same bytes.

use std::hint::black_box;

use aegis::aegis128l::Aegis128L;
use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey};

use super::{Figure, calls};
use crate::{
    session::{Aead, Maker, Suite},
    wire::TAG_BYTES,
};

/// Small, as acknowledgements are; the smallest path; a full datagram; a large one.
const SIZES: [usize; 4] = [64, 576, 1400, 9000];

const LIBRARY: &str = "its library called plainly";
const COPY: &str = "memcpy";

pub(super) fn seal_and_open() -> Vec<Figure> {
    Suite::ALL
        .into_iter()
        .flat_map(|suite| {
            SIZES.map(|bytes| [seal(suite, bytes), seal_from(suite, bytes), open(suite, bytes)])
        })
        .flatten()
        .collect()
}

fn name(suite: Suite) -> &'static str {
    match suite {
        Suite::Aes256Gcm => "AES-256-GCM",
        Suite::Aes128Gcm => "AES-128-GCM",
        Suite::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        Suite::Aegis128L => "AEGIS-128L",
    }
}

/// What a suite's library has, without anything of ours.
#[expect(clippy::large_enum_variant, reason = "as it is in a session")]
enum Library {
    Ring(LessSafeKey),
    Aegis([u8; 16]),
}

impl Library {
    fn new(suite: Suite) -> Self {
        match suite.maker() {
            Maker::Ring(algorithm) => {
                let key = UnboundKey::new(algorithm, &[7; 32][..algorithm.key_len()]);
                Self::Ring(LessSafeKey::new(key.expect("the key has the length of its algorithm")))
            }
            Maker::Aegis => Self::Aegis([7; 16]),
        }
    }

    fn seal(&self, counter: u64, text: &mut [u8]) -> [u8; TAG_BYTES] {
        match self {
            Self::Ring(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce(counter));
                let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), text);
                let tag = tag.expect("shorter than the limit");
                tag.as_ref().try_into().expect("tags of one length")
            }
            Self::Aegis(key) => Aegis128L::new(key, &nonce(counter)).encrypt_in_place(text, &[]),
        }
    }

    fn open(&self, counter: u64, sealed: &mut [u8]) -> bool {
        match self {
            Self::Ring(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce(counter));
                key.open_in_place(nonce, Aad::empty(), sealed).is_ok()
            }
            Self::Aegis(key) => {
                let (text, tag) = sealed.split_last_chunk_mut::<TAG_BYTES>().expect("it has a tag");
                Aegis128L::new(key, &nonce(counter)).decrypt_in_place(text, tag, &[]).is_ok()
            }
        }
    }
}

fn nonce<const BYTES: usize>(counter: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[BYTES - 8..].copy_from_slice(&counter.to_le_bytes());
    bytes
}

fn seal(suite: Suite, bytes: usize) -> Figure {
    let (ours, theirs) = (Aead::new(suite, &[7; 32]), Library::new(suite));
    let mut place = vec![0; bytes + TAG_BYTES];
    let (mut text, mut counter, mut same_counter) = (vec![0x5a; bytes], 0, 0);
    let (source, mut copy) = (vec![0x5a_u8; bytes], vec![0; bytes]);
    Figure::measured(
        format!("seal {bytes} bytes ({})", name(suite)),
        Some(bytes),
        calls(|| {
            counter += 1;
            ours.seal(counter, black_box(&mut place));
        }),
        [
            (
                LIBRARY,
                calls(|| {
                    same_counter += 1;
                    black_box(theirs.seal(same_counter, black_box(&mut text)));
                }),
            ),
            (COPY, calls(|| black_box(&mut copy).copy_from_slice(black_box(&source)))),
        ],
    )
}

/// Sealing from where a frame was read to its place among the datagrams.
fn seal_from(suite: Suite, bytes: usize) -> Figure {
    let (ours, theirs) = (Aead::new(suite, &[7; 32]), Library::new(suite));
    let source = vec![0x5a_u8; bytes];
    let mut place = vec![0; bytes + TAG_BYTES];
    let [mut text, mut copy] = [(); 2].map(|()| vec![0; bytes]);
    let (mut counter, mut same_counter) = (0, 0);
    Figure::measured(
        format!("seal {bytes} bytes from elsewhere ({})", name(suite)),
        Some(bytes),
        calls(|| {
            counter += 1;
            ours.seal_from(counter, black_box(&source), black_box(&mut place));
        }),
        [
            (
                "a copy, and its library in place",
                calls(|| {
                    same_counter += 1;
                    text.copy_from_slice(black_box(&source));
                    black_box(theirs.seal(same_counter, black_box(&mut text)));
                }),
            ),
            (COPY, calls(|| black_box(&mut copy).copy_from_slice(black_box(&source)))),
        ],
    )
}

/// Opening in place spoils what was sealed, so each way copies it first.
fn open(suite: Suite, bytes: usize) -> Figure {
    let (ours, theirs) = (Aead::new(suite, &[7; 32]), Library::new(suite));
    let mut sealed = vec![0x5a; bytes + TAG_BYTES];
    ours.seal(1, &mut sealed);
    let mut sealed_by_library = vec![0x5a; bytes];
    let tag = theirs.seal(1, &mut sealed_by_library);
    sealed_by_library.extend_from_slice(&tag);
    let [mut place, mut same, mut copy] = [(); 3].map(|()| sealed.clone());
    Figure::measured(
        format!("copy and open {bytes} bytes ({})", name(suite)),
        Some(bytes),
        calls(|| {
            place.copy_from_slice(black_box(&sealed));
            assert!(ours.open(1, &mut place), "it was sealed with this key");
        }),
        [
            (
                LIBRARY,
                calls(|| {
                    same.copy_from_slice(black_box(&sealed_by_library));
                    assert!(theirs.open(1, &mut same), "it was sealed with this key");
                }),
            ),
            (COPY, calls(|| black_box(&mut copy).copy_from_slice(black_box(&sealed)))),
        ],
    )
}
