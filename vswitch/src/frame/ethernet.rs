//! Ethernet II and IEEE 802.3 framing with up to two VLAN tags.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 6 | destination |
//! | 6 | 6 | source |
//! | 12 | 4 each | tags: TPID 0x8100 or 0x88A8, then priority (3 bits), DEI (1), VLAN id (12); none, one or two |
//! | then | 2 | EtherType, or a length below 0x600 (802.3) |
//!
//! Sources: IEEE 802.3 section 3.2, IEEE 802.1Q section 9.

use crate::mac::MacAddr;

/// Ethernet header without tags.
pub const HEADER_BYTES: usize = 14;
/// One VLAN tag.
pub const TAG_BYTES: usize = 4;
/// Tags looked through: 802.1Q inside 802.1ad. More are refused, since what stands behind them could not be judged.
pub const TAGS_MAX: usize = 2;

/// EtherTypes this crate tells apart.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// 802.1Q tag.
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1ad service tag.
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

/// Why bytes are no frame this switch carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EthernetError {
    /// Shorter than the header with its tags.
    #[error("frame shorter than its Ethernet header")]
    Truncated,
    /// More than [`TAGS_MAX`] tags.
    #[error("more than two VLAN tags")]
    TooManyTags,
}

/// A view of one frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ethernet {
    /// Where it goes.
    pub destination: MacAddr,
    /// Where it comes from.
    pub source: MacAddr,
    /// The first VLAN id that is not zero (zero is a priority tag and names no VLAN), or zero.
    pub vlan: u16,
    /// EtherType behind the tags, or an 802.3 length.
    pub ethertype: u16,
    /// Where the payload starts.
    pub payload_offset: usize,
}

impl Ethernet {
    /// Reads the header and its tags.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, EthernetError> {
        let header: &[u8; HEADER_BYTES] = frame.first_chunk().ok_or(EthernetError::Truncated)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
        let mut parsed = Self {
            destination: MacAddr([d0, d1, d2, d3, d4, d5]),
            source: MacAddr([s0, s1, s2, s3, s4, s5]),
            vlan: 0,
            ethertype: u16::from_be_bytes([t0, t1]),
            payload_offset: HEADER_BYTES,
        };
        while is_tag(parsed.ethertype) {
            if parsed.payload_offset == HEADER_BYTES + TAGS_MAX * TAG_BYTES {
                return Err(EthernetError::TooManyTags);
            }
            let tag: &[u8; TAG_BYTES] =
                frame[parsed.payload_offset..].first_chunk().ok_or(EthernetError::Truncated)?;
            if parsed.vlan == 0 {
                parsed.vlan = u16::from_be_bytes([tag[0], tag[1]]) & 0x0fff;
            }
            parsed.ethertype = u16::from_be_bytes([tag[2], tag[3]]);
            parsed.payload_offset += TAG_BYTES;
        }
        Ok(parsed)
    }

    /// The bytes behind the header of the frame this view was made of.
    #[inline]
    pub fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        &frame[self.payload_offset..]
    }
}

const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, ethertype::VLAN | ethertype::SERVICE_VLAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTAGGED: [u8; 16] = [
        0x02, 0, 0, 0, 0, 0x02, // destination
        0x02, 0, 0, 0, 0, 0x01, // source
        0x08, 0x00, // IPv4
        0x45, 0x00, // payload
    ];

    fn tagged(tags: &[[u8; 4]]) -> Vec<u8> {
        let mut frame = UNTAGGED[..12].to_vec();
        tags.iter().for_each(|tag| frame.extend_from_slice(tag));
        frame.extend_from_slice(&UNTAGGED[12..]);
        frame
    }

    #[test]
    fn golden_untagged_frame() {
        let view = Ethernet::parse(&UNTAGGED).unwrap();
        assert_eq!(view.destination, MacAddr([2, 0, 0, 0, 0, 2]));
        assert_eq!(view.source, MacAddr([2, 0, 0, 0, 0, 1]));
        assert_eq!((view.vlan, view.ethertype, view.payload_offset), (0, ethertype::IPV4, 14));
        assert_eq!(view.payload(&UNTAGGED), [0x45, 0x00]);
    }

    #[test]
    fn one_and_two_tags_are_looked_through() {
        let one = Ethernet::parse(&tagged(&[[0x81, 0x00, 0xa0, 0x05]])).unwrap();
        assert_eq!((one.vlan, one.ethertype, one.payload_offset), (5, ethertype::IPV4, 18));
        let two = Ethernet::parse(&tagged(&[[0x88, 0xa8, 0x00, 0x07], [0x81, 0x00, 0x00, 0x05]])).unwrap();
        assert_eq!((two.vlan, two.ethertype, two.payload_offset), (7, ethertype::IPV4, 22));
    }

    #[test]
    fn a_priority_tag_names_no_vlan() {
        let priority = Ethernet::parse(&tagged(&[[0x81, 0x00, 0xe0, 0x00]])).unwrap();
        assert_eq!((priority.vlan, priority.payload_offset), (0, 18));
        let behind = Ethernet::parse(&tagged(&[[0x81, 0x00, 0xe0, 0x00], [0x81, 0x00, 0x00, 0x09]])).unwrap();
        assert_eq!(behind.vlan, 9);
    }

    #[test]
    fn three_tags_and_cut_frames_are_refused() {
        let tag = [0x81, 0x00, 0x00, 0x01];
        assert_eq!(Ethernet::parse(&tagged(&[tag, tag, tag])), Err(EthernetError::TooManyTags));
        let frame = tagged(&[tag, tag]);
        for length in 0..22 {
            assert_eq!(Ethernet::parse(&frame[..length]), Err(EthernetError::Truncated), "{length}");
        }
        assert!(Ethernet::parse(&frame[..22]).is_ok());
    }
}
