//! The contract that every store keeps, over an engine in memory and over sled.

use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

use super::super::engine::Engine;
use super::super::envelope::MAX_PAYLOAD;
use super::super::{
    MemoryStore, Scan, Store, StoreError, StoreFolder, StoreValue, Upkeep, WriteBatch,
};
use super::{everything, noise, opened, puts};

fn contract(store: &dyn Store) {
    let first: [(&[u8], &[u8]); 3] =
        [(b"a\x001", b"one"), (b"a\x002", b"two"), (b"b\x001", b"other")];
    store.commit(&[puts(&first)]).unwrap();
    assert_eq!(store.get(b"a\x002").unwrap().as_deref(), Some(&b"two"[..]));
    assert_eq!(store.get(b"none").unwrap(), None);
    assert_eq!(store.scan(&Scan::prefix(b"a\x00")).unwrap().len(), 2);
    assert_eq!(store.scan(&Scan::prefix(b"a").limit(1)).unwrap().len(), 1);
    let names = |scan: Scan| -> Vec<String> {
        let keys = store.keys(&scan).unwrap();
        let scanned: Vec<_> = store.scan(&scan).unwrap().into_iter().map(|row| row.0).collect();
        assert_eq!(keys, scanned);
        keys.iter().map(|key| key.escape_ascii().to_string()).collect()
    };
    assert_eq!(names(Scan::prefix(b"a").reversed()), ["a\\x002", "a\\x001"]);
    assert_eq!(names(Scan::prefix(b"a").after(b"a\x001")), ["a\\x002"]);
    assert_eq!(names(Scan::prefix(b"a").after(b"a\x002").reversed()), ["a\\x001"]);
    assert_eq!(names(Scan::prefix(b"a").after(b"c")), [""; 0]);
    assert_eq!(names(Scan::prefix(b"a").after(b"c").reversed()), ["a\\x002", "a\\x001"]);
    assert_eq!(names(Scan::prefix(b"b").after(b"a")), ["b\\x001"]);
    assert_eq!(store.scan(&Scan::prefix(b"a").max_bytes(1)).unwrap().len(), 1);
    let mut batch = WriteBatch::default();
    batch.remove(b"a\x001".to_vec());
    batch.put(b"a\x002".to_vec(), b"first".to_vec());
    batch.put(b"a\x002".to_vec(), b"second".to_vec());
    store.commit(&[batch]).unwrap();
    assert_eq!(store.get(b"a\x001").unwrap(), None);
    assert_eq!(store.get(b"a\x002").unwrap().as_deref(), Some(&b"second"[..]));
}

fn tidy(store: &dyn Store) {
    while store.tidy().unwrap() {}
}

/// Long values come back whole, in any cut, and leave nothing behind when they go.
fn long_values(store: &dyn Store, stored: impl Fn() -> usize) {
    let empty = stored();
    for length in [0, 1, MAX_PAYLOAD - 1, MAX_PAYLOAD, MAX_PAYLOAD + 1, 3 * MAX_PAYLOAD, 2_000_000]
    {
        let value = noise(length, length as u64);
        let (left, right) = value.split_at(length / 3);
        let pieces = [Bytes::new(), Bytes::copy_from_slice(left), Bytes::copy_from_slice(right)];
        let mut batch = WriteBatch::default();
        batch.put(b"long".to_vec(), StoreValue::from(pieces));
        // One behind it in the same group takes its place at once.
        let short = puts(&[(b"other", b"short")]);
        store.commit(&[batch, short]).unwrap();
        assert!(store.get(b"long").unwrap().as_deref() == Some(&value[..]), "{length} bytes");
        assert!(store.scan(&Scan::prefix(b"long")).unwrap()[0].1 == value);
        tidy(store);
    }
    let mut replaced = puts(&[(b"long", &noise(100_000, 1))]);
    replaced.extend(puts(&[(b"long", &noise(50_000, 2))]));
    let mut gone = WriteBatch::default();
    gone.remove(b"long".to_vec());
    gone.remove(b"other".to_vec());
    store.commit(&[replaced, puts(&[(b"long", b"short")]), gone]).unwrap();
    assert_eq!(store.get(b"long").unwrap(), None);
    tidy(store);
    // What is left is the number of the commit.
    assert!(stored() <= empty + 1, "{} stored values are left, there were {empty}", stored());
}

fn count<E: Engine>(engine: &E) -> usize {
    engine.page(&Scan::prefix(b"")).unwrap().len()
}

#[test]
fn the_memory_store_keeps_the_contract() {
    contract(&MemoryStore::default());
    let store = MemoryStore::default();
    long_values(&store, || count(&store.engine));
}

#[test]
fn the_sled_store_keeps_the_contract_and_what_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let (lock, store) = opened(folder.path());
    contract(&store);
    let kept = everything(&store);
    long_values(&store, || count(&store.engine));
    assert!(everything(&store) == kept);
    drop((lock, store));
    let (_lock, again) = opened(folder.path());
    assert!(everything(&again) == kept);
}

#[test]
fn a_second_opener_is_refused_with_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let _first = StoreFolder::lock(folder.path()).unwrap();
    let second = StoreFolder::lock(folder.path()).unwrap_err();
    assert_eq!(second, StoreError::InUse(folder.path().to_owned()));
}

/// The most memory that this process ever had resident, in MiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() >> 10
}

/// Set in the process that a test starts to be alone in it.
const ALONE: &str = "CM_TEST_ALONE";

#[test]
fn a_long_value_does_not_take_several_times_its_size_in_memory() {
    let name =
        "store::tests::contract::a_long_value_does_not_take_several_times_its_size_in_memory";
    if std::env::var_os(ALONE).is_none() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_lock, store) = opened(folder.path());
    let value = Bytes::from(noise(1 << 20, 3).repeat(100));
    let before = peak();
    let mut batch = WriteBatch::default();
    batch.put(b"i\0huge".to_vec(), value);
    store.commit(&[batch]).unwrap();
    let grown = peak() - before;
    assert!(grown < 60, "writing 100 MiB took {grown} MiB more");
}

#[test]
fn a_value_of_twenty_megabytes_stays_out_of_files_that_are_not_synced() {
    let folder = tempfile::tempdir().unwrap();
    let (_lock, store) = opened(folder.path());
    let value = Bytes::from(noise(20 << 20, 3));
    for _ in 0..3 {
        let mut batch = WriteBatch::default();
        batch.put(b"i\0huge".to_vec(), value.clone());
        store.commit(&[batch]).unwrap();
        tidy(&store);
    }
    // Many values of the greatest size that is stored in one piece, in one leaf after another.
    for round in 0..40_u8 {
        let mut batch = WriteBatch::default();
        for index in 0..64_u8 {
            let key = [b"i\0thread\0", &[round, index][..]].concat();
            batch.put(key, noise(MAX_PAYLOAD - usize::from(index % 3), index.into()));
        }
        store.commit(&[batch]).unwrap();
    }
    assert!(store.get(b"i\0huge").unwrap().as_deref() == Some(&value[..]));
    assert_eq!(std::fs::read_dir(folder.path().join("store/blobs")).unwrap().count(), 0);
}

/// What happens to a store.
#[derive(Debug, Clone)]
enum Step {
    Put(u8, usize),
    Remove(u8),
    Commit,
    Tidy,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..6, prop_oneof![0_usize..100, 4_000_usize..4_200, 8_000_usize..40_000])
            .prop_map(|(key, length)| Step::Put(key, length)),
        2 => (0_u8..6).prop_map(Step::Remove),
        3 => Just(Step::Commit),
        1 => Just(Step::Tidy),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_history_leaves_what_a_map_has(steps in proptest::collection::vec(step(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let mut now = Some(opened(folder.path()));
        let memory = MemoryStore::default();
        let mut map: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut batch = WriteBatch::default();
        for (number, step) in steps.into_iter().enumerate() {
            let store = &now.as_ref().unwrap().1;
            match step {
                Step::Put(key, length) => {
                    batch.put(vec![b'k', key], noise(length, number as u64));
                }
                Step::Remove(key) => batch.remove(vec![b'k', key]),
                Step::Tidy => {
                    store.tidy().unwrap();
                    memory.tidy().unwrap();
                }
                Step::Commit => {
                    let batch = std::mem::take(&mut batch);
                    for (key, value) in &batch.entries {
                        match value {
                            Some(value) => map.insert(key.clone(), value.to_vec()),
                            None => map.remove(key),
                        };
                    }
                    memory.commit(std::slice::from_ref(&batch)).unwrap();
                    store.commit(&[batch]).unwrap();
                }
                Step::Reopen => {
                    drop(now.take());
                    now = Some(opened(folder.path()));
                }
            }
        }
        let wanted: Vec<_> = map.into_iter().collect();
        prop_assert!(everything(&now.as_ref().unwrap().1) == wanted);
        prop_assert!(everything(&memory) == wanted);
        let (lock, store) = now.take().unwrap();
        tidy(&store);
        drop(store);
        let check = lock.check().unwrap();
        prop_assert_eq!((check.orphan_chunks, check.unsynced_files), (0, 0));
    }
}
