//! Opens a store: a new one, the one that is there, an older format, or what can be restored.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::backend::{Store, StoreError, Visitor};
use super::batch::WriteBatch;
use super::copy;
use super::engine::{Engine, EngineError};
use super::export;
use super::export::Source;
use super::folder::{StoreFolder, unusable};
use super::format::{self, Format};
use super::handle::StoreCondition;
use super::keys;
use super::layered::Layered;
use super::migrate::Converter;
use super::restore;
use super::scan::Scan;
use super::sled_engine::SledEngine;

/// A store in a directory.
pub type SledStore = Layered<SledEngine>;

/// A store that was opened, and what is known of its past.
#[derive(Debug)]
pub struct OpenedStore {
    /// The store.
    pub store: SledStore,
    /// Its past.
    pub condition: StoreCondition,
}

/// Why a database cannot be used as it is.
pub(super) enum Unusable {
    /// Something else than the database is wrong: waiting or mending helps, replacing does not.
    Refused(StoreError),
    /// It is not what was written.
    Damaged(String),
}

/// What was found at the place of a database.
pub(super) enum Found {
    /// A store of the current format, with everything that was acknowledged.
    Whole(Box<SledStore>),
    /// One of the first format.
    Old(Box<SledEngine>),
}

impl StoreFolder {
    /// Opens the store, whatever state it is in; `program` is the version of this program.
    ///
    /// A store of an older format is exported and then converted. A damaged one is moved aside,
    /// never deleted, and what can be had of it, or the newest export, takes its place under a new
    /// epoch.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`]; [`StoreError::Open`] when it cannot be used: the reason is not
    /// damage, or nothing is there to restore it from, or a newer program wrote it.
    pub fn open(&self, program: &str) -> Result<OpenedStore, StoreError> {
        self.finish()?;
        let path = self.store();
        if !path.exists() {
            if self.has_traces() {
                return restore::restore(self, program, "its directory is missing", None);
            }
            self.create(program, 0)?;
        }
        match inspect(&path) {
            Ok(Found::Whole(store)) => {
                let condition = restore::condition(&*store)?;
                Ok(OpenedStore { store: *store, condition })
            }
            Ok(Found::Old(engine)) => self.migrate(*engine, program),
            Err(Unusable::Refused(error)) => Err(error),
            Err(Unusable::Damaged(why)) => {
                let aside = self.move_aside()?;
                tracing::error!(why, aside = %aside.display(), "the store is damaged");
                restore::restore(self, program, &why, Some(aside))
            }
        }
    }

    /// Makes an empty store, whose commits count from `commit` on.
    pub(super) fn create(&self, program: &str, commit: u64) -> Result<(), StoreError> {
        let path = self.build()?;
        let store = fresh(&path, program, commit)?;
        store.commit(&[WriteBatch::default()])?;
        drop(store);
        self.swap()
    }

    fn migrate(&self, old: SledEngine, program: &str) -> Result<OpenedStore, StoreError> {
        let path = self.store();
        tracing::info!("the store has an older format and is converted");
        let source = Bare { engine: old, records: RefCell::default() };
        // Also the way back: an older program does not read what this one writes.
        let export =
            export::write(&source, &self.exports(), program, None, std::time::Duration::ZERO)
                .map_err(|error| unusable(&path, format!("it cannot be converted: {error}")))?;
        let built = self.build()?;
        let new = fresh(&built, program, 0)?;
        copy::all(&source, &new)?;
        drop(new);
        drop(source);
        self.swap()?;
        tracing::info!(export = %export.display(), "the store was converted");
        match inspect(&path) {
            Ok(Found::Whole(store)) => {
                Ok(OpenedStore { store: *store, condition: StoreCondition::default() })
            }
            Ok(Found::Old(_)) => Err(unusable(&path, "it is of an older format still")),
            Err(Unusable::Refused(error)) => Err(error),
            Err(Unusable::Damaged(why)) => Err(unusable(&path, why)),
        }
    }
}

/// An empty store in an empty directory.
pub(super) fn fresh(path: &Path, program: &str, commit: u64) -> Result<SledStore, StoreError> {
    let make = || {
        let engine = SledEngine::open(path)?;
        engine.apply(vec![(keys::FORMAT.to_vec(), Some(format::mark(program)))])?;
        let store = Layered::start(engine)?;
        store.count_from(commit);
        Ok(store)
    };
    make().map_err(|error: EngineError| unusable(path, error))
}

/// Opens the database in a directory that exists and looks whether it is what it should be.
pub(super) fn inspect(path: &Path) -> Result<Found, Unusable> {
    let damage = |error: EngineError| match error {
        EngineError::Damaged(why) => Unusable::Damaged(why),
        EngineError::InUse => Unusable::Refused(StoreError::InUse(path.to_owned())),
        other => Unusable::Refused(unusable(path, other)),
    };
    if !path.join("db").exists() {
        return Err(Unusable::Damaged("its database file is missing".to_owned()));
    }
    let engine = SledEngine::open(path).map_err(damage)?;
    match format::find(&engine).map_err(damage)? {
        Format::Empty => Err(Unusable::Damaged("its database is empty".to_owned())),
        Format::Newer { format, program } => Err(Unusable::Refused(unusable(
            path,
            format!(
                "it has format {format}, this program knows formats up to {}: run codex-manager \
                 {program} or newer",
                format::CURRENT
            ),
        ))),
        Format::Known(0) => Ok(Found::Old(Box::new(engine))),
        Format::Known(_) => {
            let noted = engine.noted_commit();
            let store = Layered::start(engine).map_err(damage)?;
            let missing = noted.unwrap_or(0).saturating_sub(store.commits());
            if missing > 0 {
                return Err(Unusable::Damaged(format!(
                    "its last {missing} groups of writes are missing"
                )));
            }
            Ok(Found::Whole(Box::new(store)))
        }
    }
}

/// A database of format 0: values as they are, and records of the first form.
struct Bare {
    engine: SledEngine,
    /// Brings records to their present form as they are read, in the order of their keys.
    records: RefCell<Converter>,
}

impl Source for Bare {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.get(key).map_err(|error| StoreError::Read(error.to_string()))
    }

    fn walk_on(
        &self,
        after: Option<&[u8]>,
        bytes: usize,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut scan = Scan::prefix(Vec::new()).max_bytes(bytes);
        scan.after = after.map(<[u8]>::to_vec);
        let rows = self.engine.page(&scan).map_err(|error| StoreError::Read(error.to_string()))?;
        let last = rows.last().map(|(key, _)| key.clone());
        if after.is_none() {
            *self.records.borrow_mut() = Converter::default();
        }
        for (key, value) in rows {
            for (key, value) in self.records.borrow_mut().convert(key, value) {
                visit(&key, Ok(Some(value)))?;
            }
        }
        Ok(last)
    }

    fn settle_all(&self, _: &mut Visitor<'_>) -> Result<u64, StoreError> {
        // Nobody writes it.
        Ok(0)
    }

    fn watch_keys(&self, _: bool) {}
}

/// The program's version and path in one place, for messages about what to do.
pub(super) fn way_on(exports: &Path) -> String {
    let exports: PathBuf = exports.to_owned();
    format!(
        "No valid export is in {}. Give one to `codex-manager store import FILE`, or start with an \
         empty store: `codex-manager store init`",
        exports.display()
    )
}
