//! A session with everything that was said and done, as JSON.
//!
//! A history may be long, so it is written straight from what is stored, item by item, and what
//! the runtime said is copied as it came.

use std::collections::HashMap;

use bytes::Bytes;
use cm_core::ids::ThreadId;
use cm_core::rows::{Layout, Row, RowIndex, RowKey};
use cm_core::thread::{ItemState, Kept, NoteRecord, TurnRecord, TurnStatus};
use cm_core::transcript::{item_row, request_row, trimmed_row, turn_row};
use cm_core::wire::SessionSummary;
use serde::Serialize;
use serde_json::{Value, json};

use super::pages::merged;
use crate::store::{Store, StoreError, StoredItems, read_notes, read_request_row, read_turns};

/// What is known of the session without its history.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) session: SessionSummary,
    /// The runtime's thread object, as last seen.
    pub(super) thread: Value,
    /// What a turn that runs waits for, in the runtime's words; `None` where none runs.
    pub(super) active_flags: Option<Vec<&'static str>>,
    pub(super) kept: Kept,
    /// Sessions of its subagents.
    pub(super) subagents: Vec<ThreadId>,
}

/// Completed items of each turn, as a list without its brackets.
type Items = HashMap<String, Vec<u8>>;

/// Writes the session as a `SessionDetail`.
///
/// # Errors
///
/// [`StoreError`].
pub(super) fn encode(
    store: &dyn Store,
    id: &ThreadId,
    index: &RowIndex,
    head: &Head,
) -> Result<Bytes, StoreError> {
    let mut turns = read_turns(store, id)?;
    turns.retain(|turn| !turn.rolled_back);
    let notes = read_notes(store, id)?;
    let layout = Layout::new(index, head.kept.first_row(), &notes);
    let mut out = Vec::new();
    out.extend_from_slice(b"{\"session\":");
    write(&mut out, &head.session)?;
    out.extend_from_slice(b",\"thread\":");
    let mut rows = Vec::new();
    let items = write_rows(&mut rows, store, id, &layout, &notes, &turns)?;
    write_thread(&mut out, items, head, &turns)?;
    out.extend_from_slice(b",\"transcript\":[");
    out.append(&mut rows);
    out.extend_from_slice(b"],\"subagents\":");
    write(&mut out, &head.subagents)?;
    out.push(b'}');
    Ok(Bytes::from(out))
}

/// Writes the rows; answers the items of the turns.
fn write_rows(
    out: &mut Vec<u8>,
    store: &dyn Store,
    id: &ThreadId,
    layout: &Layout<'_>,
    notes: &[NoteRecord],
    turns: &[TurnRecord],
) -> Result<Items, StoreError> {
    let by_id: HashMap<&str, &TurnRecord> =
        turns.iter().map(|turn| (turn.id.as_str(), turn)).collect();
    let by_ordinal: HashMap<u32, &TurnRecord> =
        turns.iter().map(|turn| (turn.ordinal, turn)).collect();
    let mut items = Items::new();
    let mut stored = StoredItems::new(store, id)?;
    let mut is_first = true;
    let mut rows: Vec<(RowKey, Row)> = layout.backwards(None).collect();
    rows.reverse();
    for (_, row) in rows {
        let row = match row {
            Row::Trimmed(dropped) => Some(trimmed_row(dropped)),
            Row::Item(ordinal, more) => {
                let Some((record, body)) = stored.at(ordinal)? else { continue };
                let turn = by_id.get(record.turn_id.as_str()).copied();
                // One item at a time is a tree in memory.
                let item: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
                let row = merged(item_row(&record, &item, turn), &more, notes);
                if record.state == ItemState::Completed && turn.is_some() {
                    let items = items.entry(record.turn_id).or_default();
                    if !items.is_empty() {
                        items.push(b',');
                    }
                    items.extend_from_slice(body);
                }
                Some(row)
            }
            Row::Request(ordinal, more) => {
                let record = read_request_row(store, id, ordinal)?;
                record.map(|record| merged(request_row(&record), &more, notes))
            }
            Row::Note(position, more) => {
                let note = notes.get(position);
                note.map(|note| merged(note.entry.clone(), &more, notes))
            }
            Row::Reason(ordinal) => by_ordinal.get(&ordinal).and_then(|turn| turn_row(turn)),
        };
        let Some(row) = row else { continue };
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        write(out, &row)?;
    }
    Ok(items)
}

/// How the thread stands, as the runtime would say now: what it said when the thread was last seen
/// does not hold any more.
fn status(head: &Head, turns: &[TurnRecord]) -> Value {
    match &head.active_flags {
        Some(flags) => json!({ "type": "active", "activeFlags": flags }),
        None if head.session.archived => json!({ "type": "notLoaded" }),
        None if turns.last().is_some_and(|turn| turn.status == TurnStatus::Failed) => {
            json!({ "type": "systemError" })
        }
        None => json!({ "type": "idle" }),
    }
}

/// The runtime's thread object with the turns that the manager stored.
fn write_thread(
    out: &mut Vec<u8>,
    mut items: Items,
    head: &Head,
    turns: &[TurnRecord],
) -> Result<(), StoreError> {
    let Value::Object(members) = &head.thread else {
        return write(out, &head.thread);
    };
    let seen = members.get("updatedAt").and_then(Value::as_i64);
    let ours = [
        ("updatedAt", json!(seen.unwrap_or_default().max(head.session.updated_at))),
        ("status", status(head, turns)),
    ];
    out.push(b'{');
    let is_ours = |name: &str| name == "turns" || ours.iter().any(|(ours, _)| *ours == name);
    let theirs = members.iter().filter(|(name, _)| !is_ours(name));
    let theirs = theirs.map(|(name, value)| (name.as_str(), value));
    for (name, value) in theirs.chain(ours.iter().map(|(name, value)| (*name, value))) {
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
        out.append(&mut items.remove(&turn.id).unwrap_or_default());
        out.extend_from_slice(b"],");
        let rest = json!({
            // A turn of a thread of its own is the root of itself.
            "rootTurnId": turn.id,
            "itemsView": "full",
            "status": turn.status.as_str(),
            "error": turn.error,
            "startedAt": turn.started_ms.div_euclid(1000),
            "completedAt": turn.ended_ms.map(|ms| ms.div_euclid(1000)),
            "durationMs": turn.ended_ms.map(|ms| ms.saturating_sub(turn.started_ms).max(0)),
        });
        let mut members = Vec::new();
        write(&mut members, &rest)?;
        out.extend_from_slice(members.get(1..).unwrap_or_default());
    }
    out.extend_from_slice(b"]}");
    Ok(())
}

fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), StoreError> {
    serde_json::to_writer(out, value).map_err(|error| StoreError::Record {
        key: "a session's detail".to_owned(),
        why: error.to_string(),
    })
}
