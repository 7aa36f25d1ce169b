//! What the store counts of itself, for metrics. Reading it waits for nobody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::metrics::{Histogram, HistogramView};

/// Upper bounds of the classes of commit time, in microseconds; the last class has none.
pub const COMMIT_MICROS: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    5_000_000,
];

/// Upper bounds of the classes of batches in a commit; the last class has none.
pub const COMMIT_BATCHES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128];

/// Counters of the store's thread, written by it alone.
#[derive(Debug)]
pub struct StoreStats {
    micros: Histogram,
    batches: Histogram,
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

impl Default for StoreStats {
    fn default() -> Self {
        Self {
            micros: Histogram::new(COMMIT_MICROS),
            batches: Histogram::new(COMMIT_BATCHES),
            failures: AtomicU64::default(),
            lost: AtomicU64::default(),
            backlog: AtomicU64::default(),
        }
    }
}

impl StoreStats {
    pub(super) fn committed(&self, batches: usize, took: Duration) {
        self.micros.took(took);
        self.batches.note(batches as u64);
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
        assert_eq!(view.commit_micros.upto[..2], [(100, 1), (250, 2)]);
        assert_eq!(view.commit_micros.upto.last(), Some(&(5_000_000, 2)));
        assert_eq!((view.commit_micros.count, view.commit_micros.sum), (3, 60_000_201));
        let upto: Vec<u64> = view.commit_batches.upto.iter().map(|(_, count)| *count).collect();
        assert_eq!(upto, [1, 1, 2, 2, 2, 2, 2, 2]);
    }
}
