//! How actors reach the store's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use cm_core::error::{ErrorCode, Failure};
use cm_core::wire::StoreHealth;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::backend::{Store, StoreError};
use super::batch::WriteBatch;
use super::export::ExportPlan;
use super::restore::Restored;
use super::stats::StoreStats;

/// Jobs that wait for the store's thread at the most. Overflow rule: the caller waits for room
/// until its deadline, then is told that the store does not answer.
pub(super) const QUEUE: usize = 1024;

/// KiB of batches that wait for the store's thread at the most; a larger batch waits alone.
/// Overflow rule: as for [`QUEUE`]. It is what makes a thread whose items come faster than the disk
/// takes them wait, and with it the child.
const QUEUE_KIB: u32 = 4 * 1024;

/// How long a caller waits for the store.
///
/// A request that cannot be stored within this time is declined to the child.
const DEADLINE: Duration = Duration::from_secs(30);

/// A read, run beside the store's thread.
pub(super) type ReadJob = Box<dyn FnOnce(&dyn Store) + Send>;

/// One job of the store's thread.
pub(super) enum Job {
    /// A group commit takes these together.
    Commit(Write),
    /// Reads see everything that was queued before them.
    Read(ReadJob),
    /// Tries whether writing works again.
    Retry,
    /// Writes an export beside the work.
    Export(ExportPlan),
    /// Ends the thread when everything before it is done.
    Stop(oneshot::Sender<()>),
}

/// A batch that is to be written.
pub(super) struct Write {
    pub(super) batch: WriteBatch,
    /// Whom to tell how it went.
    pub(super) done: Option<oneshot::Sender<Result<(), StoreError>>>,
    /// Its part of what may wait, given back when it was written or refused.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// The room that waiting batches share.
#[derive(Clone)]
struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(QUEUE_KIB as usize)))
    }
}

impl Room {
    fn share(batch: &WriteBatch) -> u32 {
        u32::try_from(batch.bytes() / 1024 + 1).map_or(QUEUE_KIB, |kib| kib.min(QUEUE_KIB))
    }

    fn try_take(&self, batch: &WriteBatch) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_many_owned(Self::share(batch)).ok()
    }

    /// `None` when there was none in time.
    async fn take(&self, batch: &WriteBatch) -> Option<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.0).acquire_many_owned(Self::share(batch));
        tokio::time::timeout(DEADLINE, room).await.ok()?.ok()
    }
}

/// A stable way to reach the store.
#[derive(Clone, Default)]
pub struct StoreHandle {
    queue: Arc<ArcSwapOption<mpsc::Sender<Job>>>,
    room: Room,
    /// Whether the last write failed.
    failing: Arc<AtomicBool>,
    stats: Arc<StoreStats>,
    /// Records that were met damaged, counted by the store that is open.
    damaged: Arc<ArcSwap<AtomicUsize>>,
    /// How the store was opened, for health.
    condition: Arc<ArcSwap<StoreCondition>>,
    /// Where and how often it is exported; nothing is when there is no plan.
    exports: Arc<ArcSwapOption<ExportPlan>>,
}

/// What is known of the store's past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreCondition {
    /// Set when the store was damaged and is a restored one.
    pub restored: Option<Restored>,
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
        let Some(room) = self.room.try_take(&batch) else {
            return Err((batch, StoreError::Unavailable));
        };
        let (told, done) = oneshot::channel();
        self.try_send(Write { batch, done: Some(told), room: Some(room) })?;
        Ok(Ticket { done })
    }

    /// The same for what its owner bounds by itself. The log of events follows the changes that it
    /// tells of, and must not be held up behind more of them.
    ///
    /// # Errors
    ///
    /// As for [`StoreHandle::try_commit`].
    pub(crate) fn try_commit_following(
        &self,
        batch: WriteBatch,
    ) -> Result<Ticket, (WriteBatch, StoreError)> {
        let (told, done) = oneshot::channel();
        self.try_send(Write { batch, done: Some(told), room: None })?;
        Ok(Ticket { done })
    }

    /// Queues a write that nobody waits for, without waiting for room; otherwise like
    /// [`StoreHandle::record`].
    ///
    /// # Errors
    ///
    /// As for [`StoreHandle::try_commit`].
    pub fn try_record(&self, batch: WriteBatch) -> Result<(), (WriteBatch, StoreError)> {
        let Some(room) = self.room.try_take(&batch) else {
            return Err((batch, StoreError::Unavailable));
        };
        self.try_send(Write { batch, done: None, room: Some(room) })
    }

    fn try_send(&self, write: Write) -> Result<(), (WriteBatch, StoreError)> {
        let Some(queue) = self.queue.load_full() else {
            return Err((write.batch, StoreError::Unavailable));
        };
        queue.try_send(Job::Commit(write)).map_err(|error| match error.into_inner() {
            Job::Commit(write) => (write.batch, StoreError::Unavailable),
            _ => (WriteBatch::default(), StoreError::Unavailable),
        })
    }

    async fn send_write(
        &self,
        batch: WriteBatch,
        done: Option<oneshot::Sender<Result<(), StoreError>>>,
    ) -> Result<(), StoreError> {
        let room = self.room.take(&batch).await.ok_or(StoreError::Unavailable)?;
        self.send(Job::Commit(Write { batch, done, room: Some(room) })).await
    }

    /// Writes and returns when it is on the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; on [`StoreError::Unavailable`] the write may still become durable.
    pub async fn commit(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let (told, done) = oneshot::channel();
        self.send_write(batch, Some(told)).await?;
        Ticket { done }.durable().await
    }

    /// Queues a write and returns when it is queued. While nothing can be written it waits in a
    /// bounded backlog; when it is lost all the same, the store's thread says so.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when it could not be queued.
    pub async fn record(&self, batch: WriteBatch) -> Result<(), StoreError> {
        self.send_write(batch, None).await
    }

    /// Runs a read that sees every write that was queued before it.
    ///
    /// It runs on a thread of its own and holds up no write. Several reads in it may see writes that
    /// were queued later; each of them sees whole batches.
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

    /// Counters of the store's thread.
    pub fn stats(&self) -> &StoreStats {
        &self.stats
    }

    /// What is known of the store's past.
    pub fn condition(&self) -> Arc<StoreCondition> {
        self.condition.load_full()
    }

    pub(super) fn set_damaged(&self, damaged: Arc<AtomicUsize>) {
        self.damaged.store(damaged);
    }

    /// The store's part of health.
    pub fn health(&self) -> StoreHealth {
        let condition = self.condition();
        let restored = condition.restored.as_ref();
        let state = match restored {
            _ if self.failing.load(Ordering::Relaxed) => "failing",
            Some(_) => "restored",
            None => "ok",
        };
        StoreHealth {
            state: state.to_owned(),
            restored_up_to: restored.map(|restored| restored.up_to.clone()),
            damaged_copy: restored
                .and_then(|restored| restored.damaged_copy.as_ref())
                .map(|copy| copy.display().to_string()),
            damaged_records: self.damaged.load().load(Ordering::Relaxed),
        }
    }

    /// Says how the store was opened.
    pub fn set_condition(&self, condition: StoreCondition) {
        self.condition.store(Arc::new(condition));
    }

    /// Exports the store from now on.
    pub fn set_exports(&self, plan: ExportPlan) {
        self.exports.store(Some(Arc::new(plan)));
    }

    pub(super) fn exports(&self) -> Option<ExportPlan> {
        self.exports.load_full().map(|plan| ExportPlan::clone(&plan))
    }

    /// Asks the store's thread for something that may as well be asked later.
    pub(super) fn nudge(&self, job: Job) {
        if let Some(queue) = self.queue.load_full() {
            // A full queue means that it has work; the next tick asks again.
            queue.try_send(job).ok();
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
            Self::Damaged(_) | Self::Read(_) | Self::Record { .. } => ErrorCode::Internal,
        };
        Failure::new(code, format!("The manager's store failed: {self}."))
    }
}
