//! Captured frames as a file that other tools read: the classic pcap format (draft-ietf-opsawg-pcap), times in microseconds.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MAGIC: u32 = 0xa1b2_c3d4;
const VERSION: [u16; 2] = [2, 4];
const LINK_TYPE_ETHERNET: u32 = 1;
const FRAME_BYTES_MAX: u32 = 65_535;

/// Writes a pcap file.
#[derive(Debug)]
pub struct PcapWriter<W: Write> {
    out: W,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the file's header.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&MAGIC.to_le_bytes())?;
        out.write_all(&VERSION[0].to_le_bytes())?;
        out.write_all(&VERSION[1].to_le_bytes())?;
        // Time zone and accuracy are zero in every file.
        out.write_all(&[0; 8])?;
        out.write_all(&FRAME_BYTES_MAX.to_le_bytes())?;
        out.write_all(&LINK_TYPE_ETHERNET.to_le_bytes())?;
        Ok(Self { out })
    }

    /// Writes a frame, cut at 65,535 bytes.
    pub fn frame(&mut self, at: SystemTime, frame: &[u8]) -> io::Result<()> {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let kept = length.min(FRAME_BYTES_MAX);
        for field in [seconds, since.subsec_micros(), kept, length] {
            self.out.write_all(&field.to_le_bytes())?;
        }
        self.out.write_all(&frame[..kept as usize])
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_golden_bytes() {
        let mut bytes = Vec::new();
        let mut writer = PcapWriter::new(&mut bytes).unwrap();
        writer.frame(UNIX_EPOCH + Duration::new(3, 4_000), &[0xaa, 0xbb]).unwrap();
        let golden = [
            0xd4, 0xc3, 0xb2, 0xa1, // magic
            2, 0, 4, 0, // version 2.4
            0, 0, 0, 0, 0, 0, 0, 0, // zone, accuracy
            0xff, 0xff, 0, 0, // longest frame
            1, 0, 0, 0, // Ethernet
            3, 0, 0, 0, // seconds
            4, 0, 0, 0, // microseconds
            2, 0, 0, 0, // kept
            2, 0, 0, 0, // length on the wire
            0xaa, 0xbb,
        ];
        assert_eq!(bytes, golden);
    }
}
