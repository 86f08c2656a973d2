//! Messages as bytes.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 1 | version | [`WIRE_VERSION`]; another one is refused |
//! | 1 | 1.. | kind | the variant of [`Message`], as a postcard varint |
//! | .. | .. | body | the variant's fields in their order, postcard |
//!
//! The whole is at most [`MESSAGE_BYTES_MAX`]; every list and text inside checks its own bound before it
//! allocates; no type is recursive; bytes behind the body are refused.

use thiserror::Error;

use super::Message;
use crate::limits::MESSAGE_BYTES_MAX;

/// The first byte of every message.
pub const WIRE_VERSION: u8 = 1;

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There is nothing.
    #[error("the message is empty")]
    Empty,
    /// It is longer than a message may be.
    #[error("the message is longer than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    /// It is of another version.
    #[error("the message is of another version than {WIRE_VERSION}")]
    Version,
    /// Its body means nothing, or breaks a bound.
    #[error("the message's body is malformed")]
    Malformed,
    /// Something stands behind it.
    #[error("bytes stand behind the message")]
    TrailingBytes,
}

impl DecodeError {
    /// The name of the counter it moves.
    #[must_use]
    pub const fn counter(self) -> &'static str {
        match self {
            Self::Empty => "decode_empty",
            Self::TooLong => "decode_too_long",
            Self::Version => "decode_version",
            Self::Malformed => "decode_malformed",
            Self::TrailingBytes => "decode_trailing_bytes",
        }
    }
}

/// Writes a message.
#[must_use]
pub fn encode(message: &Message) -> Vec<u8> {
    let mut bytes = vec![WIRE_VERSION];
    bytes = postcard::to_extend(message, bytes).expect("a message holds nothing postcard cannot write");
    debug_assert!(bytes.len() <= MESSAGE_BYTES_MAX, "{} of {} bytes", message.kind(), bytes.len());
    bytes
}

/// Reads a message.
///
/// # Errors
/// Says why the bytes are none.
pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(DecodeError::TooLong);
    }
    let (version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if *version != WIRE_VERSION {
        return Err(DecodeError::Version);
    }
    let (message, rest) = postcard::take_from_bytes(body).map_err(|_| DecodeError::Malformed)?;
    if rest.is_empty() { Ok(message) } else { Err(DecodeError::TrailingBytes) }
}

/// Fuzz entry: no bytes may panic the decoder, and what it reads must survive being written and read again.
///
/// # Panics
/// When the decoder is wrong.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(message) = decode(bytes) {
        assert_eq!(decode(&encode(&message)), Ok(message), "a message reads back as written");
    }
}
