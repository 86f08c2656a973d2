//! The harness is tested as well: each known fault is put back, and must be found by the invariant that is there for it.

use consort_tests::fault::KnownFault;
use consort_tests::scenario;

/// Seeds tried before a fault counts as not found.
const SEEDS: u64 = 400;

fn is_found(fault: KnownFault, invariant: &str) {
    for seed in 0..SEEDS {
        if let Err(failure) = scenario::run(seed, Some(fault)) {
            println!("{fault:?} found with seed {seed} after {} ms: {}", failure.at, failure.violation);
            assert_eq!(failure.violation.invariant, invariant, "{failure}");
            return;
        }
    }
    panic!("{fault:?} was not found in {SEEDS} worlds");
}

#[test]
fn a_ledger_without_a_limit() {
    is_found(KnownFault::LedgerWithoutLimit, "limit");
}

#[test]
fn a_register_without_promises() {
    is_found(KnownFault::ForgottenPromises, "decision");
}

#[test]
fn a_keeper_without_a_deadline() {
    is_found(KnownFault::KeeperWithoutDeadline, "lease");
}

#[test]
fn a_clock_beyond_the_drift_bound() {
    is_found(KnownFault::SlowClock, "lease");
}

#[test]
fn lost_answers() {
    is_found(KnownFault::LostAnswers, "answer");
}

#[test]
fn a_driver_that_lies() {
    is_found(KnownFault::LyingDriver, "gang");
}

#[test]
fn machines_that_will_not_die() {
    is_found(KnownFault::UndeadMachines, "gang");
}
