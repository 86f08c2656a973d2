//! Channels: one per network that two hosts share, each direction opened with a grant and closed by time.
//!
//! # The story
//! A host that wants to take part in a network with a peer presents the grant that node gave it for that peer (*open*). The peer's
//! node judges the grant and says for how long it holds; the peer gives a channel number (*accept*) or a reason (*refuse*).
//! Each host does so for itself; so a frame passes only where *both* hosts have shown a grant:
//!
//! | | needs |
//! |---|---|
//! | sending to the peer | the peer accepted our grant (it gave the number), and we accepted the peer's (it may receive) |
//! | receiving from the peer | we accepted the peer's grant and its time is not over |
//!
//! - A channel is asked for again before it runs out ([`RENEW_AT`]), and at once when node gives a newer grant; it stays open
//!   meanwhile. An acceptance that is not renewed ends by itself, without a message.
//! - A lost open, accept or refuse is healed by asking again; the same question gets the same answer without asking node again.
//! - Numbers grow through the life of a link and are not used twice, so that a late frame cannot fall into another network.
//! - A peer that does not know a number says so (*unknown*), and the channel is asked for again.
//!
//! ```text
//! outbound: idle ─grant─▶ asking ─accept─▶ open ─time─▶ asking …      inbound: none ─open─▶ asked ─answer─▶ open ─time─▶ none
//!                            └─refuse─▶ refused ─time─▶ asking                                 └─refusal─▶ refused ─time─▶ none
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::counters::Count;
use crate::wire::control::{GrantDigest, GrantRefusal};

/// Unanswered questions are asked again after this, doubled each time up to [`ASK_MAX`].
const ASK_FIRST: Duration = Duration::from_millis(300);
/// The longest wait between questions.
const ASK_MAX: Duration = Duration::from_secs(10);
/// The first wait after a refusal, doubled each time up to [`REFUSED_MAX`]: the peer's node may learn of the network a moment later.
const REFUSED_FIRST: Duration = Duration::from_millis(250);
/// The longest wait after a refusal.
const REFUSED_MAX: Duration = Duration::from_secs(30);
/// How much of an acceptance is left when it is asked for again.
pub(super) const RENEW_AT: u32 = 3;
/// How long node has to answer before a repeated question is put to it again.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// How long a refusal is repeated without asking node again.
const REFUSAL_KEPT: Duration = Duration::from_secs(1);
/// The longest acceptance: grants are for minutes or hours, and a number of this size cannot overflow an [`Instant`].
const VALID_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ask {
    tries: u32,
    at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outbound {
    Idle,
    Asking(Ask),
    Open { number: u32, until: Instant, ask: Ask },
    Refused { ask: Ask },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inbound {
    None,
    Asked { digest: GrantDigest, since: Instant },
    Open { digest: GrantDigest, from: Instant, until: Instant, asked: Option<(GrantDigest, Instant)> },
    Refused { digest: GrantDigest, reason: GrantRefusal, until: Instant },
}

/// One network on one link.
#[derive(Debug)]
pub(super) struct Channel {
    grant: Option<Vec<u8>>,
    outbound: Outbound,
    inbound: Inbound,
    /// The number the peer sends with; given with the first acceptance.
    number: Option<u32>,
    /// Bytes of frames sent to the peer.
    frame_bytes: Arc<Count>,
}

/// What to do about a peer's open.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Node must judge it.
    AskNode,
    /// Say this again.
    Accept { number: u32, left: Duration },
    /// Say this again.
    Refuse(GrantRefusal),
    /// Node is judging it.
    Wait,
}

/// What a channel's timeout asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    /// Present the grant.
    Ask,
}

/// Whether frames may go to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sendable {
    /// With this number until then.
    Open { number: u32, until: Instant },
    /// It may become so shortly.
    Waiting,
    /// Not as things are.
    No,
}

impl Channel {
    pub(super) fn new() -> Self {
        Self {
            grant: None,
            outbound: Outbound::Idle,
            inbound: Inbound::None,
            number: None,
            frame_bytes: Arc::default(),
        }
    }

    /// Where bytes of frames to the peer are counted.
    pub(super) fn frame_bytes(&self) -> &Arc<Count> {
        &self.frame_bytes
    }

    /// The grant to present.
    pub(super) fn grant(&self) -> Option<&[u8]> {
        self.grant.as_deref()
    }

    /// Node gives the grant to present. A new one is presented at once.
    pub(super) fn offer(&mut self, now: Instant, grant: Vec<u8>) {
        if self.grant.as_ref() == Some(&grant) {
            return;
        }
        self.grant = Some(grant);
        self.ask_again(now);
    }

    /// The link's other end began a new life: it knows nothing.
    pub(super) fn reset(&mut self, now: Instant) {
        self.inbound = Inbound::None;
        self.outbound = Outbound::Idle;
        self.ask_again(now);
    }

    /// The next question goes out at once; an open channel stays open.
    pub(super) fn ask_again(&mut self, now: Instant) {
        if self.grant.is_none() {
            return;
        }
        let ask = Ask { tries: 0, at: now };
        self.outbound = match self.outbound {
            Outbound::Open { number, until, .. } => Outbound::Open { number, until, ask },
            Outbound::Idle | Outbound::Asking(_) | Outbound::Refused { .. } => Outbound::Asking(ask),
        };
    }

    /// The peer does not know the number we send with.
    pub(super) fn unknown(&mut self, now: Instant, number: u32) {
        if matches!(self.outbound, Outbound::Open { number: ours, .. } if ours == number) {
            self.outbound = Outbound::Idle;
            self.ask_again(now);
        }
    }

    /// The peer closed the channel, both ways.
    pub(super) fn closed(&mut self, now: Instant) {
        self.inbound = Inbound::None;
        self.outbound = match self.grant {
            Some(_) => Outbound::Asking(Ask { tries: 0, at: now + ASK_MAX }),
            None => Outbound::Idle,
        };
    }

    /// What is due. With [`Act::Ask`] the next time is set already.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Act {
        match self.inbound {
            Inbound::Open { until, .. } | Inbound::Refused { until, .. } if until <= now => {
                self.inbound = Inbound::None
            }
            _ => {}
        }
        let again = |ask: Ask, first: Duration, longest: Duration| Ask {
            tries: ask.tries + 1,
            at: now + (first * 2_u32.saturating_pow(ask.tries.min(10))).min(longest),
        };
        match self.outbound {
            Outbound::Asking(ask) if ask.at <= now => {
                self.outbound = Outbound::Asking(again(ask, ASK_FIRST, ASK_MAX))
            }
            Outbound::Refused { ask } if ask.at <= now => {
                self.outbound = Outbound::Refused { ask: again(ask, REFUSED_FIRST, REFUSED_MAX) };
            }
            Outbound::Open { number, until, ask } if ask.at <= now => {
                let ask = again(ask, ASK_FIRST, ASK_MAX);
                self.outbound =
                    if until <= now { Outbound::Asking(ask) } else { Outbound::Open { number, until, ask } };
            }
            Outbound::Open { until, .. } if until <= now => {
                self.outbound = Outbound::Asking(Ask { tries: 1, at: now + ASK_FIRST });
            }
            Outbound::Idle | Outbound::Asking(_) | Outbound::Refused { .. } | Outbound::Open { .. } => {
                return Act::Nothing;
            }
        }
        if self.grant.is_some() {
            Act::Ask
        } else {
            self.outbound = Outbound::Idle;
            Act::Nothing
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let outbound = match self.outbound {
            Outbound::Idle => None,
            Outbound::Asking(ask) | Outbound::Refused { ask } => Some(ask.at),
            Outbound::Open { until, ask, .. } => Some(ask.at.min(until)),
        };
        let inbound = match self.inbound {
            Inbound::Open { until, .. } | Inbound::Refused { until, .. } => Some(until),
            Inbound::None | Inbound::Asked { .. } => None,
        };
        outbound.into_iter().chain(inbound).min()
    }

    /// The peer presented a grant.
    pub(super) fn opened_by_peer(&mut self, now: Instant, digest: GrantDigest) -> Question {
        match &mut self.inbound {
            Inbound::Asked { since, .. } if now < *since + ANSWER_WAIT => Question::Wait,
            Inbound::Refused { digest: refused, reason, until } if *refused == digest && now < *until => {
                Question::Refuse(*reason)
            }
            Inbound::Open { digest: accepted, from, until, asked } if now < *until => {
                let (left, whole) = (*until - now, *until - *from);
                if *accepted == digest && left > whole / RENEW_AT {
                    let number = self.number.expect("an open channel has its number");
                    Question::Accept { number, left }
                } else if asked.is_some_and(|(_, since)| now < since + ANSWER_WAIT) {
                    Question::Wait
                } else {
                    *asked = Some((digest, now));
                    Question::AskNode
                }
            }
            Inbound::None | Inbound::Asked { .. } | Inbound::Open { .. } | Inbound::Refused { .. } => {
                self.inbound = Inbound::Asked { digest, since: now };
                Question::AskNode
            }
        }
    }

    /// Node's event could not be delivered: the peer's next question is as the first.
    pub(super) fn forget_question(&mut self) {
        match &mut self.inbound {
            Inbound::Asked { .. } => self.inbound = Inbound::None,
            Inbound::Open { asked, .. } => *asked = None,
            Inbound::None | Inbound::Refused { .. } => {}
        }
    }

    /// Node judged a grant. False if nobody waits for it any more. `number` draws a number for a channel that has none.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        digest: GrantDigest,
        answer: Result<Duration, GrantRefusal>,
        number: impl FnOnce() -> Option<u32>,
    ) -> Option<Result<(u32, Duration), GrantRefusal>> {
        let waiting = match self.inbound {
            Inbound::Asked { digest: asked, .. } => asked == digest,
            Inbound::Open { asked: Some((asked, _)), .. } => asked == digest,
            Inbound::None | Inbound::Open { .. } | Inbound::Refused { .. } => false,
        };
        if !waiting {
            return None;
        }
        let answer = answer.and_then(|valid| {
            if self.number.is_none() {
                self.number = number();
            }
            self.number.map(|number| (number, valid.min(VALID_MAX))).ok_or(GrantRefusal::Full)
        });
        self.inbound = match answer {
            Ok((_, valid)) => Inbound::Open { digest, from: now, until: now + valid, asked: None },
            Err(reason) => Inbound::Refused { digest, reason, until: now + REFUSAL_KEPT },
        };
        Some(answer)
    }

    /// The peer accepted a grant; ignored if it is not the one we present now.
    pub(super) fn accepted(&mut self, now: Instant, digest: GrantDigest, number: u32, seconds: u32) {
        if self.grant.as_deref().map(GrantDigest::of) != Some(digest) {
            return;
        }
        let valid = Duration::from_secs(seconds.into()).min(VALID_MAX);
        let ask = Ask { tries: 0, at: now + valid - valid / (RENEW_AT + 1) };
        self.outbound = Outbound::Open { number, until: now + valid, ask };
    }

    /// The peer refused a grant; true if it is the one we present now and this is news.
    pub(super) fn refused(&mut self, now: Instant, digest: GrantDigest) -> bool {
        if self.grant.as_deref().map(GrantDigest::of) != Some(digest) {
            return false;
        }
        match self.outbound {
            Outbound::Refused { .. } => false,
            Outbound::Idle | Outbound::Asking(_) | Outbound::Open { .. } => {
                self.outbound = Outbound::Refused { ask: Ask { tries: 1, at: now + REFUSED_FIRST } };
                true
            }
        }
    }

    /// Whether frames may go to the peer.
    pub(super) fn sendable(&self) -> Sendable {
        match (self.outbound, self.inbound) {
            (Outbound::Open { number, until, .. }, Inbound::Open { until: theirs, .. }) => {
                Sendable::Open { number, until: until.min(theirs) }
            }
            (Outbound::Idle | Outbound::Refused { .. }, _) | (_, Inbound::Refused { .. }) => Sendable::No,
            (Outbound::Asking(_) | Outbound::Open { .. }, _) => Sendable::Waiting,
        }
    }

    /// The number the peer may send with, and until when.
    pub(super) fn receivable(&self) -> Option<(u32, Instant)> {
        match (self.inbound, self.number) {
            (Inbound::Open { until, .. }, Some(number)) => Some((number, until)),
            _ => None,
        }
    }

    /// Whether we present a grant.
    pub(super) fn wanted(&self) -> bool {
        self.grant.is_some()
    }

    /// Whether there is nothing to remember but the number.
    pub(super) fn idle(&self) -> bool {
        self.grant.is_none() && self.inbound == Inbound::None
    }

    /// The state in a word each way, for people.
    pub(super) fn words(&self, now: Instant) -> (&'static str, &'static str) {
        let outbound = match self.outbound {
            Outbound::Idle => "idle",
            Outbound::Asking(_) => "asking",
            Outbound::Open { until, .. } if now < until => "open",
            Outbound::Open { .. } => "lapsed",
            Outbound::Refused { .. } => "refused",
        };
        let inbound = match self.inbound {
            Inbound::None => "none",
            Inbound::Asked { .. } => "asked",
            Inbound::Open { until, .. } if now < until => "open",
            Inbound::Open { .. } => "lapsed",
            Inbound::Refused { .. } => "refused",
        };
        (outbound, inbound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const GRANT: &[u8] = b"grant";
    const MINUTE: Duration = Duration::from_secs(60);

    fn digest() -> GrantDigest {
        GrantDigest::of(GRANT)
    }

    fn open_both_ways(now: Instant) -> Channel {
        let mut channel = Channel::new();
        channel.offer(now, GRANT.to_vec());
        assert_eq!(channel.handle_timeout(now), Act::Ask);
        assert_eq!(channel.sendable(), Sendable::Waiting);
        channel.accepted(now, digest(), 7, 60);
        assert_eq!(channel.sendable(), Sendable::Waiting, "the peer has shown no grant yet");
        assert_eq!(channel.opened_by_peer(now, digest()), Question::AskNode);
        assert_eq!(channel.opened_by_peer(now, digest()), Question::Wait);
        assert_eq!(channel.receivable(), None);
        assert_eq!(channel.answer(now, digest(), Ok(MINUTE), || Some(3)), Some(Ok((3, MINUTE))));
        channel
    }

    #[test]
    fn opens_only_when_both_have_shown_a_grant() {
        let now = testing::now();
        let channel = open_both_ways(now);
        assert_eq!(channel.sendable(), Sendable::Open { number: 7, until: now + MINUTE });
        assert_eq!(channel.receivable(), Some((3, now + MINUTE)));
    }

    #[test]
    fn expires_by_itself_both_ways() {
        let now = testing::now();
        let mut channel = open_both_ways(now);
        channel.handle_timeout(now + MINUTE);
        assert_eq!(channel.receivable(), None);
        assert_eq!(channel.sendable(), Sendable::Waiting);
    }

    #[test]
    fn is_renewed_before_it_expires_and_stays_open_meanwhile() {
        let now = testing::now();
        let mut channel = open_both_ways(now);
        let at = channel.poll_timeout().unwrap();
        assert!(at < now + MINUTE);
        assert_eq!(channel.handle_timeout(at), Act::Ask);
        assert_eq!(channel.sendable(), Sendable::Open { number: 7, until: now + MINUTE });
        channel.accepted(at, digest(), 7, 60);
        // The peer renews too: node is asked again, the number stays.
        assert_eq!(channel.opened_by_peer(at, digest()), Question::AskNode);
        assert_eq!(channel.receivable(), Some((3, now + MINUTE)));
        assert_eq!(
            channel.answer(at, digest(), Ok(MINUTE), || panic!("it has a number")),
            Some(Ok((3, MINUTE)))
        );
        assert_eq!(channel.sendable(), Sendable::Open { number: 7, until: at + MINUTE });
    }

    #[test]
    fn a_repeated_question_gets_the_same_answer_without_node() {
        let now = testing::now();
        let mut channel = open_both_ways(now);
        let left = MINUTE - Duration::from_secs(1);
        assert_eq!(
            channel.opened_by_peer(now + Duration::from_secs(1), digest()),
            Question::Accept { number: 3, left }
        );
        let mut channel = Channel::new();
        channel.opened_by_peer(now, digest());
        channel.answer(now, digest(), Err(GrantRefusal::Expired), || None);
        assert_eq!(channel.opened_by_peer(now, digest()), Question::Refuse(GrantRefusal::Expired));
        assert_eq!(channel.opened_by_peer(now, GrantDigest::of(b"better")), Question::AskNode);
    }

    #[test]
    fn late_answers_are_ignored() {
        let now = testing::now();
        let mut channel = Channel::new();
        channel.offer(now, GRANT.to_vec());
        channel.accepted(now, GrantDigest::of(b"old"), 7, 60);
        assert!(!channel.refused(now, GrantDigest::of(b"old")));
        assert_eq!(channel.sendable(), Sendable::Waiting);
        assert_eq!(channel.answer(now, digest(), Ok(MINUTE), || Some(1)), None);
    }

    #[test]
    fn a_refusal_is_told_once_and_asked_again_ever_later() {
        let now = testing::now();
        let mut channel = Channel::new();
        channel.offer(now, GRANT.to_vec());
        channel.handle_timeout(now);
        assert!(channel.refused(now, digest()));
        assert!(!channel.refused(now, digest()));
        assert_eq!(channel.sendable(), Sendable::No);
        let mut at = now;
        let mut waits = Vec::new();
        for _ in 0..10 {
            let next = channel.poll_timeout().unwrap();
            waits.push(next - at);
            at = next;
            assert_eq!(channel.handle_timeout(at), Act::Ask);
        }
        assert_eq!(waits[0], REFUSED_FIRST);
        assert!(waits.is_sorted() && waits[9] == REFUSED_MAX, "{waits:?}");
        channel.offer(at, b"better".to_vec());
        assert_eq!(channel.poll_timeout(), Some(at), "a better grant is shown at once");
    }

    #[test]
    fn an_unknown_number_and_a_new_life_of_the_peer_are_healed() {
        let now = testing::now();
        let mut channel = open_both_ways(now);
        channel.unknown(now, 8);
        assert_eq!(channel.sendable(), Sendable::Open { number: 7, until: now + MINUTE }, "not our number");
        channel.unknown(now, 7);
        assert_eq!((channel.sendable(), channel.handle_timeout(now)), (Sendable::Waiting, Act::Ask));
        let mut channel = open_both_ways(now);
        channel.reset(now);
        assert_eq!(channel.receivable(), None);
        assert_eq!(channel.handle_timeout(now), Act::Ask);
    }
}
