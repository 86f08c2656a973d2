//! Small news for everybody, spread by gossipsub: today only revocations.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 1 | kind | 1: a revocation; others are not passed on |
//! | 1 | … | body | a [`Revocation`] |
//!
//! News are forwarded only after they were verified and found to be new, so nobody can make the overlay carry what is not signed by
//! authority. What gossip loses, the next exchange of records finds by its digest.

use crate::{
    bytes::{Malformed, Reader},
    membership::{REVOCATION_BYTES_MAX, Revocation},
};

/// The largest message; gossipsub refuses more before it is read.
pub(crate) const NEWS_BYTES_MAX: usize = 1 + REVOCATION_BYTES_MAX;

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    Revocation(Revocation),
}

impl News {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Revocation(revocation) => {
                let mut out = vec![1];
                out.extend_from_slice(&revocation.encode());
                out
            }
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > NEWS_BYTES_MAX {
            return Err(Malformed);
        }
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            1 => Revocation::decode(reader.rest()).map(Self::Revocation),
            _ => Err(Malformed),
        }
    }
}
