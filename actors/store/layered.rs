//! The store: checked records, long values in chunks, groups of writes; over any engine.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::backend::{Entry, Store, StoreError, Upkeep, Visitor};
use super::batch::{StoreValue, WriteBatch};
use super::chunks;
use super::engine::{Changes, Engine, EngineError};
use super::envelope::{self, Damage, MAX_PAYLOAD, Opened};
use super::keys;
use super::scan::Scan;
use crate::failpoint;

/// Stored values that one step of a longer read takes from the engine.
const PAGE_KEYS: usize = 256;

/// Damaged keys that are told apart. Rule: further ones are logged, but not counted.
const DAMAGED_KNOWN: usize = 10_000;

/// A store over an engine.
pub struct Layered<E> {
    pub(super) engine: E,
    writing: Mutex<Writing>,
    /// Whether the engine has to be opened again before it is written; readable without the lock.
    broken: AtomicBool,
    /// Keys whose record was met damaged, so that each is reported once.
    damaged: Mutex<BTreeSet<Vec<u8>>>,
    /// How many they are.
    damaged_count: Arc<AtomicUsize>,
}

/// What only the writer knows.
#[derive(Default)]
pub(super) struct Writing {
    /// Number that the chunks of the next long value get.
    pub(super) next_generation: u64,
    /// Chunks that belong to nothing and can be removed, oldest first.
    pub(super) loose: VecDeque<u64>,
    /// Number of the last group.
    commits: u64,
    /// Whether the last sync failed.
    unsynced: bool,
    /// Keys written since an export began; `None` when none runs.
    touched: Option<BTreeSet<Vec<u8>>>,
}

impl<E> std::fmt::Debug for Layered<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layered").finish_non_exhaustive()
    }
}

fn write_error(error: &EngineError) -> StoreError {
    match error {
        EngineError::Damaged(why) => StoreError::Damaged(why.clone()),
        other => StoreError::Write(other.to_string()),
    }
}

pub(super) fn read_error(error: &EngineError) -> StoreError {
    StoreError::Read(error.to_string())
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

    fn writing(&self) -> MutexGuard<'_, Writing> {
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
        let commit = writing.commits + 1;
        for (place, batch) in batches.iter().enumerate() {
            Self::pass("store.before_batch")?;
            let number = (place + 1 == batches.len()).then_some(commit);
            self.write_batch(writing, batch, number)?;
        }
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

    /// Applies one batch; with a `number` the group ends with it.
    fn write_batch(
        &self,
        writing: &mut Writing,
        batch: &WriteBatch,
        number: Option<u64>,
    ) -> Result<(), EngineError> {
        let mut changes: Changes = Vec::with_capacity(batch.entries.len() + 1);
        let mut seen = HashSet::with_capacity(batch.entries.len());
        let mut freed = Vec::new();
        // From behind: the last entry of a key is the one that counts.
        for (key, value) in batch.entries.iter().rev() {
            if !seen.insert(key.as_slice()) {
                continue;
            }
            if let Some(touched) = &mut writing.touched {
                touched.insert(key.clone());
            }
            if let Some(old) = self.engine.get(key)?
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
        if let Some(number) = number {
            let stored = envelope::inline(keys::COMMIT, std::iter::once(&number.to_be_bytes()[..]));
            changes.push((keys::COMMIT.to_vec(), Some(stored)));
        }
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
    fn guarded(
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

    fn report(&self, key: &[u8], damage: &Damage) -> StoreError {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        let known = damaged.contains(key);
        if !known && damaged.len() < DAMAGED_KNOWN {
            damaged.insert(key.to_owned());
            self.damaged_count.store(damaged.len(), Ordering::Relaxed);
        }
        drop(damaged);
        let key = keys::readable(key);
        if !known {
            tracing::error!(key, %damage, "a record of the store is damaged");
        }
        StoreError::Record { key, why: damage.to_string() }
    }

    /// A record's value or its damage; `None` when it is gone meanwhile.
    fn resolved(
        &self,
        key: &[u8],
        stored: Vec<u8>,
    ) -> Result<Option<Result<Vec<u8>, StoreError>>, StoreError> {
        let resolved = self.resolve(key, stored).map_err(|error| read_error(&error))?;
        Ok(resolved.map(|value| value.map_err(|damage| self.report(key, &damage))))
    }

    /// What a key has now, for those who want damage as a value.
    fn current(&self, key: &[u8]) -> Result<Result<Option<Vec<u8>>, StoreError>, StoreError> {
        let Some(stored) = self.engine.get(key).map_err(|error| read_error(&error))? else {
            return Ok(Ok(None));
        };
        Ok(self.resolved(key, stored)?.transpose())
    }
}

impl Writing {
    fn read<E: Engine>(engine: &E) -> Result<Self, EngineError> {
        let last = engine.page(&Scan::prefix(keys::CHUNKS).reversed().limit(1))?;
        let last = last.first().and_then(|(key, _)| keys::generation(key));
        let mut loose = VecDeque::new();
        let mut scan = Scan::prefix(keys::LOOSE).limit(PAGE_KEYS);
        loop {
            let page = engine.page(&scan)?;
            let Some((key, _)) = page.last() else { break };
            scan.after = Some(key.clone());
            loose.extend(page.iter().filter_map(|(key, _)| keys::generation(key)));
        }
        let marked = loose.iter().copied().max();
        let commits = match engine.get(keys::COMMIT)? {
            None => 0,
            Some(stored) => match envelope::open(keys::COMMIT, &stored) {
                Ok(Opened::Inline(payload)) => payload
                    .first_chunk::<8>()
                    .map(|bytes| u64::from_be_bytes(*bytes))
                    .ok_or_else(|| EngineError::Damaged("its counter is too short".to_owned()))?,
                Ok(_) => return Err(EngineError::Damaged("its counter is no number".to_owned())),
                Err(damage) => return Err(EngineError::Damaged(damage.to_string())),
            },
        };
        Ok(Self {
            next_generation: last.max(marked).map_or(0, |last| last.saturating_add(1)),
            loose,
            commits,
            ..Self::default()
        })
    }

    /// The number for the chunks of a new value.
    pub(super) fn new_generation(&mut self) -> u64 {
        let generation = self.next_generation;
        self.next_generation += 1;
        generation
    }
}

/// The stored form of a mark of [`keys::loose`].
pub(super) fn loose_mark(generation: u64) -> Vec<u8> {
    envelope::inline(&keys::loose(generation), std::iter::empty())
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
            let rows = self.engine.page(&page).map_err(|error| read_error(&error))?;
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
            let rows = self.engine.page(&page).map_err(|error| read_error(&error))?;
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

impl<E: Engine> Upkeep for Layered<E> {
    fn heal(&self) -> Result<(), StoreError> {
        let mut writing = self.writing();
        self.engine.room(0).map_err(|error| write_error(&error))?;
        self.guarded(&mut writing, |_, _| Ok(()))
    }

    fn tidy(&self) -> Result<bool, StoreError> {
        let mut writing = self.writing();
        if self.broken.load(Ordering::Acquire) {
            return Ok(false);
        }
        let Some(generation) = writing.loose.front().copied() else {
            return Ok(false);
        };
        self.guarded(&mut writing, |store, writing| {
            if chunks::remove_some(&store.engine, generation)? {
                writing.loose.pop_front();
            }
            Ok(())
        })?;
        Ok(!writing.loose.is_empty())
    }

    fn damaged_records(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.damaged_count)
    }

    fn last_commit(&self) -> u64 {
        self.commits()
    }

    fn walk(
        &self,
        after: Option<&[u8]>,
        bytes: usize,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut scan = Scan::prefix(Vec::new()).limit(PAGE_KEYS);
        scan.after = after.map(<[u8]>::to_vec);
        let mut read = 0;
        loop {
            let rows = self.engine.page(&scan).map_err(|error| read_error(&error))?;
            let Some((last, _)) = rows.last() else {
                return Ok(None);
            };
            scan.after = Some(last.clone());
            for (key, stored) in rows {
                read += key.len() + stored.len();
                if keys::is_internal(&key) {
                    continue;
                }
                if let Some(resolved) = self.resolved(&key, stored)? {
                    read += resolved.as_ref().map_or(0, Vec::len);
                    visit(&key, resolved.map(Some))?;
                }
                if read >= bytes {
                    return Ok(Some(key));
                }
            }
            if read >= bytes {
                return Ok(scan.after);
            }
        }
    }

    fn watch(&self, on: bool) {
        self.writing().touched = on.then(BTreeSet::new);
    }

    fn settle(&self, most: usize, visit: &mut Visitor<'_>) -> Result<Option<u64>, StoreError> {
        let mut writing = self.writing();
        let touched = writing.touched.get_or_insert_default();
        if touched.len() > most {
            return Ok(None);
        }
        for key in std::mem::take(touched) {
            visit(&key, self.current(&key)?)?;
        }
        Ok(Some(writing.commits))
    }

    fn catch_up(&self, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        let touched = self.writing().touched.as_mut().map(std::mem::take).unwrap_or_default();
        for key in touched {
            visit(&key, self.current(&key)?)?;
        }
        Ok(())
    }
}

/// A value in pieces as slices, cut to what one chunk takes.
pub(super) fn cut(value: &StoreValue) -> impl Iterator<Item = Vec<&[u8]>> {
    let mut pieces = value.pieces().iter().map(|piece| &piece[..]).filter(|p| !p.is_empty());
    let mut rest: &[u8] = &[];
    std::iter::from_fn(move || {
        let mut chunk = Vec::new();
        let mut room = MAX_PAYLOAD;
        while room > 0 {
            if rest.is_empty() {
                match pieces.next() {
                    Some(next) => rest = next,
                    None => break,
                }
            }
            let (taken, left) = rest.split_at(rest.len().min(room));
            room -= taken.len();
            rest = left;
            chunk.push(taken);
        }
        (!chunk.is_empty()).then_some(chunk)
    })
}
