//! When to swap records with whom, and the message that carries them.
//!
//! One message each way, of the same form:
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 16 | digest | of the sender's revocations; who holds others asks for them |
//! | 16 | 1 | count | at most [`RECORDS_MAX`] |
//! | 17 | … | records | each with its length in two bytes; the sender's own first |
//!
//! Pace: on each new connection at once, then with one random peer at a time. While exchanges still bring hosts that were not known the pace
//! is [`INTERVAL_MIN`]; each that brings none doubles it up to [`INTERVAL_MAX`]. So a newcomer fills its view within seconds and a settled host
//! sends and receives a few hundred bytes a second, at any size of overlay.

use crate::{
    bytes::{Malformed, Reader, put_counted},
    record::{HostRecord, RECORD_BYTES_MAX},
};
use std::{sync::Arc, time::Duration};

/// Most records in one message: the sender's own and a few of its sample.
pub(crate) const RECORDS_MAX: usize = 6;
/// The largest message.
pub(crate) const MESSAGE_BYTES_MAX: usize = 17 + RECORDS_MAX * (2 + RECORD_BYTES_MAX);
/// Pace while the view still grows.
pub(crate) const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Pace of a settled host. At twice 6 records of about 600 bytes, and as much again for being asked, under 1 KB/s.
pub(crate) const INTERVAL_MAX: Duration = Duration::from_secs(20);

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) digest: [u8; 16],
    pub(crate) records: Vec<Vec<u8>>,
}

impl Exchange {
    pub(crate) fn new(digest: [u8; 16], records: &[Arc<HostRecord>]) -> Self {
        let records = records.iter().take(RECORDS_MAX).map(|record| record.bytes().to_vec()).collect();
        Self { digest, records }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.digest.to_vec();
        out.push(u8::try_from(self.records.len()).expect("at most RECORDS_MAX"));
        self.records.iter().for_each(|record| put_counted(&mut out, record));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let digest = reader.array()?;
        let count = usize::from(reader.u8()?);
        if count > RECORDS_MAX {
            return Err(Malformed);
        }
        let records = (0..count)
            .map(|_| reader.counted(RECORD_BYTES_MAX).map(<[u8]>::to_vec))
            .collect::<Result<Vec<_>, Malformed>>()?;
        reader.end()?;
        Ok(Self { digest, records })
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

    /// An exchange ended and brought `new_hosts` unknown hosts.
    pub(crate) fn learned(&mut self, new_hosts: usize, now: Duration) {
        if new_hosts == 0 {
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
        let exchange = Exchange { digest: [7; 16], records: vec![vec![1, 2], vec![]] };
        let bytes = exchange.encode();
        let mut expected = vec![7; 16];
        expected.extend([2, 0, 2, 1, 2, 0, 0]);
        assert_eq!(bytes, expected);
        assert_eq!(Exchange::decode(&bytes), Ok(exchange));
    }

    #[test]
    fn more_records_than_allowed_are_refused_before_they_are_read() {
        let mut bytes = vec![0; 16];
        bytes.push(u8::try_from(RECORDS_MAX).unwrap() + 1);
        assert_eq!(Exchange::decode(&bytes), Err(Malformed));
    }

    #[test]
    fn the_pace_slows_when_nothing_is_new_and_quickens_when_something_is() {
        let s = Duration::from_secs;
        let mut pace = Pace::new(s(0));
        assert!(!pace.is_due(Duration::from_millis(999)));
        assert!(pace.is_due(s(1)));
        for _ in 0..10 {
            pace.learned(0, s(1));
        }
        assert!(pace.is_due(s(2)), "one was planned before the pace slowed");
        assert!(!pace.is_due(s(21)));
        pace.learned(1, s(5));
        assert!(pace.is_due(s(6)));
    }
}
