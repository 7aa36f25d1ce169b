//! Reading all threads, a page at a time.

use cm_core::thread::ThreadRecord;

use super::backend::{Store, StoreError};
use super::keys;
use super::scan::Scan;

/// Bytes of records that one page takes at the most: a read holds its thread for a few
/// milliseconds, however large the records are.
const PAGE_BYTES: usize = 1024 * 1024;

/// Some threads, in the order of their keys.
#[derive(Debug, Default)]
pub struct ThreadPage {
    /// The threads.
    pub records: Vec<ThreadRecord>,
    /// Why others are not among them: what was read is no thread.
    pub damaged: Vec<StoreError>,
    /// The key of the last one, understood or not; `None` when there were no more.
    pub last: Option<Vec<u8>>,
}

/// Reads the threads behind a key, at most `limit`. A record that cannot be read or understood
/// costs nobody else a place.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_thread_page(
    store: &dyn Store,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<ThreadPage, StoreError> {
    let mut scan = Scan::prefix(keys::threads()).limit(limit).max_bytes(PAGE_BYTES);
    if let Some(key) = after {
        scan = scan.after(key);
    }
    let mut page = ThreadPage::default();
    // One that cannot be read is passed over, logged and counted by the store.
    let entries = store.scan(&scan)?;
    page.last = entries.last().map(|(key, _)| key.clone());
    for (key, value) in entries {
        match serde_json::from_slice(&value) {
            Ok(record) => page.records.push(record),
            Err(error) => {
                let (key, why) = (keys::readable(&key), error.to_string());
                page.damaged.push(StoreError::Record { key, why });
            }
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use cm_core::controls::Controls;
    use cm_core::ids::ThreadId;
    use cm_core::thread::THREAD_RECORD_VERSION;
    use serde_json::Value;

    use super::super::{MemoryStore, WriteBatch, put_thread};
    use super::*;

    fn record(id: &str) -> ThreadRecord {
        ThreadRecord {
            version: THREAD_RECORD_VERSION,
            id: ThreadId::parse(id).unwrap(),
            runtime_id: None,
            replaced: Vec::new(),
            title: None,
            cwd: "/".to_owned(),
            controls: Controls::default(),
            dynamic_tools: None,
            materialized: false,
            archived: false,
            created_at: 1,
            updated_at: 1,
            project_id: None,
            compared_at: None,
            thread: Value::Null,
            next_turn: 0,
            next_row: 0,
            kept: Default::default(),
            problem: None,
            parent: None,
            subagents: Vec::new(),
        }
    }

    #[test]
    fn pages_meet_every_thread_once_and_pass_over_a_damaged_one() {
        let store = MemoryStore::default();
        let mut batch = WriteBatch::default();
        let ids = ["a", "b", "c", "d", "e", "f", "g"];
        for id in ids {
            put_thread(&mut batch, &record(id)).unwrap();
        }
        for damaged in ["c", "z"] {
            batch.put(keys::thread(&ThreadId::parse(damaged).unwrap()), b"{".to_vec());
        }
        store.commit(&[batch]).unwrap();
        let (mut after, mut read, mut damaged) = (None, Vec::new(), 0);
        loop {
            let page = read_thread_page(&store, after.as_deref(), 3).unwrap();
            assert!(page.records.len() + page.damaged.len() <= 3);
            read.extend(page.records.into_iter().map(|record| record.id.to_string()));
            damaged += page.damaged.len();
            after = page.last;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(read, ["a", "b", "d", "e", "f", "g"]);
        assert_eq!(damaged, 2);
    }
}
