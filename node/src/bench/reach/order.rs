//! In which order the pairs of a matrix are measured: so that each search for a port finds a host that may search.
//!
//! A host whose NAT gives each destination another port opens nearly three hundred mappings for one search, and has four a second in the long run: one that has just
//! searched waits, and so would its pair. So a pair that will search is taken as soon as its host has rested, those with the most searches before them first; between
//! them come the pairs that need none, along the diagonals. Only when nothing else is left is anybody waited for.
//! Time is an argument; refuses to know what a pair measures.

use std::collections::BTreeMap;
use std::time::Duration;

use super::kinds::{self, Side};

/// Until a host may search again: what a whole search opens, at the rate of the long run, and what it asks members beside that.
const REST: Duration = Duration::from_secs(80);

/// A row and a column of the matrix.
pub(super) type Place = (usize, usize);

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// This pair.
    Pair(Place),
    /// Nothing for so long: every host that is left has searched just now.
    Wait(Duration),
    /// All are done.
    Done,
}

/// A host: the side it is on, and its kind's place.
type Searcher = (Side, usize);

/// See the module.
#[derive(Debug)]
pub(super) struct Order {
    /// Those that need no search, the next last.
    others: Vec<Place>,
    /// Those that do, by the host whose NAT is the difficult one.
    searching: BTreeMap<Searcher, Vec<Place>>,
    rested: BTreeMap<Searcher, Duration>,
}

impl Order {
    /// All pairs of these kinds of which one end is `with` one of those, if any are named.
    pub(super) fn new(kinds: &[&str], with: &[&str]) -> Self {
        let mut order = Self { others: Vec::new(), searching: BTreeMap::new(), rested: BTreeMap::new() };
        for distance in 0..kinds.len() {
            for row in 0..kinds.len() {
                let column = (row + distance) % kinds.len();
                let is_named = with.contains(&kinds[row]) || with.contains(&kinds[column]);
                if !with.is_empty() && !is_named {
                    continue;
                }
                match searcher(kinds, (row, column)) {
                    Some(searcher) => order.searching.entry(searcher).or_default().push((row, column)),
                    None => order.others.push((row, column)),
                }
            }
        }
        order.others.reverse();
        order
    }

    /// Takes the next pair; `now` is counted from any fixed point.
    pub(super) fn next(&mut self, now: Duration) -> Next {
        let rested = &self.rested;
        let rests_until = |host: &Searcher| rested.get(host).copied().unwrap_or_default();
        let ready =
            self.searching.iter().filter(|(host, pairs)| !pairs.is_empty() && rests_until(host) <= now);
        if let Some(host) = ready.max_by_key(|(_, pairs)| pairs.len()).map(|(host, _)| *host)
            && let Some(place) = self.searching.get_mut(&host).and_then(Vec::pop)
        {
            // A pair that goes on longer than it usually does has its host rest longer.
            self.rested.insert(host, now + REST);
            return Next::Pair(place);
        }
        if let Some(place) = self.others.pop() {
            return Next::Pair(place);
        }
        let left = self.searching.iter().filter(|(_, pairs)| !pairs.is_empty());
        match left.map(|(host, _)| rests_until(host)).min() {
            Some(at) => Next::Wait(at.saturating_sub(now)),
            None => Next::Done,
        }
    }

    /// A pair has been measured: if it searched, its host rests from now on.
    pub(super) fn measured(&mut self, kinds: &[&str], place: Place, now: Duration) {
        if let Some(host) = searcher(kinds, place) {
            self.rested.insert(host, now + REST);
        }
    }
}

/// The host of a pair that opens mappings in search of a port, if there is such a search.
fn searcher(kinds: &[&str], (row, column): Place) -> Option<Searcher> {
    match kinds::searching_side(kinds[row], kinds[column])? {
        Side::A => Some((Side::A, row)),
        Side::B => Some((Side::B, column)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// All pairs, each with when it began; a search takes eight seconds, another pair two.
    fn all(kinds: &[&str]) -> (Vec<(Place, Duration)>, Duration) {
        let (mut order, mut now, mut done) = (Order::new(kinds, &[]), Duration::ZERO, Vec::new());
        loop {
            match order.next(now) {
                Next::Pair(place) => {
                    done.push((place, now));
                    now += Duration::from_secs(if searcher(kinds, place).is_some() { 8 } else { 2 });
                    order.measured(kinds, place, now);
                }
                Next::Wait(time) => {
                    assert!(time > Duration::ZERO);
                    now += time;
                }
                Next::Done => return (done, now),
            }
        }
    }

    #[test]
    fn each_pair_is_measured_once() {
        let (done, _) = all(&kinds::USUAL);
        assert_eq!(done.len(), 144);
        assert_eq!(done.iter().map(|(place, _)| *place).collect::<BTreeSet<_>>().len(), 144);
    }

    #[test]
    fn only_pairs_with_the_named_kinds_are_measured() {
        let (mut order, mut done) = (Order::new(&kinds::USUAL, &["udp-blocked"]), 0);
        while let Next::Pair((row, column)) = order.next(Duration::ZERO) {
            assert!([kinds::USUAL[row], kinds::USUAL[column]].contains(&"udp-blocked"));
            done += 1;
        }
        assert_eq!(done, 2 * kinds::USUAL.len() - 1, "its row and its column");
    }

    #[test]
    fn a_host_that_has_searched_rests_before_it_searches_again() {
        for kinds in [&kinds::USUAL[..], &["port-cone", "symmetric-random"]] {
            let (done, _) = all(kinds);
            let mut last: BTreeMap<Searcher, Duration> = BTreeMap::new();
            for (place, at) in done {
                let Some(host) = searcher(kinds, place) else { continue };
                let ended = at + Duration::from_secs(8);
                assert!(last.insert(host, ended).is_none_or(|before| at >= before + REST), "{place:?}");
            }
        }
    }

    #[test]
    fn nobody_waits_as_long_as_there_is_another_pair() {
        // 30 pairs search for eight seconds each, 114 take two: searches wait for each other at the end, if at all.
        let (done, end) = all(&kinds::USUAL);
        let busy: u64 =
            done.iter().map(|(place, _)| if searcher(&kinds::USUAL, *place).is_some() { 8 } else { 2 }).sum();
        assert!(end < Duration::from_secs(busy) + REST, "{end:?} for {busy} s of work");
    }
}
