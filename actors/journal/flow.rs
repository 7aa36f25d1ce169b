//! How the readers of the ring hold back the child.
//!
//! Two rules, both bounded in time, so that nobody can stop the child:
//!
//! - *Workers.* A worker acknowledges frames once every socket that could be written has had its
//!   turn with them. A client that does not read has no part in that; a worker that has too much to
//!   do does, and then reading more of the pipe would only throw frames out of the ring.
//! - *Patience.* A subscriber that is more than half the ring behind, and took at least half of what
//!   came in over the last second, is waited for a little. Anything slower never is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

/// Bytes of frames that workers may have before them.
const WINDOW: u64 = 1024 * 1024;

/// How long one read of the pipe waits for workers. A worker that takes longer has a blocked
/// thread, which must not stop the child.
const WORKERS: Duration = Duration::from_secs(1);

/// How long one read of the pipe waits for subscribers.
const PATIENCE: Duration = Duration::from_millis(20);

/// What the pipe's side and the workers share.
#[derive(Debug, Clone, Default)]
pub struct Flow(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Bytes that were published.
    published: AtomicU64,
    workers: ArcSwap<Vec<Arc<Counters>>>,
    /// Whether somebody waits for a change.
    waiting: AtomicBool,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Counters {
    /// Bytes up to which every socket that could be written had its turn.
    taken: AtomicU64,
    /// Subscribers that are worth waiting for.
    deserving: AtomicUsize,
    /// Set when it was waited for in vain: it is not waited for again before it moves.
    blocked: AtomicBool,
}

/// A worker's side; dropped, the worker is not waited for any more.
#[derive(Debug)]
pub struct WorkerFlow {
    flow: Flow,
    counters: Arc<Counters>,
}

impl Flow {
    /// Adds a worker, which has nothing before it.
    pub fn join(&self) -> WorkerFlow {
        let counters = Arc::new(Counters::default());
        counters.taken.store(self.0.published.load(Ordering::Relaxed), Ordering::Relaxed);
        self.0.workers.rcu(|workers| {
            let mut workers = workers.to_vec();
            workers.push(Arc::clone(&counters));
            workers
        });
        WorkerFlow { flow: self.clone(), counters }
    }

    /// Bytes that were published so far, over all lives of the journal.
    pub(super) fn position(&self) -> u64 {
        self.0.published.load(Ordering::Relaxed)
    }

    /// Notes what the journal published.
    pub(super) fn published(&self, bytes: u64) {
        self.0.published.store(bytes, Ordering::Relaxed);
    }

    fn in_window(&self) -> bool {
        let published = self.0.published.load(Ordering::Relaxed);
        self.0.workers.load().iter().all(|worker| {
            let before_it = published.saturating_sub(worker.taken.load(Ordering::Acquire));
            before_it <= WINDOW || worker.blocked.load(Ordering::Acquire)
        })
    }

    /// Stops to wait for workers that do not move.
    fn leave_behind(&self) {
        tracing::warn!("an HTTP worker does not move; reading on without it");
        let published = self.0.published.load(Ordering::Relaxed);
        for worker in self.0.workers.load().iter() {
            let taken = worker.taken.load(Ordering::Acquire);
            worker.blocked.store(published.saturating_sub(taken) > WINDOW, Ordering::Release);
        }
    }

    fn is_pressed(&self) -> bool {
        let workers = self.0.workers.load();
        workers.iter().any(|worker| worker.deserving.load(Ordering::Acquire) > 0)
    }

    /// Whether nothing holds back the next read.
    pub fn is_open(&self) -> bool {
        self.in_window() && !self.is_pressed()
    }

    /// Waits until the next read may begin, which is at most a little more than a second.
    pub async fn opened(&self) {
        if !self.in_window() && timeout(WORKERS, self.until(Self::in_window)).await.is_err() {
            self.leave_behind();
        }
        if self.is_pressed() {
            let end = Instant::now() + PATIENCE;
            // Whoever is slower than that is left behind.
            timeout_at(end, self.until(|flow| !flow.is_pressed())).await.ok();
        }
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            self.0.waiting.store(true, Ordering::SeqCst);
            if holds(self) {
                return;
            }
            changed.await;
        }
    }

    fn wake(&self) {
        if self.0.waiting.swap(false, Ordering::SeqCst) {
            self.0.changed.notify_one();
        }
    }
}

impl WorkerFlow {
    /// Every socket that could be written had its turn up to here.
    pub fn taken(&self, position: u64) {
        self.counters.taken.fetch_max(position, Ordering::SeqCst);
        self.counters.blocked.store(false, Ordering::Release);
        self.flow.wake();
    }

    /// So many subscribers are worth waiting for now.
    pub fn deserving(&self, count: usize) {
        let before = self.counters.deserving.swap(count, Ordering::SeqCst);
        if before > 0 && count == 0 {
            self.flow.wake();
        }
    }
}

impl Drop for WorkerFlow {
    fn drop(&mut self) {
        self.flow.0.workers.rcu(|workers| {
            let others = workers.iter().filter(|worker| !Arc::ptr_eq(worker, &self.counters));
            others.cloned().collect::<Vec<_>>()
        });
        self.flow.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_busy_worker_is_waited_for_and_a_blocked_one_not_for_ever() {
        let flow = Flow::default();
        let worker = flow.join();
        flow.published(WINDOW);
        assert!(flow.is_open());
        flow.published(WINDOW + 1);
        assert!(!flow.is_open());
        let (_, before) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                worker.taken(1);
            },
            async {
                let start = Instant::now();
                flow.opened().await;
                start.elapsed()
            }
        );
        assert_eq!(before, Duration::from_millis(5));
        flow.published(10 * WINDOW);
        let start = Instant::now();
        flow.opened().await;
        assert_eq!(start.elapsed(), WORKERS);
        assert!(flow.is_open(), "a blocked worker is waited for once");
        worker.taken(2);
        assert!(!flow.is_open());
        drop(worker);
        assert!(flow.is_open(), "a worker that is gone holds nothing back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscriber_that_deserves_it_is_waited_for_a_little() {
        let flow = Flow::default();
        let worker = flow.join();
        worker.deserving(1);
        let start = Instant::now();
        flow.opened().await;
        assert_eq!(start.elapsed(), PATIENCE);
        worker.deserving(0);
        assert!(flow.is_open());
    }
}
