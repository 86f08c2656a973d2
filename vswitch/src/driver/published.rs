//! A value that is replaced as a whole, and read by workers without a lock: they keep the last one they saw and look at a number to
//! learn whether there is another.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{
        AtomicU64,
        Ordering::{Acquire, Release},
    },
};

/// The value, where it is replaced.
#[derive(Debug)]
pub(crate) struct Published<T> {
    generation: AtomicU64,
    value: Mutex<Arc<T>>,
}

impl<T> Published<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { generation: AtomicU64::new(0), value: Mutex::new(Arc::new(value)) }
    }

    /// Replaces the value.
    pub(crate) fn publish(&self, value: T) {
        let mut place = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Arc::new(value);
        self.generation.fetch_add(1, Release);
    }

    /// Makes the next value from the last.
    pub(crate) fn update(&self, change: impl FnOnce(&T) -> T) {
        let mut place = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Arc::new(change(&place));
        self.generation.fetch_add(1, Release);
    }

    /// The value now.
    pub(crate) fn read(&self) -> Arc<T> {
        Arc::clone(&self.value.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The value as one worker last saw it.
#[derive(Debug)]
pub(crate) struct Seen<T> {
    source: Arc<Published<T>>,
    generation: u64,
    value: Arc<T>,
}

impl<T> Seen<T> {
    pub(crate) fn new(source: Arc<Published<T>>) -> Self {
        let generation = source.generation.load(Acquire);
        let value = source.read();
        Self { source, generation, value }
    }

    /// Takes the newest value; true if it is another.
    #[inline]
    pub(crate) fn refresh(&mut self) -> bool {
        let generation = self.source.generation.load(Acquire);
        if generation == self.generation {
            return false;
        }
        // Read after the number: the value may be newer than it, never older.
        self.generation = generation;
        self.value = self.source.read();
        true
    }

    #[inline]
    pub(crate) fn value(&self) -> &Arc<T> {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_value_is_seen_at_the_next_refresh() {
        let source = Arc::new(Published::new(1));
        let mut seen = Seen::new(Arc::clone(&source));
        assert!(!seen.refresh());
        source.publish(2);
        assert_eq!(**seen.value(), 1);
        assert!(seen.refresh());
        source.update(|old| old + 1);
        assert!(seen.refresh());
        assert_eq!(**seen.value(), 3);
    }
}
