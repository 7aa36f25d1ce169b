//! How many turns run at once.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::wire::lock;

/// Counts running turns; at the limit one more is refused.
pub(crate) struct TurnSlots {
    running: Mutex<usize>,
    changed: Condvar,
    limit: usize,
}

impl TurnSlots {
    pub(crate) fn new(limit: usize) -> Self {
        Self { running: Mutex::new(0), changed: Condvar::new(), limit }
    }

    /// Takes a slot; `false` when all are taken.
    pub(crate) fn take(&self) -> bool {
        let mut running = lock(&self.running);
        if *running >= self.limit {
            return false;
        }
        *running += 1;
        true
    }

    /// Gives a slot back.
    pub(crate) fn give_back(&self) {
        *lock(&self.running) -= 1;
        self.changed.notify_all();
    }

    /// Waits until no turn runs; `false` when `patience` ends first.
    pub(crate) fn wait_until_idle(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut running = lock(&self.running);
        while *running > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(running, left);
            running = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
