//! The sessions of one link: which one seals, which ones open, and handshakes under way.
//!
//! ```text
//!               we initiated, response came
//!  initiations ───────────────────────────────▶ current ──▶ previous ──▶ gone
//!                                                  ▲       (a newer one came)
//!  their initiation, answered ──▶ next ────────────┘
//!                                    first datagram opened: the peer has the keys
//! ```
//! All three open datagrams; only *current* seals. So at a rekey the initiator may seal with the new session as soon as it has the
//! response, as the responder opens it already; and the responder seals with the old one until it has seen the new one used. What
//! is still under way in the old session is opened from *previous*: no frame is lost.
//!
//! Simultaneous opening: see [`crossed`].

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::session::{Initiator, PublicKey, Session};

/// Initiations of one link that may still be answered: later ones are sent while a slow path still carries earlier ones.
const INITIATIONS_MAX: usize = 3;
/// Until an unanswered initiation is followed by another; longer than any usual round trip.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest wait between initiations to a peer that does not answer.
const RETRY_MAX: Duration = Duration::from_secs(8);

/// A session the peer has not yet proved, with what its handshake said of the peer's life.
#[derive(Debug)]
struct Next {
    session: Arc<Session>,
    instance: [u8; 8],
}

/// A handshake that we try.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) tries: u32,
    pub(super) next_at: Instant,
    sent_at: Option<Instant>,
}

impl Attempt {
    /// A better way has shown: the next initiation goes out `at` that time, but not on the heels of the last.
    pub(super) fn hurry(&mut self, at: Instant, least: Duration) {
        let soon = self.sent_at.map_or(at, |sent| at.max(sent + least));
        self.next_at = self.next_at.min(soon);
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Slots {
    current: Option<Arc<Session>>,
    previous: Option<Arc<Session>>,
    next: Option<Next>,
    initiations: VecDeque<(u32, Initiator)>,
    pub(super) attempt: Option<Attempt>,
    /// Indices that are free again.
    retired: Vec<u32>,
}

impl Slots {
    /// The session that seals.
    pub(super) fn current(&self) -> Option<&Arc<Session>> {
        self.current.as_ref()
    }

    /// The sessions that open.
    pub(super) fn opening(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.current.iter().chain(&self.previous).chain(self.next.as_ref().map(|next| &next.session))
    }

    /// The session of this index.
    pub(super) fn by_index(&self, index: u32) -> Option<&Arc<Session>> {
        self.opening().find(|session| session.local_index() == index)
    }

    /// Begins to try, if that is not so already.
    pub(super) fn want_handshake(&mut self, now: Instant) {
        self.attempt.get_or_insert(Attempt { tries: 0, next_at: now, sent_at: None });
    }

    /// Stops trying; initiations under way may still be answered.
    pub(super) fn give_up(&mut self) {
        self.attempt = None;
    }

    /// An initiation was sent; `jitter` is below a quarter of the wait, so that two hosts that fail do so apart.
    pub(super) fn sent(
        &mut self,
        now: Instant,
        index: u32,
        initiator: Initiator,
        jitter: impl Fn(Duration) -> Duration,
    ) {
        if self.initiations.len() == INITIATIONS_MAX
            && let Some((old, _)) = self.initiations.pop_front()
        {
            self.retired.push(old);
        }
        self.initiations.push_back((index, initiator));
        if let Some(attempt) = &mut self.attempt {
            let wait = (RETRY_FIRST * 2_u32.saturating_pow(attempt.tries.min(8))).min(RETRY_MAX);
            attempt.tries += 1;
            attempt.sent_at = Some(now);
            attempt.next_at = now + wait + jitter(wait / 4);
        }
    }

    /// An initiation that may still be answered.
    pub(super) fn initiation(&mut self, index: u32) -> Option<&mut Initiator> {
        self.initiations.iter_mut().find(|(own, _)| *own == index).map(|(_, initiator)| initiator)
    }

    /// Our initiation was answered: the new session seals from now on.
    pub(super) fn established(&mut self, session: Arc<Session>) {
        let index = session.local_index();
        // Initiations sent before the answered one are older than it; those after it may still make a newer session.
        while let Some((own, _)) = self.initiations.pop_front() {
            if own == index {
                break;
            }
            self.retired.push(own);
        }
        self.attempt = None;
        self.rotate(session);
    }

    /// Their initiation was answered: the new session opens, but does not seal yet.
    pub(super) fn answered(&mut self, session: Arc<Session>, instance: [u8; 8]) {
        if let Some(old) = self.next.replace(Next { session, instance }) {
            self.retired.push(old.session.local_index());
        }
    }

    /// Something was opened with this session. If it was *next*, it seals from now on, and the peer's life is given.
    pub(super) fn confirmed(&mut self, index: u32) -> Option<[u8; 8]> {
        let next = self.next.take_if(|next| next.session.local_index() == index)?;
        next.session.prove();
        self.drop_initiations();
        self.rotate(next.session);
        Some(next.instance)
    }

    /// Forgets our initiations: the peer's goes first.
    pub(super) fn drop_initiations(&mut self) {
        self.retired.extend(self.initiations.drain(..).map(|(index, _)| index));
        self.attempt = None;
    }

    /// Drops one session that has come to its end.
    pub(super) fn drop_session(&mut self, index: u32) {
        let ours = |session: &mut Arc<Session>| session.local_index() == index;
        let gone = self.current.take_if(ours).or_else(|| self.previous.take_if(ours));
        let gone = gone.or_else(|| {
            self.next.take_if(|next| next.session.local_index() == index).map(|next| next.session)
        });
        self.retired.extend(gone.map(|session| session.local_index()));
    }

    /// Drops all sessions but the one that seals: they belong to another life of the peer.
    pub(super) fn drop_older(&mut self) {
        self.retired.extend(self.previous.take().map(|session| session.local_index()));
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.drop_initiations();
        let sessions = self.current.take().into_iter().chain(self.previous.take());
        let sessions = sessions.chain(self.next.take().map(|next| next.session));
        self.retired.extend(sessions.map(|session| session.local_index()));
    }

    /// Indices that no session or initiation uses any more.
    pub(super) fn take_retired(&mut self) -> impl Iterator<Item = u32> + '_ {
        self.retired.drain(..)
    }

    /// Whether an initiation of the peer crosses one of ours that must go first.
    pub(super) fn crossed(&self, now: Instant, ours: &PublicKey, theirs: &PublicKey) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| crossed(attempt, now, ours, theirs))
    }

    fn rotate(&mut self, session: Arc<Session>) {
        let old = std::mem::replace(&mut self.previous, self.current.replace(session));
        self.retired.extend(old.map(|session| session.local_index()));
    }
}

/// Both hosts initiate at once: the initiation of the host with the lesser public key goes first, and it alone is answered.
/// But only while it is fresh: where the path lets only the other's initiations through, ours is not answered in time, and
/// theirs is taken.
fn crossed(attempt: &Attempt, now: Instant, ours: &PublicKey, theirs: &PublicKey) -> bool {
    ours < theirs && attempt.tries == 1 && attempt.sent_at.is_some_and(|sent| now < sent + RETRY_FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn indices(slots: &mut Slots) -> Vec<u32> {
        slots.take_retired().collect()
    }

    #[test]
    fn at_a_rekey_the_session_before_still_opens_and_the_one_before_that_is_gone() {
        let mut slots = Slots::default();
        let sessions: Vec<_> = (1..=3).map(|index| Arc::new(testing::session(index))).collect();
        for session in &sessions {
            slots.established(Arc::clone(session));
        }
        assert_eq!(slots.current().unwrap().local_index(), 3);
        assert_eq!(slots.opening().map(|session| session.local_index()).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(indices(&mut slots), [1]);
    }

    #[test]
    fn a_session_we_answered_seals_only_after_it_was_used() {
        let mut slots = Slots::default();
        slots.established(Arc::new(testing::session(1)));
        slots.answered(Arc::new(testing::session(2)), *b"instance");
        assert_eq!(slots.current().unwrap().local_index(), 1);
        assert!(slots.by_index(2).is_some(), "it opens already");
        assert_eq!(slots.confirmed(1), None);
        assert_eq!(slots.confirmed(2), Some(*b"instance"));
        assert_eq!(slots.current().unwrap().local_index(), 2);
        assert_eq!(slots.confirmed(2), None);
    }

    #[test]
    fn an_answer_that_was_lost_leaves_one_waiting_session() {
        let mut slots = Slots::default();
        for index in 1..=5 {
            slots.answered(Arc::new(testing::session(index)), [0; 8]);
        }
        assert_eq!(slots.opening().count(), 1);
        assert_eq!(indices(&mut slots), [1, 2, 3, 4]);
    }

    #[test]
    fn of_two_that_cross_the_lesser_key_goes_first_but_not_for_ever() {
        let (low, high) = (PublicKey([1; 32]), PublicKey([2; 32]));
        let now = testing::now();
        let fresh = Attempt { tries: 1, next_at: now, sent_at: Some(now) };
        assert!(crossed(&fresh, now, &low, &high));
        assert!(!crossed(&fresh, now, &high, &low));
        assert!(!crossed(&fresh, now + RETRY_FIRST, &low, &high));
        assert!(!crossed(&Attempt { tries: 2, ..fresh }, now, &low, &high));
    }
}
