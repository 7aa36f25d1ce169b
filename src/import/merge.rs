//! Sessions that are here before version 1's data is: the comparison with the runtime's list took
//! their threads for those of another client. They get what version 1 knows of them.

use std::collections::HashSet;

use cm_actors::store::{
    Scan, SledStore, Store, StoreError, WriteBatch, drop_items, keys, put_item, put_note,
    put_thread, put_turn, read_latest_turns, read_notes, read_thread_record,
};
use cm_core::controls::Controls;
use cm_core::ids::ThreadId;
use cm_core::thread::{NoteRecord, ThreadRecord, ThreadState, TurnRecord, TurnStatus, Writes};

/// The row of a transcript that says that somebody changed a session's controls.
const CONTROLS_CHANGED: &str = "session.controls.updated";

/// A session that is here.
pub(super) struct Here {
    record: ThreadRecord,
    turns: Vec<TurnRecord>,
    notes: Vec<NoteRecord>,
    /// Whether nothing was done in it here: what it has came from the runtime.
    is_untouched: bool,
}

/// What is kept of a session that is here, and what it gets.
pub(super) struct Merge<'a> {
    /// Controls that a session gets here without anybody having chosen them.
    pub(super) unchosen: &'a [Controls],
    /// Whether version 1 knows the session: its controls hold then.
    pub(super) is_known: bool,
    /// Bytes of items that are kept of a session.
    pub(super) item_cap: u64,
}

/// What was written of a session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) turns: u64,
    pub(super) rows: u64,
    /// Turns that only version 1 knows, and that would stand behind those that came since.
    pub(super) left_out: usize,
}

/// Reads a session; `None` when it is not here.
///
/// # Errors
///
/// [`StoreError`].
pub(super) fn read_here(store: &SledStore, id: &ThreadId) -> Result<Option<Here>, StoreError> {
    let Some(record) = read_thread_record(store, id)? else { return Ok(None) };
    let turns = read_latest_turns(store, id, usize::MAX)?;
    let notes = read_notes(store, id)?;
    let requests = store.keys(&Scan::prefix(keys::thread_requests(id)).limit(1))?;
    let is_untouched = notes.is_empty()
        && requests.is_empty()
        && record.runtime_id.is_none()
        && store.get(&keys::open(id))?.is_none()
        && turns.iter().all(|turn| turn.status != TurnStatus::InProgress);
    Ok(Some(Here { record, turns, notes, is_untouched }))
}

/// Adds a session that is not here.
///
/// # Errors
///
/// [`StoreError`].
pub(super) fn add(
    batch: &mut WriteBatch,
    record: &ThreadRecord,
    writes: Writes,
) -> Result<Written, StoreError> {
    let id = &record.id;
    let rows = (writes.items.len() + writes.notes.len()) as u64;
    let written = Written { turns: writes.turns.len() as u64, rows, left_out: 0 };
    for turn in &writes.turns {
        put_turn(batch, id, turn)?;
    }
    for item in writes.items {
        put_item(batch, id, item)?;
    }
    for note in &writes.notes {
        put_note(batch, id, note)?;
    }
    put_thread(batch, record)?;
    Ok(written)
}

impl Merge<'_> {
    /// Adds what version 1 knows to a session that is here.
    ///
    /// Where nothing was done here, its rows are made anew, so that they stand in the order in which
    /// they came, and the runtime's history is compared again. Otherwise the rows that are not the
    /// runtime's are added to those that are here.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub(super) fn merge(
        &self,
        store: &SledStore,
        batch: &mut WriteBatch,
        here: Here,
        (mut record, writes): (ThreadRecord, Writes),
    ) -> Result<Written, StoreError> {
        let told: HashSet<&str> = writes.turns.iter().map(|turn| turn.id.as_str()).collect();
        let is_told = here.turns.iter().all(|turn| told.contains(turn.id.as_str()));
        self.keep(&here, &mut record);
        if !here.is_untouched || !is_told {
            return self.append(batch, here, record, writes);
        }
        record.updated_at = record.updated_at.max(here.record.updated_at);
        // What the runtime knows beyond version 1 is found when its history is compared again.
        if let Some(thread) = record.thread.as_object_mut() {
            thread.remove("updatedAt");
        }
        let id = record.id.clone();
        let mut rows = WriteBatch::default();
        let written = add(&mut rows, &record, writes)?;
        let put: HashSet<&[u8]> = rows.entries.iter().map(|(key, _)| key.as_slice()).collect();
        for prefix in [keys::turns(&id), keys::items(&id), keys::bodies(&id)] {
            for key in store.keys(&Scan::prefix(prefix))? {
                if !put.contains(key.as_slice()) {
                    batch.remove(key);
                }
            }
        }
        batch.extend(rows);
        Ok(written)
    }

    /// What somebody chose here stays.
    fn keep(&self, here: &Here, record: &mut ThreadRecord) {
        let old = &here.record;
        if record.title.as_ref().is_none_or(|title| !title.chosen)
            || old.title.as_ref().is_some_and(|title| title.chosen)
        {
            record.title = old.title.clone().or_else(|| record.title.take());
        }
        record.project_id = old.project_id.clone().or_else(|| record.project_id.take());
        let is_changed = here.notes.iter().any(|note| note.entry.kind == CONTROLS_CHANGED);
        if is_changed || !self.is_known || !self.unchosen.contains(&old.controls) {
            record.controls = old.controls.clone();
        }
        record.archived = old.archived;
        record.parent = record.parent.take().or_else(|| old.parent.clone());
        let more = old.subagents.iter().filter(|id| !record.subagents.contains(id));
        let more: Vec<ThreadId> = more.cloned().collect();
        record.subagents.extend(more);
        record.subagents.truncate(cm_core::thread::MOST_SUBAGENTS);
    }

    fn append(
        &self,
        batch: &mut WriteBatch,
        here: Here,
        kept: ThreadRecord,
        writes: Writes,
    ) -> Result<Written, StoreError> {
        let mut record = here.record;
        record.title = kept.title;
        record.project_id = kept.project_id;
        record.controls = kept.controls;
        record.subagents = kept.subagents;
        let known: HashSet<&str> = here.turns.iter().map(|turn| turn.id.as_str()).collect();
        let left_out = writes.turns.iter().filter(|turn| !known.contains(turn.id.as_str())).count();
        let noted: HashSet<&str> =
            here.notes.iter().map(|note| note.entry.message_id.as_str()).collect();
        let mut state = ThreadState::new(record, Vec::new(), Vec::new(), self.item_cap);
        let mut added = Writes::default();
        for note in writes.notes {
            if !noted.contains(note.entry.message_id.as_str()) {
                added.extend(state.note(None, note.entry).1);
            }
        }
        let id = state.record.id.clone();
        let first_row = state.record.kept.first_row();
        for note in added.notes.iter().filter(|note| note.ordinal >= first_row) {
            put_note(batch, &id, note)?;
        }
        for rows in added.dropped {
            drop_items(batch, &id, rows);
        }
        put_thread(batch, &state.record)?;
        Ok(Written { turns: 0, rows: added.notes.len() as u64, left_out })
    }
}
