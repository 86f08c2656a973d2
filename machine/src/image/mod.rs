//! Images: trees that machines start from, shared between them and never written.
//!
//! Owns the store under `DIR/images`, the content's name, and the making of the `mini` image. Refuses to know how a driver shows a
//! tree to a machine. Layout:
//!
//! | path | content |
//! |---|---|
//! | `<64 hex digits>/root` | an image's tree; the digits are its [`ImageId`] |
//! | `names/<name>` | the id that a name stands for |
//! | `guest-<16 hex digits>` | the static guest program of this build, mounted into every machine |
//! | `making-<pid>-<n>` | an image in the making; one left by a killed process is removed at the next [`ImageStore::open`] |
//!
//! An image comes into being by one `rename`, so a half-made one is never seen.

mod dynamic;
mod elf;
mod ldcache;
mod mini;
mod store;
mod tree;

pub use mini::{MiniReport, ShellSource};
pub use store::{ImageError, ImageStore};

pub use elf::fuzz as fuzz_elf;
pub use ldcache::fuzz as fuzz_ldcache;
pub(crate) use tree::{copy_tree, remove_tree};

use serde::{Deserialize, Serialize};

/// The name of an image's content: BLAKE3 over its sorted entries (see [`ImageStore`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageId([u8; 32]);

impl ImageId {
    /// From a hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for ImageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for ImageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ImageId({self})")
    }
}

/// Text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an image id is 64 hexadecimal digits")]
pub struct ImageIdError;

impl std::str::FromStr for ImageId {
    type Err = ImageIdError;
    fn from_str(text: &str) -> Result<Self, ImageIdError> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(ImageIdError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
            *byte = digit(pair[0]).ok_or(ImageIdError)? << 4 | digit(pair[1]).ok_or(ImageIdError)?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for ImageId {
    type Error = ImageIdError;
    fn try_from(text: String) -> Result<Self, ImageIdError> {
        text.parse()
    }
}

impl From<ImageId> for String {
    fn from(id: ImageId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_as_written() {
        let id = ImageId::from_bytes(std::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 64);
        for bad in ["", "0", &"g".repeat(64), &"0".repeat(65), &"é".repeat(32)] {
            assert_eq!(bad.parse::<ImageId>(), Err(ImageIdError), "{bad}");
        }
    }
}
