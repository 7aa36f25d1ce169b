//! The store's thread: groups of writes, what becomes of those that fail, and the order in which
//! reads see them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::backend::{Store, StoreError};
use super::batch::WriteBatch;
use super::export;
use super::handle::{Job, StoreHandle, Write};
use super::reader::Reader;

/// Writes that one group takes at the most, so that the first of them does not wait for ever.
const GROUP: usize = 256;

/// Bytes after which a group takes no more.
const GROUP_BYTES: usize = 1 << 20;

/// Bytes of a batch that begins a group of its own: whoever was queued before it does not wait for
/// it. What is queued behind it does, because the order of the queue is the order on the disk.
const LONG_BATCH: usize = 1 << 20;

/// Bytes of recorded batches that wait while nothing can be written. Rule when it is reached: the
/// oldest are given up, which is logged and counted.
const BACKLOG_BYTES: usize = 64 << 20;

/// Groups after which some of what is left of long values is removed although writes wait.
const TIDY_EVERY: usize = 16;

/// The state of the store's thread.
pub(super) struct Writer {
    store: Arc<dyn Store>,
    handle: StoreHandle,
    reader: Reader,
    /// Recorded batches that could not be written yet, oldest first, and their bytes.
    backlog: VecDeque<WriteBatch>,
    backlog_bytes: usize,
    /// Whether the last write failed.
    failing: bool,
    /// Batches given up since writes began to fail.
    lost: u64,
    groups: usize,
}

/// Runs the store's thread until it is told to stop or nobody can reach it any more. Answers why it
/// ended; empty when it was asked to.
pub(super) fn run(
    store: Arc<dyn Store>,
    queue: mpsc::Receiver<Job>,
    handle: &StoreHandle,
) -> String {
    let store_damaged = store.damaged_records();
    let reader = match Reader::start(Arc::clone(&store)) {
        Ok(reader) => reader,
        Err(error) => return format!("the store's reader cannot be started: {error}"),
    };
    let mut writer = Writer {
        store,
        handle: handle.clone(),
        reader,
        backlog: VecDeque::new(),
        backlog_bytes: 0,
        failing: false,
        lost: 0,
        groups: 0,
    };
    handle.wrote(true);
    handle.set_damaged(store_damaged);
    let stopped = writer.work(queue);
    writer.reader.stop();
    if let Some(done) = stopped {
        writer.last_export();
        drop(writer);
        // The one who asked may have stopped waiting.
        done.send(()).ok();
    }
    String::new()
}

impl Writer {
    fn work(&mut self, mut queue: mpsc::Receiver<Job>) -> Option<oneshot::Sender<()>> {
        let mut carried: Option<Job> = None;
        // What the last process left is removed as well.
        let mut untidy = true;
        loop {
            let job = match carried.take() {
                Some(job) => job,
                None => match queue.try_recv() {
                    Ok(job) => job,
                    Err(mpsc::error::TryRecvError::Disconnected) => return None,
                    Err(mpsc::error::TryRecvError::Empty) if untidy => {
                        untidy = self.tidy();
                        continue;
                    }
                    Err(mpsc::error::TryRecvError::Empty) => queue.blocking_recv()?,
                },
            };
            match job {
                Job::Read(read) => self.reader.run(read, self.store.as_ref()),
                Job::Retry => self.retry(),
                Job::Export(plan) => export::start(&self.store, plan),
                Job::Stop(done) => return Some(done),
                Job::Commit(write) => {
                    let mut group = vec![write];
                    carried = fill_group(&mut queue, &mut group);
                    self.commit(group);
                    untidy = true;
                    self.groups += 1;
                    if self.groups.is_multiple_of(TIDY_EVERY) {
                        untidy = self.tidy();
                    }
                }
            }
        }
    }

    fn tidy(&mut self) -> bool {
        match self.store.tidy() {
            Ok(more) => more,
            Err(error) => {
                tracing::warn!(%error, "what is left of removed values cannot be removed yet");
                false
            }
        }
    }

    fn commit(&mut self, group: Vec<Write>) {
        let mut batches = Vec::with_capacity(group.len());
        let mut waiters = Vec::with_capacity(group.len());
        let mut rooms = Vec::with_capacity(group.len());
        for Write { batch, done, room } in group {
            batches.push(batch);
            waiters.push(done);
            rooms.push(room);
        }
        // What was recorded earlier comes first: order is kept.
        let results = match self.write_backlog() {
            Ok(()) => self.write(&batches, !self.failing),
            Err(error) => vec![Err(error); batches.len()],
        };
        let mut answers = Vec::with_capacity(batches.len());
        for ((batch, waiter), result) in batches.into_iter().zip(waiters).zip(results) {
            match (waiter.filter(|waiter| !waiter.is_closed()), result) {
                (Some(waiter), result) => answers.push((waiter, result)),
                (None, Ok(())) => {}
                (None, Err(error)) => self.keep(batch, &error),
            }
        }
        drop(rooms);
        // Whoever is answered can see the counters of what happened.
        self.handle.stats().backlog(self.backlog.len());
        for (waiter, result) in answers {
            // The one who waited may have stopped just now; the write has gone as it has.
            waiter.send(result).ok();
        }
    }

    /// Writes batches; one result for each. With `again` each gets a try of its own if they cannot
    /// be written together.
    fn write(&mut self, batches: &[WriteBatch], again: bool) -> Vec<Result<(), StoreError>> {
        let began = Instant::now();
        let Err(error) = self.store.commit(batches) else {
            self.handle.stats().committed(batches.len(), began.elapsed());
            self.wrote(Ok(()));
            return vec![Ok(()); batches.len()];
        };
        self.handle.stats().failed();
        if !again {
            return vec![Err(error); batches.len()];
        }
        // It may be a passing failure, or that of a single batch. The store opens itself again
        // first, and all changes can be applied twice.
        let mut results = Vec::with_capacity(batches.len());
        let mut broken = None;
        for batch in batches {
            let result = match &broken {
                Some(error) => Err(StoreError::clone(error)),
                None => self.store.commit(std::slice::from_ref(batch)),
            };
            if let Err(error @ StoreError::Write(_)) = &result {
                broken = Some(error.clone());
            }
            results.push(result);
        }
        self.wrote(broken.map_or(Ok(()), Err));
        results
    }

    /// Writes what waits since writes began to fail.
    fn write_backlog(&mut self) -> Result<(), StoreError> {
        while !self.backlog.is_empty() {
            let mut count = 0;
            let mut bytes = 0;
            for batch in self.backlog.iter().take(GROUP) {
                count += 1;
                bytes += batch.bytes();
                if bytes >= GROUP_BYTES {
                    break;
                }
            }
            self.store.heal().inspect_err(|_| self.handle.stats().failed())?;
            let group: Vec<WriteBatch> = self.backlog.drain(..count).collect();
            // A batch that can never be written must not hold up the rest.
            let results = self.write(&group, true);
            self.backlog_bytes = self.backlog_bytes.saturating_sub(bytes);
            let mut refused = None;
            for (batch, result) in group.into_iter().zip(results).rev() {
                match result {
                    Ok(()) => {}
                    Err(error @ StoreError::Write(_)) => {
                        self.backlog_bytes += batch.bytes();
                        self.backlog.push_front(batch);
                        refused = Some(error);
                    }
                    Err(error) => self.give_up(&batch, &error),
                }
            }
            if let Some(error) = refused {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Keeps a recorded batch until writing works again.
    fn keep(&mut self, batch: WriteBatch, error: &StoreError) {
        if !matches!(error, StoreError::Write(_)) {
            self.give_up(&batch, error);
            return;
        }
        self.backlog_bytes += batch.bytes();
        self.backlog.push_back(batch);
        while self.backlog_bytes > BACKLOG_BYTES {
            let Some(oldest) = self.backlog.pop_front() else { break };
            self.backlog_bytes = self.backlog_bytes.saturating_sub(oldest.bytes());
            if self.lost == 0 {
                tracing::error!(
                    bytes = BACKLOG_BYTES,
                    "what was recorded since writes fail does not fit; the oldest is given up"
                );
            }
            self.lost += 1;
            self.handle.stats().lost(1);
        }
    }

    fn give_up(&mut self, batch: &WriteBatch, error: &StoreError) {
        let first = batch.entries.first().map(|(key, _)| super::keys::readable(key));
        tracing::error!(%error, first, "a recorded change cannot be stored and is given up");
        self.lost += 1;
        self.handle.stats().lost(1);
    }

    /// Notes how a write went; says so when that changes.
    fn wrote(&mut self, result: Result<(), StoreError>) {
        self.handle.wrote(result.is_ok());
        match result {
            Ok(()) if self.failing => {
                self.failing = false;
                let lost = std::mem::take(&mut self.lost);
                tracing::info!(
                    lost,
                    waiting = self.backlog.len(),
                    "the store can be written again"
                );
            }
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!(%error, "the store cannot be written; reads go on");
            }
            _ => {}
        }
    }

    /// Tries whether writing works again, because time has passed.
    fn retry(&mut self) {
        if !self.failing {
            return;
        }
        // A batch without changes is a commit like any other: number, flush, sync.
        let tried = self.write_backlog().and_then(|()| self.store.commit(&[WriteBatch::default()]));
        self.handle.stats().backlog(self.backlog.len());
        if tried.is_ok() {
            self.wrote(Ok(()));
        }
    }

    /// Exports at an orderly stop, as far as the time allows.
    fn last_export(&mut self) {
        if let Some(plan) = self.handle.exports()
            && self.store.bytes_on_disk() <= LAST_EXPORT_BYTES
        {
            let deadline = Instant::now() + LAST_EXPORT;
            export::run(self.store.as_ref(), &plan, Some(deadline));
        }
    }
}

/// What an export at the stop may take; the whole stop stays under five seconds.
const LAST_EXPORT: Duration = Duration::from_millis(500);

/// Bytes on the disk above which there is none at the stop: there would be no time for it. 111 MB
/// took 0.33 s.
const LAST_EXPORT_BYTES: u64 = 128 << 20;

/// Adds the writes that are queued now to a group. Answers a job that does not belong to it.
fn fill_group(queue: &mut mpsc::Receiver<Job>, group: &mut Vec<Write>) -> Option<Job> {
    let mut bytes: usize = group.iter().map(|write| write.batch.bytes()).sum();
    while group.len() < GROUP && bytes < GROUP_BYTES {
        match queue.try_recv() {
            Ok(Job::Commit(write)) => {
                let more = write.batch.bytes();
                if more >= LONG_BATCH {
                    return Some(Job::Commit(write));
                }
                bytes += more;
                group.push(write);
            }
            Ok(other) => return Some(other),
            Err(_) => return None,
        }
    }
    None
}
