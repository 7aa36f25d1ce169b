//! What the registry and its threads count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Gauges of sessions, shared by the registry and its threads; read and changed with relaxed
/// ordering.
#[derive(Debug, Default)]
pub struct SessionStats {
    /// Gauge: sessions that are not archived.
    pub listed: AtomicU64,
    /// Gauge: archived sessions.
    pub archived: AtomicU64,
    /// Gauge: living Thread actors.
    pub threads_alive: Gauge,
    /// Gauge: requests of the agent that have not ended.
    pub requests_pending: Gauge,
    /// Counter: threads' actors that panicked and were rebuilt from the store.
    pub panics: AtomicU64,
    /// Counter: threads that were let go because nothing happened in them.
    pub passivated: AtomicU64,
    /// Counter: threads that were compared with the runtime's history after a crash.
    pub recoveries: AtomicU64,
}

impl SessionStats {
    /// Notes how many sessions the lists have.
    pub fn listed(&self, listed: usize, archived: usize) {
        self.listed.store(listed as u64, Ordering::Relaxed);
        self.archived.store(archived as u64, Ordering::Relaxed);
    }
}

/// How many of something there are, counted by what it is: each one holds a [`Counted`].
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<watch::Sender<u64>>);

impl Gauge {
    /// Counts one more, until the answer is dropped.
    pub fn count(&self) -> Counted {
        self.0.send_modify(|count| *count += 1);
        Counted(Arc::clone(&self.0))
    }

    /// How many there are.
    pub fn get(&self) -> u64 {
        *self.0.borrow()
    }

    /// Waits until there are so many.
    #[cfg(test)]
    pub(crate) async fn reaches(&self, wanted: u64) {
        // The sender is ours, so that there is always one.
        self.0.subscribe().wait_for(|count| *count == wanted).await.ok();
    }
}

/// One of those that a [`Gauge`] counts. It is counted until it is dropped, however it ends.
#[derive(Debug)]
pub struct Counted(Arc<watch::Sender<u64>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_counted_until_it_is_dropped() {
        let gauge = Gauge::default();
        let (one, other) = (gauge.count(), gauge.count());
        assert_eq!(gauge.get(), 2);
        drop(one);
        assert_eq!(gauge.get(), 1);
        drop(other);
        assert_eq!(gauge.get(), 0);
    }
}
