//! Rows of transcripts that are not the runtime's, and what clients changed for new sessions.

use cm_core::controls::DefaultsRecord;
use cm_core::ids::ThreadId;
use cm_core::thread::NoteRecord;

use super::backend::{Store, StoreError};
use super::batch::WriteBatch;
use super::keys;
use super::records::{PAGE_BYTES, decode, put, read_all, read_record};
use super::scan::Scan;

/// Adds a row, and the place where it is found by its id.
///
/// # Errors
///
/// [`StoreError::Record`] when it cannot be written as JSON.
pub fn put_note(
    batch: &mut WriteBatch,
    thread: &ThreadId,
    note: &NoteRecord,
) -> Result<(), StoreError> {
    let place = keys::note_id(thread, &note.entry.message_id);
    batch.put(place, note.ordinal.to_be_bytes().to_vec());
    put(batch, keys::note(thread, note.ordinal), note)
}

/// Reads a row by its id; `None` when there is none.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_note(
    store: &dyn Store,
    thread: &ThreadId,
    message_id: &str,
) -> Result<Option<NoteRecord>, StoreError> {
    let Some(place) = store.get(&keys::note_id(thread, message_id))? else {
        return Ok(None);
    };
    match keys::ordinal(&place) {
        Some(ordinal) => read_record(store, &keys::note(thread, ordinal)),
        None => Ok(None),
    }
}

/// Reads all rows of a thread, in order.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_notes(store: &dyn Store, thread: &ThreadId) -> Result<Vec<NoteRecord>, StoreError> {
    read_all(store, keys::notes(thread))
}

/// Drops the rows of a thread that stood before a row.
///
/// # Errors
///
/// [`StoreError`].
pub(super) fn drop_notes(
    store: &dyn Store,
    thread: &ThreadId,
    first_row: u64,
    batch: &mut WriteBatch,
) -> Result<(), StoreError> {
    let mut scan = Scan::prefix(keys::notes(thread)).max_bytes(PAGE_BYTES);
    loop {
        let page = store.scan(&scan)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        scan.after = Some(last.clone());
        for (key, value) in page {
            if keys::ordinal(&key).is_none_or(|ordinal| ordinal >= first_row) {
                return Ok(());
            }
            let note: NoteRecord = decode(&key, &value)?;
            // A row that was written again since has its place elsewhere.
            let place = keys::note_id(thread, &note.entry.message_id);
            if store.get(&place)?.as_deref().and_then(keys::ordinal) == Some(note.ordinal) {
                batch.remove(place);
            }
            batch.remove(key);
        }
    }
}

/// Adds what was changed for new sessions.
///
/// # Errors
///
/// [`StoreError::Record`] when it cannot be written as JSON.
pub fn put_defaults(batch: &mut WriteBatch, record: &DefaultsRecord) -> Result<(), StoreError> {
    put(batch, keys::DEFAULTS.to_vec(), record)
}

/// Reads what was changed for new sessions.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_defaults(store: &dyn Store) -> Result<DefaultsRecord, StoreError> {
    Ok(read_record(store, keys::DEFAULTS)?.unwrap_or_default())
}
