//! Known faults: each is put back into a world to see that an invariant finds it.
//!
//! None of them needs a hook in the scheduler: they lie to an engine, or break what its driver owes it.

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownFault {
    /// A host whose ledger knows no limit.
    LedgerWithoutLimit,
    /// Stewards whose promises are not durable: a register without fencing.
    ForgottenPromises,
    /// Keepers that let machines run on when the lease is over, on hosts whose daemon is dead.
    KeeperWithoutDeadline,
    /// A host whose clock runs at half its pace, far beyond the drift bound.
    SlowClock,
    /// A daemon that loses answers to its users.
    LostAnswers,
    /// A driver that says a machine runs and never started it.
    LyingDriver,
    /// A driver that reports machines gone and lets them run.
    UndeadMachines,
}
