//! Values as they are persisted: a version, then postcard, and nothing behind it.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The first byte of every persisted value. A value of another version is not read: going on without what it says could
/// break a promise.
const STORED_VERSION: u8 = 1;

/// Writes a value.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![STORED_VERSION])
        .expect("what is persisted holds nothing postcard cannot write")
}

/// Reads a value; none when it cannot be read.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (version, body) = bytes.split_first()?;
    let (value, rest) = postcard::take_from_bytes(body).ok()?;
    (*version == STORED_VERSION && rest.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_reads_back_and_nothing_else_does() {
        let bytes = encode(&7u64);
        assert_eq!(bytes, [STORED_VERSION, 7]);
        assert_eq!(decode::<u64>(&bytes), Some(7));
        assert_eq!(decode::<u64>(&[2, 7]), None, "another version");
        assert_eq!(decode::<u64>(&[1, 7, 0]), None, "trailing bytes");
        assert_eq!(decode::<u64>(&[]), None);
    }
}
