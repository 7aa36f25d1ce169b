//! What a person does with a store while no manager runs.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::backend::{Store, StoreError};
use super::check::open_as_it_is;
use super::engine::Engine;
use super::export::{self, ExportError};
use super::folder::{StoreFolder, unusable};
use super::import::{self, ExportInfo, ImportError};
use super::open::{SledStore, fresh};
use super::{copy, restore};

/// Why maintenance ended early.
#[derive(Debug, thiserror::Error)]
pub enum MaintainError {
    /// There is none.
    #[error("there is no store in {0}")]
    NoStore(PathBuf),
    /// There is one already.
    #[error("there is a store in {0}")]
    IsThere(PathBuf),
    /// It has an older format.
    #[error("the store in {0} has an older format: start the manager once, which converts it")]
    OldFormat(PathBuf),
    /// It is not what was written.
    #[error("the store in {path} is damaged: {why}")]
    Damaged {
        /// Its directory.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The export cannot be read.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The export cannot be written.
    #[error("{0}")]
    Export(String),
}

impl From<ExportError> for MaintainError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Store(error) => Self::Store(error),
            other => Self::Export(other.to_string()),
        }
    }
}

/// What a compaction came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Compacted {
    /// Bytes of the database before.
    pub before: u64,
    /// Bytes of the database after.
    pub after: u64,
    /// Records that are in it.
    pub records: u64,
    /// Records that were damaged, and are not in it any more.
    pub dropped: u64,
}

/// What an import came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Imported {
    /// Lines of records.
    pub records: u64,
    /// Records that were damaged when the export was written, and are not in it.
    pub missing: u64,
    /// The moment of the export, ISO-8601 UTC.
    pub up_to: String,
}

impl StoreFolder {
    /// Copies what is alive into a new database and puts it in the old one's place: sled gives no
    /// space back. Damaged records are left behind.
    ///
    /// # Errors
    ///
    /// [`MaintainError`]; the old store is untouched then.
    pub fn compact(&self, program: &str) -> Result<Compacted, MaintainError> {
        self.finish()?;
        let old = open_as_it_is(&self.store())?;
        let before = old.engine.bytes_on_disk();
        let path = self.build()?;
        let new = fresh(&path, program, old.commits())?;
        let source: &dyn Store = &old;
        let copied = copy::all(&source, &new)?;
        drop(new);
        drop(old);
        self.swap()?;
        let after = std::fs::metadata(self.store().join("db"));
        let after = after.map_err(|error| unusable(&self.store(), error))?.len();
        Ok(Compacted { before, after, records: copied.records, dropped: copied.damaged })
    }

    /// Writes an export to a file that is not there yet, or among the others without one. Answers
    /// its path and what is in it.
    ///
    /// # Errors
    ///
    /// [`MaintainError`].
    pub fn export(
        &self,
        target: Option<&Path>,
        program: &str,
    ) -> Result<(PathBuf, ExportInfo), MaintainError> {
        let store = open_as_it_is(&self.store())?;
        let source: &dyn Store = &store;
        let path = match target {
            Some(path) => {
                export::write_to(&source, path, program)?;
                path.to_owned()
            }
            None => {
                let folder = self.exports();
                export::write(&source, &folder, program, None, std::time::Duration::ZERO)?
            }
        };
        let info = import::verify(&path)?;
        Ok((path, info))
    }

    /// Makes a store from an export, where there is none. It begins a new epoch.
    ///
    /// # Errors
    ///
    /// [`MaintainError`]; no store is there then.
    pub fn import(&self, export: &Path, program: &str) -> Result<Imported, MaintainError> {
        let commit = self.may_begin()?;
        let info = import::verify(export)?;
        let path = self.build()?;
        let store = fresh(&path, program, commit.max(info.commit))?;
        import::load(export, &store)?;
        restore::new_epoch(&store, None)?;
        drop(store);
        self.swap()?;
        Ok(Imported { records: info.records, missing: info.damaged, up_to: info.up_to })
    }

    /// Opens the store as it is, to add to it; `None` where there is none and never was one.
    ///
    /// # Errors
    ///
    /// [`MaintainError`] when it cannot be opened as it is.
    pub fn existing(&self) -> Result<Option<SledStore>, MaintainError> {
        self.finish()?;
        if !self.store().exists() && !self.has_traces() {
            return Ok(None);
        }
        open_as_it_is(&self.store()).map(Some)
    }

    /// Opens the store as it is, to look into it: what was cut is not gone on with. `None` where
    /// there is none and never was one.
    ///
    /// # Errors
    ///
    /// [`MaintainError`] when it cannot be opened as it is.
    pub fn existing_to_look(&self) -> Result<Option<SledStore>, MaintainError> {
        let current = self.current();
        if !current.exists() && !self.has_traces() {
            return Ok(None);
        }
        open_as_it_is(&current).map(Some)
    }

    /// Makes an empty store where there is none, whatever there was once.
    ///
    /// # Errors
    ///
    /// [`MaintainError`].
    pub fn init(&self, program: &str) -> Result<(), MaintainError> {
        let commit = self.may_begin()?;
        Ok(self.create(program, commit)?)
    }

    /// Refuses where a store is; answers the number that a new one counts its commits from, so that
    /// its exports are newer than those that are there.
    fn may_begin(&self) -> Result<u64, MaintainError> {
        self.finish()?;
        if self.store().exists() {
            return Err(MaintainError::IsThere(self.store()));
        }
        Ok(export::newest_commit(&self.exports()).unwrap_or(0))
    }
}
