//! Asking a peer for the documents it has and we have not: sent when a new one was taken, when digests in an exchange differ, and when a peer's
//! question shows that it has something newer.
//!
//! | message | layout |
//! |---|---|
//! | question | count (1), then for each document held: its kind with its length in one byte, version (8), digest (16); count (1), then the digests (16) of documents that were found bad |
//! | answer | count (1), then documents, each with its length in four bytes; at most [`ANSWER_DOCUMENTS_MAX`] |
//!
//! An answer that was full is followed by the next question.

use crate::{
    bytes::{Malformed, Reader},
    document::{Document, ENCODED_BYTES_MAX, KIND_BYTES_MAX, KINDS_MAX, Tag, read_kind},
};
use std::sync::Arc;

/// Most documents in one answer: a body of some hundred KiB at most.
pub(crate) const ANSWER_DOCUMENTS_MAX: usize = 2;
/// Most digests of bad documents in one question.
const UNWANTED_MAX: usize = 8;
pub(crate) const QUESTION_BYTES_MAX: usize =
    2 + KINDS_MAX * (1 + KIND_BYTES_MAX + 8 + 16) + UNWANTED_MAX * 16;
pub(crate) const ANSWER_BYTES_MAX: usize = 1 + ANSWER_DOCUMENTS_MAX * (4 + ENCODED_BYTES_MAX);

/// What the asking host has, and what it does not want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) held: Vec<Tag>,
    pub(crate) unwanted: Vec<[u8; 16]>,
}

impl Question {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (held, unwanted) = (
            &self.held[..self.held.len().min(KINDS_MAX)],
            &self.unwanted[..self.unwanted.len().min(UNWANTED_MAX)],
        );
        let mut out = vec![u8::try_from(held.len()).expect("at most KINDS_MAX")];
        for tag in held {
            out.push(u8::try_from(tag.kind.len()).expect("at most KIND_BYTES_MAX"));
            out.extend_from_slice(tag.kind.as_bytes());
            out.extend_from_slice(&tag.version.to_be_bytes());
            out.extend_from_slice(&tag.digest);
        }
        out.push(u8::try_from(unwanted.len()).expect("at most UNWANTED_MAX"));
        unwanted.iter().for_each(|digest| out.extend_from_slice(digest));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let count = usize::from(reader.u8()?);
        if count > KINDS_MAX {
            return Err(Malformed);
        }
        let mut held = Vec::with_capacity(count);
        for _ in 0..count {
            let kind = read_kind(&mut reader)?;
            held.push(Tag { kind, version: reader.u64()?, digest: reader.array()? });
        }
        let count = usize::from(reader.u8()?);
        if count > UNWANTED_MAX {
            return Err(Malformed);
        }
        let unwanted = (0..count).map(|_| reader.array()).collect::<Result<_, Malformed>>()?;
        reader.end()?;
        Ok(Self { held, unwanted })
    }
}

pub(crate) fn encode_answer(documents: &[Arc<Document>]) -> Vec<u8> {
    let documents = &documents[..documents.len().min(ANSWER_DOCUMENTS_MAX)];
    let mut out = vec![u8::try_from(documents.len()).expect("at most ANSWER_DOCUMENTS_MAX")];
    for document in documents {
        let bytes = document.encode();
        out.extend_from_slice(&u32::try_from(bytes.len()).expect("at most ENCODED_BYTES_MAX").to_be_bytes());
        out.extend_from_slice(&bytes);
    }
    out
}

pub(crate) fn decode_answer(bytes: &[u8]) -> Result<Vec<Document>, Malformed> {
    let mut reader = Reader::new(bytes);
    let count = usize::from(reader.u8()?);
    if count > ANSWER_DOCUMENTS_MAX {
        return Err(Malformed);
    }
    let mut documents = Vec::with_capacity(count);
    for _ in 0..count {
        let len = usize::try_from(reader.u32()?).map_err(|_| Malformed)?;
        documents.push(Document::decode(reader.slice(len)?)?);
    }
    reader.end()?;
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, overlay, pair};

    #[test]
    fn the_question_has_one_form() {
        let held = vec![Tag { kind: "t".into(), version: 7, digest: [2; 16] }];
        let question = Question { held, unwanted: vec![[3; 16]] };
        let bytes = question.encode();
        let mut expected = vec![1, 1, b't', 0, 0, 0, 0, 0, 0, 0, 7];
        expected.extend([2; 16]);
        expected.push(1);
        expected.extend([3; 16]);
        assert_eq!(bytes, expected);
        assert_eq!(Question::decode(&bytes), Ok(question));
    }

    #[test]
    fn an_answer_holds_no_more_than_its_bound() {
        let one = Arc::new(Document::issue(&pair(0), overlay(), "t", 1, NOW, b"body".to_vec()));
        let bytes = encode_answer(&vec![Arc::clone(&one); 5]);
        assert_eq!(decode_answer(&bytes).unwrap(), vec![(*one).clone(); ANSWER_DOCUMENTS_MAX]);
        let many = [&[u8::try_from(ANSWER_DOCUMENTS_MAX).unwrap() + 1], &bytes[1..]].concat();
        assert_eq!(decode_answer(&many), Err(Malformed));
    }
}
