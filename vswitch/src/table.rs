//! Learned addresses: MAC → place, bounded, ageing, shared by all workers without a lock on the reading side.
//!
//! # What it owns
//! Where a MAC address that the record does not name was last heard, and which such addresses were asked for in vain. It refuses to know
//! what a place is: 32 bits and a kind.
//!
//! # Shape
//! A fixed number of buckets of four slots, each bucket one cache line. An address may stand in either of two buckets (two hashes),
//! which lets the table fill to its nominal capacity with next to no early eviction. A slot is two atomics:
//! ```text
//!   key    0 = empty, else bit 63 set, version (15 bits), MAC (48 bits)
//!   value  kind (2 bits) | place (32 bits) | tick (30 bits, a quarter of a second each)
//! ```
//! Readers load key, value, key; writers (one at a time, under a mutex that nobody waits for) clear the key, write the value, write
//! the key with the next version. A reader that meets a writer sees an empty slot or two versions: the address counts as unknown for
//! that one frame. Without the version, a slot that went to another address and back between a reader's two looks at the key would
//! give it the other's place.
//!
//! # Rules
//! - Bounded: the table never grows. Full buckets give up, in this order: entries past their age, questions without answer, the
//!   entry heard of least recently. A question takes no place from an address that is known.
//! - Ageing: an entry not heard for [`AGE`] is unknown (IEEE 802.1Q section 8.8.3 recommends 300 s).
//! - Three-valued lookup: `Known`, `Unknown` (ask everybody), `AskedRecently` (everybody was asked within [`ASKED_FOR`]).
//! - An entry that moves is replaced at once: the newest word counts.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{hash::Seed, mac::MacAddr};

/// How long an address stays known without being heard. Shorter floods more, longer misdirects frames for machines that moved silently.
pub const AGE: Duration = Duration::from_secs(300);

/// How long a question to everybody counts as just asked. Shorter floods more for silent machines, longer delays one that woke up.
pub const ASKED_FOR: Duration = Duration::from_secs(1);

/// One tick of the stored time. 30 bits of them last for eight years before they wrap; an entry never lives that long.
const TICKS_PER_SECOND: u64 = 4;
const TICK: Duration = Duration::from_millis(1_000 / TICKS_PER_SECOND);
const TICK_BITS: u32 = 30;
const TICK_MASK: u64 = (1 << TICK_BITS) - 1;
const AGE_TICKS: u64 = AGE.as_secs() * TICKS_PER_SECOND;
const ASKED_TICKS: u64 = ASKED_FOR.as_secs() * TICKS_PER_SECOND;
/// An entry heard again is only rewritten after this many ticks, so that busy addresses do not keep a cache line moving between cores.
const REFRESH_TICKS: u64 = 4;

const OCCUPIED: u64 = 1 << 63;
/// How often a slot went to another address, modulo 2^15: between the address and the sign that there is one.
const VERSION: u64 = ((1 << 15) - 1) << 48;
const VERSION_STEP: u64 = 1 << 48;
const WAYS: usize = 4;

/// Where an address was heard: a local port or a peer, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A local port.
    Port(u32),
    /// Another host.
    Peer(u32),
}

/// What the table knows of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// It was heard there, recently enough.
    Known(Place),
    /// It was not heard, and nobody asked for it lately.
    Unknown,
    /// It was not heard, and everybody was asked for it a moment ago.
    AskedRecently,
}

/// What learning an address changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learn {
    /// It was known to be there.
    Kept,
    /// It is new.
    Learned,
    /// It is new, and this other address was given up for it.
    Evicted(MacAddr),
    /// It was known to be elsewhere.
    Moved,
    /// Another worker is writing: nothing changed, the next frame will do.
    Busy,
}

#[derive(Debug, Default)]
struct Slot {
    key: AtomicU64,
    value: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket([Slot; WAYS]);

/// The table.
#[derive(Debug)]
pub struct Table {
    buckets: Box<[Bucket]>,
    seed: Seed,
    writer: Mutex<()>,
}

/// A slot's value, unpacked.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// `None`: asked for in vain.
    place: Option<Place>,
    tick: u64,
}

impl Entry {
    fn pack(self) -> u64 {
        let (kind, place) = match self.place {
            None => (0, 0),
            Some(Place::Port(port)) => (1, port),
            Some(Place::Peer(peer)) => (2, peer),
        };
        kind << 62 | u64::from(place) << TICK_BITS | self.tick
    }

    #[expect(clippy::cast_possible_truncation, reason = "the place is the 32 bits above the tick")]
    fn unpack(value: u64) -> Self {
        let place = (value >> TICK_BITS) as u32;
        let place = match value >> 62 {
            0 => None,
            1 => Some(Place::Port(place)),
            _ => Some(Place::Peer(place)),
        };
        Self { place, tick: value & TICK_MASK }
    }

    fn age(self, tick: u64) -> u64 {
        let age = tick.wrapping_sub(self.tick) & TICK_MASK;
        // Workers read the clock at slightly different times; a "future" entry is fresh, not ancient.
        if age > TICK_MASK / 2 { 0 } else { age }
    }

    fn expired(self, tick: u64) -> bool {
        self.age(tick) >= if self.place.is_some() { AGE_TICKS } else { ASKED_TICKS }
    }
}

fn tick(now: Duration) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "masked to 30 bits in any case")]
    {
        (now.as_millis() / TICK.as_millis()) as u64 & TICK_MASK
    }
}

const fn key(mac: MacAddr) -> u64 {
    OCCUPIED | mac.to_bits()
}

/// The key of an address in a slot that held another.
const fn next_version(old: u64, key: u64) -> u64 {
    key | (old.wrapping_add(VERSION_STEP) & VERSION)
}

fn mac_of(key: u64) -> MacAddr {
    let bytes = key.to_be_bytes();
    MacAddr([bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
}

impl Table {
    /// A table for so many addresses. It takes 32 to 64 bytes for each, at once and for good.
    pub fn new(capacity: usize, seed: u64) -> Self {
        let buckets = (capacity.max(1) * 2).next_power_of_two().div_ceil(WAYS);
        Self {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            seed: Seed::new(seed),
            writer: Mutex::new(()),
        }
    }

    /// The two buckets in which an address may stand.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "only the low bits choose a bucket")]
    fn candidates(&self, key: u64) -> [&Bucket; 2] {
        let hash = self.seed.hash(key);
        let mask = self.buckets.len() - 1;
        [&self.buckets[hash as usize & mask], &self.buckets[(hash >> 32) as usize & mask]]
    }

    /// The slot and entry of an address, whatever its age.
    #[inline]
    fn find(&self, key: u64) -> Option<(&Slot, u64)> {
        for bucket in self.candidates(key) {
            for slot in &bucket.0 {
                let before = slot.key.load(Ordering::Acquire);
                if before & !VERSION == key {
                    let value = slot.value.load(Ordering::Acquire);
                    if slot.key.load(Ordering::Acquire) == before {
                        return Some((slot, value));
                    }
                }
            }
        }
        None
    }

    /// Where an address is. `now` is the time since any fixed instant.
    #[inline]
    pub fn lookup(&self, mac: MacAddr, now: Duration) -> Lookup {
        let Some((_, value)) = self.find(key(mac)) else { return Lookup::Unknown };
        let entry = Entry::unpack(value);
        match entry.place {
            _ if entry.expired(tick(now)) => Lookup::Unknown,
            Some(place) => Lookup::Known(place),
            None => Lookup::AskedRecently,
        }
    }

    /// Whether an address is known to be at a place where it was heard again; if so, it stays known for another [`AGE`].
    #[inline]
    pub fn refresh(&self, mac: MacAddr, place: Place, now: Duration) -> bool {
        let Some((slot, value)) = self.find(key(mac)) else { return false };
        let (entry, tick) = (Entry::unpack(value), tick(now));
        if entry.place != Some(place) || entry.expired(tick) {
            return false;
        }
        if entry.age(tick) >= REFRESH_TICKS {
            let fresh = Entry { place: Some(place), tick }.pack();
            // If it fails, another worker wrote something newer, which is as good.
            let _ = slot.value.compare_exchange(value, fresh, Ordering::Release, Ordering::Relaxed);
        }
        true
    }

    /// An address was heard at a place.
    #[inline]
    pub fn learn(&self, mac: MacAddr, place: Place, now: Duration) -> Learn {
        if self.refresh(mac, place, now) {
            return Learn::Kept;
        }
        self.write(mac, Entry { place: Some(place), tick: tick(now) })
    }

    /// Everybody is being asked for an address that is not known.
    pub fn asked(&self, mac: MacAddr, now: Duration) {
        self.write(mac, Entry { place: None, tick: tick(now) });
    }

    #[cold]
    fn write(&self, mac: MacAddr, fresh: Entry) -> Learn {
        let Ok(_alone) = self.writer.try_lock() else { return Learn::Busy };
        let key = key(mac);
        if let Some((slot, value)) = self.find(key) {
            let old = Entry::unpack(value);
            if fresh.place.is_none() && old.place.is_some() && !old.expired(fresh.tick) {
                return Learn::Kept;
            }
            slot.value.store(fresh.pack(), Ordering::Release);
            return match old.place {
                Some(_) if old.expired(fresh.tick) => Learn::Learned,
                Some(place) if Some(place) == fresh.place => Learn::Kept,
                Some(_) => Learn::Moved,
                None => Learn::Learned,
            };
        }
        let victim = self
            .candidates(key)
            .into_iter()
            .flat_map(|bucket| &bucket.0)
            .max_by_key(|slot| worth_giving_up(slot, fresh.tick))
            .expect("a bucket has slots");
        let old_key = victim.key.load(Ordering::Relaxed);
        let old = Entry::unpack(victim.value.load(Ordering::Relaxed));
        let live = old_key != 0 && old.place.is_some() && !old.expired(fresh.tick);
        if live && fresh.place.is_none() {
            return Learn::Kept;
        }
        victim.key.store(0, Ordering::Release);
        victim.value.store(fresh.pack(), Ordering::Release);
        victim.key.store(next_version(old_key, key), Ordering::Release);
        if live { Learn::Evicted(mac_of(old_key)) } else { Learn::Learned }
    }

    /// How many addresses are known now. Reads the whole table.
    pub fn known(&self, now: Duration) -> usize {
        let tick = tick(now);
        self.buckets
            .iter()
            .flat_map(|bucket| &bucket.0)
            .filter(|slot| slot.key.load(Ordering::Acquire) != 0)
            .map(|slot| Entry::unpack(slot.value.load(Ordering::Acquire)))
            .filter(|entry| entry.place.is_some() && !entry.expired(tick))
            .count()
    }
}

/// Orders slots by how little is lost with them: free or expired ones, then questions, then places by age.
fn worth_giving_up(slot: &Slot, tick: u64) -> (u8, u64) {
    if slot.key.load(Ordering::Relaxed) == 0 {
        return (3, 0);
    }
    let entry = Entry::unpack(slot.value.load(Ordering::Relaxed));
    match entry.place {
        _ if entry.expired(tick) => (2, entry.age(tick)),
        None => (1, entry.age(tick)),
        Some(_) => (0, entry.age(tick)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const AT: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn an_address_is_known_until_it_was_not_heard_for_its_age() {
        let table = Table::new(8, 1);
        assert_eq!(table.lookup(A, AT(0)), Lookup::Unknown);
        assert_eq!(table.learn(A, Place::Port(7), AT(0)), Learn::Learned);
        assert_eq!(table.lookup(A, AT(299)), Lookup::Known(Place::Port(7)));
        assert_eq!(table.lookup(A, AT(300)), Lookup::Unknown);
        assert_eq!(table.learn(A, Place::Port(7), AT(299)), Learn::Kept);
        assert_eq!(table.lookup(A, AT(598)), Lookup::Known(Place::Port(7)));
        assert_eq!(table.lookup(A, AT(599)), Lookup::Unknown);
    }

    #[test]
    fn the_newest_word_counts() {
        let table = Table::new(8, 1);
        table.learn(A, Place::Port(7), AT(0));
        assert_eq!(table.learn(A, Place::Peer(7), AT(0)), Learn::Moved);
        assert_eq!(table.lookup(A, AT(0)), Lookup::Known(Place::Peer(7)));
    }

    #[test]
    fn a_question_counts_for_a_moment_and_hides_no_answer() {
        let table = Table::new(8, 1);
        table.asked(A, AT(5));
        assert_eq!(table.lookup(A, AT(5)), Lookup::AskedRecently);
        assert_eq!(table.lookup(A, AT(6)), Lookup::Unknown);
        assert_eq!(table.learn(A, Place::Peer(3), AT(6)), Learn::Learned);
        table.asked(A, AT(6));
        assert_eq!(table.lookup(A, AT(6)), Lookup::Known(Place::Peer(3)));
    }

    #[test]
    fn strangers_questions_give_way_to_heard_addresses() {
        let table = Table::new(4, 1);
        for n in 0..255 {
            table.asked(MacAddr([2, 9, 9, 9, 9, n]), AT(1));
        }
        assert_eq!(table.learn(A, Place::Port(1), AT(1)), Learn::Learned);
        for n in 0..255 {
            table.asked(MacAddr([2, 9, 9, 9, 8, n]), AT(1));
        }
        assert_eq!(table.lookup(A, AT(1)), Lookup::Known(Place::Port(1)));
    }

    #[test]
    fn time_wraps_after_years_without_harm() {
        let table = Table::new(8, 1);
        let wrap = Duration::from_millis(250) * (1 << 30);
        table.learn(A, Place::Port(7), wrap - AT(1));
        assert_eq!(table.lookup(A, wrap + AT(1)), Lookup::Known(Place::Port(7)));
        assert_eq!(table.lookup(A, wrap + AT(299)), Lookup::Unknown);
    }

    #[test]
    fn fills_to_its_nominal_capacity() {
        let table = Table::new(10_000, 42);
        let mac = |n: u32| {
            let [_, b, c, d] = n.to_be_bytes();
            MacAddr([2, 0, 0, b, c, d])
        };
        let evicted =
            (0..10_000).filter(|n| matches!(table.learn(mac(*n), Place::Port(*n), AT(0)), Learn::Evicted(_)));
        assert!(evicted.count() < 10, "less than one in a thousand is lost to collisions");
    }

    #[test]
    fn a_slot_that_went_away_and_came_back_is_told_from_one_that_stayed() {
        let (a, b) = (key(A), key(MacAddr([0xff; 6])));
        let versions: Vec<u64> =
            std::iter::successors(Some(0), |old| Some(next_version(next_version(*old, b), a)))
                .skip(1)
                .take(100)
                .collect();
        assert!(versions.iter().all(|version| version & !VERSION == a && mac_of(*version) == A));
        assert!(versions.windows(2).all(|pair| pair[0] != pair[1]));
        let last = a | VERSION;
        assert_eq!(
            next_version(last, b),
            b,
            "the version wraps and touches neither the address nor the sign"
        );
    }

    #[test]
    fn readers_never_see_one_addresses_place_under_another() {
        // Two addresses fight for one slot while a reader checks that each is seen only at its own place.
        let table = Table::new(1, 7);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for n in 0..50_000u32 {
                    for m in 0..6u8 {
                        table.learn(
                            MacAddr([2, 0, 0, 0, 0, m]),
                            Place::Port(u32::from(m)),
                            AT(u64::from(n) * 400),
                        );
                    }
                }
            });
            while !writer.is_finished() {
                for m in 0..6u8 {
                    let slot = table.find(key(MacAddr([2, 0, 0, 0, 0, m])));
                    if let Some((_, value)) = slot {
                        assert_eq!(Entry::unpack(value).place.unwrap(), Place::Port(u32::from(m)));
                    }
                }
            }
        });
    }

    /// The table as a list: what was heard where and when, and who was given up.
    #[derive(Default)]
    struct Naive {
        heard: HashMap<u8, (Place, u64)>,
        asked: HashMap<u8, u64>,
    }

    impl Naive {
        fn lookup(&self, mac: u8, tick: u64) -> Lookup {
            match (self.heard.get(&mac), self.asked.get(&mac)) {
                (Some((place, at)), _) if tick - at < AGE_TICKS => Lookup::Known(*place),
                (_, Some(at)) if tick - at < ASKED_TICKS => Lookup::AskedRecently,
                _ => Lookup::Unknown,
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Learn(u8, u32),
        Ask(u8),
        Look(u8),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (any::<u8>(), 0u32..3).prop_map(|(mac, place)| Step::Learn(mac, place)),
            any::<u8>().prop_map(Step::Ask),
            any::<u8>().prop_map(Step::Look),
            (0u64..600).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Whatever is done, a lookup says what the naive list says, except for what the table said it gave up.
        #[test]
        fn agrees_with_a_list(capacity in 1usize..64, seed in any::<u64>(), steps in proptest::collection::vec(step(), 0..400)) {
            let table = Table::new(capacity, seed);
            let mut naive = Naive::default();
            let mut tick = 0;
            let mac = |n| MacAddr([2, 0, 0, 0, 0, n]);
            for step in steps {
                let now = TICK * u32::try_from(tick).unwrap();
                match step {
                    Step::Wait(ticks) => tick += ticks,
                    Step::Look(n) => {
                        let (is, should) = (table.lookup(mac(n), now), naive.lookup(n, tick));
                        // A question is the first thing given up, and not worth a word.
                        prop_assert!(is == should || (is, should) == (Lookup::Unknown, Lookup::AskedRecently));
                    }
                    Step::Ask(n) => {
                        let known = matches!(naive.lookup(n, tick), Lookup::Known(_));
                        table.asked(mac(n), now);
                        if !known {
                            naive.asked.insert(n, tick);
                            naive.heard.remove(&n);
                        }
                    }
                    Step::Learn(n, place) => {
                        let place = Place::Peer(place);
                        let before = naive.lookup(n, tick);
                        let learn = table.learn(mac(n), place, now);
                        match (before, learn) {
                            (Lookup::Known(old), Learn::Kept) => prop_assert_eq!(old, place),
                            (Lookup::Known(old), Learn::Moved) => prop_assert!(old != place),
                            (Lookup::Unknown | Lookup::AskedRecently, Learn::Learned) => {}
                            (Lookup::Unknown | Lookup::AskedRecently, Learn::Evicted(gone)) => {
                                prop_assert!(matches!(naive.lookup(gone.0[5], tick), Lookup::Known(_)));
                                naive.heard.remove(&gone.0[5]);
                            }
                            other => prop_assert!(false, "{:?}", other),
                        }
                        // Heard again within the refresh time, the entry keeps its older tick.
                        let refreshed = match naive.heard.get(&n) {
                            Some((old, at)) if *old == place && tick - at < REFRESH_TICKS => *at,
                            _ => tick,
                        };
                        naive.heard.insert(n, (place, refreshed));
                    }
                }
            }
        }
    }
}
