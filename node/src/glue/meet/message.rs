//! The messages of `meet/1`: each side tells the other its [`Whereabouts`], request and answer alike.
//!
//! Version (1 byte), then postcard; trailing bytes refused. That is all: the overlay says who sent it, and a lost answer is asked for again when the
//! data plane wants a meeting again.
//!
//! Where the two have a link, the same is said over it too, sealed, as a *note*: one byte (`ASKS` or `ANSWERS`), then the message. It comes through whenever any
//! way of the link does, also while a host that moved has no control connection yet.

use super::whereabouts::Whereabouts;

/// The longest message: the version, 32 bytes of key, 16 candidates of 22 bytes, and what is before the host.
pub const BYTES_MAX: usize = 512;

const VERSION: u8 = 1;

/// First byte of a note that wants one back.
const ASKS: u8 = 1;
/// First byte of one that does not.
const ANSWERS: u8 = 2;

/// What is said over a link.
#[must_use]
pub fn encode_note(wants_answer: bool, whereabouts: &Whereabouts) -> Vec<u8> {
    [&[if wants_answer { ASKS } else { ANSWERS }], &encode(whereabouts)[..]].concat()
}

/// Whether an answer is wanted, and where the other is; none if it is no note of this version.
#[must_use]
pub fn decode_note(bytes: &[u8]) -> Option<(bool, Whereabouts)> {
    let (kind, message) = bytes.split_first()?;
    let wants_answer = match *kind {
        ASKS => true,
        ANSWERS => false,
        _ => return None,
    };
    Some((wants_answer, decode(message)?))
}

/// As it travels.
#[must_use]
pub fn encode(whereabouts: &Whereabouts) -> Vec<u8> {
    let body = postcard::to_stdvec(whereabouts).expect("whereabouts hold nothing postcard cannot write");
    [&[VERSION], &body[..]].concat()
}

/// From the bytes of a message; none if they are not one of this version.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Whereabouts> {
    let body = bytes.strip_prefix(&[VERSION])?;
    match postcard::take_from_bytes(body) {
        Ok((whereabouts, [])) if bytes.len() <= BYTES_MAX => Some(whereabouts),
        Ok(_) | Err(_) => None,
    }
}

/// The fuzz target's body: any bytes are a message that encodes to one of the same meaning, or are refused.
pub fn fuzz(data: &[u8]) {
    if let Some((wants_answer, whereabouts)) = decode_note(data) {
        let again = decode_note(&encode_note(wants_answer, &whereabouts));
        assert_eq!(again, Some((wants_answer, whereabouts)));
    }
    if let Some(whereabouts) = decode(data) {
        assert_eq!(decode(&encode(&whereabouts)), Some(whereabouts));
    }
}

#[cfg(test)]
mod tests {
    use consort_scheduler::bounded::List;
    use consort_vswitch::path::{CANDIDATES_MAX, Candidate, NatKind, NatView, PortPattern};

    use super::*;

    fn full() -> Whereabouts {
        let address = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
        Whereabouts {
            data_key: [0xff; 32],
            candidates: List::first_of([Candidate::local(address); CANDIDATES_MAX]),
            nat: NatView {
                kind: NatKind::AddressAndPortDependent,
                ports: PortPattern::Sequential { last: 65_535, step: -32_768 },
            },
            relays: true,
        }
    }

    #[test]
    fn the_head_of_a_message_is_fixed() {
        let mut small = full();
        small.candidates = List::first_of([Candidate::local("10.0.0.1:7441".parse().unwrap())]);
        let bytes = encode(&small);
        assert_eq!(bytes[0], VERSION);
        assert_eq!(bytes[1..33], [0xff; 32]);
        // One candidate: IPv4, its four bytes, the port as a varint, local.
        assert_eq!(bytes[33..42], [1, 0, 10, 0, 0, 1, 0x91, 0x3a, 0]);
    }

    #[test]
    fn messages_come_out_as_they_went_in_and_nothing_else_does() {
        let bytes = encode(&full());
        assert!(bytes.len() <= BYTES_MAX, "{}", bytes.len());
        assert_eq!(decode(&bytes), Some(full()));
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length}");
        }
        assert_eq!(decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(decode(&[&[2], &bytes[1..]].concat()), None);
    }

    #[test]
    fn the_longest_note_fits_a_link_and_says_whether_it_wants_an_answer() {
        for wants_answer in [true, false] {
            let note = encode_note(wants_answer, &full());
            assert!(note.len() <= consort_vswitch::NOTE_BYTES_MAX, "{}", note.len());
            assert_eq!(decode_note(&note), Some((wants_answer, full())));
            assert_eq!(decode_note(&[&[3], &note[1..]].concat()), None);
        }
        assert_eq!(decode_note(&[]), None);
    }

    #[test]
    fn the_fuzz_target_runs_for_a_moment() {
        let valid = [encode(&full()), encode_note(true, &full())];
        crate::testing::fuzz_for_a_moment(&valid, fuzz);
    }
}
