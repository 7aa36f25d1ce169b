//! What any store can do.

use std::path::PathBuf;

use super::batch::WriteBatch;
use super::scan::Scan;

/// Why the store refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has the directory.
    #[error("another codex-manager is running on {0}")]
    InUse(PathBuf),
    /// The directory or the file cannot be used.
    #[error("the store in {path} cannot be opened: {why}")]
    Open {
        /// The store's directory.
        path: PathBuf,
        /// What the system or the library says.
        why: String,
    },
    /// A write or a sync failed; it may or may not be on the disk.
    #[error("the store cannot be written: {0}")]
    Write(String),
    /// A read failed.
    #[error("the store cannot be read: {0}")]
    Read(String),
    /// A record is not what it should be.
    #[error("the record {key} cannot be understood: {why}")]
    Record {
        /// The record's key, made readable.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The store's thread is not running, or its queue did not move in time.
    #[error("the store does not answer")]
    Unavailable,
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// A key-value store with ordered keys.
pub trait Store: Send {
    /// Applies the batches in order, each atomically, and returns when all are durable.
    ///
    /// # Errors
    ///
    /// [`StoreError::Write`]; any of the batches may or may not have been applied then.
    fn commit(&mut self, batches: &[WriteBatch]) -> Result<(), StoreError>;

    /// Reads one value.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Reads keys and values.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    fn scan(&self, scan: &Scan) -> Result<Vec<Entry>, StoreError>;

    /// Reads keys without their values, which need not be readable. [`Scan::max_bytes`] counts the
    /// keys alone.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    fn keys(&self, scan: &Scan) -> Result<Vec<Vec<u8>>, StoreError>;
}
