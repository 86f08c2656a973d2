//! The internet checksum: the one's complement sum of 16-bit words (RFC 1071), with updates in place (RFC 1624).

use std::net::{Ipv4Addr, Ipv6Addr};

/// A running one's complement sum. Parts may be added in any order as long as each but the last has an even length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes, taken as big-endian words; an odd last byte counts as the high byte of a word.
    ///
    /// Works on native 32-bit words (the sum is byte-order independent up to one swap, RFC 1071 section 2 B) in four lanes, which
    /// compilers turn into vector additions.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut lanes = [0u64; 8];
        let mut blocks = bytes.chunks_exact(32);
        for block in &mut blocks {
            for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(4)) {
                *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
            }
        }
        let mut words = blocks.remainder().chunks_exact(2);
        let mut native: u64 = lanes.iter().sum();
        for word in &mut words {
            native += u64::from(u16::from_ne_bytes([word[0], word[1]]));
        }
        if let [last] = words.remainder() {
            native += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        Self(self.0 + u64::from(u16::from_be(fold(native))))
    }

    /// Adds one 16-bit word.
    #[inline]
    #[must_use]
    pub fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word))
    }

    /// Adds another sum.
    #[inline]
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The sum folded to 16 bits, not complemented: what `CHECKSUM_PARTIAL` leaves in the field.
    #[inline]
    #[must_use]
    pub fn folded(self) -> u16 {
        fold(self.0)
    }

    /// The checksum: the complement of the folded sum.
    #[inline]
    #[must_use]
    pub fn finish(self) -> u16 {
        !self.folded()
    }

    /// The UDP checksum, in which zero means "none" and is sent as all ones (RFC 768).
    #[inline]
    #[must_use]
    pub fn finish_udp(self) -> u16 {
        match self.finish() {
            0 => 0xffff,
            sum => sum,
        }
    }
}

/// Folds carries back in until 16 bits are left (in whichever byte order the words were).
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    #[expect(clippy::cast_possible_truncation, reason = "the line above left 16 bits")]
    {
        sum as u16
    }
}

/// The pseudo-header of TCP and UDP over IPv4 (RFC 9293 section 3.1).
#[inline]
pub fn pseudo_ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u32) -> Sum {
    pseudo(Sum::default().bytes(&source.octets()).bytes(&destination.octets()), protocol, length)
}

/// The pseudo-header of upper layers over IPv6 (RFC 8200 section 8.1).
#[inline]
pub fn pseudo_ipv6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: u32) -> Sum {
    pseudo(Sum::default().bytes(&source.octets()).bytes(&destination.octets()), protocol, length)
}

#[inline]
fn pseudo(addresses: Sum, protocol: u8, length: u32) -> Sum {
    Sum(addresses.0 + u64::from(protocol) + u64::from(length))
}

/// A checksum after one covered 16-bit word changed (RFC 1624 equation 3).
#[inline]
#[must_use]
pub fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::default().word(!checksum).word(!old).word(new).finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 as written: word by word, carry by carry.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let words = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().bytes(&words).folded(), 0xddf2);
    }

    #[test]
    fn a_udp_checksum_is_never_zero() {
        assert_eq!(Sum::default().word(0xffff).finish(), 0);
        assert_eq!(Sum::default().word(0xffff).finish_udp(), 0xffff);
    }

    proptest! {
        #[test]
        fn equals_the_naive_sum(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Sum::default().bytes(&bytes).finish(), naive(&bytes));
        }

        #[test]
        fn may_be_added_in_even_parts(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..150) {
            let cut = (cut * 2).min(bytes.len() & !1);
            let (a, b) = bytes.split_at(cut);
            prop_assert_eq!(Sum::default().bytes(a).bytes(b).finish(), naive(&bytes));
        }

        #[test]
        fn an_update_equals_a_new_sum(mut bytes in proptest::collection::vec(any::<u8>(), 2..64), new in any::<u16>()) {
            // A sum over nothing but zeroes has two representations; real headers never are all zero.
            bytes[0] |= 1;
            let len = bytes.len() & !1;
            let old = u16::from_be_bytes([bytes[len - 2], bytes[len - 1]]);
            prop_assume!(len > 2);
            let before = naive(&bytes[..len]);
            bytes[len - 2..len].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(updated(before, old, new), naive(&bytes[..len]));
        }
    }
}
