//! What is written to the store: projects, jobs, the audit, controls of new sessions.

use cm_actors::store::{
    SledStore, Store, StoreError, WriteBatch, keys, put_audit, put_defaults, put_job, put_project,
    put_taken, read_defaults, read_projects, was_taken,
};
use cm_core::controls::{Controls, ControlsChange, DefaultsRecord, NewControls};
use cm_core::ids::ProjectId;
use cm_core::job::{AuditRecord, JobRecord};
use cm_core::project::{ProjectBook, ProjectRecord};

use super::report::{Fate, Report};

/// Bytes and keys of one commit.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_KEYS: usize = 1024;

/// Kinds of [`put_taken`].
const PROJECT: &str = "project";
const JOB: &str = "job";
const AUDIT: &str = "audit";
const DEFAULTS: &str = "defaults";
pub(super) const SESSION: &str = "session";

/// The store that is filled; in a dry run it is only read, and there may be none.
pub(super) struct Filling<'a> {
    store: Option<&'a SledStore>,
    dry_run: bool,
    batch: WriteBatch,
    bytes: usize,
}

impl<'a> Filling<'a> {
    pub(super) fn new(store: Option<&'a SledStore>, dry_run: bool) -> Self {
        Self { store, dry_run, batch: WriteBatch::default(), bytes: 0 }
    }

    /// Whether there is something under a key.
    pub(super) fn has(&self, key: &[u8]) -> Result<bool, StoreError> {
        match self.store {
            Some(store) => Ok(store.get(key)?.is_some()),
            None => Ok(false),
        }
    }

    /// The store, if there is one.
    pub(super) fn store(&self) -> Option<&'a SledStore> {
        self.store
    }

    /// Whether everything that was added is durable.
    pub(super) fn is_durable(&self) -> bool {
        self.batch.is_empty()
    }

    /// Whether something was taken over before.
    pub(super) fn was_taken(&self, kind: &str, id: &str) -> Result<bool, StoreError> {
        self.store.map_or(Ok(false), |store| was_taken(store, kind, id))
    }

    /// Adds changes that belong together; they become durable with the next ones, or at the end.
    pub(super) fn add(&mut self, batch: WriteBatch) -> Result<(), StoreError> {
        self.bytes += batch.bytes();
        self.batch.extend(batch);
        if self.bytes >= BATCH_BYTES || self.batch.entries.len() >= BATCH_KEYS {
            self.finish()?;
        }
        Ok(())
    }

    /// Makes everything durable.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        match self.store {
            Some(store) if !self.dry_run && !batch.is_empty() => store.commit(&[batch]),
            _ => Ok(()),
        }
    }

    /// Takes projects over, and answers all that there are then. One whose name another project has
    /// here gets another name.
    pub(super) fn projects(
        &mut self,
        projects: impl Iterator<Item = ProjectRecord>,
        report: &mut Report,
    ) -> Result<ProjectBook, StoreError> {
        let mut book = ProjectBook::default();
        if let Some(store) = self.store {
            for record in read_projects(store)?.records {
                book.put(record);
            }
        }
        for mut record in projects {
            let id = record.id.clone();
            // One that was deleted here since does not come back.
            if book.get(&id).is_some() || self.was_taken(PROJECT, id.as_str())? {
                report.projects.already += 1;
                continue;
            }
            let given = record.name.clone();
            for number in 2_u32.. {
                if book.draft(id.clone(), record.name.clone(), None, 0).is_ok() {
                    break;
                }
                record.name = format!("{given} (imported {number})");
            }
            if record.name != given {
                let why = format!("another project here has its name: it is {} now", record.name);
                report.not_taken.add(format!("the name of project {id}"), why);
            }
            let mut batch = WriteBatch::default();
            put_project(&mut batch, &record)?;
            put_taken(&mut batch, PROJECT, id.as_str());
            self.add(batch)?;
            book.put(record);
            report.projects.taken += 1;
        }
        Ok(book)
    }

    /// The project of a session, if it is here.
    pub(super) fn assigned(book: &ProjectBook, project: Option<&ProjectId>) -> Option<ProjectId> {
        project.filter(|id| book.get(id).is_some()).cloned()
    }

    /// Takes jobs over.
    pub(super) fn jobs(
        &mut self,
        jobs: Vec<JobRecord>,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        for record in jobs {
            let id = record.id.as_str();
            if self.has(&keys::job(&record.id))? || self.was_taken(JOB, id)? {
                report.jobs.already += 1;
                continue;
            }
            let mut batch = WriteBatch::default();
            put_job(&mut batch, &record)?;
            put_taken(&mut batch, JOB, id);
            self.add(batch)?;
            report.jobs.taken += 1;
            let is_failed = record.job.error.as_deref() == Some(cm_core::v1::IMPORTED);
            report.jobs_failed += u64::from(is_failed);
        }
        Ok(())
    }

    /// Takes records of reloads of extensions over.
    pub(super) fn audit(
        &mut self,
        records: Vec<AuditRecord>,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        for record in records {
            let key = keys::audit(record.at_ms, record.digest);
            let id = format!("{}-{:016x}", record.at_ms, record.digest);
            if self.has(&key)? || self.was_taken(AUDIT, &id)? {
                report.extension_audit.already += 1;
                continue;
            }
            let mut batch = WriteBatch::default();
            put_audit(&mut batch, &record)?;
            put_taken(&mut batch, AUDIT, &id);
            self.add(batch)?;
            report.extension_audit.taken += 1;
        }
        Ok(())
    }

    /// Takes the controls of new sessions over, as a change of those that are configured.
    pub(super) fn defaults(
        &mut self,
        defaults: &Controls,
        configured: &Controls,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        let here = match self.store {
            Some(store) => read_defaults(store)?,
            None => DefaultsRecord::default(),
        };
        if here != DefaultsRecord::default() || self.was_taken(DEFAULTS, "")? {
            report.defaults = Fate::Already;
            return Ok(());
        }
        // What is as configured follows the configuration.
        if defaults == configured {
            report.defaults = Fate::None;
            return Ok(());
        }
        let has_settings = defaults.settings != configured.settings;
        let change = ControlsChange::Replace(NewControls {
            model: defaults.model.clone(),
            approval_policy: defaults.approval_policy,
            network_access: defaults.network_access,
            filesystem_sandbox: defaults.filesystem_sandbox,
            settings: has_settings.then(|| defaults.settings.clone()),
        });
        let mut batch = WriteBatch::default();
        put_defaults(&mut batch, &here.changed(&change, configured))?;
        put_taken(&mut batch, DEFAULTS, "");
        self.add(batch)?;
        report.defaults = Fate::Taken;
        Ok(())
    }
}
