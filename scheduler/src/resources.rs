//! What a host has and a machine takes.
//!
//! Owns the four kinds of resource and their arithmetic, all of it checked. Refuses to know who takes them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::{cpus_text, size_text};

/// An amount of everything a host gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpus_milli: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Disk in bytes.
    pub disk_bytes: u64,
    /// Machines.
    pub machines: u64,
}

/// One kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// CPUs, counted in thousandths.
    Cpus,
    /// Memory, in bytes.
    Memory,
    /// Disk, in bytes.
    Disk,
    /// Machines, counted.
    Machines,
}

impl Resource {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Cpus, Self::Memory, Self::Disk, Self::Machines];

    /// An amount of this kind as people write it.
    #[must_use]
    pub fn text(self, amount: u64) -> String {
        match self {
            Self::Cpus => format!("{} CPUs", cpus_text(amount)),
            Self::Memory | Self::Disk => size_text(amount),
            Self::Machines => format!("{amount} machines"),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpus => "cpus",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Machines => "machines",
        })
    }
}

impl Resources {
    /// Nothing.
    pub const NONE: Self = Self { cpus_milli: 0, memory_bytes: 0, disk_bytes: 0, machines: 0 };

    /// The amount of one kind.
    #[must_use]
    pub const fn of(&self, kind: Resource) -> u64 {
        match kind {
            Resource::Cpus => self.cpus_milli,
            Resource::Memory => self.memory_bytes,
            Resource::Disk => self.disk_bytes,
            Resource::Machines => self.machines,
        }
    }

    fn zip(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            cpus_milli: f(self.cpus_milli, other.cpus_milli),
            memory_bytes: f(self.memory_bytes, other.memory_bytes),
            disk_bytes: f(self.disk_bytes, other.disk_bytes),
            machines: f(self.machines, other.machines),
        }
    }

    /// Both together; stops at the largest number instead of wrapping, which then fits nowhere.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// What is left without `other`; nothing where `other` is more.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.zip(other, u64::saturating_sub)
    }

    /// This much `count` times; stops at the largest number instead of wrapping.
    #[must_use]
    pub fn times(&self, count: u64) -> Self {
        self.zip(self, |amount, _| amount.saturating_mul(count))
    }

    /// The smaller of each kind.
    #[must_use]
    pub fn at_most(&self, other: &Self) -> Self {
        self.zip(other, u64::min)
    }

    /// Whether this fits into `room`.
    #[must_use]
    pub fn fits(&self, room: &Self) -> bool {
        self.shortage(room).is_none()
    }

    /// The first kind of which `room` has too little, and how much is missing.
    #[must_use]
    pub fn shortage(&self, room: &Self) -> Option<(Resource, u64)> {
        self.shortages(room).next()
    }

    /// Each kind of which `room` has too little, and how much is missing.
    pub fn shortages(&self, room: &Self) -> impl Iterator<Item = (Resource, u64)> + use<> {
        let missing = self.minus(room);
        Resource::ALL
            .into_iter()
            .map(move |kind| (kind, missing.of(kind)))
            .filter(|(_, missing)| *missing > 0)
    }

    /// How many of this fit into `room`, at most `most`.
    #[must_use]
    pub fn count_in(&self, room: &Self, most: u64) -> u64 {
        Resource::ALL
            .into_iter()
            .filter(|kind| self.of(*kind) > 0)
            .map(|kind| room.of(kind) / self.of(kind))
            .min()
            .unwrap_or(most)
            .min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Resources = Resources { cpus_milli: 1000, memory_bytes: 10, disk_bytes: 0, machines: 1 };

    #[test]
    fn a_shortage_names_the_kind_and_the_missing_amount() {
        let room = Resources { cpus_milli: 1500, memory_bytes: 4, disk_bytes: 0, machines: 1 };
        assert_eq!(ONE.shortage(&room), Some((Resource::Memory, 6)));
        assert!(ONE.fits(&Resources { memory_bytes: 10, ..room }));
    }

    #[test]
    fn counting_ignores_what_is_not_taken_and_stops_at_the_most() {
        let room = Resources { cpus_milli: 9000, memory_bytes: 35, disk_bytes: 0, machines: 100 };
        assert_eq!(ONE.count_in(&room, 64), 3);
        assert_eq!(ONE.count_in(&room, 2), 2);
        assert_eq!(Resources::NONE.count_in(&room, 7), 7);
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        let huge = Resources { cpus_milli: u64::MAX, ..Resources::NONE };
        assert_eq!(huge.plus(&ONE).cpus_milli, u64::MAX);
        assert_eq!(Resources::NONE.minus(&ONE), Resources::NONE);
        assert_eq!(huge.times(3).cpus_milli, u64::MAX);
    }
}
