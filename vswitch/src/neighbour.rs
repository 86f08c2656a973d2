//! Questions for addresses (ARP, neighbour solicitation) answered on the asking machine's own host, from the record.

use crate::frame::ethernet::{HEADER_BYTES, TAG_BYTES, TAGS_MAX};

/// The largest answer: Ethernet with tags, IPv6, a neighbour advertisement with its link-layer address option.
pub const ANSWER_BYTES_MAX: usize = HEADER_BYTES + TAGS_MAX * TAG_BYTES + 40 + 32;

/// A frame the switch made itself, to be written to the port that asked. Its checksums are complete.
#[derive(Clone, Copy)]
pub struct Answer {
    pub(crate) bytes: [u8; ANSWER_BYTES_MAX],
    pub(crate) len: usize,
}

impl Answer {
    /// The frame.
    pub fn frame(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({} bytes)", self.len)
    }
}
