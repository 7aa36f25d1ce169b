//! How actors and workers reach the journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::Recipient;
use bytes::Bytes;
use cm_core::event::FrameBatch;
use cm_core::ids::{Epoch, Seq};

use super::actor::Journal;
use super::flow::Flow;
use super::messages::{
    AttachWorker, Attached, CatchUp, CaughtUp, FramesPublished, GetHead, Head, History,
    PublishFrames, ReadHistory,
};
use super::record;
use crate::handle::{CallError, Handle};
use crate::metrics::StreamStats;
use crate::store::{WriteBatch, keys};

/// How long a worker waits for the journal, which may be waiting for the store.
const WORKER_DEADLINE: Duration = Duration::from_secs(5);

/// A stable way to reach the journal.
#[derive(Debug, Clone, Default)]
pub struct JournalHandle {
    pub(super) handle: Handle<Journal>,
    /// Set when a publication was lost.
    pub(super) lost: Arc<AtomicBool>,
    pub(super) flow: Flow,
    pub(super) stats: Arc<StreamStats>,
}

/// Frames that were stored with the change that they tell of, so that a crash before they are
/// shown does not lose them.
#[derive(Debug)]
pub struct Staged {
    frames: FrameBatch,
    key: Bytes,
}

impl JournalHandle {
    /// Makes a handle; the journal and its readers count in `stats`.
    pub fn new(stats: Arc<StreamStats>) -> Self {
        Self { stats, ..Self::default() }
    }

    /// Publishes frames in order.
    ///
    /// When the journal cannot take them, they are lost, and every subscriber is told so as soon
    /// as the journal takes anything again.
    pub fn publish(&self, frames: FrameBatch) {
        if !frames.is_empty() {
            self.tell(PublishFrames { frames, staged: None });
        }
    }

    /// Adds frames to the batch of the change that they tell of; they are shown with
    /// [`JournalHandle::publish_staged`] when the batch is on the disk. Should the manager end in
    /// between, they are shown at the next start.
    pub fn stage(&self, frames: FrameBatch, batch: &mut WriteBatch) -> Staged {
        let key = keys::staged(uuid::Uuid::now_v7());
        batch.put(key.clone(), record::encode(&frames, || Seq(0)));
        Staged { frames, key: key.into() }
    }

    /// Publishes frames whose batch is on the disk.
    pub fn publish_staged(&self, staged: Staged) {
        self.tell(PublishFrames { frames: staged.frames, staged: Some(staged.key) });
    }

    fn tell(&self, publication: PublishFrames) {
        let count = publication.frames.len();
        if let Err(error) = self.handle.tell(publication) {
            self.lost.store(true, Ordering::Release);
            tracing::error!(count, %error, "frames could not be published");
        }
    }

    /// What holds back the child for the readers of the ring.
    pub fn flow(&self) -> Flow {
        self.flow.clone()
    }

    /// What is counted about frames and their readers.
    pub fn stats(&self) -> Arc<StreamStats> {
        Arc::clone(&self.stats)
    }

    /// The newest number and the history it belongs to; `None` while the journal starts.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the journal does not answer within a second.
    pub async fn head(&self) -> Result<Option<Head>, CallError> {
        self.handle.ask(GetHead, Duration::from_secs(1)).await
    }

    /// Returns when what was published before has its numbers and its place in the queue of the
    /// store: what is written after that is behind it on the disk. A journal that does not answer
    /// in a second is not waited for.
    pub async fn taken(&self) {
        if let Err(error) = self.head().await {
            tracing::debug!(%error, "the journal was not waited for");
        }
    }

    /// Makes a worker hear of new frames.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the journal does not answer within five seconds.
    pub async fn attach(
        &self,
        worker: Recipient<FramesPublished>,
    ) -> Result<Option<Attached>, CallError> {
        self.handle.ask(AttachWorker(worker), WORKER_DEADLINE).await
    }

    /// The frames behind a number, as far as the ring reaches back.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the journal does not answer within five seconds.
    pub async fn catch_up(&self, after: Seq) -> Result<CaughtUp, CallError> {
        self.handle.ask(CatchUp(after), WORKER_DEADLINE).await
    }

    /// Durable frames behind a position that the ring does not reach back to, a page of them.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the journal does not answer within five seconds.
    pub async fn history(&self, epoch: Epoch, after: Seq) -> Result<History, CallError> {
        self.handle.ask(ReadHistory { epoch, after }, WORKER_DEADLINE).await
    }
}
