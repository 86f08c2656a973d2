//! Names for reasons, and counts of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// An enum whose variants have a text to be counted and shown under.
macro_rules! named {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All of them, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name under which it is counted and shown.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}
pub(crate) use named;

/// A row of counts with one writer: a load and a store lose nothing and share no cache line with another worker's.
#[derive(Debug)]
pub(crate) struct Tally<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }
}

impl<const N: usize> Tally<N> {
    #[inline]
    pub(crate) fn bump(&self, index: usize) {
        self.add(index, 1);
    }

    #[inline]
    pub(crate) fn add(&self, index: usize, count: u64) {
        let cell = &self.0[index];
        cell.store(cell.load(Relaxed) + count, Relaxed);
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().map(|cell| cell.load(Relaxed))
    }
}
