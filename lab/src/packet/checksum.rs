//! The Internet checksum: whole (RFC 1071) and adjusted for a changed field (RFC 1624, equation 3).

use std::net::IpAddr;

/// The sum of these bytes, as it is written into a header whose sum field was zero.
pub(crate) fn of(parts: &[&[u8]]) -> u16 {
    !fold(parts.iter().map(|part| sum(part)).sum())
}

/// The sum of a message of TCP, UDP or ICMPv6 with the pseudo header of its IP version; each part but the last has an even length.
pub(crate) fn with_pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, message: &[u8]) -> u16 {
    let addresses = match (source, destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets().to_vec(), to.octets().to_vec()].concat(),
        (from, to) => [as_v6(from).octets(), as_v6(to).octets()].concat(),
    };
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    of(&[&addresses, &length, &[0, protocol], message])
}

/// A sum after some bytes that it covers were replaced by as many others, an even number of them.
pub(crate) fn adjusted(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    let removed: u64 = old.as_chunks::<2>().0.iter().map(|pair| u64::from(!u16::from_be_bytes(*pair))).sum();
    !fold(u64::from(!checksum) + removed + sum(new))
}

fn as_v6(address: IpAddr) -> std::net::Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn sum(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let whole: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    whole + rest.first().map_or(0, |last| u64::from(*last) << 8)
}

fn fold(mut sum: u64) -> u16 {
    while sum > u64::from(u16::MAX) {
        sum = (sum >> 16) + (sum & u64::from(u16::MAX));
    }
    u16::try_from(sum).expect("folded")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of RFC 1071, section 3.
    #[test]
    fn the_sum_is_that_of_the_standards_example() {
        assert_eq!(of(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }

    proptest! {
        #[test]
        fn an_adjusted_sum_still_proves_the_bytes(
            bytes in prop::collection::vec(any::<u8>(), 8..100),
            new in prop::collection::vec(any::<u8>(), 4),
        ) {
            // A message of zeros alone has two right sums; real ones have a version or a length in them.
            let message = [&[0x45, 0][..], &bytes].concat();
            let mut changed = message.clone();
            changed[2..6].copy_from_slice(&new);
            let adjusted = adjusted(of(&[&message]), &message[2..6], &new);
            prop_assert_eq!(of(&[&changed, &[][..]]) , adjusted);
        }
    }
}
