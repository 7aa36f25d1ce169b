//! What any store can do.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

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
    /// What is on the disk is not what was written, where this write has to go.
    #[error("the store is damaged: {0}")]
    Damaged(String),
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
///
/// One thread writes; reads may run beside it and see whole batches only. Several reads one after
/// the other may see writes that came between them.
pub trait Store: Upkeep + Send + Sync {
    /// Applies the batches in order, all together, and returns when they are durable.
    ///
    /// # Errors
    ///
    /// [`StoreError::Write`]; the batches may or may not have been applied then. The store
    /// opens itself again with the next write, or with [`Upkeep::heal`].
    fn commit(&self, batches: &[WriteBatch]) -> Result<(), StoreError>;

    /// Reads one value.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`]; [`StoreError::Record`] when this value is damaged.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Reads keys and values. A damaged record is logged, counted and left out: it does not hide
    /// the others.
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

/// What is done for a store besides reading and writing.
pub trait Upkeep {
    /// Makes the store writable after an error, if it can be; does nothing when it is.
    ///
    /// # Errors
    ///
    /// [`StoreError::Write`]: it cannot be written yet.
    fn heal(&self) -> Result<(), StoreError>;

    /// Removes a little of what is left of long values that were replaced or removed; says whether
    /// there is more.
    ///
    /// # Errors
    ///
    /// [`StoreError::Write`].
    fn tidy(&self) -> Result<bool, StoreError>;

    /// Records, and parts that hold records, that were met damaged since the store was opened; kept
    /// current.
    fn damaged_records(&self) -> Arc<AtomicUsize>;

    /// Bytes on the disk.
    fn bytes_on_disk(&self) -> u64;

    /// The number of the last commit. It grows with each, over restarts.
    fn last_commit(&self) -> u64;

    /// Calls for each record behind a key, the store's own excepted, until so many bytes were read;
    /// answers the last key, or `None` at the end. A damaged record comes as its error.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], or what the visitor says.
    fn walk(
        &self,
        after: Option<&[u8]>,
        bytes: usize,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Vec<u8>>, StoreError>;

    /// Begins or ends to note which keys are written.
    fn watch(&self, on: bool);

    /// Calls for each key that was written since the last call or the begin, with its value now or
    /// `None` when it is gone, if there are no more than `most`. No commit runs meanwhile: with
    /// what was walked before, this is the store as it is after the commit whose number is the
    /// answer. `None`: there were more, or the visitor stopped.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], or what the visitor says.
    fn settle(&self, most: usize, visit: &mut Visitor<'_>) -> Result<Option<u64>, StoreError>;

    /// The same without stopping commits, however many there are.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], or what the visitor says.
    fn catch_up(&self, visit: &mut Visitor<'_>) -> Result<(), StoreError>;
}

/// What is called for records: their key, and their value, their damage, or that they are gone.
pub type Visitor<'a> =
    dyn FnMut(&[u8], Result<Option<Vec<u8>>, StoreError>) -> Result<(), StoreError> + 'a;
