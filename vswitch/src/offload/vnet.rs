//! The virtio-net header in front of each frame of a TAP opened with `IFF_VNET_HDR`.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 1 | flags | 1: the checksum is to be completed; 2: the checksum was checked |
//! | 1 | 1 | GSO type | 0 none, 1 TCP/IPv4, 4 TCP/IPv6, 5 UDP; plus 0x80: CWR is on the first segment only |
//! | 2 | 2 | header length | a hint, not trusted |
//! | 4 | 2 | GSO size | payload of each segment |
//! | 6 | 2 | checksum start | from where the checksum is summed |
//! | 8 | 2 | checksum offset | from there to the field |
//!
//! All little-endian: [`crate::driver::tap`] asks the kernel for that. Source: virtio 1.2 section 5.1.6, `linux/virtio_net.h`.

use super::Refusal;

/// Length of the header (without `num_buffers`, the kernel's default for a TAP).
pub const HEADER_BYTES: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const CHECKSUM_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What segmentation a super-frame waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gso {
    /// None: it is one frame.
    None,
    /// TCP over IPv4.
    Tcp4 {
        /// CWR is set, and belongs to the first segment only.
        ecn: bool,
    },
    /// TCP over IPv6.
    Tcp6 {
        /// CWR is set, and belongs to the first segment only.
        ecn: bool,
    },
    /// UDP datagrams of one size, over either IP.
    Udp,
}

/// Where a checksum is to be completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChecksumPlace {
    /// From which byte of the frame it is summed.
    pub start: u16,
    /// From there to the field.
    pub offset: u16,
}

/// One virtio-net header. What it says of a frame is not yet checked against the frame: [`super::prepare`] does that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VnetHeader {
    /// Segmentation.
    pub gso: Gso,
    /// Payload of each segment, if there is segmentation.
    pub gso_size: u16,
    /// Length of all headers, for the kernel's convenience.
    pub header_bytes: u16,
    /// Where a checksum is to be completed, if it is.
    pub needs_checksum: Option<ChecksumPlace>,
    /// The transport checksum was checked by whoever wrote this.
    pub checksum_valid: bool,
}

impl VnetHeader {
    /// One frame, complete.
    pub const PLAIN: Self =
        Self { gso: Gso::None, gso_size: 0, header_bytes: 0, needs_checksum: None, checksum_valid: false };

    /// Reads a header; the frame follows it.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(Refusal::HeaderTruncated)?;
        let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let ecn = header[1] & GSO_ECN != 0;
        let gso = match header[1] & !GSO_ECN {
            GSO_NONE if !ecn => Gso::None,
            GSO_TCP4 => Gso::Tcp4 { ecn },
            GSO_TCP6 => Gso::Tcp6 { ecn },
            GSO_UDP if !ecn => Gso::Udp,
            _ => return Err(Refusal::GsoUnknown),
        };
        let gso_size = word(4);
        if gso != Gso::None && gso_size == 0 {
            return Err(Refusal::GsoSize);
        }
        Ok(Self {
            gso,
            gso_size,
            header_bytes: word(2),
            needs_checksum: (header[0] & NEEDS_CHECKSUM != 0)
                .then(|| ChecksumPlace { start: word(6), offset: word(8) }),
            checksum_valid: header[0] & CHECKSUM_VALID != 0,
        })
    }

    /// The header's bytes.
    #[inline]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        if self.checksum_valid {
            header[0] |= CHECKSUM_VALID;
        }
        let flag = |ecn| if ecn { GSO_ECN } else { 0 };
        header[1] = match self.gso {
            Gso::None => GSO_NONE,
            Gso::Tcp4 { ecn } => GSO_TCP4 | flag(ecn),
            Gso::Tcp6 { ecn } => GSO_TCP6 | flag(ecn),
            Gso::Udp => GSO_UDP,
        };
        header[2..4].copy_from_slice(&self.header_bytes.to_le_bytes());
        header[4..6].copy_from_slice(&self.gso_size.to_le_bytes());
        if let Some(place) = self.needs_checksum {
            header[0] |= NEEDS_CHECKSUM;
            header[6..8].copy_from_slice(&place.start.to_le_bytes());
            header[8..10].copy_from_slice(&place.offset.to_le_bytes());
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    const SUPER: [u8; HEADER_BYTES] = [
        0x01,       // the checksum is to be completed
        0x81,       // TCP over IPv4, ECN
        66, 0,      // headers: 14 + 20 + 32
        0xa8, 0x05, // segments of 1448
        34, 0,      // the checksum is summed from the TCP header
        16, 0,      // and stands 16 bytes behind its start
    ];

    #[test]
    fn golden_header_round_trips() {
        let header = VnetHeader::parse(&SUPER).unwrap();
        assert_eq!(
            header,
            VnetHeader {
                gso: Gso::Tcp4 { ecn: true },
                gso_size: 1448,
                header_bytes: 66,
                needs_checksum: Some(ChecksumPlace { start: 34, offset: 16 }),
                checksum_valid: false,
            }
        );
        assert_eq!(header.encode(), SUPER);
        assert_eq!(VnetHeader::PLAIN.encode(), [0; HEADER_BYTES]);
        assert_eq!(VnetHeader::parse(&[0; HEADER_BYTES]), Ok(VnetHeader::PLAIN));
    }

    #[test]
    fn cut_headers_and_unknown_types_are_refused() {
        for length in 0..HEADER_BYTES {
            assert_eq!(VnetHeader::parse(&SUPER[..length]), Err(Refusal::HeaderTruncated));
        }
        for kind in [2, 3, 6, 7, 0x20, 0x40, 0x80, 0x83, 0x85, 0xff] {
            let mut header = SUPER;
            header[1] = kind;
            assert_eq!(VnetHeader::parse(&header), Err(Refusal::GsoUnknown), "{kind:#x}");
        }
        let mut header = SUPER;
        header[4..6].fill(0);
        assert_eq!(VnetHeader::parse(&header), Err(Refusal::GsoSize));
    }
}
