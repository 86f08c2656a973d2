//! What a host says of itself in its record: where and with which key its data plane is, and what it could give.
//!
//! Version 2, postcard, at most [`BYTES_MAX`] bytes, trailing bytes refused:
//!
//! | field | meaning |
//! |---|---|
//! | version | 2 |
//! | whereabouts | where its data plane is: key, candidates, NAT, whether it relays ([`Whereabouts`]) |
//! | advert | what is free, shared and run there: a hint |
//!
//! The overlay signs and ages the record that carries it, so the key is bound to the host by the host's signature. Refuses to know how
//! either is used.

use consort_scheduler::engine::Advert;
use serde::{Deserialize, Serialize};

use super::meet::whereabouts::Whereabouts;

/// The longest description; the overlay's record takes 1024 bytes.
pub const BYTES_MAX: usize = 1024;

const VERSION: u8 = 2;

/// A host's description of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    version: u8,
    /// Where its data plane is.
    pub whereabouts: Whereabouts,
    /// What it could give.
    pub advert: Advert,
}

/// Why bytes are not a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    /// Longer than a description may be.
    #[error("the description is longer than {BYTES_MAX} bytes")]
    TooLong,
    /// Of another version.
    #[error("the description is of version {0}, and this is {VERSION}")]
    Version(u8),
    /// Not a description.
    #[error("the description cannot be decoded")]
    Malformed,
}

impl Description {
    /// A description.
    #[must_use]
    pub fn new(whereabouts: Whereabouts, advert: Advert) -> Self {
        Self { version: VERSION, whereabouts, advert }
    }

    /// As it travels.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a description holds nothing postcard cannot write")
    }

    /// From the bytes of a record.
    ///
    /// # Errors
    /// If they are not a description of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DescriptionError> {
        if bytes.len() > BYTES_MAX {
            return Err(DescriptionError::TooLong);
        }
        match bytes.first() {
            Some(&VERSION) => {}
            Some(version) => return Err(DescriptionError::Version(*version)),
            None => return Err(DescriptionError::Malformed),
        }
        match postcard::take_from_bytes(bytes) {
            Ok((description, [])) => Ok(description),
            Ok(_) | Err(_) => Err(DescriptionError::Malformed),
        }
    }
}

/// The fuzz target's body: any bytes are a description that encodes to one of the same meaning, or are refused.
pub fn fuzz(data: &[u8]) {
    if let Ok(description) = Description::decode(data) {
        assert_eq!(Description::decode(&description.encode()), Ok(description));
    }
}

#[cfg(test)]
mod tests {
    use consort_scheduler::bounded::List;
    use consort_scheduler::resources::Resources;
    use consort_vswitch::path::{CANDIDATES_MAX, Candidate, NatKind, NatView, PortPattern};

    use super::*;

    fn whereabouts(addresses: &[&str]) -> Whereabouts {
        let candidates = addresses.iter().map(|address| Candidate::local(address.parse().unwrap()));
        let ports = PortPattern::Sequential { last: 65_535, step: -9_999 };
        Whereabouts {
            data_key: [7; 32],
            candidates: List::first_of(candidates),
            nat: NatView { kind: NatKind::AddressDependent, ports },
            relays: true,
        }
    }

    fn example() -> Description {
        let limit = Resources { cpus_milli: 2_000, memory_bytes: 1 << 30, disk_bytes: 1 << 33, machines: 64 };
        let advert = Advert { free: limit, limit, sandbox: true, vm: false };
        Description::new(whereabouts(&["10.0.0.1:7441", "[fd00::1]:7441"]), advert)
    }

    #[test]
    fn the_head_of_a_description_is_fixed() {
        let bytes = example().encode();
        assert_eq!(bytes[0], VERSION);
        assert_eq!(bytes[1..33], [7; 32]);
        // Two addresses: the first IPv4, four bytes and the port as a varint.
        assert_eq!(bytes[33..39], [2, 0, 10, 0, 0, 1]);
    }

    #[test]
    fn descriptions_come_out_as_they_went_in_and_nothing_else_does() {
        let bytes = example().encode();
        assert_eq!(Description::decode(&bytes), Ok(example()));
        for length in 1..bytes.len() {
            assert_eq!(Description::decode(&bytes[..length]), Err(DescriptionError::Malformed), "{length}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Description::decode(&longer), Err(DescriptionError::Malformed));
        let mut other = bytes;
        other[0] = 1;
        assert_eq!(Description::decode(&other), Err(DescriptionError::Version(1)));
        assert_eq!(Description::decode(&[VERSION; BYTES_MAX + 1]), Err(DescriptionError::TooLong));
    }

    #[test]
    fn a_description_with_all_addresses_fits_into_a_record() {
        let address = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        let full = Description::new(whereabouts(&[address; CANDIDATES_MAX + 1]), example().advert);
        assert_eq!(full.whereabouts.candidates.len(), CANDIDATES_MAX);
        assert!(full.encode().len() <= BYTES_MAX);
    }

    #[test]
    fn the_fuzz_target_runs_for_a_moment() {
        let valid = example().encode();
        crate::testing::fuzz_for_a_moment(&[valid], fuzz);
    }
}
