//! A note beside the database of the last durable commit.
//!
//! sled takes a log whose tail is damaged or cut off for one that was not written to its end, and
//! opens with what is before it. That would lose acknowledged writes without a word. So after each
//! durable commit its number is written here, without a sync: the note is never ahead of the
//! database, also when the power fails, and a database that is behind its note has lost writes.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Name of the file in the store's directory.
const NAME: &str = "high-water";

/// The note.
#[derive(Debug)]
pub(super) struct HighWater {
    file: File,
}

impl HighWater {
    /// Opens the note in a store's directory, or makes an empty one.
    pub(super) fn open(store: &Path) -> std::io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        Ok(Self { file: options.open(store.join(NAME))? })
    }

    /// The number; `None` when there is no note that can be understood.
    pub(super) fn read(&self) -> Option<u64> {
        let mut bytes = [0_u8; 12];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let (number, sum) = bytes.split_first_chunk::<8>()?;
        let matches = crc32fast::hash(number).to_be_bytes()[..] == *sum;
        matches.then(|| u64::from_be_bytes(*number))
    }

    /// Writes the number.
    pub(super) fn write(&self, number: u64) {
        let number = number.to_be_bytes();
        let mut bytes = [0_u8; 12];
        bytes[..8].copy_from_slice(&number);
        bytes[8..].copy_from_slice(&crc32fast::hash(&number).to_be_bytes());
        if let Err(error) = self.file.write_all_at(&bytes, 0) {
            // The commit itself is durable; only a later loss of it would not be noticed.
            tracing::warn!(%error, "the note of the last commit cannot be written");
        }
    }
}
