//! Finding members on the local link, by multicast DNS (RFC 6762) and with nothing said to strangers.
//!
//! The story: who looks for members of an overlay asks the link for a service whose name only those can make who know the overlay key: members, and
//! who holds a ticket. A member that hears the question answers it with one TXT record, which is sealed with a key derived from the overlay key: its
//! host key and where it listens on this link. The asker dials it like any other peer; what counts is still the proof at the door. Nobody
//! announces himself unasked. A stranger on the link sees that some overlay is there, by a name that means nothing elsewhere, and how many answer; not which
//! overlay, which hosts, which ports.
//!
//! Loss: questions are repeated, at first after [`INTERVAL_MIN`], then ever more rarely. A forged answer needs the overlay key, and leads to a dial that
//! fails at the door. A repeated one leads to a dial of an address that was good once.
//!
//! | room | owns |
//! |---|---|
//! | this | the service's name, sealing, when to ask and to answer |
//! | [`packet`] | the bytes of the two kinds of packets |
//! | [`driver`](crate::driver::lan) | sockets, interfaces, time |

pub(crate) mod packet;

use crate::{
    bytes::{ADDRESSES_MAX, Malformed, Reader, put_addresses},
    identity::{HostId, Key, OverlayKey, base32},
};
use packet::{Packet, Question};
use rand_core::Rng;
use std::{net::SocketAddr, time::Duration};

/// The first repetition of a question, and how long a host is quiet at most after it has asked: while it has no connection, and when it has.
pub(crate) const INTERVAL_MIN: Duration = Duration::from_secs(1);
pub(crate) const INTERVAL_ALONE_MAX: Duration = Duration::from_secs(10);
pub(crate) const INTERVAL_MAX: Duration = Duration::from_secs(120);
/// One answer serves everybody who asked meanwhile.
pub(crate) const ANSWER_PAUSE: Duration = Duration::from_secs(1);
/// Answers of several hosts do not come at once (RFC 6762, section 6).
const ANSWER_DELAY_MS: [u64; 2] = [20, 120];
/// Overlays looked for at once: the own one, and those of tickets that are being tried.
pub(crate) const SOUGHT_MAX: usize = 4;
const NONCE_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
/// Characters of the service's name: with the underscore, as many as there may be (RFC 6763, section 7.2).
const LABEL_CHARS: usize = 15;

/// What a packet meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Somebody looks for members.
    Question,
    /// A member answered.
    Found { host: HostId, addresses: Vec<SocketAddr> },
    /// Not about this overlay: most of what is on the link.
    Other,
    /// About this overlay, and no good.
    Refused(&'static str),
}

/// One overlay's name on the link, and the keys that go with it.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) overlay: OverlayKey,
    label: String,
    seal: [u8; 32],
    tag: [u8; 32],
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("label", &self.label).finish_non_exhaustive()
    }
}

impl Service {
    pub(crate) fn of(overlay: OverlayKey) -> Self {
        let derive = |context| blake3::derive_key(context, overlay.0.as_bytes());
        let name = base32(&derive("consort 2026 local link service name"));
        Self {
            overlay,
            label: format!("_c{}", &name[..LABEL_CHARS - 1]),
            seal: derive("consort 2026 local link seal"),
            tag: derive("consort 2026 local link tag"),
        }
    }

    /// Asks who is there.
    pub(crate) fn question(&self) -> Vec<u8> {
        packet::encode_question(&self.label)
    }

    /// Says that `host` is here. `nonce` must be drawn anew for each answer.
    pub(crate) fn answer(&self, nonce: [u8; NONCE_BYTES], host: Key, addresses: &[SocketAddr]) -> Vec<u8> {
        let mut plain = host.as_bytes().to_vec();
        put_addresses(&mut plain, &addresses[..addresses.len().min(ADDRESSES_MAX)]);
        self.apply(nonce, &mut plain);
        let mut sealed = nonce.to_vec();
        sealed.extend_from_slice(&plain);
        let tag = self.tag_of(&sealed);
        sealed.extend_from_slice(&tag);
        packet::encode_answer(&self.label, nonce, &sealed)
    }

    /// Hides and shows again: a stream of BLAKE3's, for each nonce another.
    fn apply(&self, nonce: [u8; NONCE_BYTES], bytes: &mut [u8]) {
        let mut stream = vec![0; bytes.len()];
        blake3::Hasher::new_keyed(&self.seal).update(&nonce).finalize_xof().fill(&mut stream);
        bytes.iter_mut().zip(stream).for_each(|(byte, mask)| *byte ^= mask);
    }

    fn tag_of(&self, sealed: &[u8]) -> [u8; TAG_BYTES] {
        *blake3::keyed_hash(&self.tag, sealed).as_bytes().first_chunk().expect("a hash has 32 bytes")
    }

    fn open(&self, sealed: &[u8]) -> Result<Heard, Malformed> {
        let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(Malformed)?;
        // Compared in constant time, as hashes of BLAKE3 are.
        if blake3::hash(tag) != blake3::hash(&self.tag_of(body)) {
            return Ok(Heard::Refused("seal"));
        }
        let (nonce, hidden) = body.split_first_chunk::<NONCE_BYTES>().ok_or(Malformed)?;
        let mut plain = hidden.to_vec();
        self.apply(*nonce, &mut plain);
        let mut reader = Reader::new(&plain);
        let host = Key::from_bytes(reader.array()?).host().ok_or(Malformed)?;
        let mut addresses = reader.addresses()?;
        reader.end()?;
        addresses.retain(|address| is_dialled(*address));
        Ok(Heard::Found { host, addresses })
    }

    /// What a packet from the link means for this overlay.
    pub(crate) fn hear(&self, bytes: &[u8]) -> Heard {
        match packet::decode(bytes, &self.label) {
            Ok(Some(Packet::Question(Question))) => Heard::Question,
            Ok(Some(Packet::Answer(sealed))) => self.open(sealed).unwrap_or(Heard::Refused("malformed")),
            // A link carries packets of many programs; those that are none of ours are nobody's fault.
            Ok(None) | Err(Malformed) => Heard::Other,
        }
    }
}

/// Where a host on this link can be.
fn is_dialled(address: SocketAddr) -> bool {
    let ip = address.ip();
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback()
}

/// When to ask and to answer.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    ask_at: Duration,
    answer_at: Option<Duration>,
    answered_at: Duration,
}

impl Pace {
    pub(crate) fn new(now: Duration) -> Self {
        Self { interval: INTERVAL_MIN, ask_at: now, answer_at: None, answered_at: Duration::ZERO }
    }

    /// The link or what is looked for changed: ask at once.
    pub(crate) fn restart(&mut self, now: Duration) {
        (self.interval, self.ask_at) = (INTERVAL_MIN, now);
    }

    /// Whether to ask now; if so, the next time is planned.
    pub(crate) fn asks(&mut self, now: Duration, alone: bool) -> bool {
        let max = if alone { INTERVAL_ALONE_MAX } else { INTERVAL_MAX };
        // Somebody who lost all others does not wait for what was planned among them.
        self.ask_at = self.ask_at.min(now + max);
        if now < self.ask_at {
            return false;
        }
        self.ask_at = now + self.interval;
        self.interval = (self.interval * 2).min(max);
        true
    }

    /// Somebody asked.
    pub(crate) fn asked(&mut self, now: Duration, rng: &mut impl Rng) {
        let [least, most] = ANSWER_DELAY_MS;
        let delay = Duration::from_millis(least + rng.next_u64() % (most - least));
        self.answer_at.get_or_insert((now + delay).max(self.answered_at + ANSWER_PAUSE));
    }

    /// Whether to answer now.
    pub(crate) fn answers(&mut self, now: Duration) -> bool {
        if self.answer_at.is_none_or(|at| now < at) {
            return false;
        }
        self.answer_at = None;
        self.answered_at = now;
        true
    }

    /// When to look again, at the latest.
    pub(crate) fn next(&self) -> Duration {
        self.answer_at.map_or(self.ask_at, |at| at.min(self.ask_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{key, overlay, seeded};

    fn address() -> SocketAddr {
        "10.0.0.7:7440".parse().unwrap()
    }

    #[test]
    fn members_and_ticket_holders_understand_each_other() {
        let service = Service::of(overlay());
        assert_eq!(service.hear(&service.question()), Heard::Question);
        let answer = service.answer([1; 8], key(5), &[address()]);
        let found = Heard::Found { host: key(5).host().unwrap(), addresses: vec![address()] };
        assert_eq!(service.hear(&answer), found);
    }

    #[test]
    fn a_stranger_learns_neither_host_nor_address_nor_overlay() {
        let service = Service::of(overlay());
        let answer = service.answer([1; 8], key(5), &[address()]);
        let holds = |needle: &[u8]| answer.windows(needle.len()).any(|window| window == needle);
        assert!(
            !holds(&key(5).as_bytes()[..8]) && !holds(&overlay().0.as_bytes()[..8]) && !holds(&[10, 0, 0, 7])
        );
        // Two answers of one host have nothing in common but the name of the service.
        let other = service.answer([2; 8], key(5), &[address()]);
        assert_ne!(answer[answer.len() - 40..], other[other.len() - 40..]);
        let another = Service::of(OverlayKey(key(9)));
        assert_eq!(another.hear(&answer), Heard::Other);
        assert_eq!(another.hear(&service.question()), Heard::Other);
    }

    #[test]
    fn an_answer_that_was_altered_is_refused() {
        let service = Service::of(overlay());
        let answer = service.answer([1; 8], key(5), &[address()]);
        let mut refused = 0;
        for at in 0..answer.len() {
            let mut altered = answer.clone();
            altered[at] ^= 1;
            match service.hear(&altered) {
                Heard::Refused(_) => refused += 1,
                Heard::Other | Heard::Question => {}
                // What is not sealed: header, names, times.
                Heard::Found { host, .. } => assert_eq!(Some(host), key(5).host()),
            }
        }
        assert!(refused >= 32 + 16, "{refused}");
    }

    #[test]
    fn an_address_nobody_can_dial_is_left_out() {
        let service = Service::of(overlay());
        let addresses =
            ["127.0.0.1:1", "0.0.0.0:1", "224.0.0.1:1", "10.0.0.1:0"].map(|text| text.parse().unwrap());
        let heard = service.hear(&service.answer([1; 8], key(5), &addresses));
        assert!(matches!(heard, Heard::Found { addresses, .. } if addresses.is_empty()));
    }

    #[test]
    fn questions_become_rarer_and_start_anew_on_a_change() {
        let s = Duration::from_secs;
        let mut pace = Pace::new(s(10));
        let asked: Vec<u64> = (10..80).filter(|at| pace.asks(s(*at), false)).collect();
        assert_eq!(asked, [10, 11, 13, 17, 25, 41, 73]);
        pace.restart(s(80));
        assert!(pace.asks(s(80), false));
        let mut alone = Pace::new(s(0));
        assert!((0..1000).filter(|at| alone.asks(s(*at), true)).count() >= 100);
    }

    #[test]
    fn many_questions_get_one_answer_a_second() {
        let mut rng = seeded(1);
        let mut pace = Pace::new(Duration::ZERO);
        let mut answers = Vec::new();
        for ms in 2_000..5_000 {
            let now = Duration::from_millis(ms);
            pace.asked(now, &mut rng);
            if pace.answers(now) {
                answers.push(ms);
            }
        }
        assert!((3..=4).contains(&answers.len()), "{answers:?}");
        assert!(answers[0] >= 2_020 && answers.windows(2).all(|two| two[1] - two[0] >= 1_000), "{answers:?}");
    }
}
