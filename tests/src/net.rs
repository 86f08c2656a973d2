//! The network between hosts.
//!
//! Each message is lost, delayed, repeated and overtaken by chance. A partition cuts some hosts off from the others;
//! within each side everything goes on.

use std::collections::BTreeSet;

use rand_core::Rng;

use crate::{below, chance};

/// How bad it is. Probabilities are in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// How often a message is lost.
    pub loss: u64,
    /// How often a message comes twice.
    pub repeat: u64,
    /// The least delay.
    pub delay_min: u64,
    /// The most delay, nearly always. Each message draws its own, so messages overtake each other.
    pub delay_max: u64,
    /// How often a message takes ten times as long.
    pub straggle: u64,
}

impl Weather {
    /// Nothing is lost.
    pub const FINE: Self = Self { loss: 0, repeat: 0, delay_min: 1, delay_max: 5, straggle: 0 };
    /// Bad, but messages get through.
    pub const BAD: Self = Self { loss: 100, repeat: 80, delay_min: 1, delay_max: 120, straggle: 30 };
}

/// The network.
#[derive(Debug, Clone)]
pub struct Net {
    /// How bad it is now.
    pub weather: Weather,
    cut_off: BTreeSet<usize>,
}

impl Net {
    /// A network of this weather.
    #[must_use]
    pub const fn new(weather: Weather) -> Self {
        Self { weather, cut_off: BTreeSet::new() }
    }

    /// Cuts these hosts off from all others; none ends the partition.
    pub fn cut_off(&mut self, hosts: BTreeSet<usize>) {
        self.cut_off = hosts;
    }

    /// Whether a message between these hosts can pass.
    #[must_use]
    pub fn connected(&self, a: usize, b: usize) -> bool {
        self.cut_off.contains(&a) == self.cut_off.contains(&b)
    }

    /// When copies of one message arrive, counted from now; empty when it is lost.
    pub fn carry(&self, from: usize, to: usize, rng: &mut impl Rng) -> Vec<u64> {
        let weather = self.weather;
        if !self.connected(from, to) || chance(rng, weather.loss) {
            return Vec::new();
        }
        let copies = if chance(rng, weather.repeat) { 2 } else { 1 };
        (0..copies)
            .map(|_| {
                let delay = weather.delay_min + below(rng, weather.delay_max - weather.delay_min + 1);
                if chance(rng, weather.straggle) { delay * 10 } else { delay }
            })
            .collect()
    }
}
