//! The store on sled 0.34.
//!
//! sled acknowledges before it is durable, and its `flush` is `sync_file_range` on Linux, which
//! promises nothing when the power fails. So every group is flushed and then `fdatasync`ed through
//! our own handle on the database file.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::backend::{Entry, Store, StoreError};
use super::batch::WriteBatch;
use super::scan::Scan;

/// Memory that sled may use for pages, in bytes; its own default is 1 GiB.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// A store in a directory.
pub struct SledStore {
    database: sled::Db,
    /// The database file, for `fdatasync`.
    file: File,
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").finish_non_exhaustive()
    }
}

impl SledStore {
    /// Opens the store in `path`, creating it when it is not there.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] when another process has it, [`StoreError::Open`] otherwise.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open_error = |why: String| StoreError::Open { path: path.to_owned(), why };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| open_error(error.to_string()))?;
        let config =
            sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        // sled panics on some kinds of damage; that must not take the manager down.
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()))
            .map_err(|_| open_error("the database is damaged".to_owned()))?;
        let database = opened.map_err(|error| {
            let text = error.to_string();
            if text.contains("could not acquire lock") {
                StoreError::InUse(path.to_owned())
            } else {
                open_error(text)
            }
        })?;
        let file_path: PathBuf = path.join("db");
        let file = File::open(&file_path).map_err(|error| open_error(error.to_string()))?;
        // Sessions hold source code and commands: for their owner's eyes only.
        std::fs::set_permissions(&file_path, std::fs::Permissions::from_mode(0o600))
            .map_err(|error| open_error(error.to_string()))?;
        Ok(Self { database, file })
    }
}

impl Store for SledStore {
    fn commit(&mut self, batches: &[WriteBatch]) -> Result<(), StoreError> {
        for batch in batches {
            let mut changes = sled::Batch::default();
            for (key, value) in &batch.entries {
                match value {
                    Some(value) => changes.insert(key.as_slice(), value.to_vec()),
                    None => changes.remove(key.as_slice()),
                }
            }
            self.database
                .apply_batch(changes)
                .map_err(|error| StoreError::Write(error.to_string()))?;
        }
        self.database.flush().map_err(|error| StoreError::Write(error.to_string()))?;
        self.file.sync_data().map_err(|error| StoreError::Write(error.to_string()))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.database.get(key).map_err(|error| StoreError::Read(error.to_string()))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Entry>, StoreError> {
        let Some(range) = scan.range() else {
            return Ok(Vec::new());
        };
        let mut range = self.database.range(range);
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        while entries.len() < scan.limit && (bytes < scan.max_bytes || entries.is_empty()) {
            let next = if scan.reverse { range.next_back() } else { range.next() };
            let Some(next) = next else { break };
            let (key, value) = next.map_err(|error| StoreError::Read(error.to_string()))?;
            bytes += key.len() + value.len();
            entries.push((key.to_vec(), value.to_vec()));
        }
        Ok(entries)
    }

    fn keys(&self, scan: &Scan) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(self.scan(scan)?.into_iter().map(|(key, _)| key).collect())
    }
}
