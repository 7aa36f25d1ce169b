//! Threads on disk.
//!
//! `<home>/embedded/threads/<id>.jsonl` is append-only, one [`Record`] a line, written with one
//! call per record, so that a kill of the process loses at most the line being written; a torn
//! last line is ignored by readers and cut by the next writer. (A power cut may lose more: records
//! are not synced one by one.) `<id>.meta.json` repeats the last [`Record::Thread`], so that
//! listing does not read histories; it is rewritten atomically and rebuilt from the log if lost.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::meta::Meta;
use super::view::{Turn, turn};
use crate::wire::{Fault, lock};

/// One line of a thread's log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "camelCase")]
pub(crate) enum Record {
    /// The metadata from here on.
    Thread { meta: Meta },
    /// A turn began (seconds since the Unix epoch).
    TurnStarted { turn: Uuid, at: u64 },
    /// An item is complete.
    Item { turn: Uuid, item: Value },
    /// A turn ended; without this record it reads as interrupted.
    TurnEnded { turn: Uuid, status: String, error: Value, at: u64, duration_ms: u64 },
}

/// The directory of threads and the metadata of all of them.
pub(crate) struct Store {
    directory: PathBuf,
    index: Mutex<BTreeMap<Uuid, Meta>>,
}

/// A thread's log, open for appending and locked against other processes.
pub(crate) struct ThreadLog {
    file: File,
}

impl Store {
    /// Opens or creates the directory; on failure says which path.
    pub(crate) fn open(home: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let directory = home.join("embedded").join("threads");
        let failed = |error| (directory.clone(), error);
        // Threads hold what people wrote, so nobody else may read them.
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&directory).map_err(failed)?;
        let store = Self { directory: directory.clone(), index: Mutex::default() };
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let id = path.file_stem().and_then(|stem| Uuid::parse_str(stem.to_str()?).ok());
            let Some(id) = id.filter(|_| path.extension().is_some_and(|e| e == "jsonl")) else {
                continue;
            };
            match store.load_meta(id) {
                Some(meta) => drop(lock(&store.index).insert(id, meta)),
                None => tracing::warn!(path = %path.display(), "thread cannot be read, left alone"),
            }
        }
        Ok(store)
    }

    fn load_meta(&self, id: Uuid) -> Option<Meta> {
        let cached = fs::read(self.meta_path(id)).ok();
        let cached: Option<Meta> = cached.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        cached.or_else(|| {
            let meta =
                self.records(id).ok()?.into_iter().rev().find_map(|record| match record {
                    Record::Thread { meta } => Some(meta),
                    _ => None,
                })?;
            self.write_meta(&meta).ok()?;
            Some(meta)
        })
    }

    /// The log file of a thread.
    pub(crate) fn log_path(&self, id: Uuid) -> PathBuf {
        self.directory.join(format!("{id}.jsonl"))
    }

    fn meta_path(&self, id: Uuid) -> PathBuf {
        self.directory.join(format!("{id}.meta.json"))
    }

    /// A persisted thread's metadata.
    pub(crate) fn meta(&self, id: Uuid) -> Option<Meta> {
        lock(&self.index).get(&id).cloned()
    }

    /// All persisted threads.
    pub(crate) fn all(&self) -> Vec<Meta> {
        lock(&self.index).values().cloned().collect()
    }

    /// Opens a thread's log, creating it, and cuts a torn last line.
    pub(crate) fn log(&self, id: Uuid) -> Result<ThreadLog, Fault> {
        let open = || -> io::Result<Option<ThreadLog>> {
            let mut options = OpenOptions::new();
            let mut file = options.read(true).append(true).create(true).open(self.log_path(id))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            cut_torn_line(&mut file)?;
            Ok(Some(ThreadLog { file }))
        };
        let busy = || Fault::invalid(format!("thread {id} already has an active writer"));
        open().map_err(Fault::internal)?.ok_or_else(busy)
    }

    /// Records the metadata in the log, beside it and in memory.
    pub(crate) fn save(&self, log: &mut ThreadLog, meta: &Meta) -> io::Result<()> {
        log.append(&Record::Thread { meta: meta.clone() })?;
        self.save_beside(meta)
    }

    /// Records the metadata beside the log and in memory only, while a turn holds the log.
    pub(crate) fn save_beside(&self, meta: &Meta) -> io::Result<()> {
        self.write_meta(meta)?;
        lock(&self.index).insert(meta.id, meta.clone());
        Ok(())
    }

    fn write_meta(&self, meta: &Meta) -> io::Result<()> {
        let path = self.meta_path(meta.id);
        let fresh = path.with_extension("json.new");
        fs::write(&fresh, serde_json::to_vec(meta)?)?;
        fs::rename(&fresh, &path)
    }

    /// Removes a thread for good.
    pub(crate) fn delete(&self, id: Uuid) -> io::Result<()> {
        fs::remove_file(self.log_path(id))?;
        lock(&self.index).remove(&id);
        match fs::remove_file(self.meta_path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Every readable record of a thread. Lines that cannot be read are skipped.
    fn records(&self, id: Uuid) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        for line in BufReader::new(File::open(self.log_path(id))?).split(b'\n') {
            match serde_json::from_slice(&line?) {
                Ok(record) => records.push(record),
                Err(error) => tracing::warn!(%id, %error, "record skipped"),
            }
        }
        Ok(records)
    }

    /// A thread's turns, oldest first. A turn without an end is running if it is `active`, and
    /// was cut otherwise.
    pub(crate) fn turns(&self, id: Uuid, active: Option<Uuid>) -> Result<Vec<Turn>, Fault> {
        let mut turns: Vec<Turn> = Vec::new();
        for record in self.records(id).map_err(Fault::internal)? {
            match record {
                Record::Thread { .. } => {}
                Record::TurnStarted { turn: turn_id, at } => {
                    let status = if active == Some(turn_id) { "inProgress" } else { "interrupted" };
                    let mut started = turn(turn_id, Some(at));
                    started.status = status.to_owned();
                    started.items_view = "full";
                    turns.push(started);
                }
                Record::Item { turn: turn_id, item } => {
                    if let Some(turn) = turns.iter_mut().rev().find(|turn| turn.id == turn_id) {
                        turn.items.push(item);
                    }
                }
                Record::TurnEnded { turn: turn_id, status, error, at, duration_ms } => {
                    if let Some(turn) = turns.iter_mut().rev().find(|turn| turn.id == turn_id) {
                        turn.status = status;
                        turn.error = error;
                        turn.completed_at = Some(at);
                        turn.duration_ms = Some(duration_ms);
                    }
                }
            }
        }
        Ok(turns)
    }
}

impl ThreadLog {
    /// Appends one record with one write.
    pub(crate) fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }
}

impl Drop for ThreadLog {
    fn drop(&mut self) {
        // Closing is not enough: a process that is being started at this moment holds a copy of
        // the descriptor, and with it the lock, until it becomes another program.
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "log of a thread cannot be unlocked");
        }
    }
}

fn cut_torn_line(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == [b'\n'] {
        return Ok(());
    }
    let mut whole = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut whole)?;
    let keep = whole.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    file.set_len(keep as u64)
}
