//! Sessions: the file of each thread, its record, and everything that was said in it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use cm_actors::store::{StoreError, WriteBatch, keys, put_item, put_note, put_thread, put_turn};
use cm_core::controls::Controls;
use cm_core::ids::ThreadId;
use cm_core::project::ProjectBook;
use cm_core::thread::MOST_SUBAGENTS;
use cm_core::v1::{Ledger, Metadata, SessionParts, imported_session, read_rows};

use super::home::{Found, FoundThread, Placed, place, read_rollout};
use super::report::Report;
use super::taking::Filling;

/// Everything that sessions are made from.
pub(super) struct Sessions<'a> {
    /// The codex home of version 1.
    pub(super) from: &'a Path,
    /// Ours.
    pub(super) to: &'a Path,
    /// What is in theirs.
    pub(super) found: &'a Found,
    /// Threads whose files are in ours.
    pub(super) here: HashSet<String>,
    /// What version 1 says of sessions.
    pub(super) metadata: &'a Metadata,
    /// Rows.
    pub(super) ledger: &'a Ledger<'a>,
    /// All projects.
    pub(super) projects: &'a ProjectBook,
    /// Controls of sessions that have none of their own.
    pub(super) defaults: &'a Controls,
    /// Bytes of items that are kept of a session.
    pub(super) item_cap: u64,
    /// Whether nothing is written.
    pub(super) dry_run: bool,
    /// Now, epoch milliseconds.
    pub(super) now_ms: i64,
}

impl Sessions<'_> {
    /// Takes all of them over.
    ///
    /// # Errors
    ///
    /// [`StoreError`], after which the command can be repeated.
    pub(super) fn take(
        &self,
        filling: &mut Filling<'_>,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        let mut children: BTreeMap<&ThreadId, Vec<&ThreadId>> = BTreeMap::new();
        for thread in self.found.threads.values() {
            if let Some(parent) = &thread.meta.parent {
                children.entry(parent).or_default().push(&thread.meta.id);
            }
        }
        for thread in self.found.threads.values() {
            let id = &thread.meta.id;
            if self.metadata.system_owned.contains(id) {
                report.sessions.not_taken += 1;
                let why = "an agent of version 1's queue worked in it";
                report.not_taken.add(format!("session {id}"), why);
                continue;
            }
            if filling.has(&keys::tombstone(id))? {
                report.sessions.already += 1;
                report.not_taken.add(format!("session {id}"), "it was deleted here");
                continue;
            }
            if !self.copy(thread, report) {
                continue;
            }
            if filling.has(&keys::thread(id))? {
                report.sessions.already += 1;
                continue;
            }
            let mut children = children.get(id).cloned().unwrap_or_default();
            children.truncate(MOST_SUBAGENTS);
            match self.batch(thread, &children, report)? {
                Some(batch) => {
                    filling.add(batch)?;
                    report.sessions.taken += 1;
                }
                None => report.sessions.not_taken += 1,
            }
        }
        self.lost(report);
        Ok(())
    }

    /// Copies a thread's file; answers whether it is here then.
    fn copy(&self, thread: &FoundThread, report: &mut Report) -> bool {
        if self.from == self.to || self.here.contains(thread.meta.id.as_str()) {
            report.files.already += 1;
            return true;
        }
        let inside = &thread.inside;
        if self.dry_run {
            let length = self.from.join(inside).metadata().map_or(0, |known| known.len());
            report.files.taken += 1;
            report.bytes += length;
            return true;
        }
        match place(self.from, self.to, inside) {
            Ok(Placed::Copied(bytes)) => {
                report.files.taken += 1;
                report.bytes += bytes;
                true
            }
            Ok(Placed::There) => {
                report.files.already += 1;
                true
            }
            Err(error) => {
                report.files.not_taken += 1;
                report.sessions.not_taken += 1;
                report.not_taken.add(format!("session {}", thread.meta.id), error.to_string());
                false
            }
        }
    }

    /// Everything of a session, to be written together. `None` where its file cannot be read.
    fn batch(
        &self,
        thread: &FoundThread,
        children: &[&ThreadId],
        report: &mut Report,
    ) -> Result<Option<WriteBatch>, StoreError> {
        let id = &thread.meta.id;
        let rollout = match read_rollout(&self.from.join(&thread.inside)) {
            Ok(rollout) => rollout,
            Err(error) => {
                report
                    .damaged
                    .add(format!("codex-home/{}", thread.inside.display()), error.to_string());
                return Ok(None);
            }
        };
        if rollout.malformed > 0 {
            let why = format!("{} of its lines cannot be understood", rollout.malformed);
            report.damaged.add(format!("codex-home/{}", thread.inside.display()), why);
        }
        let rows = self.ledger.sessions.get(id.as_str());
        let (rows, malformed) = rows.map(|rows| read_rows(rows)).unwrap_or_default();
        if malformed > 0 {
            let why = format!("{malformed} of its rows cannot be understood");
            report.not_taken.add(format!("rows of session {id}"), why);
        }
        let metadata = self.metadata;
        let (mut record, writes) = imported_session(SessionParts {
            meta: thread.meta.clone(),
            rollout,
            path: self.to.join(&thread.inside).display().to_string(),
            archived: thread.archived,
            title: metadata.titles.get(id).cloned(),
            name: self.found.names.get(id.as_str()).cloned(),
            controls: metadata.controls.get(id).unwrap_or(self.defaults).clone(),
            project: Filling::assigned(self.projects, metadata.assignments.get(id)),
            timings: metadata.timings.get(id).cloned().unwrap_or_default(),
            rows,
            now_ms: self.now_ms,
            item_cap: self.item_cap,
        });
        record.subagents = children.iter().map(|child| (*child).clone()).collect();
        report.turns += writes.turns.len() as u64;
        report.rows += (writes.items.len() + writes.notes.len()) as u64;
        let mut batch = WriteBatch::default();
        for turn in &writes.turns {
            put_turn(&mut batch, id, turn)?;
        }
        for item in writes.items {
            put_item(&mut batch, id, item)?;
        }
        for note in &writes.notes {
            put_note(&mut batch, id, note)?;
        }
        put_thread(&mut batch, &record)?;
        Ok(Some(batch))
    }

    /// Names what version 1 knows of sessions without a file.
    fn lost(&self, report: &mut Report) {
        let metadata = self.metadata;
        let mut lost: HashSet<&str> = HashSet::new();
        lost.extend(metadata.titles.keys().map(ThreadId::as_str));
        lost.extend(metadata.controls.keys().map(ThreadId::as_str));
        lost.extend(metadata.assignments.keys().map(ThreadId::as_str));
        lost.extend(self.ledger.sessions.keys().map(AsRef::as_ref));
        lost.retain(|id| !self.found.threads.contains_key(*id));
        let mut lost: Vec<&str> = lost.into_iter().collect();
        lost.sort_unstable();
        for id in lost {
            report.sessions.not_taken += 1;
            let id: String = id.escape_debug().take(80).collect();
            let why =
                "the codex home has no file of its thread (--source-codex-home names another)";
            report.not_taken.add(format!("session {id}"), why);
        }
    }
}
