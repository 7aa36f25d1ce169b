//! The store: checked records, long values in chunks, groups of writes; over any engine.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::backend::{Entry, Store, StoreError};
use super::batch::WriteBatch;
use super::chunks;
use super::engine::{Changes, Engine, EngineError};
use super::envelope::{self, Damage, MAX_PAYLOAD, Opened};
use super::keys;
use super::scan::Scan;
use super::writing::{Writing, loose_mark};
use crate::failpoint;

/// Stored values that one step of a longer read takes from the engine.
pub(super) const PAGE_KEYS: usize = 256;

/// Damaged keys that are told apart. Rule: further ones are logged, but not counted.
const DAMAGED_KNOWN: usize = 10_000;

/// A store over an engine.
pub struct Layered<E> {
    pub(super) engine: E,
    writing: Mutex<Writing>,
    /// Whether the engine has to be opened again before it is written; readable without the lock.
    pub(super) broken: AtomicBool,
    /// Keys whose record was met damaged, and errors of pages, so that each is reported once.
    damaged: Mutex<BTreeSet<Vec<u8>>>,
    /// How many they are.
    pub(super) damaged_count: Arc<AtomicUsize>,
}

impl<E> std::fmt::Debug for Layered<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layered").finish_non_exhaustive()
    }
}

pub(super) fn write_error(error: &EngineError) -> StoreError {
    match error {
        EngineError::Damaged(why) => StoreError::Damaged(why.clone()),
        other => StoreError::Write(other.to_string()),
    }
}

#[expect(private_bounds, reason = "which engines there are is known here alone")]
impl<E: Engine> Layered<E> {
    /// Takes over an engine whose records have the current form.
    ///
    /// # Errors
    ///
    /// [`EngineError`] when it cannot be read.
    pub(super) fn start(engine: E) -> Result<Self, EngineError> {
        let writing = Writing::read(&engine)?;
        Ok(Self {
            engine,
            writing: Mutex::new(writing),
            broken: AtomicBool::new(false),
            damaged: Mutex::default(),
            damaged_count: Arc::default(),
        })
    }

    /// The number of the last group.
    pub(super) fn commits(&self) -> u64 {
        self.writing().commits
    }

    /// Goes on counting groups from a number.
    pub(super) fn count_from(&self, commit: u64) {
        self.writing().commits = commit;
    }

    pub(super) fn writing(&self) -> MutexGuard<'_, Writing> {
        // A writer that panicked left nothing half done here that the next reopening would not
        // read again.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(point: &'static str) -> Result<(), EngineError> {
        failpoint::pass(point).map_err(EngineError::from)
    }

    fn write_group(
        &self,
        writing: &mut Writing,
        batches: &[WriteBatch],
    ) -> Result<(), EngineError> {
        for _ in batches {
            Self::pass("store.before_batch")?;
        }
        let commit = writing.commits + 1;
        self.apply(writing, batches, commit)?;
        Self::pass("store.after_batch")?;
        self.engine.flush()?;
        let synced = Self::pass("store.after_flush").and_then(|()| self.engine.sync());
        writing.unsynced = synced.is_err();
        synced?;
        Self::pass("store.after_fdatasync")?;
        writing.commits = commit;
        self.engine.note_commit(commit);
        Ok(())
    }

    /// Applies a whole group as one change: the engine's own work for a batch costs more than most
    /// batches do, and nothing of a group is acknowledged before all of it.
    fn apply(
        &self,
        writing: &mut Writing,
        batches: &[WriteBatch],
        commit: u64,
    ) -> Result<(), EngineError> {
        let count: usize = batches.iter().map(|batch| batch.entries.len()).sum();
        let mut changes: Changes = Vec::with_capacity(count + 1);
        let mut seen = HashSet::with_capacity(count);
        let mut freed = Vec::new();
        // From behind: the last entry of a key is the one that counts.
        for (key, value) in batches.iter().flat_map(|batch| &batch.entries).rev() {
            if !seen.insert(key.as_slice()) {
                continue;
            }
            if let Some(touched) = &mut writing.touched {
                touched.insert(key.clone());
            }
            let old = self.engine.get(key)?;
            if old.is_none() && value.is_none() {
                // Put and removed within one group, as most staged events are.
                continue;
            }
            if let Some(old) = old
                && let Ok(Opened::Root(root)) = envelope::open(key, &old)
            {
                changes.push((keys::loose(root.generation), Some(loose_mark(root.generation))));
                freed.push(root.generation);
            }
            let stored = match value {
                None => None,
                Some(value) if value.len() <= MAX_PAYLOAD => {
                    Some(envelope::inline(key, value.pieces().iter().map(|piece| &piece[..])))
                }
                Some(value) => {
                    let root = chunks::write(&self.engine, writing, value)?;
                    changes.push((keys::loose(root.generation), None));
                    Some(envelope::root(key, root))
                }
            };
            changes.push((key.clone(), stored));
        }
        let number = commit.to_be_bytes();
        let stored = envelope::inline(keys::COMMIT, std::iter::once(&number[..]));
        changes.push((keys::COMMIT.to_vec(), Some(stored)));
        self.engine.apply(changes)?;
        writing.loose.extend(freed);
        Ok(())
    }

    fn reopen(&self, writing: &mut Writing) -> Result<(), EngineError> {
        Self::pass("store.probe")?;
        self.engine.reopen(writing.unsynced)?;
        let touched = writing.touched.take();
        *writing = Writing { touched, ..Writing::read(&self.engine)? };
        self.broken.store(false, Ordering::Release);
        Ok(())
    }

    /// Runs a write; an error leaves the store to be opened again.
    pub(super) fn guarded(
        &self,
        writing: &mut Writing,
        write: impl FnOnce(&Self, &mut Writing) -> Result<(), EngineError>,
    ) -> Result<(), StoreError> {
        if self.broken.load(Ordering::Acquire) {
            // Whatever keeps it closed may pass: nothing that waits to be written is given up.
            self.reopen(writing).map_err(|error| StoreError::Write(error.to_string()))?;
        }
        write(self, writing).map_err(|error| {
            self.broken.store(true, Ordering::Release);
            write_error(&error)
        })
    }

    /// The value of a record as it was stored; a long one is put together.
    ///
    /// The outer error is the engine's; the inner one says what is wrong with this record alone.
    pub(super) fn resolve(
        &self,
        key: &[u8],
        stored: Vec<u8>,
    ) -> Result<Option<Result<Vec<u8>, Damage>>, EngineError> {
        let mut stored = stored;
        loop {
            let root = match envelope::open(key, &stored) {
                Err(damage) => return Ok(Some(Err(damage))),
                Ok(Opened::Inline(payload)) => {
                    // What is inline is at most a page: moving it is as cheap as a view of it.
                    let at = stored.len() - payload.len();
                    return Ok(Some(Ok(stored.split_off(at))));
                }
                Ok(Opened::Chunk(_)) => return Ok(Some(Err(Damage::Kind(stored[0])))),
                Ok(Opened::Root(root)) => root,
            };
            match chunks::read(&self.engine, root)? {
                Ok(value) => return Ok(Some(Ok(value))),
                Err(damage) => {
                    // The writer may have replaced the value, and removed these chunks, meanwhile.
                    let Some(now) = self.engine.get(key)? else {
                        return Ok(None);
                    };
                    if now == stored {
                        return Ok(Some(Err(damage)));
                    }
                    stored = now;
                }
            }
        }
    }

    /// Counts something damaged; answers whether it was not known yet.
    fn is_news(&self, what: &[u8]) -> bool {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = !damaged.contains(what);
        if is_news && damaged.len() < DAMAGED_KNOWN {
            damaged.insert(what.to_owned());
            self.damaged_count.store(damaged.len(), Ordering::Relaxed);
        }
        is_news
    }

    fn report(&self, key: &[u8], damage: &Damage) -> StoreError {
        let is_news = self.is_news(key);
        let key = keys::readable(key);
        if is_news {
            tracing::error!(key, %damage, "a record of the store is damaged");
        }
        StoreError::Record { key, why: damage.to_string() }
    }

    /// What a reader is told of an error of the engine. A page that cannot be read has no key; its
    /// error stands for it.
    pub(super) fn read_error(&self, error: &EngineError) -> StoreError {
        let text = error.to_string();
        if matches!(error, EngineError::Damaged(_)) && self.is_news(text.as_bytes()) {
            tracing::error!(%error, "a part of the store cannot be read");
        }
        StoreError::Read(text)
    }

    /// A record's value or its damage; `None` when it is gone meanwhile.
    pub(super) fn resolved(
        &self,
        key: &[u8],
        stored: Vec<u8>,
    ) -> Result<Option<Result<Vec<u8>, StoreError>>, StoreError> {
        let resolved = self.resolve(key, stored).map_err(|error| self.read_error(&error))?;
        Ok(resolved.map(|value| value.map_err(|damage| self.report(key, &damage))))
    }

    /// What a key has now, for those who want damage as a value.
    pub(super) fn current(
        &self,
        key: &[u8],
    ) -> Result<Result<Option<Vec<u8>>, StoreError>, StoreError> {
        let Some(stored) = self.engine.get(key).map_err(|error| self.read_error(&error))? else {
            return Ok(Ok(None));
        };
        Ok(self.resolved(key, stored)?.transpose())
    }
}

impl<E: Engine> Store for Layered<E> {
    fn commit(&self, batches: &[WriteBatch]) -> Result<(), StoreError> {
        let bytes = batches.iter().map(WriteBatch::bytes).sum();
        let mut writing = self.writing();
        self.engine.room(bytes).map_err(|error| write_error(&error))?;
        self.guarded(&mut writing, |store, writing| store.write_group(writing, batches))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.current(key)?
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Entry>, StoreError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let mut page = scan.clone();
        loop {
            page.limit = scan.limit.saturating_sub(entries.len()).min(PAGE_KEYS);
            let rows = self.engine.page(&page).map_err(|error| self.read_error(&error))?;
            let Some((last, _)) = rows.last() else {
                return Ok(entries);
            };
            page.after = Some(last.clone());
            for (key, stored) in rows {
                // One damaged record does not hide the others: it was logged and counted.
                if let Some(Ok(value)) = self.resolved(&key, stored)? {
                    bytes += key.len() + value.len();
                    entries.push((key, value));
                }
                if bytes >= scan.max_bytes && !entries.is_empty() {
                    return Ok(entries);
                }
            }
        }
    }

    fn keys(&self, scan: &Scan) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut found: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 0;
        let mut page = scan.clone();
        page.max_bytes = usize::MAX;
        while bytes < scan.max_bytes || found.is_empty() {
            page.limit = scan.limit.saturating_sub(found.len()).min(PAGE_KEYS);
            let rows = self.engine.page(&page).map_err(|error| self.read_error(&error))?;
            let Some((last, _)) = rows.last() else { break };
            page.after = Some(last.clone());
            for (key, _) in rows {
                if bytes >= scan.max_bytes && !found.is_empty() {
                    break;
                }
                bytes += key.len();
                found.push(key);
            }
        }
        Ok(found)
    }
}
