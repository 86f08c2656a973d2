//! A violation, with what is needed to see it again.

use crate::invariants::Violation;

/// A violation, with what is needed to see it again.
#[derive(Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// When.
    pub at: u64,
    /// What.
    pub violation: Violation,
    /// The end of the log.
    pub log: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {} at {} ms: {}", self.seed, self.at, self.violation)?;
        let tail: Vec<&str> = self.log.lines().rev().take(40).collect();
        for line in tail.iter().rev() {
            writeln!(f, "    {line}")?;
        }
        write!(
            f,
            "replay: CONSORT_SEED={} cargo test -p consort-tests --test allocation replay -- --nocapture",
            self.seed
        )
    }
}
