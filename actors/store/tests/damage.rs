//! Damaged stores: each is opened with everything, restored, or refused; none panics, and none is
//! empty, or has less than it had, without a word.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cm_core::ids::ThreadId;

use super::super::{MaintainError, Store, StoreError, StoreFolder, Upkeep, keys};
use super::{PROGRAM, everything, noise, opened, puts};

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// What is not of a restoration itself.
fn contents(store: &dyn Store) -> Contents {
    let mut contents: Contents = everything(store).into_iter().collect();
    contents.remove(keys::EPOCH);
    contents.remove(keys::RESTORED);
    contents
}

fn write(store: &dyn Store, from: u32, to: u32) {
    for index in from..to {
        let length = if index.is_multiple_of(50) { 40_000 } else { 300 };
        let key = [&b"_\0"[..], &index.to_be_bytes()].concat();
        store.commit(&[puts(&[(&key, &noise(length, index.into()))])]).unwrap();
    }
}

/// A store with a history of several lives; an export from the middle of it; what it has, and had
/// when it was exported.
fn sample(data_dir: &Path) -> (Contents, Contents) {
    let (lock, store) = opened(data_dir);
    store.commit(&[puts(&[(keys::EPOCH, b"first")])]).unwrap();
    write(&store, 0, 300);
    drop(store);
    lock.export(None, PROGRAM).unwrap();
    let store = lock.open(PROGRAM).unwrap().store;
    let exported = contents(&store);
    write(&store, 250, 500);
    drop(store);
    let store = lock.open(PROGRAM).unwrap().store;
    write(&store, 500, 550);
    (contents(&store), exported)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// One way to damage a file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Flip(usize),
    Zero(usize),
    Truncate(usize),
    Delete,
}

fn harm(path: &Path, harm: Harm) {
    let mut bytes = std::fs::read(path).unwrap();
    match harm {
        Harm::Flip(at) => bytes[at] ^= 0x10,
        Harm::Zero(at) => {
            let end = (at + 4096).min(bytes.len());
            bytes[at..end].fill(0);
        }
        Harm::Truncate(at) => bytes.truncate(at),
        Harm::Delete => return std::fs::remove_file(path).unwrap(),
    }
    std::fs::write(path, bytes).unwrap();
}

fn harms(length: usize) -> Vec<Harm> {
    let mut harms = vec![Harm::Delete];
    let step = (length / 24).max(1);
    for at in (0..length).step_by(step).chain([length - 1]) {
        harms.extend([Harm::Flip(at), Harm::Truncate(at)]);
        if length > 4096 {
            harms.push(Harm::Zero(at));
        }
    }
    harms
}

/// What became of a damaged store.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Whole,
    /// Opened, and some keys answer with an error.
    Partly,
    Restored,
    Refused,
}

/// Opens a damaged store and looks that nothing is missing without a word.
fn judge(data_dir: &Path, full: &Contents, exported: Option<&Contents>) -> Outcome {
    let lock = StoreFolder::lock(data_dir).unwrap();
    let opened = match lock.open(PROGRAM) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains("store import") && text.contains("store init"), "{text}");
            // Refused once, refused again: the next start is no first start.
            assert!(lock.open(PROGRAM).is_err());
            return Outcome::Refused;
        }
    };
    let Some(restored) = opened.condition.restored else {
        let mut outcome = Outcome::Whole;
        for (key, value) in full {
            match opened.store.get(key) {
                Ok(found) => assert!(found.as_ref() == Some(value), "{}", key.escape_ascii()),
                Err(_) => outcome = Outcome::Partly,
            }
        }
        let damaged = opened.store.damaged_records();
        let known = damaged.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(outcome == Outcome::Partly, known > 0, "damage is counted");
        return outcome;
    };
    assert_ne!(opened.store.get(keys::EPOCH).unwrap().as_deref(), Some(&b"first"[..]));
    if let Some(copy) = &restored.damaged_copy {
        assert!(copy.exists());
    }
    let now = contents(&opened.store);
    for (key, value) in &now {
        // Values are written once, but those that were written again with the same bytes.
        assert!(full.get(key) == Some(value), "{}", key.escape_ascii());
    }
    if let Some(exported) = exported {
        assert!(now.len() >= exported.len(), "{} of {}", now.len(), exported.len());
    }
    // It works, and a second start has nothing to restore.
    opened.store.commit(&[puts(&[(b"new", b"1")])]).unwrap();
    drop(opened.store);
    assert!(lock.open(PROGRAM).unwrap().store.get(b"new").unwrap().is_some());
    Outcome::Restored
}

#[test]
fn a_damaged_store_is_whole_restored_or_refused() {
    let original = tempfile::tempdir().unwrap();
    let (full, exported) = sample(original.path());
    let mut files: Vec<PathBuf> = std::fs::read_dir(original.path().join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    let mut outcomes: BTreeMap<(String, Outcome), usize> = BTreeMap::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
        for (index, one) in harms(length).into_iter().enumerate() {
            let folder = tempfile::tempdir().unwrap();
            copy(original.path(), folder.path());
            harm(&folder.path().join("store").join(&name), one);
            let has_export = index.is_multiple_of(2);
            if !has_export {
                std::fs::remove_dir_all(folder.path().join("exports")).unwrap();
            }
            let outcome = judge(folder.path(), &full, has_export.then_some(&exported));
            assert!(!(has_export && outcome == Outcome::Refused), "{name} {one:?}");
            *outcomes.entry((name.clone(), outcome)).or_default() += 1;
        }
    }
    println!("{outcomes:#?}");
    let seen: std::collections::BTreeSet<_> =
        outcomes.keys().map(|(_, outcome)| format!("{outcome:?}")).collect();
    assert!(seen.contains("Whole") && seen.contains("Restored"), "{outcomes:?}");
}

#[test]
fn a_store_whose_directory_is_gone_is_no_first_start() {
    let folder = tempfile::tempdir().unwrap();
    let (full, exported) = sample(folder.path());
    std::fs::remove_dir_all(folder.path().join("store")).unwrap();
    assert_eq!(judge(folder.path(), &full, Some(&exported)), Outcome::Restored);
    std::fs::remove_dir_all(folder.path().join("store")).unwrap();
    for export in std::fs::read_dir(folder.path().join("exports")).unwrap() {
        std::fs::remove_file(export.unwrap().path()).unwrap();
    }
    assert_eq!(judge(folder.path(), &full, None), Outcome::Refused);
    // A person says that it is to start empty.
    let lock = StoreFolder::lock(folder.path()).unwrap();
    lock.init(PROGRAM).unwrap();
    assert!(matches!(lock.init(PROGRAM), Err(MaintainError::IsThere(_))));
    assert!(contents(&lock.open(PROGRAM).unwrap().store).is_empty());
}

#[test]
fn an_empty_directory_in_the_place_of_a_store_is_no_first_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("store")).unwrap();
    let lock = StoreFolder::lock(folder.path()).unwrap();
    assert!(matches!(lock.open(PROGRAM), Err(StoreError::Open { .. })));
    assert!(matches!(lock.open(PROGRAM), Err(StoreError::Open { .. })));
}

#[test]
fn a_snapshot_that_was_not_finished_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let (full, exported) = sample(folder.path());
    let store = folder.path().join("store");
    // As a full disk leaves it, and as a kill does.
    for (name, content) in [("0000000000000001", &b""[..]), ("ffffffffffffffff", &[7; 100])] {
        std::fs::write(store.join(format!("snap.{name}.generating")), content).unwrap();
    }
    assert_eq!(judge(folder.path(), &full, Some(&exported)), Outcome::Whole);
}

#[test]
fn compaction_keeps_what_is_alive_and_gives_space_back() {
    let folder = tempfile::tempdir().unwrap();
    let (lock, store) = opened(folder.path());
    write(&store, 0, 100);
    for round in 0..6 {
        store.commit(&[puts(&[(b"big", &noise(3 << 20, round))])]).unwrap();
    }
    store.commit(&[puts(&[(b"big", b"small")])]).unwrap();
    let wanted = contents(&store);
    drop(store);
    let compacted = lock.compact(PROGRAM).unwrap();
    assert!(compacted.after * 2 < compacted.before, "{compacted:?}");
    assert_eq!((compacted.records, compacted.dropped), (wanted.len() as u64, 0));
    let check = lock.check().unwrap();
    assert!(check.is_whole() && check.loose_chunks == 0, "{check:?}");
    let store = lock.open(PROGRAM).unwrap().store;
    assert_eq!(contents(&store), wanted);
}

#[test]
fn a_check_names_what_is_damaged_and_compaction_drops_it() {
    use super::super::engine::Engine;
    let folder = tempfile::tempdir().unwrap();
    let (lock, store) = opened(folder.path());
    store.commit(&[puts(&[(b"k1", b"1"), (b"k2", b"2"), (b"t\0x", b"no thread")])]).unwrap();
    let mut stored = store.engine.get(b"k2").unwrap().unwrap();
    stored[0] ^= 1;
    let orphan = keys::chunk(1_000_000, 0);
    let chunk = super::super::envelope::chunk(&orphan, std::iter::once(&b"orphan"[..]));
    store.engine.apply(vec![(b"k2".to_vec(), Some(stored)), (orphan, Some(chunk))]).unwrap();
    store.commit(&[puts(&[(b"k3", b"3")])]).unwrap();
    drop(store);
    let check = lock.check().unwrap();
    let names: Vec<_> = check.damaged.iter().map(|record| record.key.as_str()).collect();
    assert_eq!(names, ["k2", "t\\x00x"]);
    assert_eq!((check.damaged_count, check.orphan_chunks), (2, 1));
    let compacted = lock.compact(PROGRAM).unwrap();
    assert_eq!((compacted.records, compacted.dropped), (3, 1));
    let check = lock.check().unwrap();
    assert_eq!((check.damaged_count, check.orphan_chunks), (1, 0));
}

#[test]
fn a_check_understands_what_clients_added() {
    let folder = tempfile::tempdir().unwrap();
    let (lock, store) = opened(folder.path());
    let session = ThreadId::parse("t").unwrap();
    let (row, place) = (keys::note(&session, 1), keys::note_id(&session, "m"));
    store.commit(&[puts(&[(&row, b"{}"), (&place, b"1"), (keys::DEFAULTS, b"[]")])]).unwrap();
    drop(store);
    let check = lock.check().unwrap();
    assert_eq!(check.damaged_count, 3, "{:?}", check.damaged);
    assert_eq!((check.kinds["rows"].records, check.kinds["rowPlaces"].records), (1, 1));
}
