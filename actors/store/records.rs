//! Records as JSON values, and the reads that need several of them.

use std::ops::Range;

use bytes::Bytes;
use cm_core::ids::{Incarnation, RequestId, ThreadId};
use cm_core::request::RequestRecord;
use cm_core::thread::{
    ItemRecord, ItemWrite, REMEMBERED_TURNS, ThreadRecord, TurnRecord, TurnStatus,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::backend::{Store, StoreError};
use super::batch::WriteBatch;
use super::keys;
use super::notes::drop_notes;
use super::scan::Scan;

/// Bytes of keys and values that one page of a longer read takes.
pub(super) const PAGE_BYTES: usize = 1 << 20;

/// Latest items among which those of running turns are looked for.
const LATEST_ITEMS: usize = 512;

/// Keys that one batch of a deletion takes.
const DELETED_KEYS: usize = 16_384;

fn encode<T: Serialize>(key: &[u8], record: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(record)
        .map_err(|error| StoreError::Record { key: keys::readable(key), why: error.to_string() })
}

pub(super) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value)
        .map_err(|error| StoreError::Record { key: keys::readable(key), why: error.to_string() })
}

pub(super) fn put<T: Serialize>(
    batch: &mut WriteBatch,
    key: Vec<u8>,
    record: &T,
) -> Result<(), StoreError> {
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

/// Adds an item: its record, and beside it what the runtime says, byte for byte.
///
/// # Errors
///
/// [`StoreError::Record`] when the record cannot be written as JSON.
pub fn put_item(
    batch: &mut WriteBatch,
    thread: &ThreadId,
    item: ItemWrite,
) -> Result<(), StoreError> {
    if let Some(body) = item.body {
        batch.put(keys::body(thread, item.record.ordinal), body);
    }
    put(batch, keys::item(thread, item.record.ordinal), &item.record)
}

/// Drops the items of rows.
pub fn drop_items(batch: &mut WriteBatch, thread: &ThreadId, rows: Range<u64>) {
    for ordinal in rows {
        batch.remove(keys::item(thread, ordinal));
        batch.remove(keys::body(thread, ordinal));
    }
}

/// Adds a request and its place among the thread's rows, if it has a thread.
///
/// # Errors
///
/// [`StoreError::Record`] when it cannot be written as JSON.
pub fn put_request(batch: &mut WriteBatch, record: &RequestRecord) -> Result<(), StoreError> {
    if let Some(thread_id) = &record.thread_id {
        let place = keys::thread_request(thread_id, record.ordinal);
        batch.put(place, record.id.as_str().as_bytes().to_vec());
    }
    put(batch, keys::request(&record.id), record)
}

/// What is unfinished in a thread.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenMark {
    /// The life of the manager in which it was unfinished.
    pub boot: String,
    /// The life of the child.
    pub incarnation: Option<Incarnation>,
    /// Turns that run, by their ordinals; `None` in marks of the first format.
    #[serde(default)]
    pub turns: Option<Vec<u32>>,
    /// Requests that have not ended.
    #[serde(default)]
    pub requests: Vec<RequestId>,
    /// Whether the thread is to be loaded again and compared with the runtime's history: it was
    /// cut.
    #[serde(default)]
    pub recover: bool,
}

impl OpenMark {
    /// Whether nothing is unfinished.
    pub fn is_empty(&self) -> bool {
        self.turns.as_ref().is_none_or(Vec::is_empty) && self.requests.is_empty() && !self.recover
    }
}

/// Sets or removes the mark of a thread.
///
/// # Errors
///
/// [`StoreError::Record`] when it cannot be written as JSON.
pub fn put_open(
    batch: &mut WriteBatch,
    thread: &ThreadId,
    mark: &OpenMark,
) -> Result<(), StoreError> {
    let key = keys::open(thread);
    if mark.is_empty() {
        batch.remove(key);
        return Ok(());
    }
    put(batch, key, mark)
}

/// What a Thread actor starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredThread {
    /// The thread.
    pub record: ThreadRecord,
    /// Its latest turns, and those that were running when it was stored, in order.
    pub turns: Vec<TurnRecord>,
    /// The latest items of the running ones.
    pub open_items: Vec<ItemRecord>,
    /// Requests that had not ended.
    pub pending: Vec<RequestRecord>,
    /// What was unfinished.
    pub mark: Option<OpenMark>,
}

impl StoredThread {
    /// A thread of which there is nothing but its record.
    pub fn of(record: ThreadRecord) -> Self {
        let (turns, open_items, pending) = (Vec::new(), Vec::new(), Vec::new());
        Self { record, turns, open_items, pending, mark: None }
    }
}

/// Reads a thread's record; `None` when there is none.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_thread_record(
    store: &dyn Store,
    id: &ThreadId,
) -> Result<Option<ThreadRecord>, StoreError> {
    read_record(store, &keys::thread(id))
}

/// Reads a thread as a Thread actor starts from it; `None` when there is none. How long its
/// history is makes no difference.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_thread(store: &dyn Store, id: &ThreadId) -> Result<Option<StoredThread>, StoreError> {
    let Some(record) = read_record::<ThreadRecord>(store, &keys::thread(id))? else {
        return Ok(None);
    };
    let mut thread = StoredThread::of(record);
    thread.turns = read_latest_turns(store, id, REMEMBERED_TURNS)?;
    thread.mark = read_record(store, &keys::open(id))?;
    // Only a marked thread can have something unfinished.
    let Some(mark) = &thread.mark else {
        return Ok(Some(thread));
    };
    match &mark.turns {
        Some(running) => {
            for ordinal in running {
                if !thread.turns.iter().any(|turn| turn.ordinal == *ordinal) {
                    thread.turns.extend(read_record(store, &keys::turn(id, *ordinal))?);
                }
            }
            thread.turns.sort_by_key(|turn: &TurnRecord| turn.ordinal);
            for request in &mark.requests {
                thread.pending.extend(read_request(store, request)?);
            }
        }
        None => {
            thread.turns = read_all(store, keys::turns(id))?;
            thread.pending = read_thread_requests(store, id)?;
        }
    }
    thread.pending.retain(|request| !request.is_closed());
    let running = |turn: &&TurnRecord| turn.status == TurnStatus::InProgress;
    let running: Vec<&str> =
        thread.turns.iter().filter(running).map(|turn| turn.id.as_str()).collect();
    if !running.is_empty() {
        let mut items = read_latest_items(store, id, LATEST_ITEMS)?;
        items.retain(|item| running.contains(&item.turn_id.as_str()));
        thread.open_items = items;
    }
    Ok(Some(thread))
}

/// Reads a thread's latest turns, in order.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_latest_turns(
    store: &dyn Store,
    id: &ThreadId,
    count: usize,
) -> Result<Vec<TurnRecord>, StoreError> {
    read_latest(store, keys::turns(id), count)
}

/// Reads the records of a thread's latest items, in order.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_latest_items(
    store: &dyn Store,
    id: &ThreadId,
    count: usize,
) -> Result<Vec<ItemRecord>, StoreError> {
    read_latest(store, keys::items(id), count)
}

fn read_latest<T: DeserializeOwned>(
    store: &dyn Store,
    prefix: Vec<u8>,
    count: usize,
) -> Result<Vec<T>, StoreError> {
    let rows = store.scan(&Scan::prefix(prefix).reversed().limit(count))?;
    rows.iter().rev().map(|(key, value)| decode(key, value)).collect()
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
    let mut requests = Vec::new();
    for request in thread_requests(store, id)? {
        requests.extend(read_request(store, &request)?);
    }
    Ok(requests)
}

fn thread_requests(store: &dyn Store, id: &ThreadId) -> Result<Vec<RequestId>, StoreError> {
    let places = store.scan(&Scan::prefix(keys::thread_requests(id)))?;
    let parse = |(key, value): (Vec<u8>, Vec<u8>)| {
        RequestId::parse(&String::from_utf8_lossy(&value)).map_err(|error| StoreError::Record {
            key: keys::readable(&key),
            why: error.to_string(),
        })
    };
    places.into_iter().map(parse).collect()
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
    read_record(store, &keys::request(id))
}

/// Reads the params of a request as the child sent them; `None` when there is no such request.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_request_params(store: &dyn Store, id: &RequestId) -> Result<Option<Bytes>, StoreError> {
    let Some(record) = read_request(store, id)? else {
        return Ok(None);
    };
    let long = match record.params_bytes {
        Some(_) => store.get(&keys::request_params(id))?,
        None => None,
    };
    Ok(Some(long.map_or_else(|| record.params.to_string().into(), Bytes::from)))
}

/// Drops the requests of a thread that stood before a row and have ended, and the rows before it
/// that are not the runtime's.
///
/// # Errors
///
/// [`StoreError`].
pub fn drop_requests(
    store: &dyn Store,
    id: &ThreadId,
    first_row: u64,
) -> Result<WriteBatch, StoreError> {
    let mut batch = WriteBatch::default();
    for request in thread_requests(store, id)? {
        let Some(record) = read_request(store, &request)? else { continue };
        if record.ordinal >= first_row {
            break;
        }
        if record.is_closed() {
            remove_request(&mut batch, &record.id);
            batch.remove(keys::thread_request(id, record.ordinal));
        }
    }
    drop_notes(store, id, first_row, &mut batch)?;
    Ok(batch)
}

pub(super) fn remove_request(batch: &mut WriteBatch, id: &RequestId) {
    batch.remove(keys::request(id));
    batch.remove(keys::request_params(id));
}

/// Removes everything of a thread and leaves a tombstone; the batches are to be written in order.
/// The thread is there until the last one is.
///
/// # Errors
///
/// [`StoreError`].
pub fn remove_thread(store: &dyn Store, id: &ThreadId) -> Result<Vec<WriteBatch>, StoreError> {
    let mut batches = vec![WriteBatch::default()];
    let mut remove = |key: Vec<u8>| {
        if batches.last().is_none_or(|batch| batch.entries.len() >= DELETED_KEYS) {
            batches.push(WriteBatch::default());
        }
        if let Some(batch) = batches.last_mut() {
            batch.remove(key);
        }
    };
    for request in thread_requests(store, id)? {
        remove(keys::request(&request));
        remove(keys::request_params(&request));
    }
    let prefixes = [
        keys::turns(id),
        keys::items(id),
        keys::bodies(id),
        keys::thread_requests(id),
        keys::notes(id),
        keys::note_ids(id),
    ];
    for prefix in prefixes {
        for key in store.keys(&Scan::prefix(prefix))? {
            remove(key);
        }
    }
    remove(keys::open(id));
    remove(keys::thread(id));
    // A damaged record is removed all the same.
    let record = read_thread_record(store, id).ok().flatten();
    let aliases = record.iter().flat_map(|record| record.aliases());
    if let Some(last) = batches.last_mut() {
        for id in std::iter::once(id).chain(aliases) {
            last.put(keys::tombstone(id), Vec::<u8>::new());
        }
    }
    Ok(batches)
}

pub(super) fn read_record<T: DeserializeOwned>(
    store: &dyn Store,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    store.get(key)?.map(|value| decode(key, &value)).transpose()
}

/// Decodes all records of a prefix, a page at a time, so that the raw bytes of a long history are
/// never in memory together.
pub(super) fn read_all<T: DeserializeOwned>(
    store: &dyn Store,
    prefix: Vec<u8>,
) -> Result<Vec<T>, StoreError> {
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
