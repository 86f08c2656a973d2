//! A finished session: sealing and opening datagrams, from any worker.
//!
//! Sealing takes counters from one atomic number, a super-frame's at a time, so that no nonce is used twice whoever seals. Opening
//! notes counters in the window behind a lock, which is taken once for a run of datagrams and which only workers that
//! receive from the same peer at once contend for.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};
use std::time::Instant;

use super::{ReplayWindow, Suite, cipher::Aead, replay::Verdict};
use crate::{
    switch::PeerIndex,
    wire::{DATA_BYTES_MIN, DATA_HEADER_BYTES, Data, Datagram, TAG_BYTES},
};

/// Which end of the handshake we were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Initiator,
    Responder,
}

/// Keys and counters shared with one peer.
#[derive(Debug)]
pub(crate) struct Session {
    peer: PeerIndex,
    role: Role,
    suite: Suite,
    local_index: u32,
    remote_index: u32,
    established: Instant,
    seal: Aead,
    open: Aead,
    /// The next counter to seal with.
    counter: AtomicU64,
    refuse_datagrams: u64,
    window: Mutex<ReplayWindow>,
    /// Milliseconds after `established` at which something was last opened, plus one; 0: never.
    opened_at: AtomicU64,
    /// Datagrams opened and accepted by the window.
    opened: AtomicU64,
    /// Set when the peer is proved to have the keys.
    confirmed: AtomicBool,
}

/// Why a session does not seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    /// Its counters are used up.
    #[error("the session has sealed as many datagrams as its keys may")]
    Exhausted,
}

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened {
    /// The plaintext stands in place; the counter is the highest so far.
    Newest,
    /// The plaintext stands in place.
    Late,
    /// Not sealed with this session's keys.
    Forged,
    /// Seen before, or too old.
    Repeated,
}

/// What a session is made of.
pub(super) struct Parts {
    pub(super) role: Role,
    pub(super) suite: Suite,
    pub(super) local_index: u32,
    pub(super) remote_index: u32,
    pub(super) seal: Aead,
    pub(super) open: Aead,
}

impl Session {
    pub(super) fn new(parts: Parts, peer: PeerIndex, now: Instant, refuse_datagrams: u64) -> Self {
        Self {
            peer,
            role: parts.role,
            suite: parts.suite,
            local_index: parts.local_index,
            remote_index: parts.remote_index,
            established: now,
            seal: parts.seal,
            open: parts.open,
            counter: AtomicU64::new(0),
            refuse_datagrams,
            window: Mutex::new(ReplayWindow::default()),
            opened_at: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            confirmed: AtomicBool::new(parts.role == Role::Initiator),
        }
    }

    pub(crate) fn peer(&self) -> PeerIndex {
        self.peer
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn suite(&self) -> Suite {
        self.suite
    }

    /// The index by which the peer addresses us.
    pub(crate) fn local_index(&self) -> u32 {
        self.local_index
    }

    pub(crate) fn established(&self) -> Instant {
        self.established
    }

    /// Datagrams sealed so far.
    pub(crate) fn sealed(&self) -> u64 {
        self.counter.load(Relaxed).min(self.refuse_datagrams)
    }

    /// Datagrams opened so far, and how many the peer must have sealed for that.
    pub(crate) fn opened(&self) -> (u64, u64) {
        (self.opened.load(Relaxed), self.window().next())
    }

    /// When something was last opened.
    pub(crate) fn last_opened(&self) -> Option<Instant> {
        let after = self.opened_at.load(Relaxed).checked_sub(1)?;
        Some(self.established + std::time::Duration::from_millis(after))
    }

    /// Whether the peer is yet to prove that it has the keys: true for a responder until [`Self::prove`].
    #[inline]
    pub(crate) fn unproved(&self) -> bool {
        !self.confirmed.load(Relaxed)
    }

    /// The link has taken note that something was opened.
    pub(crate) fn prove(&self) {
        self.confirmed.store(true, Relaxed);
    }

    /// Takes `count` counters in a row and gives the first.
    #[inline]
    pub(crate) fn reserve(&self, count: u64) -> Result<u64, SealError> {
        let first = self.counter.fetch_add(count, Relaxed);
        // The limit is far below the type's, so that even workers that go on asking do not wrap it.
        if first.saturating_add(count) <= self.refuse_datagrams {
            Ok(first)
        } else {
            Err(SealError::Exhausted)
        }
    }

    /// Seals a datagram in place with a reserved counter: the first [`DATA_HEADER_BYTES`] and the last [`TAG_BYTES`] are written
    /// here, what stands between them is the plaintext.
    #[inline]
    pub(crate) fn seal(&self, counter: u64, datagram: &mut [u8]) {
        let (header, sealed) = datagram.split_at_mut(DATA_HEADER_BYTES);
        header.copy_from_slice(&Data::header(self.remote_index, counter));
        self.seal.seal(counter, sealed);
    }

    /// The same for a plaintext that lies elsewhere, which is as much shorter than the datagram as header and tag are long.
    #[inline]
    pub(crate) fn seal_from(&self, counter: u64, plaintext: &[u8], datagram: &mut [u8]) {
        let (header, sealed) = datagram.split_at_mut(DATA_HEADER_BYTES);
        header.copy_from_slice(&Data::header(self.remote_index, counter));
        self.seal.seal_from(counter, plaintext, sealed);
    }

    /// The window, for a run of [`Self::open`].
    #[inline]
    pub(crate) fn window(&self) -> MutexGuard<'_, ReplayWindow> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a datagram in place that parsed as [`Data`] for this session. The plaintext is what [`plaintext`] gives.
    #[inline]
    pub(crate) fn open(&self, window: &mut ReplayWindow, counter: u64, datagram: &mut [u8]) -> Opened {
        debug_assert!(datagram.len() >= DATA_BYTES_MIN, "checked by the parser");
        if !self.open.open(counter, &mut datagram[DATA_HEADER_BYTES..]) {
            return Opened::Forged;
        }
        match window.note(counter) {
            Verdict::Newest => Opened::Newest,
            Verdict::Late => Opened::Late,
            Verdict::Repeated => Opened::Repeated,
        }
    }

    /// Notes that datagrams were opened; once per run.
    #[inline]
    pub(crate) fn note_opened(&self, now: Instant, count: u64) {
        self.opened.fetch_add(count, Relaxed);
        let after = now.saturating_duration_since(self.established).as_millis();
        self.opened_at.store(u64::try_from(after).unwrap_or(u64::MAX - 1).saturating_add(1), Relaxed);
    }
}

/// The plaintext of a datagram that was opened in place.
#[inline]
pub(crate) fn plaintext(datagram: &[u8]) -> &[u8] {
    &datagram[DATA_HEADER_BYTES..datagram.len() - TAG_BYTES]
}

/// Receiver index and counter of a sealed datagram, if it parses as one.
#[inline]
pub(crate) fn address(datagram: &[u8]) -> Option<(u32, u64)> {
    match Datagram::parse(datagram) {
        Ok(Datagram::Data(data)) => Some((data.receiver(), data.counter())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn sealed(session: &Session, text: &[u8]) -> Vec<u8> {
        let counter = session.reserve(1).unwrap();
        let mut datagram = vec![0; DATA_HEADER_BYTES];
        datagram.extend(text);
        datagram.resize(datagram.len() + TAG_BYTES, 0);
        session.seal(counter, &mut datagram);
        datagram
    }

    fn open(session: &Session, datagram: &[u8]) -> (Opened, Vec<u8>) {
        let mut datagram = datagram.to_vec();
        let (index, counter) = address(&datagram).unwrap();
        assert_eq!(index, session.local_index());
        let opened = session.open(&mut session.window(), counter, &mut datagram);
        (opened, plaintext(&datagram).to_vec())
    }

    #[test]
    fn a_datagram_opens_once_and_a_changed_one_never() {
        let (a, b) = testing::session_pair(u64::MAX);
        let datagram = sealed(&a, b"\0\0\0\x02text");
        let mut window = b.window();
        for bit in DATA_HEADER_BYTES * 8..datagram.len() * 8 {
            let mut flipped = datagram.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(b.open(&mut window, 0, &mut flipped), Opened::Forged);
        }
        let mut other_counter = datagram.clone();
        assert_eq!(b.open(&mut window, 1, &mut other_counter), Opened::Forged);
        assert_eq!(window.next(), 0, "a forged datagram does not move the window");
        drop(window);
        assert_eq!(open(&b, &datagram), (Opened::Newest, b"\0\0\0\x02text".to_vec()));
        assert_eq!(open(&b, &datagram).0, Opened::Repeated);
        assert_eq!(
            open(&a, &sealed(&b, b"back")),
            (Opened::Newest, b"back".to_vec()),
            "directions have their own keys"
        );
    }

    #[test]
    fn exhausted_counters_seal_nothing_more() {
        let (a, _) = testing::session_pair(5);
        assert_eq!(a.reserve(4), Ok(0));
        assert_eq!(a.reserve(2), Err(SealError::Exhausted));
        assert_eq!(a.reserve(1), Err(SealError::Exhausted));
        assert_eq!(a.sealed(), 5);
    }

    #[test]
    fn no_counter_is_given_twice_to_workers_that_seal_at_once() {
        let (a, _) = testing::session_pair(u64::MAX);
        let mut firsts: Vec<u64> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..500).map(|_| a.reserve(3).unwrap()).collect::<Vec<_>>()))
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        firsts.sort_unstable();
        assert_eq!(firsts, (0..2000).map(|i| i * 3).collect::<Vec<_>>());
    }
}
