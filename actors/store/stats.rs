//! What the store counts of itself, for metrics. Reading it waits for nobody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the classes of commit time, in microseconds; the last class has none.
pub const COMMIT_MICROS: [u64; 13] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    5_000_000,
];

/// Upper bounds of the classes of batches in a commit; the last class has none.
pub const COMMIT_BATCHES: [u64; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// Counts of values by class.
#[derive(Debug)]
struct Histogram<const CLASSES: usize> {
    /// Values in each class, not summed up.
    classes: [AtomicU64; CLASSES],
    /// Values above all classes.
    above: AtomicU64,
    sum: AtomicU64,
}

impl<const CLASSES: usize> Default for Histogram<CLASSES> {
    fn default() -> Self {
        Self {
            classes: std::array::from_fn(|_| AtomicU64::new(0)),
            above: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }
}

impl<const CLASSES: usize> Histogram<CLASSES> {
    fn note(&self, bounds: &[u64; CLASSES], value: u64) {
        let class = bounds.iter().position(|bound| value <= *bound);
        let counter = class.and_then(|class| self.classes.get(class)).unwrap_or(&self.above);
        counter.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    fn read(&self) -> HistogramView {
        let mut total = 0;
        let mut cumulative = Vec::with_capacity(CLASSES);
        for class in &self.classes {
            total += class.load(Ordering::Relaxed);
            cumulative.push(total);
        }
        let count = total + self.above.load(Ordering::Relaxed);
        HistogramView { cumulative, count, sum: self.sum.load(Ordering::Relaxed) }
    }
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramView {
    /// Values up to each bound, summed up as Prometheus wants them.
    pub cumulative: Vec<u64>,
    /// All values.
    pub count: u64,
    /// Their sum, in the unit of the bounds.
    pub sum: u64,
}

/// Counters of the store's thread, written by it alone.
#[derive(Debug, Default)]
pub struct StoreStats {
    micros: Histogram<13>,
    batches: Histogram<8>,
    failures: AtomicU64,
    lost: AtomicU64,
    backlog: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatsView {
    /// Time of successful commits in microseconds, by [`COMMIT_MICROS`]: from the first change to
    /// the end of `fdatasync`.
    pub commit_micros: HistogramView,
    /// Batches in successful commits, by [`COMMIT_BATCHES`].
    pub commit_batches: HistogramView,
    /// Commits that failed.
    pub failures: u64,
    /// Recorded batches that were given up.
    pub lost: u64,
    /// Recorded batches that wait until writing works again.
    pub backlog: u64,
}

impl StoreStats {
    pub(super) fn committed(&self, batches: usize, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.note(&COMMIT_MICROS, micros);
        self.batches.note(&COMMIT_BATCHES, batches as u64);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lost(&self, batches: u64) {
        self.lost.fetch_add(batches, Ordering::Relaxed);
    }

    pub(super) fn backlog(&self, batches: usize) {
        self.backlog.store(batches as u64, Ordering::Relaxed);
    }

    /// The counters now.
    pub fn read(&self) -> StoreStatsView {
        StoreStatsView {
            commit_micros: self.micros.read(),
            commit_batches: self.batches.read(),
            failures: self.failures.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            backlog: self.backlog.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_in_their_class_and_summed_up() {
        let stats = StoreStats::default();
        stats.committed(1, Duration::from_micros(100));
        stats.committed(3, Duration::from_micros(101));
        stats.committed(1_000, Duration::from_secs(60));
        let view = stats.read();
        assert_eq!(view.commit_micros.cumulative[..2], [1, 2]);
        assert_eq!(view.commit_micros.cumulative.last(), Some(&2));
        assert_eq!((view.commit_micros.count, view.commit_micros.sum), (3, 60_000_201));
        assert_eq!(view.commit_batches.cumulative, [1, 1, 2, 2, 2, 2, 2, 2]);
    }
}
