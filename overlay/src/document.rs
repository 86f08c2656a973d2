//! Documents of the overlay: what its operators say to every member, such as the topology. Signed, numbered, spread to all; the newest wins.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 1 | form | 1 |
//! | 1 | 1 + n | kind | its name, at most [`KIND_BYTES_MAX`] bytes of `a-z 0-9 - . /` |
//! | … | 8 | version | greater than that of the document it replaces |
//! | … | 4 | issued | seconds since 1970 |
//! | … | 32 | signer | the overlay key, or an operator's host key |
//! | … | 64 | signature | by the signer, over all fields before and the body |
//! | … | … | body | at most [`DOCUMENT_BYTES_MAX`] bytes; what it says is for the kind's own check |
//!
//! Who may sign: the overlay key, which the founder keeps, and whoever the founder made an *operator*: the document of kind [`OPERATORS`], which
//! only the overlay key can sign, lists their host keys. An operator's word ends when a newer list leaves it out or when its key is revoked:
//! its documents are void everywhere from then on, and the founder says anew what shall hold. There is no other end: a topology that vanished
//! because a certificate ran out at night would be nobody's wish.
//!
//! How it spreads: whoever takes a new document tells every connected peer which versions it holds ([`protocol::documents`](crate::protocol::documents));
//! a peer with an older one asks back. Exchanges of records compare digests, so that who was away or missed it asks too. A document is
//! passed on by those alone who checked it themselves: signature, authority, and the kind's own check of the body. So a bad one goes no further than
//! the first honest host, and what held before holds on. Of two documents with one version the one with the greater hash wins, everywhere.

mod set;

pub use set::{DocumentRefusal, OPERATORS_MAX};
pub(crate) use set::{Documents, Tag, TakenDocument};

use crate::{
    bytes::{Malformed, Reader},
    clock::UnixSeconds,
    identity::{Key, Keypair, OverlayKey, Purpose, SIGNATURE_BYTES, sign},
};
use serde::{Deserialize, Serialize};

/// The largest body.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// The longest name of a kind.
pub const KIND_BYTES_MAX: usize = 32;
/// The largest document with all that is around its body.
pub(crate) const ENCODED_BYTES_MAX: usize =
    2 + KIND_BYTES_MAX + 8 + 4 + 32 + SIGNATURE_BYTES + DOCUMENT_BYTES_MAX;
/// Most kinds: node's and this crate's own. Each may cost every member [`DOCUMENT_BYTES_MAX`].
pub const KINDS_MAX: usize = 8;
/// The kind of the list of operators: a count in one byte, then their keys of 32 bytes each.
pub const OPERATORS: &str = "overlay/operators";
const FORM: u8 = 1;

/// A kind of documents that node wants to hear of.
#[derive(Debug, Clone, Copy)]
pub struct DocumentKind {
    /// Lower-case letters, digits, `/`, `-` and `.`; not starting with `overlay/`.
    pub name: &'static str,
    /// Whether a body is good; else why not, in a sentence. Must be quick, and give the same answer on every host.
    pub check: fn(&[u8]) -> Result<(), String>,
}

/// One document. Its form has been checked; one that an [`Overlay`](crate::Overlay) gives has passed everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    kind: String,
    version: u64,
    issued: UnixSeconds,
    signer: Key,
    signature: [u8; SIGNATURE_BYTES],
    body: Vec<u8>,
}

impl Document {
    /// Signs a document. That `pair` may do so is for the caller and for every receiver to check.
    pub(crate) fn issue(
        pair: &Keypair,
        overlay: OverlayKey,
        kind: &str,
        version: u64,
        issued: UnixSeconds,
        body: Vec<u8>,
    ) -> Self {
        let (signer, signature) = (Key::of(pair), [0; SIGNATURE_BYTES]);
        let mut document = Self { kind: kind.to_owned(), version, issued, signer, signature, body };
        document.signature = sign(pair, Purpose::Document, overlay, &document.signed_body());
        document
    }

    /// What it is about.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its number among those of its kind.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When it was signed, by the signer's clock.
    pub fn issued(&self) -> UnixSeconds {
        self.issued
    }

    /// Who signed it: the overlay key or an operator.
    pub fn signer(&self) -> Key {
        self.signer
    }

    /// What it says.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    fn put_fields(&self, out: &mut Vec<u8>) {
        out.push(FORM);
        out.push(u8::try_from(self.kind.len()).expect("kinds are bounded by KIND_BYTES_MAX"));
        out.extend_from_slice(self.kind.as_bytes());
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.issued.0.to_be_bytes());
        out.extend_from_slice(self.signer.as_bytes());
    }

    fn signed_body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(ENCODED_BYTES_MAX - DOCUMENT_BYTES_MAX + self.body.len());
        self.put_fields(&mut body);
        body.extend_from_slice(&self.body);
        body
    }

    fn is_signed(&self, overlay: OverlayKey) -> bool {
        self.signer.verifies(Purpose::Document, overlay, &self.signed_body(), &self.signature)
    }

    /// What tells it from every other document.
    pub(crate) fn digest(&self) -> [u8; 16] {
        let hash = blake3::derive_key("consort 2026 document", &self.encode());
        *hash.first_chunk().expect("a hash has 32 bytes")
    }

    /// The bytes of the table above.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ENCODED_BYTES_MAX - DOCUMENT_BYTES_MAX + self.body.len());
        self.put_fields(&mut out);
        out.extend_from_slice(&self.signature);
        out.extend_from_slice(&self.body);
        out
    }

    /// Exactly one document: what is left after the fields is its body.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > ENCODED_BYTES_MAX {
            return Err(Malformed);
        }
        let mut reader = Reader::new(bytes);
        if reader.u8()? != FORM {
            return Err(Malformed);
        }
        let kind = read_kind(&mut reader)?;
        let version = reader.u64()?;
        let issued = UnixSeconds(reader.u32()?);
        let signer = Key::from_bytes(reader.array()?);
        let signature = reader.array()?;
        let body = reader.rest();
        if body.len() > DOCUMENT_BYTES_MAX {
            return Err(Malformed);
        }
        Ok(Self { kind, version, issued, signer, signature, body: body.to_vec() })
    }
}

/// A kind's name with its length in one byte.
pub(crate) fn read_kind(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    let len = usize::from(reader.u8()?);
    if len > KIND_BYTES_MAX {
        return Err(Malformed);
    }
    let name = std::str::from_utf8(reader.slice(len)?).map_err(|_| Malformed)?;
    if is_kind(name) { Ok(name.to_owned()) } else { Err(Malformed) }
}

/// Whether `name` can be a kind's.
pub(crate) fn is_kind(name: &str) -> bool {
    (1..=KIND_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'.'))
}

/// The body of the list of operators.
pub(crate) fn encode_operators(keys: &[Key]) -> Vec<u8> {
    let mut out = vec![u8::try_from(keys.len()).expect("at most OPERATORS_MAX")];
    keys.iter().for_each(|key| out.extend_from_slice(key.as_bytes()));
    out
}

pub(crate) fn decode_operators(body: &[u8]) -> Result<Vec<Key>, Malformed> {
    let mut reader = Reader::new(body);
    let count = usize::from(reader.u8()?);
    if count > OPERATORS_MAX {
        return Err(Malformed);
    }
    let keys = (0..count).map(|_| reader.array().map(Key::from_bytes)).collect::<Result<_, Malformed>>()?;
    reader.end()?;
    Ok(keys)
}

impl Serialize for Document {
    /// As text: a state file of numbers would be four times its size.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&data_encoding::BASE64.encode(&self.encode()))
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = data_encoding::BASE64.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
        Self::decode(&bytes).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
