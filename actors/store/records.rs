//! Records as JSON values, and the reads that need several of them.

use cm_core::ids::{RequestId, ThreadId};
use cm_core::request::RequestRecord;
use cm_core::thread::{ItemRecord, ItemState, ThreadRecord, TurnRecord, TurnStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::backend::{Store, StoreError};
use super::batch::WriteBatch;
use super::keys;
use super::scan::Scan;

/// Bytes of keys and values that one page of a longer read takes.
const PAGE_BYTES: usize = 1 << 20;

fn encode<T: Serialize>(key: &[u8], record: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(record)
        .map_err(|error| StoreError::Record { key: keys::readable(key), why: error.to_string() })
}

fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value)
        .map_err(|error| StoreError::Record { key: keys::readable(key), why: error.to_string() })
}

fn put<T: Serialize>(batch: &mut WriteBatch, key: Vec<u8>, record: &T) -> Result<(), StoreError> {
    let value = encode(&key, record)?;
    batch.put(key, value);
    Ok(())
}

/// Adds a thread's record.
///
/// # Errors
///
/// [`StoreError::Record`] when it cannot be written as JSON.
pub fn put_thread(batch: &mut WriteBatch, record: &ThreadRecord) -> Result<(), StoreError> {
    put(batch, keys::thread(&record.id), record)
}

/// Adds a turn.
///
/// # Errors
///
/// [`StoreError::Record`] when it cannot be written as JSON.
pub fn put_turn(
    batch: &mut WriteBatch,
    thread: &ThreadId,
    turn: &TurnRecord,
) -> Result<(), StoreError> {
    put(batch, keys::turn(thread, turn.ordinal), turn)
}

/// Adds an item.
///
/// # Errors
///
/// [`StoreError::Record`] when it cannot be written as JSON.
pub fn put_item(
    batch: &mut WriteBatch,
    thread: &ThreadId,
    item: &ItemRecord,
) -> Result<(), StoreError> {
    put(batch, keys::item(thread, item.ordinal), item)
}

/// Adds a request and its place among the thread's rows.
///
/// # Errors
///
/// [`StoreError::Record`] when it cannot be written as JSON.
pub fn put_request(batch: &mut WriteBatch, record: &RequestRecord) -> Result<(), StoreError> {
    batch.put(
        keys::thread_request(&record.thread_id, record.ordinal),
        record.id.as_str().as_bytes().to_vec(),
    );
    put(batch, keys::request(&record.id), record)
}

/// What a Thread actor starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredThread {
    /// The thread.
    pub record: ThreadRecord,
    /// Turns that were running when it was stored.
    pub running: Vec<TurnRecord>,
    /// Items of those turns that were open.
    pub open_items: Vec<ItemRecord>,
    /// Requests that had not ended.
    pub pending: Vec<RequestRecord>,
}

/// Reads a thread as a Thread actor starts from it; `None` when there is none.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_thread(store: &dyn Store, id: &ThreadId) -> Result<Option<StoredThread>, StoreError> {
    let key = keys::thread(id);
    let Some(value) = store.get(&key)? else {
        return Ok(None);
    };
    let record: ThreadRecord = decode(&key, &value)?;
    let is_open = store.get(&keys::open(id))?.is_some();
    let mut thread =
        StoredThread { record, running: Vec::new(), open_items: Vec::new(), pending: Vec::new() };
    // Only a marked thread can have something unfinished: the rest of its history stays unread.
    if is_open {
        let turns: Vec<TurnRecord> = read_all(store, keys::turns(id))?;
        thread.running =
            turns.into_iter().filter(|turn| turn.status == TurnStatus::InProgress).collect();
        let items: Vec<ItemRecord> = read_all(store, keys::items(id))?;
        thread.open_items = items
            .into_iter()
            .filter(|item| {
                item.state == ItemState::Open
                    && thread.running.iter().any(|turn| turn.id == item.turn_id)
            })
            .collect();
        thread.pending = read_thread_requests(store, id)?
            .into_iter()
            .filter(|request| !request.is_closed())
            .collect();
    }
    Ok(Some(thread))
}

/// Reads all requests of a thread, oldest first.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_thread_requests(
    store: &dyn Store,
    id: &ThreadId,
) -> Result<Vec<RequestRecord>, StoreError> {
    let places = store.scan(&Scan::prefix(keys::thread_requests(id)))?;
    let mut requests = Vec::with_capacity(places.len());
    for (key, value) in places {
        let text = String::from_utf8_lossy(&value);
        let request = RequestId::parse(&text).map_err(|error| StoreError::Record {
            key: keys::readable(&key),
            why: error.to_string(),
        })?;
        requests.extend(read_request(store, &request)?);
    }
    Ok(requests)
}

/// Reads one request; `None` when there is none.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_request(
    store: &dyn Store,
    id: &RequestId,
) -> Result<Option<RequestRecord>, StoreError> {
    let key = keys::request(id);
    store.get(&key)?.map(|value| decode(&key, &value)).transpose()
}

/// Everything a transcript is made of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transcript {
    /// Turns, oldest first.
    pub turns: Vec<TurnRecord>,
    /// Items in the order of their rows.
    pub items: Vec<ItemRecord>,
    /// Requests in the order of their rows.
    pub requests: Vec<RequestRecord>,
}

/// Reads what a transcript is made of.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_transcript(store: &dyn Store, id: &ThreadId) -> Result<Transcript, StoreError> {
    Ok(Transcript {
        turns: read_all(store, keys::turns(id))?,
        items: read_all(store, keys::items(id))?,
        requests: read_thread_requests(store, id)?,
    })
}

/// Removes everything of a thread and leaves a tombstone.
///
/// # Errors
///
/// [`StoreError`].
pub fn remove_thread(store: &dyn Store, id: &ThreadId) -> Result<WriteBatch, StoreError> {
    let mut batch = WriteBatch::default();
    for request in read_thread_requests(store, id)? {
        batch.remove(keys::request(&request.id));
    }
    for prefix in [keys::turns(id), keys::items(id), keys::thread_requests(id)] {
        for key in store.keys(&Scan::prefix(prefix))? {
            batch.remove(key);
        }
    }
    batch.remove(keys::open(id));
    batch.remove(keys::thread(id));
    batch.put(keys::tombstone(id), Vec::<u8>::new());
    Ok(batch)
}

/// Decodes all records of a prefix, a page at a time, so that the raw bytes of a long history are
/// never in memory together.
fn read_all<T: DeserializeOwned>(store: &dyn Store, prefix: Vec<u8>) -> Result<Vec<T>, StoreError> {
    let mut records = Vec::new();
    let mut scan = Scan::prefix(prefix).max_bytes(PAGE_BYTES);
    loop {
        let rows = store.scan(&scan)?;
        let Some((last, _)) = rows.last() else {
            return Ok(records);
        };
        scan.after = Some(last.clone());
        for (key, value) in &rows {
            records.push(decode(key, value)?);
        }
    }
}
