//! Sessions: the file of each thread, its record, and everything that was said in it.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;

use cm_actors::store::{StoreError, WriteBatch, keys, put_taken};
use cm_core::controls::Controls;
use cm_core::ids::ThreadId;
use cm_core::project::ProjectBook;
use cm_core::thread::MOST_SUBAGENTS;
use cm_core::v1::{Ledger, Metadata, SessionParts, imported_session, read_rows};

use super::home::{Found, FoundThread, Placed, place, read_rollout, would_place};
use super::merge::{self, Merge, read_here};
use super::report::Report;
use super::taking::{Filling, SESSION};

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
    /// Controls that a session gets here without anybody having chosen them.
    pub(super) unchosen: &'a [Controls],
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
        self.keep_away(filling)?;
        let mut to_place = Vec::new();
        for thread in self.found.threads.values() {
            let id = &thread.meta.id;
            if self.metadata.system_owned.contains(id) {
                report.sessions.not_taken += 1;
                let why = match filling.has(&keys::thread(id))? {
                    true => {
                        "an agent of version 1's queue worked in it; it is a session here since"
                    }
                    false => "an agent of version 1's queue worked in it",
                };
                report.not_taken.add(format!("session {id}"), why);
                continue;
            }
            if filling.has(&keys::tombstone(id))? {
                report.sessions.already += 1;
                report.not_taken.add(format!("session {id}"), "it was deleted here");
                continue;
            }
            let is_copied = match self.would_copy(thread) {
                Ok(is_copied) => is_copied,
                Err(error) => {
                    report.files.not_taken += 1;
                    report.sessions.not_taken += 1;
                    report.not_taken.add(format!("session {id}"), error.to_string());
                    continue;
                }
            };
            if filling.was_taken(SESSION, id.as_str())? {
                report.sessions.already += 1;
            } else {
                let mut children = children.get(id).cloned().unwrap_or_default();
                children.truncate(MOST_SUBAGENTS);
                let Some(batch) = self.batch(thread, &children, filling, report)? else {
                    report.sessions.not_taken += 1;
                    continue;
                };
                filling.add(batch)?;
                report.sessions.taken += 1;
            }
            match is_copied {
                true => to_place.push(thread),
                false => report.files.already += 1,
            }
            // A thread whose file is there before its session would be taken for another client's.
            if filling.is_durable() {
                self.copy(&mut to_place, report);
            }
        }
        filling.finish()?;
        self.copy(&mut to_place, report);
        self.lost(report);
        Ok(())
    }

    /// Marks the threads of agents as removed, so that the comparison with the runtime's list does
    /// not show them as sessions.
    fn keep_away(&self, filling: &mut Filling<'_>) -> Result<(), StoreError> {
        for id in &self.metadata.system_owned {
            let mark = keys::tombstone(id);
            if !filling.has(&keys::thread(id))? && !filling.has(&mark)? {
                let mut batch = WriteBatch::default();
                batch.put(mark, Vec::<u8>::new());
                filling.add(batch)?;
            }
        }
        Ok(())
    }

    /// Whether a thread's file is to be copied.
    fn would_copy(&self, thread: &FoundThread) -> io::Result<bool> {
        if self.from == self.to || self.here.contains(thread.meta.id.as_str()) {
            return Ok(false);
        }
        Ok(would_place(self.from, self.to, &thread.inside)? != Placed::There)
    }

    /// Copies files of threads whose sessions are in the store.
    fn copy(&self, threads: &mut Vec<&FoundThread>, report: &mut Report) {
        for thread in threads.drain(..) {
            let placed = match self.dry_run {
                true => would_place(self.from, self.to, &thread.inside),
                false => place(self.from, self.to, &thread.inside),
            };
            match placed {
                Ok(Placed::Copied(bytes)) => {
                    report.files.taken += 1;
                    report.bytes += bytes;
                }
                Ok(Placed::There) => report.files.already += 1,
                Err(error) => {
                    report.files.not_taken += 1;
                    let what = format!("codex-home/{}", thread.inside.display());
                    let why = format!("it is not copied yet, repeat the command: {error}");
                    report.damaged.add(what, why);
                }
            }
        }
    }

    /// Whether version 1 says anything of a session. In a home that both use, others are no
    /// sessions of it.
    fn is_known(&self, id: &ThreadId) -> bool {
        let metadata = self.metadata;
        self.from != self.to
            || metadata.titles.contains_key(id)
            || metadata.controls.contains_key(id)
            || metadata.assignments.contains_key(id)
            || metadata.timings.contains_key(id)
            || self.ledger.sessions.contains_key(id.as_str())
    }

    /// Everything of a session, to be written together. `None` where its file cannot be read.
    fn batch(
        &self,
        thread: &FoundThread,
        children: &[&ThreadId],
        filling: &Filling<'_>,
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
        let mut batch = WriteBatch::default();
        let here = filling.store().map(|store| read_here(store, id).map(|here| (store, here)));
        let written = match here.transpose()? {
            Some((store, Some(here))) => {
                let (unchosen, item_cap) = (self.unchosen, self.item_cap);
                let merge = Merge { unchosen, is_known: self.is_known(id), item_cap };
                merge.merge(store, &mut batch, here, (record, writes))?
            }
            _ => merge::add(&mut batch, &record, writes)?,
        };
        if written.left_out > 0 {
            let why =
                format!("it went on here since: {} older turns are left out", written.left_out);
            report.not_taken.add(format!("turns of session {id}"), why);
        }
        report.turns += written.turns;
        report.rows += written.rows;
        put_taken(&mut batch, SESSION, id.as_str());
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
