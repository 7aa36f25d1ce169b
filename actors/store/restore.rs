//! What takes the place of a store that is damaged or gone.
//!
//! Two things can: what can still be read of the damaged one, if all of its records are whole, and
//! the newest valid export. The one with the newer commit is taken. Either has less than was
//! acknowledged, or may have; so it gets a new epoch, by which clients know that they have to read
//! everything again, and health says what happened for as long as the damaged copy lies there.

use std::path::{Path, PathBuf};

use cm_core::ids::Epoch;
use serde::{Deserialize, Serialize};

use super::backend::{Store, StoreError};
use super::batch::WriteBatch;
use super::copy;
use super::export;
use super::folder::{StoreFolder, unusable};
use super::handle::StoreCondition;
use super::import::{self, ExportInfo, ImportError};
use super::keys;
use super::open::{Found, OpenedStore, Unusable, fresh, inspect, way_on};
use super::sled_engine::SledEngine;
use super::{format, layered::Layered};
use crate::clock;

/// Version of the record of a restoration.
const RESTORED_VERSION: u32 = 1;

/// How long health tells of a restoration that left no damaged copy: a week.
const NEWS_MS: i64 = 7 * 86_400_000;

/// A restoration, as it is kept in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// Version of this record.
    version: u32,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What was wrong.
    pub why: String,
    /// `export` or `damaged_store`.
    pub source: String,
    /// The moment up to which everything is there, ISO-8601 UTC.
    pub up_to: String,
    /// Records that were damaged in the source and are missing now.
    pub missing_records: u64,
    /// Where the damaged store is.
    pub damaged_copy: Option<PathBuf>,
}

/// What is known of a store's past; nothing once a person has removed the damaged copy, or after a
/// week if there is none.
pub(super) fn condition(store: &dyn Store) -> Result<StoreCondition, StoreError> {
    let record = store.get(keys::RESTORED)?;
    let restored: Option<Restored> = record.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let is_news = |restored: &Restored| match &restored.damaged_copy {
        Some(copy) => copy.exists(),
        None => clock::now_ms() < restored.at_ms.saturating_add(NEWS_MS),
    };
    Ok(StoreCondition { restored: restored.filter(is_news) })
}

/// Something to restore from.
enum Candidate {
    Salvaged { store: Box<super::SledStore>, up_to: String },
    Export { path: PathBuf, info: ExportInfo },
}

impl Candidate {
    fn commit(&self) -> u64 {
        match self {
            Self::Salvaged { store, .. } => store.commits(),
            Self::Export { info, .. } => info.commit,
        }
    }
}

/// Puts the best that can be had in the place of the store, which has been moved to `aside` or is
/// gone.
pub(super) fn restore(
    folder: &StoreFolder,
    program: &str,
    why: &str,
    aside: Option<PathBuf>,
) -> Result<OpenedStore, StoreError> {
    let aside = aside.or_else(|| newest_damaged(folder));
    let export = newest_export(folder);
    let salvaged = aside.as_deref().and_then(salvage);
    let mut candidates: Vec<Candidate> = salvaged.into_iter().chain(export).collect();
    // The last of equals: an export says the same in a form that was checked as a whole.
    candidates.sort_by_key(Candidate::commit);
    let Some(best) = candidates.pop() else {
        let copy = aside.map(|aside| format!(" It was moved to {}.", aside.display()));
        let (copy, way_on) = (copy.unwrap_or_default(), way_on(&folder.exports()));
        return Err(unusable(&folder.store(), format!("{why}.{copy} {way_on}")));
    };
    let path = folder.build()?;
    let newest = export::newest_commit(&folder.exports()).unwrap_or(0).max(best.commit());
    let store = fresh(&path, program, newest)?;
    let (source, up_to, missing_records) = match best {
        Candidate::Salvaged { store: damaged, up_to } => {
            let source: &dyn Store = &*damaged;
            let copied = copy::all(&source, &store)?;
            ("damaged_store", up_to, copied.damaged)
        }
        Candidate::Export { path, info } => {
            import::load(&path, &store).map_err(|error| unusable(&path, error))?;
            ("export", info.up_to, info.damaged)
        }
    };
    let restored = Restored {
        version: RESTORED_VERSION,
        at_ms: clock::now_ms(),
        why: why.to_owned(),
        source: source.to_owned(),
        up_to,
        missing_records,
        damaged_copy: aside,
    };
    new_epoch(&store, Some(&restored))?;
    drop(store);
    folder.swap()?;
    tracing::warn!(
        up_to = restored.up_to,
        source = restored.source,
        missing = restored.missing_records,
        "the store was restored; what came later is lost"
    );
    match inspect(&folder.store()) {
        Ok(Found::Whole(store)) => {
            Ok(OpenedStore { condition: condition(&*store)?, store: *store })
        }
        Ok(Found::Old(_)) => Err(unusable(&folder.store(), "it is of an older format")),
        Err(Unusable::Refused(error)) => Err(error),
        Err(Unusable::Damaged(why)) => Err(unusable(&folder.store(), why)),
    }
}

/// Begins a new history: what clients remember of the old one says nothing about this one.
pub(super) fn new_epoch(store: &dyn Store, restored: Option<&Restored>) -> Result<(), StoreError> {
    let mut batch = WriteBatch::default();
    let epoch = Epoch::from_random(rand::random());
    batch.put(keys::EPOCH.to_vec(), epoch.as_str().as_bytes().to_vec());
    match restored.map(serde_json::to_vec) {
        Some(Ok(record)) => batch.put(keys::RESTORED.to_vec(), record),
        Some(Err(error)) => {
            let key = keys::readable(keys::RESTORED);
            return Err(StoreError::Record { key, why: error.to_string() });
        }
        None => batch.remove(keys::RESTORED.to_vec()),
    }
    store.commit(&[batch])
}

fn newest_export(folder: &StoreFolder) -> Option<Candidate> {
    export::list(&folder.exports()).into_iter().find_map(|path| match import::verify(&path) {
        Ok(info) => Some(Candidate::Export { path, info }),
        Err(error @ (ImportError::Broken { .. } | ImportError::File { .. })) => {
            tracing::warn!(%error, "an export cannot be used");
            None
        }
        Err(ImportError::Store(_)) => None,
    })
}

fn newest_damaged(folder: &StoreFolder) -> Option<PathBuf> {
    let store = folder.store();
    let entries = std::fs::read_dir(store.parent()?).ok()?.flatten();
    let is_damaged = |path: &PathBuf| {
        let name = path.file_name().map(std::ffi::OsStr::as_encoded_bytes);
        name.is_some_and(|name| name.starts_with(b"store.damaged-"))
    };
    entries.map(|entry| entry.path()).filter(is_damaged).max()
}

/// What can still be read of a damaged store, if that is all of its records.
fn salvage(damaged: &Path) -> Option<Candidate> {
    let modified = std::fs::metadata(damaged.join("db")).and_then(|file| file.modified()).ok()?;
    let age = modified.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis();
    let up_to = clock::iso(i64::try_from(age).ok()?);
    let store = readable(damaged).or_else(|| {
        // sled can do without its snapshot and its parameters; damaged ones keep it from opening.
        set_aside(damaged).ok()?;
        readable(damaged)
    })?;
    Some(Candidate::Salvaged { store: Box::new(store), up_to })
}

fn readable(damaged: &Path) -> Option<super::SledStore> {
    let engine = SledEngine::open(damaged).ok()?;
    if format::find(&engine).ok()? != format::Format::Known(format::CURRENT) {
        return None;
    }
    let store = Layered::start(engine).ok()?;
    let mut whole = true;
    let mut after: Option<Vec<u8>> = None;
    loop {
        let source: &dyn Store = &store;
        let mut visit = |_: &[u8], value: Result<Option<Vec<u8>>, StoreError>| {
            whole &= value.is_ok();
            Ok(())
        };
        after = source.walk(after.as_deref(), 1 << 20, &mut visit).ok()?;
        if after.is_none() {
            return whole.then_some(store);
        }
    }
}

/// Moves the files away that sled makes again by itself.
fn set_aside(damaged: &Path) -> std::io::Result<()> {
    let aside = damaged.join("set-aside");
    std::fs::create_dir_all(&aside)?;
    for entry in std::fs::read_dir(damaged)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "conf" || name.as_encoded_bytes().starts_with(b"snap.") {
            std::fs::rename(entry.path(), aside.join(&name))?;
        }
    }
    Ok(())
}
