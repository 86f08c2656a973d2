//! One part of a frame that does not fit the path.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 4 | frame | which frame; grows by one with each frame that is cut on this link |
//! | 4 | 2 | total | bytes of the whole frame |
//! | 6 | 1 | index | which part, from 0 |
//! | 7 | 1 | count | how many parts: 2 to [`PARTS_MAX`] |
//!
//! All parts but the last are `ceil(total / count)` bytes long, so that place and length of each follow from the header: parts
//! cannot overlap or leave gaps, and all datagrams of a frame but the last have one length, as UDP segmentation wants it.

use super::{DATAGRAM_BYTES_MAX, Refusal, u16_at, u32_at};

/// Bytes of [`Fragment`].
pub const FRAGMENT_BYTES: usize = 8;
/// Most parts of one frame: the largest frame ([`FRAME_BYTES_MAX`]) over the smallest path needs 9; a bit each in a `u16`.
pub const PARTS_MAX: u8 = 16;
/// The largest frame a link carries: 9216 bytes (the usual jumbo limit of switches), Ethernet header and two tags.
pub const FRAME_BYTES_MAX: usize = 9216 + 14 + 8;

const _: () = assert!(FRAME_BYTES_MAX < DATAGRAM_BYTES_MAX);

/// Which part of which frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    frame: u32,
    total: u16,
    index: u8,
    count: u8,
}

impl Fragment {
    /// The parts of a frame of `total` bytes, so that none is longer than `part_max`; none if it cannot be.
    pub fn parts(frame: u32, total: usize, part_max: usize) -> Option<impl ExactSizeIterator<Item = Self>> {
        if total > FRAME_BYTES_MAX || part_max == 0 {
            return None;
        }
        let count =
            u8::try_from(total.div_ceil(part_max)).ok().filter(|count| (2..=PARTS_MAX).contains(count))?;
        let total = u16::try_from(total).ok()?;
        Some((0..count).map(move |index| Self { frame, total, index, count }))
    }

    /// Reads it and gives the part, whose length is right.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Refusal> {
        let Some((header, part)) = bytes.split_at_checked(FRAGMENT_BYTES) else {
            return Err(Refusal::Length);
        };
        let this =
            Self { frame: u32_at(header, 0), total: u16_at(header, 4), index: header[6], count: header[7] };
        let total = usize::from(this.total);
        if !(2..=PARTS_MAX).contains(&this.count)
            || this.index >= this.count
            || total > FRAME_BYTES_MAX
            || total < usize::from(this.count)
        {
            return Err(Refusal::Foreign);
        }
        // A last part without bytes (total 9 in 8 parts of 2) has no place either.
        if usize::from(this.count - 1) * this.stride() >= total || part.len() != this.part_bytes() {
            return Err(Refusal::Length);
        }
        Ok((this, part))
    }

    /// Writes it.
    pub fn encode(self) -> [u8; FRAGMENT_BYTES] {
        let mut bytes = [0; FRAGMENT_BYTES];
        bytes[..4].copy_from_slice(&self.frame.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.total.to_le_bytes());
        bytes[6] = self.index;
        bytes[7] = self.count;
        bytes
    }

    /// Which frame.
    pub fn frame(self) -> u32 {
        self.frame
    }

    /// Bytes of the whole frame.
    pub fn total(self) -> usize {
        usize::from(self.total)
    }

    /// Which part.
    pub fn index(self) -> u8 {
        self.index
    }

    /// How many parts.
    pub fn count(self) -> u8 {
        self.count
    }

    /// Where the part stands in the frame.
    pub fn offset(self) -> usize {
        usize::from(self.index) * self.stride()
    }

    /// How long it is.
    pub fn part_bytes(self) -> usize {
        self.stride().min(self.total() - self.offset())
    }

    fn stride(self) -> usize {
        self.total().div_ceil(usize::from(self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let parts: Vec<_> = Fragment::parts(0x0403_0201, 1514, 1400).unwrap().collect();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[1].encode(), [1, 2, 3, 4, /* total 1514 */ 0xea, 5, /* index */ 1, /* count */ 2]);
        assert_eq!((parts[0].offset(), parts[0].part_bytes()), (0, 757));
        assert_eq!((parts[1].offset(), parts[1].part_bytes()), (757, 757));
    }

    #[test]
    fn every_size_is_cut_without_gap_or_overlap() {
        for part_max in [576, 1140, 1190, 1436] {
            for total in part_max + 1..=FRAME_BYTES_MAX {
                let Some(parts) = Fragment::parts(7, total, part_max) else {
                    assert!(total > part_max * usize::from(PARTS_MAX));
                    continue;
                };
                let mut end = 0;
                for part in parts {
                    assert_eq!(part.offset(), end);
                    end += part.part_bytes();
                    let mut bytes = part.encode().to_vec();
                    bytes.resize(FRAGMENT_BYTES + part.part_bytes(), 0);
                    assert!(part.part_bytes() <= part_max);
                    assert_eq!(Fragment::parse(&bytes).unwrap().0, part);
                    bytes.push(0);
                    assert_eq!(Fragment::parse(&bytes), Err(Refusal::Length));
                }
                assert_eq!(end, total);
            }
        }
        assert!(Fragment::parts(7, 1400, 1400).is_none(), "what fits is not cut");
        assert!(Fragment::parts(7, FRAME_BYTES_MAX + 1, 1400).is_none());
    }

    #[test]
    fn impossible_headers_are_refused() {
        let part = |total: u16, index: u8, count: u8, len: usize| {
            let mut bytes = vec![0; 4];
            bytes.extend(total.to_le_bytes());
            bytes.extend([index, count]);
            bytes.resize(FRAGMENT_BYTES + len, 0);
            Fragment::parse(&bytes).map(|_| ())
        };
        assert_eq!(part(1514, 0, 2, 757), Ok(()));
        assert_eq!(part(1514, 0, 1, 1514), Err(Refusal::Foreign)); // one part is no fragment
        assert_eq!(part(1514, 2, 2, 757), Err(Refusal::Foreign)); // index beyond count
        assert_eq!(part(1514, 0, 17, 90), Err(Refusal::Foreign)); // too many parts
        assert_eq!(part(9300, 0, 2, 4650), Err(Refusal::Foreign)); // too large a frame
        assert_eq!(part(1, 0, 2, 1), Err(Refusal::Foreign)); // more parts than bytes
        assert_eq!(part(9, 0, 8, 2), Err(Refusal::Length)); // parts without bytes
        assert_eq!(part(1514, 1, 2, 756), Err(Refusal::Length));
        assert_eq!(Fragment::parse(&[0; 7]), Err(Refusal::Length));
    }
}
