//! From the first format of records to the second one.
//!
//! Format 1 had what the runtime says of an item inside of the item's record (`i\0…`, member
//! `item`), and no count of bytes in the thread's record. Since format 2 it lies beside, under
//! `b\0…`, as it came. All other records are read as they are.

use std::collections::HashMap;

use cm_core::thread::{
    ItemRecord, ItemState, ROW_OVERHEAD, RawItem, THREAD_RECORD_VERSION, ThreadRecord,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::backend::Entry;

/// An item's record of the first format.
#[derive(Deserialize)]
struct OldItem<'a> {
    ordinal: u64,
    turn_id: String,
    id: String,
    state: ItemState,
    started_ms: Option<i64>,
    ended_ms: Option<i64>,
    #[serde(borrow)]
    item: &'a RawValue,
}

/// Brings the records of a whole store to their present form. It is given them in the order of
/// their keys, in which a thread's items come before the thread.
#[derive(Debug, Default)]
pub(super) struct Converter {
    /// Bytes of the items so far, by thread.
    items: HashMap<Vec<u8>, Vec<(u64, u64)>>,
}

impl Converter {
    /// What becomes of one record. One that is not understood stays as it is: whoever reads it says
    /// so.
    pub(super) fn convert(&mut self, key: Vec<u8>, value: Vec<u8>) -> Vec<Entry> {
        let as_it_is = |key, value| vec![(key, value)];
        match key.get(..2) {
            Some(b"i\0") => match self.item(&key, &value) {
                Some(entries) => entries,
                None => as_it_is(key, value),
            },
            Some(b"t\0") => match self.thread(&key, &value) {
                Some(record) => as_it_is(key, record),
                None => as_it_is(key, value),
            },
            _ => as_it_is(key, value),
        }
    }

    fn item(&mut self, key: &[u8], value: &[u8]) -> Option<Vec<Entry>> {
        let (record, body) = split_item(value).ok()?;
        // `i`, a zero, the thread, a zero, and eight bytes.
        let thread = key.get(2..key.len().checked_sub(9)?)?;
        let sizes = self.items.entry(thread.to_vec()).or_default();
        sizes.push((record.ordinal, record.bytes));
        let body_key = [b"b", key.get(1..)?].concat();
        let record = serde_json::to_vec(&record).ok()?;
        Some(vec![(key.to_vec(), record), (body_key, body)])
    }

    fn thread(&mut self, key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        let record: ThreadRecord = serde_json::from_slice(value).ok()?;
        let items = self.items.remove(key.get(2..)?).unwrap_or_default();
        // Nothing is dropped here: what is over a cap goes with the next item.
        serde_json::to_vec(&count_items(record, items, u64::MAX)).ok()
    }
}

/// Splits an item's record of the first format into its record and what the runtime says of it.
///
/// # Errors
///
/// What is wrong with it, when it is no such record.
fn split_item(old: &[u8]) -> Result<(ItemRecord, Vec<u8>), serde_json::Error> {
    let old: OldItem<'_> = serde_json::from_slice(old)?;
    let body = old.item.get();
    let raw = RawItem::of_json(body);
    let kind = raw.as_ref().map_or("unknown", |raw| raw.kind.as_ref()).to_owned();
    let record = ItemRecord {
        ordinal: old.ordinal,
        turn_id: old.turn_id,
        id: old.id,
        kind,
        state: old.state,
        started_ms: old.started_ms,
        ended_ms: old.ended_ms,
        bytes: body.len() as u64,
        digest: raw.and_then(|raw| raw.digest),
    };
    Ok((record, body.as_bytes().to_vec()))
}

/// Brings a thread's record to the second format: the bytes of its items, given with their
/// ordinals in order, are counted. `item_cap` is how much is kept of a thread; what is over it
/// goes with the next item.
fn count_items(
    mut record: ThreadRecord,
    items: impl IntoIterator<Item = (u64, u64)>,
    item_cap: u64,
) -> ThreadRecord {
    for (ordinal, bytes) in items {
        record.kept.count(ordinal, 0, bytes + ROW_OVERHEAD, item_cap);
    }
    record.version = THREAD_RECORD_VERSION;
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_item_of_the_first_format_is_split() {
        let item = r#"{"type":"plan", "id":"i","text":"a b"}"#;
        let old = format!(
            r#"{{"ordinal":7,"turn_id":"u","id":"i","state":"completed","started_ms":1,"ended_ms":null,"item":{item}}}"#
        );
        let (record, body) = split_item(old.as_bytes()).unwrap();
        assert_eq!(body, item.as_bytes(), "as it came");
        assert_eq!((record.ordinal, record.kind.as_str()), (7, "plan"));
        assert_eq!((record.state, record.bytes), (ItemState::Completed, item.len() as u64));
        assert!(split_item(&serde_json::to_vec(&record).unwrap()).is_err(), "not twice");
        assert!(split_item(b"{}").is_err());
    }

    #[test]
    fn a_thread_of_the_first_format_is_read_and_counted() {
        let old = json!({
            "version": 1, "id": "t", "title": null, "cwd": "/", "controls": {
                "model": null, "approvalPolicy": "untrusted", "networkAccess": "restricted",
                "filesystemSandbox": "read-only",
            },
            "materialized": true, "archived": false, "created_at": 1, "updated_at": 2,
            "thread": {}, "next_turn": 1, "next_row": 2,
        });
        let old: ThreadRecord = serde_json::from_value(old).unwrap();
        let new = count_items(old, [(0, 10), (1, 20)], 1_000);
        assert_eq!((new.version, new.kept.bytes()), (2, 30 + 2 * ROW_OVERHEAD));
    }
}
