//! Copies every live record into another store.

use super::backend::{Store, StoreError};
use super::batch::WriteBatch;
use super::export::Source;

/// Bytes and keys of one commit of a copy.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_KEYS: usize = 1024;

/// What a copy came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Copied {
    /// Records copied.
    pub(super) records: u64,
    /// Records that are damaged, and not in the copy.
    pub(super) damaged: u64,
}

/// Copies what a source has now; nobody may write it.
pub(super) fn all<S: Source>(source: &S, target: &dyn Store) -> Result<Copied, StoreError> {
    let mut copied = Copied::default();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let mut batches = Vec::new();
        let mut batch = WriteBatch::default();
        let mut visit = |key: &[u8], value: Result<Option<Vec<u8>>, StoreError>| {
            match value {
                Ok(Some(value)) => {
                    copied.records += 1;
                    batch.put(key.to_vec(), value);
                }
                Ok(None) => {}
                Err(_) => copied.damaged += 1,
            }
            if batch.entries.len() >= BATCH_KEYS {
                batches.push(std::mem::take(&mut batch));
            }
            Ok(())
        };
        after = source.walk_on(after.as_deref(), BATCH_BYTES, &mut visit)?;
        batches.push(batch);
        target.commit(&batches)?;
        if after.is_none() {
            return Ok(copied);
        }
    }
}
