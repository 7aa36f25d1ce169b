//! What lies below the records: a bare ordered key-value engine.

use super::scan::Scan;

/// Why an engine refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EngineError {
    /// The system refused, with its error number if it gave one.
    #[error("{why}")]
    System {
        /// The system's number of the error.
        errno: Option<i32>,
        /// Its words.
        why: String,
    },
    /// What is on the disk is not what was written.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// Another process has the database.
    #[error("another process has the database")]
    InUse,
    /// It was closed after an error and could not be opened again yet.
    #[error("the database is closed after an error and could not be opened again yet")]
    Closed,
}

impl From<std::io::Error> for EngineError {
    fn from(error: std::io::Error) -> Self {
        Self::System { errno: error.raw_os_error(), why: error.to_string() }
    }
}

/// Changes that an engine applies together: keys with their stored bytes, `None` removes. No key
/// is there twice.
pub(super) type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// A key and its stored bytes.
pub(super) type RawEntry = (Vec<u8>, Vec<u8>);

/// An ordered key-value engine. Reads may run at any time beside one writer.
pub(super) trait Engine: Send + Sync {
    /// Applies changes together or not at all. They are visible then, but not durable.
    fn apply(&self, changes: Changes) -> Result<(), EngineError>;

    /// Hands what was applied to the system.
    fn flush(&self) -> Result<(), EngineError>;

    /// Waits until what was flushed is on the disk.
    fn sync(&self) -> Result<(), EngineError>;

    /// Reads the stored bytes of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// Reads keys and stored bytes.
    fn page(&self, scan: &Scan) -> Result<Vec<RawEntry>, EngineError>;

    /// Whether so many bytes can be expected to fit: asked before a write, so that the engine meets
    /// a full disk or a read-only one as seldom as possible.
    fn room(&self, bytes: usize) -> Result<(), EngineError>;

    /// After an error: tries whether writing works at all, then closes and opens the database.
    /// What was not durable may be gone afterwards, or not. With `unsynced` a sync has failed: what
    /// the system holds in memory may not be what is on the disk, and is written again.
    ///
    /// Reads go on before and after it. When writing does not work yet, nothing is closed.
    fn reopen(&self, unsynced: bool) -> Result<(), EngineError>;

    /// Notes beside the database that a commit is durable, so that a database that comes back with
    /// less is known to be damaged. Need not be durable itself.
    fn note_commit(&self, commit: u64);

    /// Bytes on the disk.
    fn bytes_on_disk(&self) -> u64;
}
