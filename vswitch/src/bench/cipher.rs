//! Sealing and opening, with each suite, beside the library called plainly and a copy of the same bytes.

use std::hint::black_box;

use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::{Figure, calls};
use crate::{
    session::{Aead, Suite},
    wire::TAG_BYTES,
};

/// Small, as acknowledgements are; the smallest path; a full datagram; a large one.
const SIZES: [usize; 4] = [64, 576, 1400, 9000];

const LIBRARY: &str = "ring called plainly";
const COPY: &str = "memcpy";

pub(super) fn seal_and_open() -> Vec<Figure> {
    Suite::ALL
        .into_iter()
        .flat_map(|suite| SIZES.map(|bytes| [seal(suite, bytes), open(suite, bytes)]))
        .flatten()
        .collect()
}

fn name(suite: Suite) -> &'static str {
    match suite {
        Suite::Aes256Gcm => "AES-256-GCM",
        Suite::Aes128Gcm => "AES-128-GCM",
        Suite::ChaCha20Poly1305 => "ChaCha20-Poly1305",
    }
}

fn library(suite: Suite) -> LessSafeKey {
    let algorithm = suite.algorithm();
    let key = UnboundKey::new(algorithm, &[7; 32][..algorithm.key_len()]);
    LessSafeKey::new(key.expect("the key has the length of its algorithm"))
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn seal(suite: Suite, bytes: usize) -> Figure {
    let (ours, theirs) = (Aead::new(suite, &[7; 32]), library(suite));
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
                    let text = black_box(&mut text);
                    let tag =
                        theirs.seal_in_place_separate_tag(nonce(same_counter), Aad::empty(), text.as_mut());
                    black_box(tag.expect("shorter than the limit").as_ref());
                }),
            ),
            (COPY, calls(|| black_box(&mut copy).copy_from_slice(black_box(&source)))),
        ],
    )
}

/// Opening in place spoils what was sealed, so each way copies it first.
fn open(suite: Suite, bytes: usize) -> Figure {
    let (ours, theirs) = (Aead::new(suite, &[7; 32]), library(suite));
    let mut sealed = vec![0x5a; bytes + TAG_BYTES];
    ours.seal(1, &mut sealed);
    let mut sealed_by_library = vec![0x5a; bytes];
    let tag = theirs.seal_in_place_separate_tag(nonce(1), Aad::empty(), &mut sealed_by_library);
    sealed_by_library.extend_from_slice(tag.expect("shorter than the limit").as_ref());
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
                    let opened = theirs.open_in_place(nonce(1), Aad::empty(), &mut same);
                    black_box(opened.expect("it was sealed with this key"));
                }),
            ),
            (COPY, calls(|| black_box(&mut copy).copy_from_slice(black_box(&sealed)))),
        ],
    )
}
