//! What is promised when an operation of the engine fails, wherever it does.

use std::collections::BTreeMap;

use super::super::engine::Engine;
use super::super::envelope::MAX_PAYLOAD;
use super::super::{Faults, MemoryStore, Operation, Scan, Store, StoreError, Upkeep, WriteBatch};
use super::{everything, noise, puts};

/// Two keys with the same value: whoever sees one of them new and the other old has seen half of a
/// batch.
fn pair(round: u64) -> WriteBatch {
    let length = if round.is_multiple_of(2) { 100 * MAX_PAYLOAD } else { 10 };
    let value = noise(length, round);
    let mut batch = WriteBatch::default();
    batch.put(format!("left {}", round % 3).into_bytes(), value.clone());
    batch.put(format!("right {}", round % 3).into_bytes(), value);
    batch
}

/// Writes with one failure after so many operations; answers whether it came.
fn failing_once(operations: usize, happens: bool) -> bool {
    let faults = Faults::default();
    let store = MemoryStore::with_faults(faults.clone());
    let mut acknowledged: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    faults.fail_after(operations, happens);
    for round in 0..8 {
        let batch = pair(round);
        let result = store.commit(std::slice::from_ref(&batch));
        if let Err(error) = &result {
            assert!(matches!(error, StoreError::Write(_)), "{error:?}");
            store.heal().unwrap();
        }
        let left = store.get(&batch.entries[0].0).unwrap();
        let right = store.get(&batch.entries[1].0).unwrap();
        assert!(left == right, "half of a batch is there");
        // One that was refused may be there all the same, or not.
        if result.is_ok() || left == batch.entries[0].1.as_ref().map(|value| value.to_vec()) {
            for (key, value) in &batch.entries {
                acknowledged.insert(key.clone(), value.as_ref().unwrap().to_vec());
            }
        }
        store.tidy().ok();
    }
    let came = !faults.is_to_come();
    faults.fail_after(usize::MAX, false);
    let wanted: Vec<_> = acknowledged.into_iter().collect();
    // A visible write whose sync failed is made durable by the next one.
    store.commit(&[puts(&[(b"z", b"last")])]).unwrap();
    let store = store.crashed();
    let mut found = everything(&store);
    assert_eq!(found.pop().unwrap().0, b"z");
    assert!(found == wanted, "after {operations} operations");
    while store.tidy().unwrap() {}
    let chunks = store.engine.page(&Scan::prefix(b"c\0")).unwrap().len();
    let live = found.iter().filter(|(_, value)| value.len() > MAX_PAYLOAD);
    assert_eq!(chunks, live.map(|(_, value)| value.len().div_ceil(MAX_PAYLOAD)).sum::<usize>());
    came
}

#[test]
fn whatever_fails_what_was_acknowledged_is_there_and_nothing_is_there_by_half() {
    for happens in [false, true] {
        let mut operations = 0;
        while failing_once(operations, happens) {
            operations += 1;
        }
        assert!(operations > 40, "only {operations} operations could fail");
    }
}

#[test]
fn a_full_disk_is_met_before_anything_is_written() {
    let faults = Faults::default();
    let store = MemoryStore::with_faults(faults.clone());
    store.commit(&[puts(&[(b"a", b"1")])]).unwrap();
    faults.set_full(true);
    let refused = store.commit(&[puts(&[(b"a", b"2")])]).unwrap_err();
    assert_eq!(refused, StoreError::Write("no space left on device".to_owned()));
    assert!(store.heal().is_err());
    assert_eq!(store.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
    faults.set_full(false);
    store.commit(&[puts(&[(b"a", b"2")])]).unwrap();
    assert_eq!(faults.reopened(), 0);
}

#[test]
fn after_an_error_the_engine_is_opened_again_before_it_is_written() {
    let faults = Faults::default();
    let store = MemoryStore::with_faults(faults.clone());
    store.commit(&[puts(&[(b"a", b"1")])]).unwrap();
    faults.set(Operation::Sync, true);
    faults.set(Operation::Reopen, true);
    for _ in 0..3 {
        let error = store.commit(&[puts(&[(b"a", b"2")])]).unwrap_err();
        assert!(matches!(error, StoreError::Write(_)), "{error:?}");
        assert!(store.get(b"a").unwrap().is_some());
    }
    faults.set(Operation::Sync, false);
    assert!(store.commit(&[puts(&[(b"a", b"2")])]).is_err());
    faults.set(Operation::Reopen, false);
    store.commit(&[puts(&[(b"b", b"3")])]).unwrap();
    assert_eq!(faults.reopened(), 1);
    assert_eq!(store.get(b"b").unwrap().as_deref(), Some(&b"3"[..]));
}

#[test]
fn a_damaged_record_is_an_error_for_its_key_alone() {
    let store = MemoryStore::default();
    let long = noise(3 * MAX_PAYLOAD, 1);
    store
        .commit(&[puts(&[(b"k1", b"one"), (b"k2", b"two"), (b"k3", &long), (b"k4", b"x")])])
        .unwrap();
    let mut stored = store.engine.get(b"k2").unwrap().unwrap();
    *stored.last_mut().unwrap() ^= 1;
    let chunk = store.engine.page(&Scan::prefix(b"c\0")).unwrap()[1].0.clone();
    store.engine.apply(vec![(b"k2".to_vec(), Some(stored)), (chunk, None)]).unwrap();
    for key in [&b"k2"[..], b"k3"] {
        let error = store.get(key).unwrap_err();
        assert!(matches!(error, StoreError::Record { .. }), "{error:?}");
    }
    let readable: Vec<_> =
        store.scan(&Scan::prefix(b"k")).unwrap().into_iter().map(|row| row.0).collect();
    assert_eq!(readable, [b"k1", b"k4"]);
    let damaged = store.damaged_records();
    assert_eq!(damaged.load(std::sync::atomic::Ordering::Relaxed), 2);
    // Writing it again mends it.
    store.commit(&[puts(&[(b"k2", b"two"), (b"k3", b"short")])]).unwrap();
    assert_eq!(store.scan(&Scan::prefix(b"k")).unwrap().len(), 4);
}
