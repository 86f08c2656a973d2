//! Asking a peer for the revocations it has and we have not: sent when the digests in an exchange differ.
//!
//! | message | layout |
//! |---|---|
//! | question | count (2), then for each revocation held the first 8 bytes of its target's key |
//! | answer | count (1), then revocations, each with its length in two bytes; at most [`ANSWER_REVOCATIONS_MAX`] |
//!
//! An answer that was full is followed by the next question, at the next exchange. Two targets that agree in 8 bytes would hide one from the
//! other; keys are random and an attacker who searches 2^64 keys gains a delay on his own second key.

use crate::{
    bytes::{Malformed, Reader, put_counted},
    membership::{REVOCATION_BYTES_MAX, REVOCATIONS_MAX, Revocation, Revocations},
};
use std::collections::BTreeSet;

/// Most revocations in one answer.
pub(crate) const ANSWER_REVOCATIONS_MAX: usize = 16;
pub(crate) const QUESTION_BYTES_MAX: usize = 2 + 8 * REVOCATIONS_MAX;
pub(crate) const ANSWER_BYTES_MAX: usize = 1 + ANSWER_REVOCATIONS_MAX * (2 + REVOCATION_BYTES_MAX);

type Short = [u8; 8];

fn short(revocation: &Revocation) -> Short {
    *revocation.target().as_bytes().first_chunk().expect("a key has 32 bytes")
}

pub(crate) fn encode_question(held: &Revocations) -> Vec<u8> {
    let count = u16::try_from(held.len()).expect("at most REVOCATIONS_MAX");
    let mut out = count.to_be_bytes().to_vec();
    held.iter().for_each(|revocation| out.extend_from_slice(&short(revocation)));
    out
}

/// The answer to a question: what `held` has beyond it.
pub(crate) fn answer(held: &Revocations, question: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut reader = Reader::new(question);
    let count = usize::from(reader.u16()?);
    if count > REVOCATIONS_MAX {
        return Err(Malformed);
    }
    let known = (0..count).map(|_| reader.array()).collect::<Result<BTreeSet<Short>, Malformed>>()?;
    reader.end()?;
    let lacking: Vec<&Revocation> = held
        .iter()
        .filter(|revocation| !known.contains(&short(revocation)))
        .take(ANSWER_REVOCATIONS_MAX)
        .collect();
    let mut out = vec![u8::try_from(lacking.len()).expect("at most ANSWER_REVOCATIONS_MAX")];
    lacking.into_iter().for_each(|revocation| put_counted(&mut out, &revocation.encode()));
    Ok(out)
}

pub(crate) fn decode_answer(bytes: &[u8]) -> Result<Vec<Revocation>, Malformed> {
    let mut reader = Reader::new(bytes);
    let count = usize::from(reader.u8()?);
    if count > ANSWER_REVOCATIONS_MAX {
        return Err(Malformed);
    }
    let revocations = (0..count)
        .map(|_| Revocation::decode(reader.counted(REVOCATION_BYTES_MAX)?))
        .collect::<Result<Vec<_>, Malformed>>()?;
    reader.end()?;
    Ok(revocations)
}
