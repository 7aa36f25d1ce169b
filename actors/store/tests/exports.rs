//! Exports: everything comes back from them, and nothing from a broken one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::export::{self, ExportError, ExportPlan};
use super::super::{
    ImportError, MaintainError, MemoryStore, Store, StoreFolder, Upkeep, import, keys,
};
use super::{PROGRAM, everything, noise, opened, puts};

/// Values of every form.
fn fill(store: &dyn Store) {
    let long = noise(300_000, 1);
    let values: [&[u8]; 10] = [
        b"{\"a\":1}",
        b"{ \"spaced\" : [1, 2] }",
        b"{\"a\":\n1}",
        b"null",
        b"",
        b"plain text with \"quotes\" and \xc3\xa4",
        b"\x00\xff\xfe",
        b" {\"a\":1} ",
        b"12345678901234567890123456789.5",
        &long,
    ];
    for (index, value) in values.iter().enumerate() {
        let key = [&b"i\0t%\"\\\xff "[..], &[u8::try_from(index).unwrap()]].concat();
        store.commit(&[puts(&[(&key, value)])]).unwrap();
    }
    store.commit(&[puts(&[(keys::SEQ_RESERVED, &7_u64.to_be_bytes())])]).unwrap();
}

#[test]
fn an_import_has_what_was_exported_to_the_last_byte_and_a_new_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let (lock, store) = opened(folder.path());
    fill(&store);
    store.commit(&[puts(&[(keys::EPOCH, b"old")])]).unwrap();
    let wanted = everything(&store);
    drop(store);
    let file = folder.path().join("given.jsonl");
    let (path, info) = lock.export(Some(&file), PROGRAM).unwrap();
    assert_eq!((path, info.records), (file.clone(), wanted.len() as u64));
    assert!(matches!(lock.export(Some(&file), PROGRAM), Err(MaintainError::Export(_))));
    assert!(matches!(lock.import(&file, PROGRAM), Err(MaintainError::IsThere(_))));
    let other = tempfile::tempdir().unwrap();
    let target = StoreFolder::lock(other.path()).unwrap();
    target.import(&file, PROGRAM).unwrap();
    let opened = target.open(PROGRAM).unwrap();
    let imported = everything(&opened.store);
    let (epochs, rest): (Vec<_>, Vec<_>) =
        imported.into_iter().partition(|(key, _)| key == keys::EPOCH);
    assert_ne!(epochs[0].1, b"old");
    let wanted: Vec<_> = wanted.into_iter().filter(|(key, _)| key != keys::EPOCH).collect();
    assert!(rest == wanted);
    assert!(opened.store.last_commit() >= info.commit);
}

#[test]
fn an_export_that_is_not_whole_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = MemoryStore::default();
    fill(&store);
    let source: &dyn Store = &store;
    let path = export::write(&source, folder.path(), PROGRAM, None, Duration::ZERO).unwrap();
    let whole = std::fs::read(&path).unwrap();
    import::verify(&path).unwrap();
    let broken = folder.path().join("broken");
    let refused = |bytes: &[u8]| {
        std::fs::write(&broken, bytes).unwrap();
        let error = import::verify(&broken).unwrap_err();
        assert!(matches!(error, ImportError::Broken { .. }), "{error}");
    };
    for at in (0..whole.len()).step_by(whole.len() / 60) {
        refused(&whole[..at]);
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        refused(&flipped);
    }
    refused(&[&whole[..], b"{}\n"].concat());
}

#[test]
fn an_export_beside_writes_is_the_store_after_one_commit() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(MemoryStore::default());
    let pair = |round: u32| {
        let value = noise(if round.is_multiple_of(5) { 30_000 } else { 50 }, round.into());
        let (left, right) = (format!("a{}", round % 40), format!("z{}", round % 40));
        puts(&[(left.as_bytes(), &value), (right.as_bytes(), &value)])
    };
    for round in 0..40 {
        store.commit(&[pair(round)]).unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (for_writer, stopped) = (Arc::clone(&store), Arc::clone(&stop));
    let writer = std::thread::spawn(move || {
        let mut round = 40;
        while !stopped.load(Ordering::Relaxed) {
            for_writer.commit(&[pair(round)]).unwrap();
            round += 1;
        }
        round
    });
    let source: &dyn Store = store.as_ref();
    for _ in 0..6 {
        let pause = Duration::from_micros(200);
        let path = export::write(&source, folder.path(), PROGRAM, None, pause).unwrap();
        let copy = MemoryStore::default();
        import::verify(&path).unwrap();
        import::load(&path, &copy).unwrap();
        for index in 0..40 {
            let (left, right) = (format!("a{index}"), format!("z{index}"));
            let (left, right) = (copy.get(left.as_bytes()), copy.get(right.as_bytes()));
            assert!(left == right, "half of a batch was exported");
            assert!(left.unwrap().is_some());
        }
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writer.join().unwrap() > 40, "nothing was written meanwhile");
    assert_eq!(export::list(folder.path()).len(), 3);
}

#[test]
fn an_export_without_time_leaves_nothing_and_an_unchanged_store_is_not_exported_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = MemoryStore::default();
    fill(&store);
    let source: &dyn Store = &store;
    let late = export::write(&source, folder.path(), PROGRAM, Some(Instant::now()), Duration::ZERO);
    assert!(matches!(late, Err(ExportError::Time)), "{late:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let plan = ExportPlan::new(folder.path().to_owned(), PROGRAM, Duration::from_secs(1));
    export::run(&store, &plan, None);
    let first = export::list(folder.path());
    export::run(&store, &plan, None);
    assert_eq!(export::list(folder.path()), first);
    store.commit(&[puts(&[(b"a", b"1")])]).unwrap();
    export::run(&store, &plan, None);
    assert_eq!(export::list(folder.path()).len(), 2);
}
