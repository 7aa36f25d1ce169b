//! Reading where a thread's rows stand, and single rows.

use std::borrow::Cow;
use std::sync::Arc;

use cm_core::ids::ThreadId;
use cm_core::request::RequestRecord;
use cm_core::rows::RowIndex;
use cm_core::thread::{ItemRecord, TurnRecord};
use cm_core::transcript::request_row_ids;
use serde::Deserialize;

use super::backend::{Store, StoreError};
use super::keys;
use super::records::{PAGE_BYTES, decode, read_record, read_request};
use super::scan::Scan;

/// What of an item's record says where its row stands.
#[derive(Deserialize)]
struct ItemPlace<'a> {
    ordinal: u64,
    #[serde(borrow)]
    turn_id: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// The keys of a prefix behind those with a smaller number at their end.
fn from(prefix: Vec<u8>, first: Option<Vec<u8>>) -> Scan {
    let scan = Scan::prefix(prefix).max_bytes(PAGE_BYTES);
    match first {
        Some(before) => scan.after(before),
        None => scan,
    }
}

/// Calls for each key and value of a scan, page by page.
fn each(
    store: &dyn Store,
    mut scan: Scan,
    mut call: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    loop {
        let page = store.scan(&scan)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        scan.after = Some(last.clone());
        for (key, value) in &page {
            call(key, value)?;
        }
    }
}

/// Adds to an index what the store has more of a thread. What items say is not read.
///
/// # Errors
///
/// [`StoreError`].
pub fn refresh_rows(
    store: &dyn Store,
    id: &ThreadId,
    index: &mut Arc<RowIndex>,
) -> Result<(), StoreError> {
    let (next_row, next_turn) = (index.next_row(), index.next_turn());
    let before = next_row.checked_sub(1);
    let items = from(keys::items(id), before.map(|ordinal| keys::item(id, ordinal)));
    let mut added = false;
    each(store, items, |key, value| {
        let place: ItemPlace<'_> = serde_json::from_slice(value).map_err(|error| {
            StoreError::Record { key: keys::readable(key), why: error.to_string() }
        })?;
        added = true;
        Arc::make_mut(index).add_item(place.ordinal, &place.id, &place.turn_id);
        Ok(())
    })?;
    let requests = keys::thread_requests(id);
    let requests = from(requests, before.map(|ordinal| keys::thread_request(id, ordinal)));
    each(store, requests, |key, value| {
        let Some(request) = request_at(store, key, value)? else { return Ok(()) };
        let (message_id, turn_id) = request_row_ids(&request);
        added = true;
        Arc::make_mut(index).add_request(request.ordinal, &message_id, &turn_id);
        Ok(())
    })?;
    if added {
        Arc::make_mut(index).sort();
    }
    let before = next_turn.checked_sub(1);
    let turns = from(keys::turns(id), before.map(|ordinal| keys::turn(id, ordinal)));
    each(store, turns, |key, value| {
        Arc::make_mut(index).put_turn(&decode::<TurnRecord>(key, value)?);
        Ok(())
    })
}

/// The request whose place this is; `None` when it is gone.
fn request_at(
    store: &dyn Store,
    key: &[u8],
    value: &[u8],
) -> Result<Option<RequestRecord>, StoreError> {
    let id = cm_core::ids::RequestId::parse(&String::from_utf8_lossy(value))
        .map_err(|error| StoreError::Record { key: keys::readable(key), why: error.to_string() })?;
    read_request(store, &id)
}

/// Reads the request that is a row of a thread.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_request_row(
    store: &dyn Store,
    id: &ThreadId,
    ordinal: u64,
) -> Result<Option<RequestRecord>, StoreError> {
    let key = keys::thread_request(id, ordinal);
    match store.get(&key)? {
        Some(value) => request_at(store, &key, &value),
        None => Ok(None),
    }
}

/// Reads the item that is a row of a thread, with what the runtime says of it; `null` where that is
/// not there.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_item_row(
    store: &dyn Store,
    id: &ThreadId,
    ordinal: u64,
) -> Result<Option<(ItemRecord, Vec<u8>)>, StoreError> {
    let Some(record) = read_record(store, &keys::item(id, ordinal))? else {
        return Ok(None);
    };
    let body = store.get(&keys::body(id, ordinal))?;
    Ok(Some((record, body.unwrap_or_else(|| b"null".to_vec()))))
}

/// Reads a turn by its ordinal.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_turn(
    store: &dyn Store,
    id: &ThreadId,
    ordinal: u32,
) -> Result<Option<TurnRecord>, StoreError> {
    read_record(store, &keys::turn(id, ordinal))
}

/// Reads the newest turns before an ordinal that were not taken back, oldest first; and whether
/// there are more before them.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_turns_before(
    store: &dyn Store,
    id: &ThreadId,
    before: Option<u32>,
    limit: usize,
) -> Result<(Vec<TurnRecord>, bool), StoreError> {
    let mut scan = Scan::prefix(keys::turns(id)).reversed().max_bytes(PAGE_BYTES);
    scan.limit = limit.saturating_add(1);
    scan.after = before.map(|ordinal| keys::turn(id, ordinal));
    let mut turns: Vec<TurnRecord> = Vec::new();
    loop {
        let page = store.scan(&scan)?;
        let Some((last, _)) = page.last() else { break };
        scan.after = Some(last.clone());
        for (key, value) in &page {
            let turn: TurnRecord = decode(key, value)?;
            if turn.rolled_back {
                continue;
            }
            if turns.len() == limit {
                turns.reverse();
                return Ok((turns, true));
            }
            turns.push(turn);
        }
    }
    turns.reverse();
    Ok((turns, false))
}
