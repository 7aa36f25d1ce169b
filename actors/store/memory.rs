//! A store in memory, for tests of everything above the store.

use std::collections::BTreeMap;

use super::backend::{Entry, Store, StoreError};
use super::batch::WriteBatch;
use super::scan::Scan;

/// A store that forgets everything when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryStore {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Commits that write such a key fail.
    refused: Option<Vec<u8>>,
}

impl MemoryStore {
    /// Makes an empty store that fails each commit that writes a key with this prefix.
    pub fn refusing(prefix: &[u8]) -> Self {
        Self { refused: Some(prefix.to_owned()), ..Self::default() }
    }
}

impl Store for MemoryStore {
    fn commit(&mut self, batches: &[WriteBatch]) -> Result<(), StoreError> {
        let keys = || batches.iter().flat_map(|batch| &batch.entries).map(|(key, _)| key);
        if let Some(prefix) = &self.refused
            && keys().any(|key| key.starts_with(prefix))
        {
            return Err(StoreError::Write("no space left on device".to_owned()));
        }
        for (key, value) in batches.iter().flat_map(|batch| &batch.entries) {
            match value {
                Some(value) => self.entries.insert(key.clone(), value.to_vec()),
                None => self.entries.remove(key),
            };
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.entries.get(key).cloned())
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Entry>, StoreError> {
        let Some(range) = scan.range() else {
            return Ok(Vec::new());
        };
        let mut range = self.entries.range(range);
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        while entries.len() < scan.limit && (bytes < scan.max_bytes || entries.is_empty()) {
            let next = if scan.reverse { range.next_back() } else { range.next() };
            let Some((key, value)) = next else { break };
            bytes += key.len() + value.len();
            entries.push((key.clone(), value.clone()));
        }
        Ok(entries)
    }

    fn keys(&self, scan: &Scan) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(self.scan(scan)?.into_iter().map(|(key, _)| key).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::SledStore;
    use super::*;

    /// The contract that every store keeps.
    fn contract(store: &mut dyn Store) {
        let mut batch = WriteBatch::default();
        batch.put(b"a\x001".to_vec(), b"one".to_vec());
        batch.put(b"a\x002".to_vec(), b"two".to_vec());
        batch.put(b"b\x001".to_vec(), b"other".to_vec());
        store.commit(&[batch]).unwrap();
        assert_eq!(store.get(b"a\x002").unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(store.get(b"none").unwrap(), None);
        let all = store.scan(&Scan::prefix(b"a\x00")).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(store.scan(&Scan::prefix(b"a").limit(1)).unwrap().len(), 1);
        let names = |scan: Scan| -> Vec<String> {
            let keys = store.keys(&scan).unwrap();
            keys.iter().map(|key| key.escape_ascii().to_string()).collect()
        };
        assert_eq!(names(Scan::prefix(b"a").reversed()), ["a\\x002", "a\\x001"]);
        assert_eq!(names(Scan::prefix(b"a").after(b"a\x001")), ["a\\x002"]);
        assert_eq!(names(Scan::prefix(b"a").after(b"a\x002").reversed()), ["a\\x001"]);
        assert_eq!(names(Scan::prefix(b"a").after(b"c")), [""; 0]);
        assert_eq!(names(Scan::prefix(b"b").after(b"a")), ["b\\x001"]);
        assert_eq!(store.scan(&Scan::prefix(b"").max_bytes(1)).unwrap().len(), 1);
        let mut batch = WriteBatch::default();
        batch.remove(b"a\x001".to_vec());
        batch.put(b"a\x002".to_vec(), b"first".to_vec());
        batch.put(b"a\x002".to_vec(), b"second".to_vec());
        store.commit(&[batch]).unwrap();
        assert_eq!(store.get(b"a\x001").unwrap(), None);
        assert_eq!(store.get(b"a\x002").unwrap().as_deref(), Some(&b"second"[..]));
    }

    #[test]
    fn the_memory_store_keeps_the_contract() {
        contract(&mut MemoryStore::default());
    }

    #[test]
    fn the_sled_store_keeps_the_contract_and_what_it_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        contract(&mut SledStore::open(&path).unwrap());
        let again = SledStore::open(&path).unwrap();
        assert_eq!(again.get(b"a\x002").unwrap().as_deref(), Some(&b"second"[..]));
    }

    #[test]
    fn a_second_opener_is_refused_with_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let _first = SledStore::open(&path).unwrap();
        assert_eq!(SledStore::open(&path).unwrap_err(), StoreError::InUse(path));
    }
}
