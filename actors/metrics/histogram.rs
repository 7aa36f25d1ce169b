//! Values counted by class.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of durations, in microseconds: from what a message between two threads costs to
/// what a caller still waits for.
const MICROS: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// Counts of values by class.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// Values in each class, not summed up; the last class has no bound.
    classes: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Makes an empty one. Each bound is the greatest value of its class; they must ascend.
    pub fn new(bounds: &'static [u64]) -> Self {
        let classes = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, classes, sum: AtomicU64::new(0) }
    }

    /// Makes an empty one for durations in microseconds, from 100 µs to 30 s.
    pub fn of_durations() -> Self {
        Self::new(MICROS)
    }

    /// Counts a value.
    pub fn note(&self, value: u64) {
        let class = self.bounds.partition_point(|bound| *bound < value);
        if let Some(class) = self.classes.get(class) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a duration in microseconds.
    pub fn took(&self, duration: Duration) {
        self.note(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// What was counted so far.
    pub fn read(&self) -> HistogramView {
        let mut count = 0;
        let mut upto = Vec::with_capacity(self.bounds.len());
        for (position, class) in self.classes.iter().enumerate() {
            count += class.load(Ordering::Relaxed);
            if let Some(bound) = self.bounds.get(position) {
                upto.push((*bound, count));
            }
        }
        HistogramView { upto, count, sum: self.sum.load(Ordering::Relaxed) }
    }
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramView {
    /// Each bound and how many values are not above it.
    pub upto: Vec<(u64, u64)>,
    /// All values.
    pub count: u64,
    /// Their sum, in the unit of the bounds.
    pub sum: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_up_to_every_bound_that_it_does_not_exceed() {
        let histogram = Histogram::new(&[1, 10, 100]);
        for value in [0, 1, 2, 10, 11, 1000] {
            histogram.note(value);
        }
        let view = histogram.read();
        assert_eq!(view.upto, [(1, 2), (10, 4), (100, 5)]);
        assert_eq!((view.count, view.sum), (6, 1024));
    }

    #[test]
    fn durations_are_counted_in_microseconds() {
        let histogram = Histogram::of_durations();
        histogram.took(Duration::from_micros(100));
        histogram.took(Duration::from_secs(60));
        let view = histogram.read();
        assert_eq!(view.upto.first(), Some(&(100, 1)));
        assert_eq!(view.upto.last(), Some(&(30_000_000, 1)));
        assert_eq!((view.count, view.sum), (2, 60_000_100));
    }
}
