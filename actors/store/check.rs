//! Looks at everything in a store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cm_core::controls::DefaultsRecord;
use cm_core::idempotency::KeyRecord;
use cm_core::ids::RequestId;
use cm_core::job::{AuditRecord, JobRecord};
use cm_core::project::ProjectRecord;
use cm_core::request::RequestRecord;
use cm_core::thread::{ItemRecord, NoteRecord, ThreadRecord, TurnRecord};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::backend::{StoreError, Upkeep};
use super::envelope::{self, Opened};
use super::maintain::MaintainError;
use super::open::{Found, SledStore, Unusable, inspect};
use super::scan::Scan;
use super::{StoreFolder, engine::Engine, keys};

/// Damaged records that are named one by one.
const NAMED: usize = 100;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Number of the last group of writes.
    pub commit: u64,
    /// Bytes of the database on the disk.
    pub bytes_on_disk: u64,
    /// Records by kind.
    pub kinds: BTreeMap<&'static str, Kind>,
    /// Records that are damaged or cannot be understood; at most 100 are named.
    pub damaged: Vec<DamagedRecord>,
    /// How many there are.
    pub damaged_count: u64,
    /// Chunks that wait to be removed. That is no damage.
    pub loose_chunks: u64,
    /// Chunks that belong to nothing. `store compact` drops them.
    pub orphan_chunks: u64,
    /// Files outside of the database, which are not synced; there should be none.
    pub unsynced_files: u64,
}

impl Check {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.damaged_count == 0 && self.orphan_chunks == 0 && self.unsynced_files == 0
    }
}

/// Records of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// How many.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// A record that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DamagedRecord {
    /// Its key, made readable.
    pub key: String,
    /// What is wrong.
    pub why: String,
}

/// Kinds of records by the beginning of their keys.
fn kind(key: &[u8]) -> &'static str {
    match key.first() {
        Some(b'm') => "store",
        Some(b't') => "sessions",
        Some(b'u') => "turns",
        Some(b'i') => "items",
        Some(b'b') => "itemBodies",
        Some(b'n') => "rows",
        Some(b'k') => "rowPlaces",
        Some(b'r') => "requests",
        Some(b'q') => "requestPlaces",
        Some(b'o') => "openSessions",
        Some(b'x') => "deletedSessions",
        Some(b'w') => "projects",
        Some(b'y') => "idempotencyKeys",
        Some(b'z') => "keptAnswers",
        Some(b'j') => "jobs",
        Some(b'a') => "extensionAudit",
        Some(b'v') => "takenOver",
        _ => "others",
    }
}

/// Whether a value is what its kind says; kinds that this program does not know are taken as they
/// are.
fn decodes(key: &[u8], value: &[u8]) -> Result<(), String> {
    fn json<T: DeserializeOwned>(value: &[u8]) -> Result<(), String> {
        serde_json::from_slice::<T>(value).map(|_| ()).map_err(|error| error.to_string())
    }
    match key.first() {
        Some(b't') => json::<ThreadRecord>(value),
        Some(b'u') => json::<TurnRecord>(value),
        Some(b'i') => json::<ItemRecord>(value),
        Some(b'r') => json::<RequestRecord>(value),
        Some(b'o') => json::<Value>(value),
        Some(b'w') => json::<ProjectRecord>(value),
        Some(b'y') => json::<KeyRecord>(value),
        Some(b'j') => json::<JobRecord>(value),
        Some(b'a') => json::<AuditRecord>(value),
        Some(b'n') => json::<NoteRecord>(value),
        Some(b'm') if key == keys::DEFAULTS => json::<DefaultsRecord>(value),
        Some(b'k') if key.starts_with(b"k\0") && value.len() != size_of::<u64>() => {
            Err(format!("{} bytes are no place of a row", value.len()))
        }
        Some(b'q') => {
            let text = std::str::from_utf8(value).map_err(|error| error.to_string())?;
            RequestId::parse(text).map(|_| ()).map_err(|error| error.to_string())
        }
        _ => Ok(()),
    }
}

impl StoreFolder {
    /// Looks at every record of the store, which is opened for it, but neither converted nor
    /// restored.
    ///
    /// # Errors
    ///
    /// [`MaintainError`] when it cannot be opened as it is.
    pub fn check(&self) -> Result<Check, MaintainError> {
        let store = open_as_it_is(&self.store())?;
        let mut kinds: BTreeMap<&'static str, Kind> = BTreeMap::new();
        let mut damaged = Vec::new();
        let mut damaged_count = 0;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let mut visit = |key: &[u8], value: Result<Option<Vec<u8>>, StoreError>| {
                let entry = kinds.entry(kind(key)).or_default();
                entry.records += 1;
                let problem = match value {
                    Ok(value) => {
                        let value = value.unwrap_or_default();
                        entry.bytes += (key.len() + value.len()) as u64;
                        decodes(key, &value).err()
                    }
                    Err(StoreError::Record { why, .. }) => Some(why),
                    Err(other) => Some(other.to_string()),
                };
                if let Some(why) = problem {
                    damaged_count += 1;
                    if damaged.len() < NAMED {
                        damaged.push(DamagedRecord { key: keys::readable(key), why });
                    }
                }
                Ok(())
            };
            after = store.walk(after.as_deref(), 1 << 20, &mut visit)?;
            if after.is_none() {
                break;
            }
        }
        let (loose_chunks, orphan_chunks) = chunks(&store)?;
        Ok(Check {
            commit: store.commits(),
            bytes_on_disk: store.engine.bytes_on_disk(),
            kinds,
            damaged,
            damaged_count,
            loose_chunks,
            orphan_chunks,
            unsynced_files: store.engine.blobs() as u64,
        })
    }
}

/// Opens a store of the current format, and only that.
pub(super) fn open_as_it_is(path: &Path) -> Result<SledStore, MaintainError> {
    if !path.exists() {
        return Err(MaintainError::NoStore(path.to_owned()));
    }
    match inspect(path) {
        Ok(Found::Whole(store)) => Ok(*store),
        Ok(Found::Old(_)) => Err(MaintainError::OldFormat(path.to_owned())),
        Err(Unusable::Refused(error)) => Err(error.into()),
        Err(Unusable::Damaged(why)) => Err(MaintainError::Damaged { path: path.to_owned(), why }),
    }
}

/// Counts chunks that wait to be removed, and those that belong to nothing.
fn chunks(store: &SledStore) -> Result<(u64, u64), StoreError> {
    let mut rooted = BTreeSet::new();
    let mut loose = BTreeSet::new();
    each_stored(store, &[], |key, stored| {
        if key.starts_with(keys::LOOSE) {
            loose.extend(keys::generation(key));
        } else if let Ok(Opened::Root(root)) = envelope::open(key, stored) {
            rooted.insert(root.generation);
        }
    })?;
    let (mut waiting, mut orphans) = (0, 0);
    each_stored(store, keys::CHUNKS, |key, _| match keys::generation(key) {
        Some(generation) if rooted.contains(&generation) => {}
        Some(generation) if loose.contains(&generation) => waiting += 1,
        _ => orphans += 1,
    })?;
    Ok((waiting, orphans))
}

fn each_stored(
    store: &SledStore,
    prefix: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]),
) -> Result<(), StoreError> {
    let mut scan = Scan::prefix(prefix).max_bytes(1 << 20);
    loop {
        let rows = store.engine.page(&scan).map_err(|error| store.read_error(&error))?;
        let Some((last, _)) = rows.last() else {
            return Ok(());
        };
        scan.after = Some(last.clone());
        for (key, stored) in &rows {
            visit(key, stored);
        }
    }
}
