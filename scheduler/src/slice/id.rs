//! Names of slices, networks and what is in them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounded::Text;
use crate::limits::{IMAGE_BYTES_MAX, NAME_BYTES_MAX};

/// Names a slice: the hash of its charter, so that whoever holds the charter can check that the name, the
/// tenant, the wish and the first stewards belong together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "HexOrBytes", try_from = "HexOrBytes")]
pub struct SliceId(pub [u8; 16]);

/// Names a network of a slice; the data plane's channel names are the same bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "HexOrBytes", try_from = "HexOrBytes")]
pub struct NetworkId(pub [u8; 16]);

/// Hexadecimal where people read, sixteen bytes where machines do.
#[derive(Clone, Copy)]
struct HexOrBytes([u8; 16]);

impl Serialize for HexOrBytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&Hex(&self.0))
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for HexOrBytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = Text::<32>::deserialize(deserializer)?;
            parse_hex(text.as_str()).map(Self).map_err(serde::de::Error::custom)
        } else {
            <[u8; 16]>::deserialize(deserializer).map(Self)
        }
    }
}

/// A text that is not the name of a slice or network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not 32 hexadecimal digits")]
pub struct NotAnId;

fn parse_hex(text: &str) -> Result<[u8; 16], NotAnId> {
    let mut bytes = [0; 16];
    if text.len() != 32 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(NotAnId);
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| NotAnId)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| NotAnId)?;
    }
    Ok(bytes)
}

struct Hex<'a>(&'a [u8; 16]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

macro_rules! sixteen_bytes {
    ($name:ident) => {
        impl From<HexOrBytes> for $name {
            fn from(id: HexOrBytes) -> Self {
                Self(id.0)
            }
        }

        impl From<$name> for HexOrBytes {
            fn from(id: $name) -> Self {
                Self(id.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Hex(&self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &self.to_string()[..8])
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                parse_hex(text).map(Self)
            }
        }
    };
}

sixteen_bytes!(SliceId);
sixteen_bytes!(NetworkId);

impl SliceId {
    /// Enough digits to tell the slices of one host apart, for names of machines and files.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

/// A name people gave: lower-case letters, digits and `-`, beginning with a letter, not ending with `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(Text<NAME_BYTES_MAX>);

/// A text that cannot be a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a name has lower-case letters, digits and '-', begins with a letter, does not end with '-', and is at most {NAME_BYTES_MAX} characters long"
)]
pub struct NotAName;

impl Name {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let good = text.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
            && text.bytes().all(known)
            && !text.ends_with('-');
        if !good {
            return Err(NotAName);
        }
        Text::try_from(text).map(Self).map_err(|_| NotAName)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::<NAME_BYTES_MAX>::deserialize(deserializer)?;
        text.as_str().parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of an image.
pub type ImageName = Text<IMAGE_BYTES_MAX>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "mpi", "worker-3", "a1"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", "1a", "-a", "a-", "A", "a_b", "a.b", "ä", &long] {
            assert_eq!(bad.parse::<Name>(), Err(NotAName), "{bad}");
        }
    }

    #[test]
    fn a_name_on_the_wire_is_checked_too() {
        let bytes = postcard::to_stdvec("Not/a/Name").unwrap();
        assert!(postcard::from_bytes::<Name>(&bytes).is_err());
    }

    #[test]
    fn ids_are_hexadecimal_for_people_and_bytes_on_the_wire() {
        let id = SliceId([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(postcard::to_stdvec(&id).unwrap(), vec![0xab; 16]);
        assert_eq!("ab".parse::<SliceId>(), Err(NotAnId));
        assert_eq!("+a".repeat(16).parse::<SliceId>(), Err(NotAnId));
    }
}
