//! The simulated world: many engines, one thread, virtual time, and one seed that decides everything.
//!
//! | room | what it is |
//! |---|---|
//! | [`clock`] | hosts' clocks: each with its own beginning and its own drift |
//! | [`net`] | the network: loss, delay, repetition, reordering, partition |
//! | [`machines`] | a host's machines, with the keepers that end them when their lease does |
//! | [`world`] | hosts, their disks, crashes, and the loop that steps through events |
//! | [`oracle`] | what really happened, as seen by someone who sees every disk at once |
//! | [`invariants`] | what must hold at each step, and what must have come about at the end; one file each |
//! | [`scenario`] | what users want and what breaks, drawn from a seed |
//! | [`fault`] | known faults, to test that the harness finds them |
//!
//! A failure prints the seed and the line that replays it. Two runs of one seed give the same log: whatever is drawn is
//! drawn from the seed, and no map is walked whose order differs between runs.

pub mod clock;
pub mod fault;
pub mod invariants;
pub mod machines;
pub mod net;
pub mod oracle;
pub mod scenario;
pub mod world;

use rand_core::Rng;

/// A number below `bound`.
pub fn below(rng: &mut impl Rng, bound: u64) -> u64 {
    rng.next_u64() % bound.max(1)
}

/// Whether something of this probability, in thousandths, happens.
pub fn chance(rng: &mut impl Rng, milli: u64) -> bool {
    below(rng, 1000) < milli
}
