//! Explicit congestion notification (RFC 3168): a mark in place of a loss.

use super::layout::{Layout, Version};
use crate::frame::checksum::Sum;

/// The field's two bits; both set, the packet has met congestion (RFC 3168 section 5).
const FIELD: u8 = 0b11;
/// From the start of an IPv4 header to its checksum.
const IPV4_CHECKSUM: usize = 10;

/// Marks a TCP or UDP packet as having met congestion, if its sender says that he understands the mark; whether he does.
pub fn mark(frame: &mut [u8]) -> bool {
    let Some(layout) = Layout::of(frame) else { return false };
    // IPv4: the last bits of the second byte. IPv6: the traffic class lies across the first two, its last bits in the middle of
    // the second.
    let (place, shift) = match layout.version {
        Version::V4 => (layout.network + 1, 0),
        Version::V6 => (layout.network + 1, 4),
    };
    if frame[place] >> shift & FIELD == 0 {
        return false;
    }
    frame[place] |= FIELD << shift;
    if layout.version == Version::V4 {
        let bytes = usize::from(frame[layout.network] & 0x0f) * 4;
        let header = &mut frame[layout.network..layout.network + bytes];
        header[IPV4_CHECKSUM..IPV4_CHECKSUM + 2].fill(0);
        let sum = Sum::default().bytes(header).finish();
        header[IPV4_CHECKSUM..IPV4_CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::ip::{Ipv4, Ipv6};

    /// An Ethernet frame with an empty UDP packet.
    fn frames() -> [Vec<u8>; 2] {
        let mut v4 = vec![0; 14 + 20 + 8];
        v4[12..14].copy_from_slice(&[0x08, 0x00]);
        v4[14..18].copy_from_slice(&[0x45, 0b1011_1000, 0, 28]);
        v4[22..24].copy_from_slice(&[64, 17]);
        let sum = Sum::default().bytes(&v4[14..34]).finish();
        v4[24..26].copy_from_slice(&sum.to_be_bytes());
        let mut v6 = vec![0; 14 + 40 + 8];
        v6[12..14].copy_from_slice(&[0x86, 0xdd]);
        v6[14..16].copy_from_slice(&[0x6b, 0b1000_1111]);
        v6[18..22].copy_from_slice(&[0, 8, 17, 64]);
        [v4, v6]
    }

    #[test]
    fn who_does_not_understand_marks_gets_none() {
        for frame in frames() {
            let mut marked = frame.clone();
            assert!(!mark(&mut marked));
            assert_eq!(marked, frame);
        }
        assert!(!mark(&mut []));
        assert!(!mark(&mut [0x45; 60]));
    }

    #[test]
    fn a_mark_changes_the_field_alone_and_the_header_stays_right() {
        for field in [0b01, 0b10, 0b11_u8] {
            let [mut v4, mut v6] = frames();
            v4[15] |= field;
            v4[24..26].fill(0);
            let sum = Sum::default().bytes(&v4[14..34]).finish();
            v4[24..26].copy_from_slice(&sum.to_be_bytes());
            v6[15] |= field << 4;
            assert!(mark(&mut v4) && mark(&mut v6));
            assert_eq!((v4[15], v6[15]), (0b1011_1011, 0b1011_1111));
            assert_eq!(Sum::default().bytes(&v4[14..34]).finish(), 0);
            assert!(Ipv4::parse(&v4[14..]).is_ok() && Ipv6::parse(&v6[14..]).is_ok());
        }
    }
}
