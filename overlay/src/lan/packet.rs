//! The two packets of multicast DNS that this crate speaks: a question for one service, and its answer.
//!
//! Form: RFC 1035, section 4, as RFC 6762 and 6763 use it. A question has one entry, PTR of `<label>._udp.local`. An answer has the PTR record, whose
//! target is `<nonce in hex>.<label>._udp.local`, and the TXT record of that name with one string: `c1=` and the sealed bytes.
//! Names are written out whole; when reading, compression pointers are followed as long as each leads further back, so no loop is possible.
//!
//! Own code, unlike other formats here: it is these two fixed packets, and the libraries for DNS bring a URL parser and the tables of
//! international names with them.

use crate::bytes::{Malformed, Reader};

const TYPE_PTR: u16 = 12;
const TYPE_TXT: u16 = 16;
const CLASS_IN: u16 = 1;
/// "This replaces what was said before" (RFC 6762, section 10.2), and "answer me alone" in a question.
const CLASS_TOP_BIT: u16 = 0x8000;
const FLAGS_ANSWER: u16 = 0x8400;
const FLAG_RESPONSE: u16 = 0x8000;
/// Seconds for which others may remember an answer.
const TTL: u32 = 120;
const DOMAIN: [&str; 2] = ["_udp", "local"];
const TXT_KEY: &[u8] = b"c1=";
/// The largest packet worth a look; ours have under 400 bytes.
pub(crate) const PACKET_BYTES_MAX: usize = 1_500;
/// Most questions and records looked at in one packet.
const ENTRIES_MAX: u16 = 32;
/// The longest name (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 255;

/// Somebody asks for the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question;

/// What was in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    Question(Question),
    /// The sealed bytes.
    Answer(&'a [u8]),
}

fn put_name(out: &mut Vec<u8>, labels: &[&str]) {
    for label in labels {
        out.push(u8::try_from(label.len()).expect("labels are short"));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
}

fn put_header(out: &mut Vec<u8>, flags: u16, questions: u16, answers: u16) {
    for field in [0, flags, questions, answers, 0, 0] {
        out.extend_from_slice(&field.to_be_bytes());
    }
}

fn put_record(out: &mut Vec<u8>, name: &[&str], kind: u16, class: u16, data: &[u8]) {
    put_name(out, name);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&class.to_be_bytes());
    out.extend_from_slice(&TTL.to_be_bytes());
    out.extend_from_slice(&u16::try_from(data.len()).expect("records are short").to_be_bytes());
    out.extend_from_slice(data);
}

pub(crate) fn encode_question(label: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, 0, 1, 0);
    put_name(&mut out, &[label, DOMAIN[0], DOMAIN[1]]);
    out.extend_from_slice(&TYPE_PTR.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    out
}

pub(crate) fn encode_answer(label: &str, nonce: [u8; 8], sealed: &[u8]) -> Vec<u8> {
    let instance: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
    let (service, full) = ([label, DOMAIN[0], DOMAIN[1]], [instance.as_str(), label, DOMAIN[0], DOMAIN[1]]);
    let mut out = Vec::new();
    put_header(&mut out, FLAGS_ANSWER, 0, 2);
    let mut target = Vec::new();
    put_name(&mut target, &full);
    put_record(&mut out, &service, TYPE_PTR, CLASS_IN, &target);
    let len = u8::try_from(TXT_KEY.len() + sealed.len()).expect("what is sealed is far below 255 bytes");
    let text = [&[len], TXT_KEY, sealed].concat();
    put_record(&mut out, &full, TYPE_TXT, CLASS_IN | CLASS_TOP_BIT, &text);
    out
}

/// What a packet says about the service of that label; `None`: nothing.
pub(crate) fn decode<'a>(bytes: &'a [u8], label: &str) -> Result<Option<Packet<'a>>, Malformed> {
    if bytes.len() > PACKET_BYTES_MAX {
        return Err(Malformed);
    }
    let mut reader = Reader::new(bytes);
    let [_id, flags, questions, answers, _, _] = {
        let mut fields = [0; 6];
        for field in &mut fields {
            *field = reader.u16()?;
        }
        fields
    };
    if questions > ENTRIES_MAX || answers > ENTRIES_MAX {
        return Err(Malformed);
    }
    let service = [label, DOMAIN[0], DOMAIN[1]].join(".");
    for _ in 0..questions {
        let name = read_name(bytes, &mut reader)?;
        let (kind, class) = (reader.u16()?, reader.u16()?);
        let asks =
            kind == TYPE_PTR && class & !CLASS_TOP_BIT == CLASS_IN && name.eq_ignore_ascii_case(&service);
        if asks && flags & FLAG_RESPONSE == 0 {
            return Ok(Some(Packet::Question(Question)));
        }
    }
    for _ in 0..answers {
        let name = read_name(bytes, &mut reader)?;
        let (kind, class, _ttl) = (reader.u16()?, reader.u16()?, reader.u32()?);
        let len = usize::from(reader.u16()?);
        let data = reader.slice(len)?;
        let ours = name.len() > service.len() + 1
            && name.to_ascii_lowercase().ends_with(&format!(".{service}"))
            && flags & FLAG_RESPONSE != 0;
        if kind != TYPE_TXT || class & !CLASS_TOP_BIT != CLASS_IN || !ours {
            continue;
        }
        let (len, text) = data.split_first().ok_or(Malformed)?;
        let text = text.get(..usize::from(*len)).ok_or(Malformed)?;
        return text.strip_prefix(TXT_KEY).map(|sealed| Some(Packet::Answer(sealed))).ok_or(Malformed);
    }
    Ok(None)
}

/// A name with dots; what is no text in it is replaced.
fn read_name<'a>(whole: &'a [u8], reader: &mut Reader<'a>) -> Result<String, Malformed> {
    let mut name = String::new();
    // Where the labels are read from once a pointer was followed.
    let mut elsewhere: Option<Reader<'a>> = None;
    let mut before = whole.len();
    loop {
        let from = elsewhere.as_mut().unwrap_or(reader);
        let len = from.u8()?;
        match len {
            0 => return Ok(name),
            1..=63 => {
                let label = from.slice(usize::from(len))?;
                if name.len() + label.len() + 1 > NAME_BYTES_MAX {
                    return Err(Malformed);
                }
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(&String::from_utf8_lossy(label));
            }
            0xc0.. => {
                let at = usize::from(u16::from_be_bytes([len & 0x3f, from.u8()?]));
                // Each leads further back than the one before: there is no loop.
                if at >= before {
                    return Err(Malformed);
                }
                before = at;
                elsewhere = Some(Reader::new(whole.get(at..).ok_or(Malformed)?));
            }
            _ => return Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_that_of_rfc_6762() {
        let mut expected = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]; // id, flags, counts
        expected.extend(b"\x02_c\x04_udp\x05local\x00");
        expected.extend([0, 12, 0, 1]); // PTR, IN
        assert_eq!(encode_question("_c"), expected);
        assert_eq!(decode(&expected, "_c"), Ok(Some(Packet::Question(Question))));
        assert_eq!(decode(&expected, "_C"), Ok(Some(Packet::Question(Question))), "names have no case");
        assert_eq!(decode(&expected, "_d"), Ok(None));
    }

    #[test]
    fn the_answer_carries_its_text() {
        let answer = encode_answer("_c", [0xab; 8], b"sealed");
        assert_eq!(decode(&answer, "_c"), Ok(Some(Packet::Answer(b"sealed"))));
        assert_eq!(decode(&answer, "_d"), Ok(None));
        assert!(answer.ends_with(b"\x09c1=sealed"));
    }

    #[test]
    fn names_of_other_programs_may_be_compressed_and_may_not_loop() {
        // PTR question for a name that points to one written out before it.
        let mut packet = vec![0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0];
        packet.extend(b"\x01x\x02_c\x04_udp\x05local\x00\x00\x0c\x00\x01");
        packet.extend([0xc0, 14, 0, 12, 0, 1]);
        assert_eq!(decode(&packet, "_c"), Ok(Some(Packet::Question(Question))));
        let mut looping = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        looping.extend([0xc0, 12, 0, 12, 0, 1]);
        looping.extend([0xc0, 12]);
        for at in 12..=14 {
            looping[13] = at;
            // Refused or without meaning; what matters is that it ends.
            assert_ne!(decode(&looping, "_c"), Ok(Some(Packet::Question(Question))));
        }
    }

    #[test]
    fn more_entries_than_a_packet_of_ours_could_have_are_not_read() {
        let mut packet = encode_question("_c");
        packet[4] = 1;
        assert_eq!(decode(&packet, "_c"), Err(Malformed));
    }
}
