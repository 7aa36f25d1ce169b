//! What was taken over from version 1 and has no other place: jobs, reloads of extensions, and
//! marks of what was taken over, so that it is not taken over again after it was removed here.
//!
//! | Key | Value |
//! |---|---|
//! | `j\0<job>` | a [`JobRecord`] |
//! | `a\0<time><digest>` | an [`AuditRecord`]; both numbers eight bytes big-endian |
//! | `v\0<kind>\0<id>` | nothing: the thing of this kind and id was taken over once |

use cm_core::job::{AuditRecord, JobRecord};

use super::backend::{Store, StoreError};
use super::batch::WriteBatch;
use super::keys;
use super::records::{put, read_all};

/// Adds a job.
///
/// # Errors
///
/// [`StoreError::Record`] when it cannot be written as JSON.
pub fn put_job(batch: &mut WriteBatch, record: &JobRecord) -> Result<(), StoreError> {
    put(batch, keys::job(&record.id), record)
}

/// Reads all jobs, by their ids.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_jobs(store: &dyn Store) -> Result<Vec<JobRecord>, StoreError> {
    read_all(store, keys::JOBS.to_vec())
}

/// Adds the record of a reload of extensions.
///
/// # Errors
///
/// [`StoreError::Record`] when it cannot be written as JSON.
pub fn put_audit(batch: &mut WriteBatch, record: &AuditRecord) -> Result<(), StoreError> {
    put(batch, keys::audit(record.at_ms, record.digest), record)
}

/// Reads all records of reloads of extensions, the oldest first.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_audits(store: &dyn Store) -> Result<Vec<AuditRecord>, StoreError> {
    read_all(store, keys::AUDITS.to_vec())
}

/// Notes that something was taken over.
pub fn put_taken(batch: &mut WriteBatch, kind: &str, id: &str) {
    batch.put(keys::taken(kind, id), Vec::<u8>::new());
}

/// Whether something was taken over before.
///
/// # Errors
///
/// [`StoreError`].
pub fn was_taken(store: &dyn Store, kind: &str, id: &str) -> Result<bool, StoreError> {
    Ok(store.get(&keys::taken(kind, id))?.is_some())
}

#[cfg(test)]
mod tests {
    use cm_core::v1;
    use serde_json::json;

    use super::super::MemoryStore;
    use super::*;

    #[test]
    fn what_was_put_is_read_again_in_its_order() {
        let store = MemoryStore::default();
        let mut batch = WriteBatch::default();
        let record = |at: &str| json!({ "recordedAt": at, "result": "success" });
        let file = json!({ "records": [record("2026-11-26T17:24:52Z"),
            record("2026-11-26T17:24:51Z"), record("2026-11-26T17:24:51Z")] });
        let (audits, _) = v1::read_audit(&file.to_string()).unwrap();
        for audit in &audits {
            put_audit(&mut batch, audit).unwrap();
        }
        put_taken(&mut batch, "project", "p");
        store.commit(&[batch]).unwrap();
        let read = read_audits(&store).unwrap();
        assert_eq!(read, [audits[1].clone(), audits[0].clone()], "the same one twice is one");
        assert!(was_taken(&store, "project", "p").unwrap());
        assert!(!was_taken(&store, "project", "q").unwrap());
        assert_eq!(read_jobs(&store).unwrap(), []);
    }
}
