//! What one worker counts beside the switch and the links: offloads refused, devices that failed, questions that crossed a link.

use std::collections::BTreeMap;

use crate::{link::Count, offload::Refusals};

/// One worker's counts.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounters {
    /// Virtio headers and frames that contradict each other.
    pub(crate) offload: Refusals,
    /// Frames for a host that is not a peer.
    pub(crate) no_link: Count,
    /// Frames without a link that found the keeper's queue full.
    pub(crate) hold_full: Count,
    /// Frames of ports given up because too many waited to be sent.
    pub(crate) backlog_full: Count,
    /// Super-frames marked because their flow's queue stood too long.
    pub(crate) backlog_marked: Count,
    /// Segments of flows that do not understand marks, dropped for the same reason.
    pub(crate) backlog_dropped: Count,
    /// Frames a TAP did not take.
    pub(crate) write_failed: Count,
    /// TAP queues that could not be read any more.
    pub(crate) read_failed: Count,
    /// TAP queues given to another worker.
    pub(crate) queues_given: Count,
    /// Errors of the socket on receiving.
    pub(crate) receive_failed: Count,
    /// Datagrams that waited for their line, which the kernel did not take then.
    pub(crate) paced_failed: Count,
    /// ARP frames handed to a link.
    pub(crate) arp_to_links: Count,
    /// Neighbour solicitations and advertisements handed to a link.
    pub(crate) neighbour_to_links: Count,
}

/// All workers' counts.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct WorkerCounts {
    /// Virtio headers refused, by [`crate::offload::Refusal::name`].
    pub offload_refused: BTreeMap<&'static str, u64>,
    /// Frames for a host that is not a peer.
    pub no_link: u64,
    /// Frames without a link that found the keeper's queue full.
    pub hold_full: u64,
    /// Frames of ports given up because too many waited to be sent.
    pub backlog_full: u64,
    /// Super-frames marked (ECN) because their flow's queue stood too long.
    pub backlog_marked: u64,
    /// Segments of flows that do not understand marks, dropped for the same reason.
    pub backlog_dropped: u64,
    /// Frames a TAP did not take.
    pub write_failed: u64,
    /// TAP queues that could not be read any more.
    pub read_failed: u64,
    /// TAP queues that one worker gave to another, which has more time for them or is awake anyway.
    pub queues_given: u64,
    /// Errors of a socket on receiving.
    pub receive_failed: u64,
    /// Datagrams that waited for their line, which the kernel did not take then.
    pub paced_failed: u64,
    /// ARP frames handed to a link: none, where all addresses are known.
    pub arp_to_links: u64,
    /// Neighbour solicitations and advertisements handed to a link: as for ARP.
    pub neighbour_to_links: u64,
}

/// The length of an ARP frame or neighbour message with two tags and options; longer frames are not looked at.
const QUESTION_BYTES_MAX: usize = 14 + 8 + 40 + 8 + 64;

impl WorkerCounters {
    pub(crate) fn add_to(&self, sum: &mut WorkerCounts) {
        for (refusal, count) in self.offload.counts() {
            *sum.offload_refused.entry(refusal.name()).or_default() += count;
        }
        sum.no_link += self.no_link.read();
        sum.hold_full += self.hold_full.read();
        sum.backlog_full += self.backlog_full.read();
        sum.backlog_marked += self.backlog_marked.read();
        sum.backlog_dropped += self.backlog_dropped.read();
        sum.write_failed += self.write_failed.read();
        sum.queues_given += self.queues_given.read();
        sum.read_failed += self.read_failed.read();
        sum.receive_failed += self.receive_failed.read();
        sum.paced_failed += self.paced_failed.read();
        sum.arp_to_links += self.arp_to_links.read();
        sum.neighbour_to_links += self.neighbour_to_links.read();
    }

    /// Looks whether a frame for a link asks or answers for an address.
    #[inline]
    pub(crate) fn note_questions(&self, frame: &[u8]) {
        if frame.len() > QUESTION_BYTES_MAX {
            return;
        }
        let mut at = 12;
        while matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8])) {
            at += 4;
        }
        match frame.get(at..at + 2) {
            Some([0x08, 0x06]) => self.arp_to_links.one(),
            // IPv6, next header ICMPv6, type 135 or 136.
            Some([0x86, 0xdd])
                if frame.get(at + 8) == Some(&58) && matches!(frame.get(at + 42), Some(135 | 136)) =>
            {
                self.neighbour_to_links.one();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arp_and_neighbour_messages_are_seen_also_behind_tags() {
        let counters = WorkerCounters::default();
        let mut arp = vec![0; 12];
        arp.extend([0x81, 0, 0, 5, 0x08, 0x06]);
        arp.resize(46, 0);
        counters.note_questions(&arp);
        let mut solicitation = vec![0; 86];
        solicitation[12..14].copy_from_slice(&[0x86, 0xdd]);
        solicitation[20] = 58;
        solicitation[54] = 135;
        counters.note_questions(&solicitation);
        solicitation[54] = 128;
        counters.note_questions(&solicitation);
        counters.note_questions(&[0; 13]);
        let mut counts = WorkerCounts::default();
        counters.add_to(&mut counts);
        assert_eq!((counts.arp_to_links, counts.neighbour_to_links), (1, 1));
    }
}
