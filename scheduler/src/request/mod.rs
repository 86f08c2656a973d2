//! Requests this node coordinates: from a tenant's wish to its decision.
//!
//! ```text
//! Asking ──offers fit──▶ Pledging (hosts pledge, stewards form) ──all──▶ Deciding ──Active──▶ Created
//!    │ nothing fits          │ one refuses, hold over, no majority          │ Aborted ▶ Refused
//!    ▼                       ▼                                              │ no majority ▶ Undecided
//! Refused                 Refused (everything cancelled)
//! ```
//! The coordinator has no standing beyond this: it may die at any instant. Before the decision holds lapse, or
//! hosts abort the register; after it the slice is the stewards'. It cancels a host that has pledged only while it has
//! not begun to decide, or when the register says that the slice is aborted.

mod advice;
mod create;
mod report;
mod table;

pub use advice::Advice;
pub(crate) use table::Requests;

use rand_core::Rng;

use crate::engine::Candidate;
use crate::identity::HostId;

/// Stewards of a slice when enough hosts are known.
const STEWARDS_WANTED: usize = 3;

/// Draws the first stewards of a slice: three different hosts when as many are known, else one; at random, so that no host
/// keeps everyone's records. `local` is this node, a candidate like any other.
#[must_use]
pub fn choose_stewards(local: HostId, candidates: &[Candidate], rng: &mut impl Rng) -> Vec<HostId> {
    let mut hosts: Vec<HostId> = candidates.iter().map(|candidate| candidate.host).chain([local]).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let wanted = if hosts.len() >= STEWARDS_WANTED { STEWARDS_WANTED } else { 1 };
    let mut chosen = Vec::new();
    while chosen.len() < wanted {
        let count = u64::try_from(hosts.len()).expect("a list's length fits");
        let index = usize::try_from(rng.next_u64() % count).expect("an index of the list");
        chosen.push(hosts.swap_remove(index));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::specimen::host;
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    #[test]
    fn stewards_are_three_where_there_are_three_hosts() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let candidates: Vec<_> = (1..=4).map(|byte| Candidate { host: host(byte), advert: None }).collect();
        assert_eq!(choose_stewards(host(1), &candidates, &mut rng).len(), 3);
        assert_eq!(choose_stewards(host(1), &candidates[..2], &mut rng).len(), 1);
        assert_eq!(choose_stewards(host(1), &[], &mut rng), [host(1)]);
    }
}
