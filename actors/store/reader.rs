//! The thread that reads, so that a long read never holds up a commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::backend::Store;
use super::handle::ReadJob;

/// Reads that wait for the reader at the most. Overflow rule: the writer runs the next one itself,
/// so that the queue before it fills up and callers wait.
const WAITING: usize = 256;

/// How long the end of a running read is waited for at a stop.
const LAST_READ: Duration = Duration::from_millis(500);

/// The reader's thread.
pub(super) struct Reader {
    jobs: Option<SyncSender<ReadJob>>,
    /// Ends when its queue does.
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts the thread.
    pub(super) fn start(store: Arc<dyn Store>) -> std::io::Result<Self> {
        let (jobs, queue): (_, Receiver<ReadJob>) = sync_channel(WAITING);
        let thread =
            std::thread::Builder::new().name("store-reader".to_owned()).spawn(move || {
                for read in queue {
                    run(read, store.as_ref());
                }
            })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Hands a read to the thread. What was written before this call is seen by it.
    pub(super) fn run(&self, read: ReadJob, store: &dyn Store) {
        let Some(jobs) = &self.jobs else {
            return;
        };
        match jobs.try_send(read) {
            Ok(()) => {}
            Err(TrySendError::Full(read) | TrySendError::Disconnected(read)) => run(read, store),
        }
    }

    /// Ends the thread when the reads that wait are done, or leaves it to its last one.
    pub(super) fn stop(&mut self) {
        self.jobs = None;
        let Some(thread) = self.thread.take() else {
            return;
        };
        let end = Instant::now() + LAST_READ;
        while !thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Runs a read. One that panics ends alone: whoever asked is told that there is no answer.
fn run(read: ReadJob, store: &dyn Store) {
    if catch_unwind(AssertUnwindSafe(|| read(store))).is_err() {
        tracing::error!("a read of the store panicked");
    }
}
