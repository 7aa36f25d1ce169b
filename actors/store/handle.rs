//! How actors reach the store's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use cm_core::error::{ErrorCode, Failure};
use tokio::sync::{mpsc, oneshot};

use super::backend::{Store, StoreError};
use super::batch::WriteBatch;

/// Jobs that wait for the store's thread at the most. Overflow rule: the caller waits for room
/// until its deadline, then is told that the store does not answer.
pub(super) const QUEUE: usize = 1024;

/// How long a caller waits for the store.
///
/// A request that cannot be stored within this time is declined to the child.
const DEADLINE: Duration = Duration::from_secs(30);

/// A read, run on the store's thread.
pub(super) type ReadJob = Box<dyn FnOnce(&dyn Store) + Send>;

/// One job of the store's thread.
pub(super) enum Job {
    /// A group commit takes these together.
    Commit { batch: WriteBatch, done: Option<oneshot::Sender<Result<(), StoreError>>> },
    /// Reads see everything that was queued before them.
    Read(ReadJob),
    /// Ends the thread when everything before it is done.
    Stop(oneshot::Sender<()>),
}

/// A stable way to reach the store.
#[derive(Clone, Default)]
pub struct StoreHandle {
    queue: Arc<ArcSwapOption<mpsc::Sender<Job>>>,
    /// Whether the last write failed.
    failing: Arc<AtomicBool>,
}

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreHandle").field("open", &self.queue.load().is_some()).finish()
    }
}

/// An accepted write whose durability can be waited for.
#[derive(Debug)]
pub struct Ticket {
    done: oneshot::Receiver<Result<(), StoreError>>,
}

impl Ticket {
    /// Waits until the write is on the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; on [`StoreError::Unavailable`] the write may still become durable.
    pub async fn durable(self) -> Result<(), StoreError> {
        match tokio::time::timeout(DEADLINE, self.done).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(StoreError::Unavailable),
        }
    }
}

impl StoreHandle {
    pub(super) fn fill(&self, queue: mpsc::Sender<Job>) {
        self.queue.store(Some(Arc::new(queue)));
    }

    pub(super) fn clear(&self) {
        self.queue.store(None);
    }

    /// Notes how the last write went.
    pub(super) fn wrote(&self, well: bool) {
        self.failing.store(!well, Ordering::Relaxed);
    }

    /// Tells, at any later moment, whether the last write failed: the disk is full, or broken.
    pub fn failing(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.failing)
    }

    /// Jobs that wait now.
    pub fn waiting(&self) -> usize {
        self.queue.load().as_ref().map_or(0, |queue| QUEUE - queue.capacity())
    }

    async fn send(&self, job: Job) -> Result<(), StoreError> {
        let queue = self.queue.load_full().ok_or(StoreError::Unavailable)?;
        match tokio::time::timeout(DEADLINE, queue.send(job)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(StoreError::Unavailable),
        }
    }

    /// Queues a write without waiting for room.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when the thread is gone or its queue is full; the batch comes
    /// back with it.
    pub fn try_commit(&self, batch: WriteBatch) -> Result<Ticket, (WriteBatch, StoreError)> {
        let Some(queue) = self.queue.load_full() else {
            return Err((batch, StoreError::Unavailable));
        };
        let (told, done) = oneshot::channel();
        match queue.try_send(Job::Commit { batch, done: Some(told) }) {
            Ok(()) => Ok(Ticket { done }),
            Err(error) => match error.into_inner() {
                Job::Commit { batch, .. } => Err((batch, StoreError::Unavailable)),
                Job::Read(_) | Job::Stop(_) => {
                    Err((WriteBatch::default(), StoreError::Unavailable))
                }
            },
        }
    }

    /// Writes and returns when it is on the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; on [`StoreError::Unavailable`] the write may still become durable.
    pub async fn commit(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let (told, done) = oneshot::channel();
        self.send(Job::Commit { batch, done: Some(told) }).await?;
        Ticket { done }.durable().await
    }

    /// Queues a write and returns when it is queued. A failure is logged by the store's thread.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when it could not be queued.
    pub async fn record(&self, batch: WriteBatch) -> Result<(), StoreError> {
        self.send(Job::Commit { batch, done: None }).await
    }

    /// Runs a read on the store's thread, behind every write that was queued before it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    {
        let (told, done) = oneshot::channel();
        let job = Job::Read(Box::new(move |store| {
            // Whoever asked may have stopped waiting.
            told.send(read(store)).ok();
        }));
        self.send(job).await?;
        match tokio::time::timeout(DEADLINE, done).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(StoreError::Unavailable),
        }
    }

    pub(super) async fn stop(&self) {
        let (told, done) = oneshot::channel();
        if self.send(Job::Stop(told)).await.is_ok() {
            // A thread that is gone has nothing left to write.
            done.await.ok();
        }
    }
}

impl StoreError {
    /// The failure as clients see it.
    pub fn failure(&self) -> Failure {
        let code = match self {
            Self::InUse(_) => ErrorCode::DataDirInUse,
            Self::Open { .. } => ErrorCode::DataDirUnusable,
            Self::Write(_) | Self::Unavailable => ErrorCode::StoreUnavailable,
            Self::Read(_) | Self::Record { .. } => ErrorCode::Internal,
        };
        Failure::new(code, format!("The manager's store failed: {self}."))
    }
}
