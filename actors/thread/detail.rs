//! A session with everything that was said and done, as JSON.
//!
//! A history may be long, so it is written straight from what is stored, item by item, and what
//! the runtime said is copied as it came.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use cm_core::ids::ThreadId;
use cm_core::thread::{ItemState, Kept, NoteRecord, TurnRecord};
use cm_core::transcript::{item_row, request_row, trimmed_row, turn_row};
use cm_core::wire::{SessionSummary, TranscriptEntry};
use serde::Serialize;
use serde_json::{Value, json};

use crate::store::{Store, StoreError, read_notes, read_thread_requests, read_turns, visit_items};

/// What is known of the session without its history.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) session: SessionSummary,
    /// The runtime's thread object.
    pub(super) thread: Value,
    pub(super) kept: Kept,
    /// Sessions of its subagents.
    pub(super) subagents: Vec<ThreadId>,
}

/// Rows as they come, each turn's last place, and each turn's items.
#[derive(Default)]
struct Rows {
    /// Encoded rows, in order.
    rows: Vec<Row>,
    /// Completed items of each turn, as a list without its brackets.
    items: HashMap<String, Vec<u8>>,
}

struct Row {
    ordinal: u64,
    message_id: String,
    turn_id: String,
    json: Vec<u8>,
}

/// Writes the session as a `SessionDetail`.
///
/// # Errors
///
/// [`StoreError`].
pub(super) fn encode(store: &dyn Store, id: &ThreadId, head: &Head) -> Result<Bytes, StoreError> {
    let (turns, gone): (Vec<TurnRecord>, Vec<TurnRecord>) =
        read_turns(store, id)?.into_iter().partition(|turn| !turn.rolled_back);
    let gone: HashSet<&str> = gone.iter().map(|turn| turn.id.as_str()).collect();
    let by_id: HashMap<&str, &TurnRecord> =
        turns.iter().map(|turn| (turn.id.as_str(), turn)).collect();
    let first_row = head.kept.first_row();
    let mut rows = Rows::default();
    if first_row > 0 {
        rows.add(0, &trimmed_row(first_row))?;
    }
    visit_items(store, id, &mut |record, body| {
        if gone.contains(record.turn_id.as_str()) {
            return Ok(());
        }
        let turn = by_id.get(record.turn_id.as_str()).copied();
        // One item at a time is a tree in memory.
        let item: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        rows.add(record.ordinal, &item_row(&record, &item, turn))?;
        if record.state == ItemState::Completed && turn.is_some() {
            let items = rows.items.entry(record.turn_id).or_default();
            if !items.is_empty() {
                items.push(b',');
            }
            items.extend_from_slice(body);
        }
        Ok(())
    })?;
    for request in read_thread_requests(store, id)? {
        let is_gone = request.turn_id.as_deref().is_some_and(|turn| gone.contains(turn));
        if request.ordinal >= first_row && !is_gone {
            rows.add(request.ordinal, &request_row(&request))?;
        }
    }
    rows.rows.sort_by_key(|row| row.ordinal);
    let mut notes = read_notes(store, id)?;
    notes.retain(|note| note.ordinal >= first_row && !gone.contains(note.entry.turn_id.as_str()));
    rows.add_notes(notes)?;
    rows.explain(&turns)?;
    let mut out = Vec::new();
    out.extend_from_slice(b"{\"session\":");
    write(&mut out, &head.session)?;
    out.extend_from_slice(b",\"thread\":");
    rows.write_thread(&mut out, &head.thread, &turns)?;
    out.extend_from_slice(b",\"transcript\":[");
    for (index, row) in rows.rows.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&row.json);
    }
    out.extend_from_slice(b"],\"subagents\":");
    write(&mut out, &head.subagents)?;
    out.push(b'}');
    Ok(Bytes::from(out))
}

impl Rows {
    fn add(&mut self, ordinal: u64, row: &TranscriptEntry) -> Result<(), StoreError> {
        let mut json = Vec::new();
        write(&mut json, row)?;
        let (message_id, turn_id) = (row.message_id.clone(), row.turn_id.clone());
        self.rows.push(Row { ordinal, message_id, turn_id, json });
        Ok(())
    }

    /// Adds rows that are not the runtime's. One with the id of another row is shown together with
    /// it; one that names an anchor stands behind that; one that came after the end of its turn
    /// stands at the end of the turn, and any other where it came.
    fn add_notes(&mut self, notes: Vec<NoteRecord>) -> Result<(), StoreError> {
        if notes.is_empty() {
            return Ok(());
        }
        let mut by_id: HashMap<String, usize> = HashMap::new();
        let mut ends: HashMap<String, u64> = HashMap::new();
        for (index, row) in self.rows.iter().enumerate() {
            by_id.insert(row.message_id.clone(), index);
            ends.insert(row.turn_id.clone(), row.ordinal);
        }
        for NoteRecord { ordinal, entry, .. } in notes {
            if let Some(row) = by_id.get(&entry.message_id).and_then(|at| self.rows.get_mut(*at)) {
                if let Ok(known) = serde_json::from_slice::<TranscriptEntry>(&row.json) {
                    row.json.clear();
                    write(&mut row.json, &known.merged(&entry))?;
                }
                continue;
            }
            let anchor = entry.anchor().and_then(|anchor| by_id.get(&anchor).copied());
            let anchor = anchor.and_then(|at| self.rows.get(at)).map(|row| row.ordinal);
            let end = ends.get(&entry.turn_id).copied().filter(|end| *end < ordinal);
            by_id.insert(entry.message_id.clone(), self.rows.len());
            self.add(anchor.or(end).unwrap_or(ordinal), &entry)?;
        }
        // Stable: rows of one place stay in the order in which they came.
        self.rows.sort_by_key(|row| row.ordinal);
        Ok(())
    }

    /// The row that shows why a turn failed stands behind the turn's last row.
    fn explain(&mut self, turns: &[TurnRecord]) -> Result<(), StoreError> {
        let reasons: Vec<TranscriptEntry> = turns.iter().filter_map(turn_row).collect();
        if reasons.is_empty() {
            return Ok(());
        }
        let mut last: HashMap<&str, u64> = HashMap::new();
        for row in &self.rows {
            last.insert(&row.turn_id, row.ordinal);
        }
        let places: Vec<u64> = reasons
            .iter()
            .map(|reason| last.get(reason.turn_id.as_str()).copied().unwrap_or(u64::MAX))
            .collect();
        for (reason, place) in reasons.iter().zip(places) {
            self.add(place, reason)?;
        }
        // Stable: a reason comes behind the row whose place it has.
        self.rows.sort_by_key(|row| row.ordinal);
        Ok(())
    }

    /// The runtime's thread object with the turns that the manager stored.
    fn write_thread(
        &mut self,
        out: &mut Vec<u8>,
        thread: &Value,
        turns: &[TurnRecord],
    ) -> Result<(), StoreError> {
        let Value::Object(members) = thread else {
            return write(out, thread);
        };
        out.push(b'{');
        for (name, value) in members.iter().filter(|(name, _)| *name != "turns") {
            write(out, name)?;
            out.push(b':');
            write(out, value)?;
            out.push(b',');
        }
        out.extend_from_slice(b"\"turns\":[");
        for (index, turn) in turns.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"id\":");
            write(out, &turn.id)?;
            out.extend_from_slice(b",\"items\":[");
            out.append(&mut self.items.remove(&turn.id).unwrap_or_default());
            out.extend_from_slice(b"],");
            let rest = json!({
                "status": turn.status.as_str(),
                "error": turn.error,
                "startedAt": turn.started_ms.div_euclid(1000),
                "completedAt": turn.ended_ms.map(|ms| ms.div_euclid(1000)),
            });
            let mut members = Vec::new();
            write(&mut members, &rest)?;
            out.extend_from_slice(members.get(1..).unwrap_or_default());
        }
        out.extend_from_slice(b"]}");
        Ok(())
    }
}

fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), StoreError> {
    serde_json::to_writer(out, value).map_err(|error| StoreError::Record {
        key: "a session's detail".to_owned(),
        why: error.to_string(),
    })
}
