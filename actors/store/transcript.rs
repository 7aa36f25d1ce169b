//! Reading a thread's items with what the runtime says of them, in two scans and page by page.

use std::collections::VecDeque;

use cm_core::ids::ThreadId;
use cm_core::thread::{ItemRecord, TurnRecord};

use super::backend::{Entry, Store, StoreError};
use super::keys;
use super::records::{PAGE_BYTES, decode, read_all};
use super::scan::Scan;

/// Bytes of items that one page takes; a longer item is a page of its own.
const BODY_PAGE_BYTES: usize = 4 << 20;

/// Rows of a prefix, read page by page.
struct Pages<'a> {
    store: &'a dyn Store,
    scan: Scan,
    page: VecDeque<Entry>,
}

impl<'a> Pages<'a> {
    fn new(store: &'a dyn Store, prefix: Vec<u8>, max_bytes: usize) -> Self {
        Self { store, scan: Scan::prefix(prefix).max_bytes(max_bytes), page: VecDeque::new() }
    }

    fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        if self.page.is_empty() {
            self.page = self.store.scan(&self.scan)?.into();
            if let Some((last, _)) = self.page.back() {
                self.scan.after = Some(last.clone());
            }
        }
        Ok(self.page.pop_front())
    }

    /// The next row, unless it stands behind an ordinal.
    fn take_to(&mut self, ordinal: u64) -> Result<Option<Entry>, StoreError> {
        let Some(next) = self.next()? else { return Ok(None) };
        if keys::ordinal(&next.0) > Some(ordinal) {
            self.page.push_front(next);
            return Ok(None);
        }
        Ok(Some(next))
    }
}

/// Reads all turns of a thread, oldest first.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_turns(store: &dyn Store, id: &ThreadId) -> Result<Vec<TurnRecord>, StoreError> {
    read_all(store, keys::turns(id))
}

/// The items of a thread in the order of rows, with what the runtime says of them; `null` where
/// that is not there.
pub struct StoredItems<'a> {
    records: Pages<'a>,
    bodies: Pages<'a>,
    body: Option<Entry>,
}

impl<'a> StoredItems<'a> {
    /// Begins at the first item.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn new(store: &'a dyn Store, id: &ThreadId) -> Result<Self, StoreError> {
        let records = Pages::new(store, keys::items(id), PAGE_BYTES);
        let mut bodies = Pages::new(store, keys::bodies(id), BODY_PAGE_BYTES);
        let body = bodies.next()?;
        Ok(Self { records, bodies, body })
    }

    /// The next item from an ordinal on; `None` when there is none of that ordinal. Ordinals that
    /// are asked for grow.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn at(&mut self, ordinal: u64) -> Result<Option<(ItemRecord, &[u8])>, StoreError> {
        while let Some((key, value)) = self.records.take_to(ordinal)? {
            let place = keys::ordinal(&key);
            if place < Some(ordinal) {
                continue;
            }
            let record: ItemRecord = decode(&key, &value)?;
            while self.body.as_ref().is_some_and(|(key, _)| keys::ordinal(key) < place) {
                self.body = self.bodies.next()?;
            }
            return Ok(Some(match &self.body {
                Some((key, body)) if keys::ordinal(key) == place => (record, body.as_slice()),
                _ => (record, b"null".as_slice()),
            }));
        }
        Ok(None)
    }
}

/// Reads what the runtime says of an item, by the item's id; the latest of that id. `None` when
/// there is none.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_item(
    store: &dyn Store,
    id: &ThreadId,
    item_id: &str,
) -> Result<Option<Vec<u8>>, StoreError> {
    let mut scan = Scan::prefix(keys::items(id)).reversed().max_bytes(PAGE_BYTES);
    loop {
        let rows = store.scan(&scan)?;
        let Some((last, _)) = rows.last() else {
            return Ok(None);
        };
        scan.after = Some(last.clone());
        for (key, value) in &rows {
            let record: ItemRecord = decode(key, value)?;
            if record.id == item_id {
                return store.get(&keys::body(id, record.ordinal));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryStore, WriteBatch, put_item};
    use super::*;
    use bytes::Bytes;
    use cm_core::thread::{ItemState, ItemWrite};

    fn record(ordinal: u64) -> ItemRecord {
        ItemRecord {
            ordinal,
            turn_id: "u".to_owned(),
            id: format!("i{}", ordinal % 3),
            kind: "plan".to_owned(),
            state: ItemState::Completed,
            started_ms: None,
            ended_ms: None,
            bytes: 1,
            digest: None,
        }
    }

    #[test]
    fn records_and_bodies_are_joined_over_holes() {
        let id = ThreadId::parse("t").unwrap();
        let mut batch = WriteBatch::default();
        for ordinal in [1, 2, 5, 700] {
            let body = (ordinal != 2).then(|| Bytes::from(ordinal.to_string()));
            put_item(&mut batch, &id, ItemWrite { record: record(ordinal), body }).unwrap();
        }
        // The body of a row that is gone, and the rows of another thread.
        batch.put(keys::body(&id, 3), b"3".to_vec());
        let other = ThreadId::parse("t2").unwrap();
        let body = Some(Bytes::from_static(b"9"));
        put_item(&mut batch, &other, ItemWrite { record: record(9), body }).unwrap();
        let store = MemoryStore::default();
        store.commit(&[batch]).unwrap();
        let mut items = StoredItems::new(&store, &id).unwrap();
        let mut body_at = |ordinal| {
            let found = items.at(ordinal).unwrap()?;
            assert_eq!(found.0.ordinal, ordinal);
            Some(String::from_utf8_lossy(found.1).into_owned())
        };
        let seen = [0, 1, 2, 3, 700, 701].map(&mut body_at);
        let seen = seen.each_ref().map(Option::as_deref);
        assert_eq!(seen, [None, Some("1"), Some("null"), None, Some("700"), None]);
        assert_eq!(read_item(&store, &id, "i1").unwrap().as_deref(), Some(&b"700"[..]));
        assert_eq!(read_item(&store, &id, "none").unwrap(), None);
    }
}
