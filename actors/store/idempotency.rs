//! Keys by which clients repeat requests, and the answers that are kept for them.

use cm_core::idempotency::{Change, IdempotencyKey, KeyRecord, Outcome};

use super::backend::{Store, StoreError};
use super::batch::{StoreValue, WriteBatch};
use super::keys;
use super::records::put;
use super::scan::Scan;

/// Adds a change; `answer` is the body that a record which keeps one speaks of.
///
/// # Errors
///
/// [`StoreError::Record`] when the record cannot be written as JSON.
pub fn put_change(
    batch: &mut WriteBatch,
    change: &Change,
    answer: Option<StoreValue>,
) -> Result<(), StoreError> {
    match change {
        Change::Put(key, record) => {
            match (answer, &record.outcome) {
                (Some(answer), Outcome::Kept { .. }) => batch.put(keys::kept_answer(key), answer),
                _ => batch.remove(keys::kept_answer(key)),
            }
            put(batch, keys::idempotency(key), record)
        }
        Change::Forget(key) => {
            batch.remove(keys::kept_answer(key));
            batch.remove(keys::idempotency(key));
            Ok(())
        }
    }
}

/// Reads all keys. Their number is bounded, and the answers are not read. A record that cannot be
/// understood is passed over: it must not keep others from being known.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_keys(store: &dyn Store) -> Result<Vec<(IdempotencyKey, KeyRecord)>, StoreError> {
    let mut read = Vec::new();
    for (key, value) in store.scan(&Scan::prefix(keys::IDEMPOTENCY))? {
        let name = key.strip_prefix(keys::IDEMPOTENCY).unwrap_or_default();
        match (IdempotencyKey::new(name), serde_json::from_slice(&value)) {
            (Ok(name), Ok(record)) => read.push((name, record)),
            _ => tracing::warn!(key = keys::readable(&key), "a key of a request is damaged"),
        }
    }
    Ok(read)
}

/// Reads the answer that is kept for a key; `None` when there is none.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_kept_answer(
    store: &dyn Store,
    key: &IdempotencyKey,
) -> Result<Option<Vec<u8>>, StoreError> {
    store.get(&keys::kept_answer(key))
}
