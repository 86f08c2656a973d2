//! Frames on a keeper's socket and on a session.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 1 | kind | the number in the second table |
//! | 1 | 4 | length | of the payload, little endian, at most [`PAYLOAD_MAX`] |
//! | 5 | length | payload | by kind |
//!
//! | kind | sent by | payload |
//! |---|---|---|
//! | 1 request | client | JSON of [`super::message::Request`] |
//! | 2 reply | keeper | JSON of [`super::message::Reply`] |
//! | 16 stdin | client | bytes for the program |
//! | 17 stdin end | client | none |
//! | 18 resize | client | rows, columns: two little-endian 16-bit numbers |
//! | 19 stdout | keeper | bytes of the program |
//! | 20 stderr | keeper | bytes of the program |
//! | 21 exit | keeper | the code: little-endian signed 32 bits; the last frame |
//!
//! An unknown kind, a length above the bound or a payload that does not fit its kind ends the connection: on a local socket between
//! two programs of one project there is nothing to recover. A decoder holds at most one frame.

use crate::session::WinSize;

/// The payload of one frame at most: a request with its largest command fits, and a reader needs no more memory than this.
pub const PAYLOAD_MAX: usize = 64 * 1024;

/// Kind and length.
pub const HEADER_LEN: usize = 5;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// JSON of a request.
    Request(Vec<u8>),
    /// JSON of a reply.
    Reply(Vec<u8>),
    /// Bytes for the program.
    Stdin(Vec<u8>),
    /// No more bytes for the program.
    StdinEnd,
    /// The terminal has another size.
    Resize(WinSize),
    /// Bytes from the program.
    Stdout(Vec<u8>),
    /// Bytes from the program.
    Stderr(Vec<u8>),
    /// The program ended.
    Exit(i32),
}

/// The numbers of the kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Request = 1,
    Reply = 2,
    Stdin = 16,
    StdinEnd = 17,
    Resize = 18,
    Stdout = 19,
    Stderr = 20,
    Exit = 21,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Request,
            Self::Reply,
            Self::Stdin,
            Self::StdinEnd,
            Self::Resize,
            Self::Stdout,
            Self::Stderr,
            Self::Exit,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// Why bytes are not frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A kind that no version has.
    #[error("a frame of unknown kind {0}")]
    UnknownKind(u8),
    /// A length above the bound.
    #[error("a frame of {0} bytes, more than {PAYLOAD_MAX}")]
    TooLong(u32),
    /// A payload that its kind cannot have.
    #[error("a frame of kind {kind} with {length} bytes")]
    WrongLength {
        /// The kind.
        kind: u8,
        /// The payload's length.
        length: usize,
    },
}

impl Frame {
    /// The frame's bytes. A payload above [`PAYLOAD_MAX`] must be cut by the caller first.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload): (Kind, &[u8]) = match self {
            Self::Request(bytes) => (Kind::Request, bytes),
            Self::Reply(bytes) => (Kind::Reply, bytes),
            Self::Stdin(bytes) => (Kind::Stdin, bytes),
            Self::StdinEnd => (Kind::StdinEnd, &[]),
            Self::Resize(size) => {
                let [a, b] = size.rows.to_le_bytes();
                let [c, d] = size.columns.to_le_bytes();
                return frame_bytes(Kind::Resize, &[a, b, c, d]);
            }
            Self::Stdout(bytes) => (Kind::Stdout, bytes),
            Self::Stderr(bytes) => (Kind::Stderr, bytes),
            Self::Exit(code) => return frame_bytes(Kind::Exit, &code.to_le_bytes()),
        };
        frame_bytes(kind, payload)
    }
}

fn frame_bytes(kind: Kind, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= PAYLOAD_MAX, "our own frames are cut to the bound before they are encoded");
    let length = u32::try_from(payload.len()).expect("the bound is below 2^32");
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
    bytes.push(kind as u8);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Cuts a stream into frames, however the stream is cut into reads.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Takes bytes as they came. Call [`Decoder::next`] until it gives `None` before giving more, so that no more than a frame
    /// and one read are held.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// The bytes are not frames; nothing after them can be read.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot be given more after it said None")]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let held = &self.buffer[self.start..];
        let Some((&[kind, a, b, c, d], rest)) = held.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let kind = Kind::from_byte(kind).ok_or(FrameError::UnknownKind(kind))?;
        let length = u32::from_le_bytes([a, b, c, d]);
        let length =
            usize::try_from(length).ok().filter(|l| *l <= PAYLOAD_MAX).ok_or(FrameError::TooLong(length))?;
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let wrong = FrameError::WrongLength { kind: kind as u8, length };
        let frame = match kind {
            Kind::Request => Frame::Request(payload.to_vec()),
            Kind::Reply => Frame::Reply(payload.to_vec()),
            Kind::Stdin => Frame::Stdin(payload.to_vec()),
            Kind::StdinEnd if length == 0 => Frame::StdinEnd,
            Kind::StdinEnd => return Err(wrong),
            Kind::Resize => {
                let &[a, b, c, d] = payload else { return Err(wrong) };
                Frame::Resize(WinSize {
                    rows: u16::from_le_bytes([a, b]),
                    columns: u16::from_le_bytes([c, d]),
                })
            }
            Kind::Stdout => Frame::Stdout(payload.to_vec()),
            Kind::Stderr => Frame::Stderr(payload.to_vec()),
            Kind::Exit => Frame::Exit(i32::from_le_bytes(payload.try_into().map_err(|_| wrong)?)),
        };
        self.start += HEADER_LEN + length;
        Ok(Some(frame))
    }

    /// Bytes that wait for the rest of their frame.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }
}

/// The fuzz target's body: any bytes, in any cuts, either decode to frames that encode to the same bytes or are refused.
pub fn fuzz(data: &[u8]) {
    let mut decoder = Decoder::default();
    let mut again = Vec::new();
    let cut = data.first().map_or(1, |byte| usize::from(*byte) + 1);
    for part in data.chunks(cut) {
        decoder.push(part);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => {
                    if let Frame::Request(bytes) = &frame {
                        let _ = super::message::Request::decode(bytes);
                    }
                    again.extend_from_slice(&frame.encode());
                }
                Ok(None) => break,
                Err(_) => return assert!(data.starts_with(&again), "what was decoded is what was sent"),
            }
        }
        assert!(
            decoder.pending() < HEADER_LEN + PAYLOAD_MAX,
            "an unfinished frame is smaller than the largest frame"
        );
    }
    assert!(data.starts_with(&again), "what was decoded is what was sent");
    assert_eq!(again.len() + decoder.pending(), data.len(), "no byte is lost");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<(Frame, Vec<u8>)> {
        vec![
            (Frame::Request(b"{}".to_vec()), vec![1, 2, 0, 0, 0, b'{', b'}']),
            (Frame::Reply(b"{}".to_vec()), vec![2, 2, 0, 0, 0, b'{', b'}']),
            (Frame::Stdin(b"a".to_vec()), vec![16, 1, 0, 0, 0, b'a']),
            (Frame::StdinEnd, vec![17, 0, 0, 0, 0]),
            (Frame::Resize(WinSize { rows: 24, columns: 0x150 }), vec![18, 4, 0, 0, 0, 24, 0, 0x50, 0x01]),
            (Frame::Stdout(vec![]), vec![19, 0, 0, 0, 0]),
            (Frame::Stderr(b"e".to_vec()), vec![20, 1, 0, 0, 0, b'e']),
            (Frame::Exit(-2), vec![21, 4, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff]),
        ]
    }

    #[test]
    fn golden_bytes_both_ways() {
        for (frame, bytes) in all() {
            assert_eq!(frame.encode(), bytes);
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            assert_eq!(decoder.next(), Ok(Some(frame)));
            assert_eq!(decoder.next(), Ok(None));
            assert_eq!(decoder.pending(), 0);
        }
    }

    #[test]
    fn a_stream_may_be_cut_anywhere() {
        let bytes: Vec<u8> = all().into_iter().flat_map(|(_, bytes)| bytes).collect();
        for size in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut frames = Vec::new();
            for part in bytes.chunks(size) {
                decoder.push(part);
                while let Some(frame) = decoder.next().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, all().into_iter().map(|(frame, _)| frame).collect::<Vec<_>>());
        }
    }

    #[test]
    fn hostile_headers_are_refused_before_anything_is_allocated_for_them() {
        for (bytes, error) in [
            (vec![0, 0, 0, 0, 0], FrameError::UnknownKind(0)),
            (vec![16, 1, 0, 1, 0], FrameError::TooLong(65537)),
            (vec![19, 255, 255, 255, 255], FrameError::TooLong(u32::MAX)),
            (vec![17, 1, 0, 0, 0, 0], FrameError::WrongLength { kind: 17, length: 1 }),
            (vec![21, 3, 0, 0, 0, 0, 0, 0], FrameError::WrongLength { kind: 21, length: 3 }),
        ] {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            assert_eq!(decoder.next(), Err(error));
        }
    }

    #[test]
    fn the_fuzz_target_runs_for_a_moment() {
        let valid: Vec<u8> = all().into_iter().flat_map(|(_, bytes)| bytes).collect();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..20_000 {
            let mut data = valid.clone();
            match round % 3 {
                0 => data = (0..random() % 64).map(|_| random().to_le_bytes()[0]).collect(),
                1 => {
                    let at = usize::try_from(random()).unwrap() % data.len();
                    data[at] ^= 1 << (random() % 8);
                }
                _ => data.truncate(usize::try_from(random()).unwrap() % data.len()),
            }
            fuzz(&data);
        }
    }
}
