//! How long a session's keys serve.
//!
//! | limit | effect |
//! |---|---|
//! | `rekey_after` (initiator), and 10 s more (responder) | a new handshake; the old session goes on meanwhile |
//! | `rekey_datagrams` | the same, for whichever end sealed so many |
//! | `refuse_after`, `refuse_datagrams` | the session neither seals nor opens any more |
//!
//! Between the first and the last limit lie a minute and many millions of datagrams, in which handshakes may fail. The
//! old session stays open for receiving until the one after it is replaced in turn, so that nothing under way is lost.

use std::time::Duration;

/// The limits of one session.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Age at which the initiator begins the next handshake. WireGuard's two minutes: longer gains nothing, and shorter means
    /// more public-key work.
    pub rekey_after: Duration,
    /// Datagrams sealed after which either end begins the next handshake. At 2^26 full datagrams (2^33 blocks) an attacker's
    /// advantage against GCM is about 2^-62 (RFC 9001 appendix B.1).
    pub rekey_datagrams: u64,
    /// Age after which the session is dead.
    pub refuse_after: Duration,
    /// Datagrams sealed after which the session is dead. Four rekey periods.
    pub refuse_datagrams: u64,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            rekey_after: Duration::from_secs(120),
            rekey_datagrams: 1 << 26,
            refuse_after: Duration::from_secs(180),
            refuse_datagrams: 1 << 28,
        }
    }
}

/// How much later the responder begins a handshake than the initiator would, so that usually only one does.
pub(crate) const RESPONDER_GRACE: Duration = Duration::from_secs(10);

/// What a session's age and use ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing.
    Nothing,
    /// A new handshake.
    Rekey,
    /// Its end.
    End,
}

impl SessionLimits {
    /// What a session of this age and use asks for.
    pub(crate) fn due(&self, initiator: bool, age: Duration, sealed: u64) -> Due {
        let rekey_after = if initiator { self.rekey_after } else { self.rekey_after + RESPONDER_GRACE };
        if age >= self.refuse_after || sealed >= self.refuse_datagrams {
            Due::End
        } else if age >= rekey_after || sealed >= self.rekey_datagrams {
            Due::Rekey
        } else {
            Due::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_count_each_ask_for_a_rekey_and_then_for_the_end() {
        let limits = SessionLimits::default();
        let just = |secs| Duration::from_secs(secs);
        assert_eq!(limits.due(true, just(119), 0), Due::Nothing);
        assert_eq!(limits.due(true, just(120), 0), Due::Rekey);
        assert_eq!(limits.due(false, just(129), 0), Due::Nothing, "the responder waits for the initiator");
        assert_eq!(limits.due(false, just(130), 0), Due::Rekey);
        assert_eq!(limits.due(true, just(180), 0), Due::End);
        assert_eq!(limits.due(false, just(1), limits.rekey_datagrams - 1), Due::Nothing);
        assert_eq!(limits.due(false, just(1), limits.rekey_datagrams), Due::Rekey);
        assert_eq!(limits.due(true, just(1), limits.refuse_datagrams), Due::End);
    }
}
