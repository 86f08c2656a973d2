//! Netlink messages as bytes: what is written to the kernel and how its answers are cut up.
//!
//! Owns the layout of RFC 3549 messages and attributes; knows no socket and no meaning of any attribute.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 4 | length | whole message with this header |
//! | 4 | 2 | kind | `RTM_*`, a generic netlink family, or `NLMSG_ERROR`/`NLMSG_DONE` |
//! | 6 | 2 | flags | request, acknowledge, dump, create, exclusive |
//! | 8 | 4 | sequence | the answer carries the question's |
//! | 12 | 4 | port | 0 towards the kernel |
//!
//! Attributes follow a fixed header of the kind: length (2, with these four bytes), kind (2), value, padded to 4.
//! All numbers are in the machine's byte order, addresses in the network's. Sources: RFC 3549; `linux/netlink.h`.

pub(crate) const HEADER_BYTES: usize = 16;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
const NESTED: u16 = 0x8000;
/// The two top bits of an attribute's kind are flags.
const ATTRIBUTE_KIND_MASK: u16 = 0x3fff;

pub(crate) const FLAG_REQUEST: u16 = 0x1;
pub(crate) const FLAG_ACK: u16 = 0x4;
pub(crate) const FLAG_EXCLUSIVE: u16 = 0x200;
pub(crate) const FLAG_CREATE: u16 = 0x400;

pub(crate) const KIND_ERROR: u16 = 2;
pub(crate) const KIND_DONE: u16 = 3;

/// A request under construction.
#[derive(Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Starts a request; `header` is the fixed part that the kind wants (`ifinfomsg`, `rtmsg`, …).
    pub(crate) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | FLAG_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(header);
        pad(&mut bytes);
        Self { bytes }
    }

    /// Appends one attribute.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE_HEADER_BYTES + value.len()).expect("lab attributes are short");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        pad(&mut self.bytes);
        self
    }

    /// Appends a text attribute with its closing zero.
    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Appends a number.
    pub(crate) fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Appends an attribute that holds attributes.
    pub(crate) fn nested(self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        self.block(kind | NESTED, &[], fill)
    }

    /// Appends an attribute that holds a fixed header and then attributes (as the peer of a veth pair does).
    pub(crate) fn block(mut self, kind: u16, header: &[u8], fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(header);
        let mut filled = fill(self);
        let length = u16::try_from(filled.bytes.len() - start).expect("lab attributes are short");
        filled.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled
    }

    /// The finished request.
    pub(crate) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).expect("lab messages are short");
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// One message of an answer.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// Cuts a datagram of the kernel into messages; ends at the first that does not fit.
pub(crate) fn answers(mut datagram: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(number_at(datagram, 0)?).ok()?;
        let kind = short_at(datagram, 4)?;
        let sequence = number_at(datagram, 8)?;
        let body = datagram.get(HEADER_BYTES..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Answer { kind, sequence, body })
    })
}

/// Cuts bytes into attributes; ends at the first that does not fit.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(short_at(bytes, 0)?);
        let kind = short_at(bytes, 2)? & ATTRIBUTE_KIND_MASK;
        let value = bytes.get(ATTRIBUTE_HEADER_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of a kind.
pub(crate) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A 16-bit number at an offset.
pub(crate) fn short_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

/// A 32-bit number at an offset.
pub(crate) fn number_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

/// A 64-bit number at an offset.
pub(crate) fn long_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_cover_headers_values_and_nests() {
        let bytes = Message::new(16, FLAG_ACK, &[9; 16])
            .text(3, "v0")
            .nested(18, |info| info.text(1, "veth").number(2, 7))
            .finish(5);
        assert_eq!(usize::try_from(number_at(&bytes, 0).unwrap()).unwrap(), bytes.len());
        let answer = answers(&bytes).next().unwrap();
        assert_eq!((answer.kind, answer.sequence), (16, 5));
        let found: Vec<_> = attributes(&answer.body[16..]).collect();
        assert_eq!(found[0], (3, b"v0\0".as_slice()));
        assert_eq!(found[1].0, 18);
        assert_eq!(attribute(found[1].1, 2), Some(7u32.to_ne_bytes().as_slice()));
    }

    #[test]
    fn cut_answers_end_without_panic() {
        let bytes = Message::new(16, 0, &[0; 16]).text(3, "name").finish(1);
        for end in 0..bytes.len() {
            let _ = answers(&bytes[..end]).flat_map(|answer| attributes(answer.body)).count();
            let _ = attributes(&bytes[..end]).count();
        }
        let mut lying = bytes.clone();
        lying[0..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(answers(&lying).count(), 0);
        lying[0..4].copy_from_slice(&0u32.to_ne_bytes());
        assert_eq!(answers(&lying).count(), 0);
    }
}
