//! How much a subscriber took lately.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time that is looked back on.
const WINDOW: Duration = Duration::from_secs(1);

/// How far apart samples lie.
const STEP: Duration = Duration::from_millis(100);

/// Positions of the head and of one cursor over the last second.
#[derive(Debug, Default)]
pub(super) struct Progress {
    samples: VecDeque<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    /// Bytes that were published.
    published: u64,
    /// Bytes that the cursor had passed.
    passed: u64,
}

impl Progress {
    /// Notes where head and cursor are; answers whether the cursor passed at least half of what
    /// was published over the last second.
    pub(super) fn note(&mut self, now: Instant, published: u64, passed: u64) -> bool {
        while self.samples.len() > 1
            && self.samples.get(1).is_some_and(|next| now.duration_since(next.at) >= WINDOW)
        {
            self.samples.pop_front();
        }
        let due = self.samples.back().is_none_or(|last| now.duration_since(last.at) >= STEP);
        if due {
            self.samples.push_back(Sample { at: now, published, passed });
        }
        let Some(oldest) = self.samples.front() else { return false };
        let inflow = published.saturating_sub(oldest.published);
        let outflow = passed.saturating_sub(oldest.passed);
        outflow > 0 && outflow * 2 >= inflow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_half_of_what_comes_in_keeps_up() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut steady = Progress::default();
        let mut stalled = Progress::default();
        for step in 0..30 {
            let published = step * 1_000;
            let steady_keeps_up = steady.note(at(step * 100), published, published / 2);
            assert_eq!(steady_keeps_up, step > 0, "{step}");
            assert!(!stalled.note(at(step * 100), published, published / 3));
        }
        assert!(steady.samples.len() <= 12);
        // What was good long ago does not count.
        let mut fallen = Progress::default();
        fallen.note(at(0), 0, 0);
        fallen.note(at(500), 1_000, 1_000);
        assert!(fallen.note(at(600), 1_500, 1_000));
        assert!(!fallen.note(at(1_700), 5_000, 1_000));
    }
}
