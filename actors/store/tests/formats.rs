//! Stores of other formats, and stores on whose building a process died.

use std::path::Path;

use super::super::{Store, StoreError, StoreFolder, keys};
use super::{PROGRAM, everything, noise, opened, puts};

/// A store as the first version wrote it, by raw calls, and what is in it.
fn format_0(data_dir: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let path = data_dir.join("store");
    std::fs::create_dir_all(&path).unwrap();
    let database = sled::Config::new().path(&path).flush_every_ms(None).open().unwrap();
    let mut entries = vec![
        (keys::EPOCH.to_vec(), b"0123456789abcdef0123456789abcdef".to_vec()),
        (keys::SEQ_RESERVED.to_vec(), 3_000_000_u64.to_be_bytes().to_vec()),
        (b"i\0long\0".to_vec(), noise(3 << 20, 1)),
        (b"x\0gone".to_vec(), Vec::new()),
    ];
    for index in 0..2_000_u32 {
        let value = format!("{{\"ordinal\":{index}}}").into_bytes();
        entries.push(([&b"i\0thread\0"[..], &index.to_be_bytes()].concat(), value));
    }
    for (key, value) in &entries {
        database.insert(key, value.as_slice()).unwrap();
    }
    database.flush().unwrap();
    drop(database);
    entries.sort();
    entries
}

#[test]
fn a_store_of_the_first_version_is_exported_and_converted() {
    let folder = tempfile::tempdir().unwrap();
    let entries = format_0(folder.path());
    let (lock, store) = opened(folder.path());
    assert!(everything(&store) == entries);
    assert_eq!(std::fs::read_dir(folder.path().join("exports")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(lock.store().join("blobs")).unwrap().count(), 0);
    drop((lock, store));
    let (lock, store) = opened(folder.path());
    assert!(everything(&store) == entries);
    drop(store);
    assert!(lock.check().unwrap().damaged.iter().all(|record| record.key.starts_with("i\\x00")));
    // The export has it all as well.
    let other = tempfile::tempdir().unwrap();
    let target = StoreFolder::lock(other.path()).unwrap();
    let export = super::super::export::list(&lock.exports()).remove(0);
    target.import(&export, PROGRAM).unwrap();
    let mut imported = everything(&target.open(PROGRAM).unwrap().store);
    imported.retain(|(key, _)| key != keys::EPOCH);
    let entries: Vec<_> = entries.into_iter().filter(|(key, _)| key != keys::EPOCH).collect();
    assert!(imported == entries);
}

#[test]
fn a_conversion_that_was_cut_off_is_done_again_or_finished() {
    // Cut off while the new one was written.
    let folder = tempfile::tempdir().unwrap();
    let entries = format_0(folder.path());
    std::fs::create_dir(folder.path().join("store.new")).unwrap();
    std::fs::write(folder.path().join("store.new/db"), noise(100_000, 1)).unwrap();
    let (lock, store) = opened(folder.path());
    assert!(everything(&store) == entries);
    drop((lock, store));
    assert!(!folder.path().join("store.new").exists());
    // Cut off between the two renames.
    let path = |name: &str| folder.path().join(name);
    std::fs::rename(path("store"), path("store.new")).unwrap();
    std::fs::create_dir(path("store.old")).unwrap();
    let (lock, store) = opened(folder.path());
    assert!(everything(&store) == entries);
    drop((lock, store));
    assert!(!path("store.old").exists());
    // Cut off before the old one was removed.
    std::fs::create_dir(path("store.old")).unwrap();
    let (_lock, store) = opened(folder.path());
    assert!(everything(&store) == entries);
    assert!(!path("store.old").exists());
}

#[test]
fn a_newer_format_is_refused_with_the_program_that_knows_it() {
    let folder = tempfile::tempdir().unwrap();
    let (lock, store) = opened(folder.path());
    store.commit(&[puts(&[(b"a", b"1")])]).unwrap();
    drop((lock, store));
    let path = folder.path().join("store");
    let open = || {
        // Threads of sled's own may hold the closed database for a moment.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
        loop {
            match sled::Config::new().path(&path).flush_every_ms(None).open() {
                Ok(database) => return database,
                Err(error) => assert!(std::time::Instant::now() < end, "{error}"),
            }
        }
    };
    let database = open();
    database.insert(keys::FORMAT, "7 12.3.4").unwrap();
    database.flush().unwrap();
    drop(database);
    let lock = StoreFolder::lock(folder.path()).unwrap();
    let error = lock.open(PROGRAM).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
    assert!(text.contains("format 7") && text.contains("12.3.4"), "{text}");
    // Nothing was moved, nothing was written.
    assert_eq!(open().get(keys::FORMAT).unwrap().unwrap(), b"7 12.3.4");
}

#[test]
fn items_of_the_first_version_are_read_after_the_conversion() {
    use cm_core::ids::ThreadId;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    std::fs::create_dir_all(&path).unwrap();
    let database = sled::Config::new().path(&path).flush_every_ms(None).open().unwrap();
    let thread = ThreadId::parse("t").unwrap();
    let item = r#"{"type":"plan","id":"i","text":"a"}"#;
    let record = format!(
        r#"{{"ordinal":4,"turn_id":"u","id":"i","state":"completed","started_ms":1,"ended_ms":2,"item":{item}}}"#
    );
    let old = r#"{"version":1,"id":"t","title":null,"cwd":"/","controls":{"model":null,
        "approvalPolicy":"untrusted","networkAccess":"restricted","filesystemSandbox":"read-only"},
        "materialized":true,"archived":false,"created_at":1,"updated_at":2,"thread":{},
        "next_turn":1,"next_row":5}"#;
    database.insert(keys::EPOCH, b"0123456789abcdef0123456789abcdef".as_slice()).unwrap();
    database.insert(keys::SEQ_RESERVED, 3_000_000_u64.to_be_bytes().as_slice()).unwrap();
    database.insert(keys::item(&thread, 4), record.as_bytes()).unwrap();
    database.insert(keys::thread(&thread), old.as_bytes()).unwrap();
    database.flush().unwrap();
    drop(database);
    let (lock, store) = opened(folder.path());
    let read = |store: &dyn Store| {
        let body = super::super::read_item(store, &thread, "i").unwrap();
        let stored = super::super::read_thread(store, &thread).unwrap().unwrap();
        (body, stored.record.version, stored.record.kept.bytes() > item.len() as u64)
    };
    let expected = (Some(item.as_bytes().to_vec()), 2, true);
    assert_eq!(read(&store), expected);
    drop(store);
    // What was exported before is already in the present form.
    let other = tempfile::tempdir().unwrap();
    let target = StoreFolder::lock(other.path()).unwrap();
    target.import(&super::super::export::list(&lock.exports()).remove(0), PROGRAM).unwrap();
    assert_eq!(read(&target.open(PROGRAM).unwrap().store), expected);
}
