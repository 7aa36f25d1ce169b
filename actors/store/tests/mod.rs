//! Tests of the store as a whole.

mod contract;
mod damage;
mod exports;
mod faults;
mod formats;
mod queue;

use std::path::Path;

use super::{SledStore, Store, StoreFolder, WriteBatch};

/// Version that the tests open stores with.
const PROGRAM: &str = "9.9.9";

/// The store of a data directory, opened as the program does, and its hold on the directory.
fn opened(data_dir: &Path) -> (StoreFolder, SledStore) {
    let folder = StoreFolder::lock(data_dir).unwrap();
    let store = folder.open(PROGRAM).unwrap().store;
    (folder, store)
}

/// A batch that sets keys.
fn puts(entries: &[(&[u8], &[u8])]) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for (key, value) in entries {
        batch.put(key.to_vec(), value.to_vec());
    }
    batch
}

/// Everything in a store that is not its own.
fn everything(store: &dyn Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    let mut visit = |key: &[u8], value: Result<Option<Vec<u8>>, super::StoreError>| {
        all.push((key.to_vec(), value?.unwrap_or_default()));
        Ok(())
    };
    let mut after: Option<Vec<u8>> = None;
    loop {
        after = store.walk(after.as_deref(), 1 << 20, &mut visit).unwrap();
        if after.is_none() {
            return all;
        }
    }
}

/// Bytes that look like nothing else and compress badly.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[0]
        })
        .collect()
}
