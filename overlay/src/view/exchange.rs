//! When to swap records with whom, and the message that carries them.
//!
//! One message each way, of the same form:
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 16 | digest | of the sender's revocations; who holds others asks for them |
//! | 16 | 16 | documents | digest of the sender's documents, likewise |
//! | 32 | 2 | known | how many records the sender holds, at most [`VIEW_MAX`]; in an answer 0 |
//! | 34 | 4 each | tags | of each such record: the last two bytes of its host's key, and two of its sequence ([`Tag`]) |
//! | … | 1 | count | at most [`RECORDS_MAX`] |
//! | … | … | records | each with its length in two bytes |
//!
//! Who asks sends its own record, unless the peer has it; the answer brings what the asker lacks by its tags, half of it the nearest to it, and nothing
//! else: while nothing changes a message is a list of tags. Two hosts whose tags agree hide each other until one of them is renewed.
//! Where the view is but a sample, every second exchange is with a host that is near by Kademlia's metric ([`View::nearest`](super::View::nearest)).
//!
//! Pace: on each new connection at once, then with one random peer at a time. While the view is less than half full and exchanges bring hosts that
//! were not known, the pace is [`INTERVAL_MIN`]; each that brings none doubles it up to [`INTERVAL_MAX`]. So a newcomer fills its view within seconds,
//! and a settled host sends and receives some hundred bytes a second at any size of overlay ([`simulation`](crate::simulation) has the figures).

use super::VIEW_MAX;
use crate::{
    bytes::{Malformed, Reader, put_counted},
    record::{HostRecord, RECORD_BYTES_MAX},
};
use std::{sync::Arc, time::Duration};

/// Most records in one message.
pub(crate) const RECORDS_MAX: usize = 8;
/// The largest message.
pub(crate) const MESSAGE_BYTES_MAX: usize = 35 + 4 * VIEW_MAX + RECORDS_MAX * (2 + RECORD_BYTES_MAX);
/// Pace while the view still grows.
pub(crate) const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Pace of a settled host: 240 records within a record's lifetime, at 600 bytes each 160 B/s in and, since others ask as often, 160 B/s out. Slower
/// loses hosts from the view before they are renewed; faster costs everybody more.
pub(crate) const INTERVAL_MAX: Duration = Duration::from_secs(30);

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) digest: [u8; 16],
    pub(crate) documents: [u8; 16],
    pub(crate) known: Vec<Tag>,
    pub(crate) records: Vec<Vec<u8>>,
}

/// Four bytes that stand for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    /// The last two bytes of its host's key.
    pub(crate) host: u16,
    /// Its sequence in steps of [`SEQUENCE_STEP`], modulo 2^16: more than an hour of milliseconds, and records live minutes.
    pub(crate) version: u16,
}

/// Two records of one host are at least so far apart by their sequences, so that their tags differ.
pub(crate) const SEQUENCE_STEP: u64 = 64;

impl Tag {
    pub(crate) fn of(record: &HostRecord) -> Self {
        let host = record.host.to_bytes().last_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes));
        let step = record.sequence / SEQUENCE_STEP;
        let version = u16::try_from(step % (1 << 16)).expect("below 2^16");
        Self { host, version }
    }

    /// Whether who holds the record of this tag has no use for that of `other`.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.host == other.host && self.version.wrapping_sub(other.version) < 1 << 15
    }
}

impl Exchange {
    pub(crate) fn new(
        digest: [u8; 16],
        documents: [u8; 16],
        mut known: Vec<Tag>,
        records: &[Arc<HostRecord>],
    ) -> Self {
        known.truncate(VIEW_MAX);
        let records = records.iter().take(RECORDS_MAX).map(|record| record.bytes().to_vec()).collect();
        Self { digest, documents, known, records }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.digest.to_vec();
        out.extend_from_slice(&self.documents);
        let known = u16::try_from(self.known.len()).expect("at most VIEW_MAX");
        out.extend_from_slice(&known.to_be_bytes());
        for tag in &self.known {
            out.extend_from_slice(&tag.host.to_be_bytes());
            out.extend_from_slice(&tag.version.to_be_bytes());
        }
        out.push(u8::try_from(self.records.len()).expect("at most RECORDS_MAX"));
        self.records.iter().for_each(|record| put_counted(&mut out, record));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let digest = reader.array()?;
        let documents = reader.array()?;
        let known = usize::from(reader.u16()?);
        if known > VIEW_MAX {
            return Err(Malformed);
        }
        let known = (0..known)
            .map(|_| Ok(Tag { host: reader.u16()?, version: reader.u16()? }))
            .collect::<Result<Vec<Tag>, Malformed>>()?;
        let count = usize::from(reader.u8()?);
        if count > RECORDS_MAX {
            return Err(Malformed);
        }
        let records = (0..count)
            .map(|_| reader.counted(RECORD_BYTES_MAX).map(<[u8]>::to_vec))
            .collect::<Result<Vec<_>, Malformed>>()?;
        reader.end()?;
        Ok(Self { digest, documents, known, records })
    }
}

/// The pace.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    next: Duration,
}

impl Pace {
    pub(crate) fn new(now: Duration) -> Self {
        Self { interval: INTERVAL_MIN, next: now + INTERVAL_MIN }
    }

    /// Whether an exchange is due; if so, the next one is planned.
    pub(crate) fn is_due(&mut self, now: Duration) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + self.interval;
        true
    }

    /// An exchange ended and brought `new_hosts` unknown hosts; the view holds `held` now.
    pub(crate) fn learned(&mut self, new_hosts: usize, held: usize, now: Duration) {
        if new_hosts == 0 || held > VIEW_MAX / 2 {
            self.interval = (self.interval * 2).min(INTERVAL_MAX);
        } else {
            self.interval = INTERVAL_MIN;
            self.next = self.next.min(now + INTERVAL_MIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_one_form() {
        let exchange = Exchange {
            digest: [7; 16],
            documents: [8; 16],
            known: vec![Tag { host: 0x0102, version: 0x0304 }],
            records: vec![vec![1, 2], vec![]],
        };
        let bytes = exchange.encode();
        let mut expected = vec![7; 16];
        expected.extend([8; 16]);
        expected.extend([0, 1, 1, 2, 3, 4]); // one tag
        expected.extend([2, 0, 2, 1, 2, 0, 0]);
        assert_eq!(bytes, expected);
        assert_eq!(Exchange::decode(&bytes), Ok(exchange));
    }

    #[test]
    fn more_records_than_allowed_are_refused_before_they_are_read() {
        let mut bytes = vec![0; 34];
        bytes.push(u8::try_from(RECORDS_MAX).unwrap() + 1);
        assert_eq!(Exchange::decode(&bytes), Err(Malformed));
        let mut bytes = vec![0; 32];
        bytes.extend([1, 1]);
        bytes.extend([0; 1200]);
        assert_eq!(Exchange::decode(&bytes), Err(Malformed), "more hosts than a view holds");
    }

    #[test]
    fn a_tag_covers_what_is_not_newer() {
        let tag = |host, version| Tag { host, version };
        assert!(tag(1, 5).covers(tag(1, 5)) && tag(1, 5).covers(tag(1, 4)));
        assert!(!tag(1, 5).covers(tag(1, 6)) && !tag(1, 5).covers(tag(2, 5)));
        assert!(tag(1, 3).covers(tag(1, 0xffff)), "the counter has come around");
    }

    #[test]
    fn the_pace_slows_when_nothing_is_new_and_quickens_when_something_is() {
        let s = Duration::from_secs;
        let mut pace = Pace::new(s(0));
        assert!(!pace.is_due(Duration::from_millis(999)));
        assert!(pace.is_due(s(1)));
        for _ in 0..10 {
            pace.learned(0, 9, s(1));
        }
        assert!(pace.is_due(s(2)), "one was planned before the pace slowed");
        assert!(!pace.is_due(s(31)));
        pace.learned(1, VIEW_MAX, s(5));
        assert!(!pace.is_due(s(31)), "a full view always meets unknown hosts");
        pace.learned(1, 10, s(5));
        assert!(pace.is_due(s(6)));
    }
}
