//! A session of version 1, put together from what is known of it.
//!
//! Its rows are those that version 1 wrote as they happened; what was said in turns without such
//! rows comes from the thread's own file. Rows that are items of the runtime become items, so that
//! the runtime's history finds them again; all others stay rows that are not the runtime's.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use serde_json::{Value, json};

use super::ledger::LedgerRow;
use super::metadata::TurnTiming;
use super::rollout::{Rollout, RolloutMessage, RolloutMeta, RolloutTurn};
use crate::controls::Controls;
use crate::ids::ProjectId;
use crate::thread::{
    ItemRecord, ItemState, Kept, RawItem, THREAD_RECORD_VERSION, ThreadRecord, ThreadState, Title,
    TurnRecord, TurnStatus, Writes,
};
use crate::wire::{RowStatus, TranscriptEntry};

/// Turns that version 1 wrote rows under that are none.
const NO_TURNS: [&str; 5] = ["session-controls", "approval", "tool-input", "tool-call", "turn"];

/// What is known of a session.
#[derive(Debug, Clone)]
pub struct SessionParts {
    /// Who it is.
    pub meta: RolloutMeta,
    /// What was said in it.
    pub rollout: Rollout,
    /// Where the thread's file is now.
    pub path: String,
    /// Whether it is archived.
    pub archived: bool,
    /// Its title, if somebody chose one.
    pub title: Option<String>,
    /// The runtime's name for it.
    pub name: Option<String>,
    /// Its controls.
    pub controls: Controls,
    /// Its project.
    pub project: Option<ProjectId>,
    /// Times of its turns.
    pub timings: BTreeMap<String, TurnTiming>,
    /// Its rows, in order.
    pub rows: Vec<LedgerRow>,
    /// Now, epoch milliseconds.
    pub now_ms: i64,
    /// Bytes of items that are kept of a session at the most.
    pub item_cap: u64,
}

/// What belongs together: a turn, or a row of no turn.
struct Group {
    /// Where it stands among the others.
    place: u64,
    /// `None` for a row of no turn.
    turn: Option<TurnRecord>,
    rows: Vec<TranscriptEntry>,
}

/// Puts a session together: its record, and what is to be stored beside it.
pub fn imported_session(mut parts: SessionParts) -> (ThreadRecord, Writes) {
    let record = record(&mut parts);
    let groups = groups(&mut parts);
    let mut state = ThreadState::new(record, Vec::new(), Vec::new(), parts.item_cap);
    let mut writes = Writes { thread: true, ..Writes::default() };
    for Group { turn, rows, .. } in groups {
        let ended_ms = turn.as_ref().and_then(|turn| turn.ended_ms);
        if let Some(mut turn) = turn {
            turn.ordinal = state.record.next_turn;
            state.record.next_turn += 1;
            writes.turns.push(turn);
        }
        for row in rows {
            writes.extend(match item_json(&row) {
                Some(json) => add_item(&mut state, &row, json, ended_ms),
                None => state.note(None, row).1,
            });
        }
    }
    let first_row = state.record.kept.first_row();
    writes.items.retain(|item| item.record.ordinal >= first_row);
    writes.notes.retain(|note| note.ordinal >= first_row);
    writes.dropped.clear();
    (state.record, writes)
}

fn record(parts: &mut SessionParts) -> ThreadRecord {
    let meta = &parts.meta;
    let seconds = |ms: i64| ms.div_euclid(1000);
    let created_ms = meta.created_ms.unwrap_or(parts.now_ms);
    let updated_ms = parts.rollout.last_ms.unwrap_or(created_ms).max(created_ms);
    let thread = json!({
        "id": meta.id,
        "preview": "",
        "modelProvider": meta.model_provider,
        "createdAt": seconds(created_ms),
        "updatedAt": seconds(updated_ms),
        "path": parts.path,
        "cwd": meta.cwd,
        "cliVersion": meta.cli_version,
        "source": meta.source,
        "gitInfo": null,
        "name": parts.name,
    });
    let title = parts.title.take().map(|text| Title { text, chosen: true });
    let named = parts.name.take().map(|text| Title { text, chosen: false });
    let mut record = ThreadRecord {
        version: THREAD_RECORD_VERSION,
        id: meta.id.clone(),
        runtime_id: None,
        replaced: Vec::new(),
        title: title.or(named),
        cwd: meta.cwd.clone(),
        controls: parts.controls.clone(),
        dynamic_tools: None,
        materialized: true,
        archived: parts.archived,
        created_at: seconds(created_ms),
        updated_at: seconds(updated_ms),
        project_id: parts.project.clone(),
        compared_at: None,
        thread,
        next_turn: 0,
        next_row: 0,
        kept: Kept::default(),
        problem: None,
        parent: meta.parent.clone(),
        subagents: Vec::new(),
    };
    if let Some(preview) = &parts.rollout.preview {
        record.keep_preview(preview);
    }
    // Version 1 did not keep everything that the runtime's history has.
    record.forget_updated_at();
    record
}

/// Everything in the order in which it came, as far as that can be told.
fn groups(parts: &mut SessionParts) -> Vec<Group> {
    let mut of_turn: HashMap<String, Vec<LedgerRow>> = HashMap::new();
    let mut groups = Vec::new();
    for row in std::mem::take(&mut parts.rows) {
        match NO_TURNS.contains(&row.entry.turn_id.as_str()) {
            true => {
                groups.push(Group { place: row.sequence, turn: None, rows: vec![row.entry] });
            }
            false => of_turn.entry(row.entry.turn_id.clone()).or_default().push(row),
        }
    }
    // Turns of the file come in its order; one without rows stands behind the one before it.
    let mut place = 0;
    let mut seen = HashSet::new();
    for turn in std::mem::take(&mut parts.rollout.turns) {
        let rows = of_turn.remove(&turn.id).unwrap_or_default();
        place = rows.first().map_or(place, |row| row.sequence.max(place));
        let said = turn.messages.clone();
        let record = turn_record(&turn.id, Some(&turn), &rows, parts);
        let rows = with_words(&turn.id, rows, said, record.started_ms);
        seen.insert(turn.id);
        groups.push(Group { place, turn: Some(record), rows });
    }
    for (id, rows) in of_turn {
        let place = rows.first().map_or(0, |row| row.sequence);
        let record = turn_record(&id, None, &rows, parts);
        let rows = rows.into_iter().map(|row| row.entry).collect();
        groups.push(Group { place, turn: Some(record), rows });
    }
    groups.sort_by_key(|group| group.place);
    groups
}

fn turn_record(
    id: &str,
    told: Option<&RolloutTurn>,
    rows: &[LedgerRow],
    parts: &SessionParts,
) -> TurnRecord {
    let timing = parts.timings.get(id);
    let first = rows.iter().filter_map(|row| row.entry.started_at).min();
    let last = rows.iter().filter_map(|row| row.entry.completed_at).max();
    let started_ms = timing.map(|timing| timing.started_ms);
    let started_ms = started_ms.or_else(|| told?.started_ms).or(first);
    let started_ms = started_ms.unwrap_or(parts.now_ms);
    let ended_ms = timing.and_then(|timing| timing.ended_ms);
    let is_ended = ended_ms.is_some();
    let ended_ms = ended_ms.or_else(|| told?.ended_ms).or(last);
    let status = match told.map(|turn| turn.status) {
        Some(TurnStatus::InProgress) | None => match is_ended {
            true => TurnStatus::Completed,
            false => TurnStatus::Interrupted,
        },
        Some(status) => status,
    };
    let error = told.and_then(|turn| turn.error.as_ref()).filter(|_| status == TurnStatus::Failed);
    TurnRecord {
        ordinal: 0,
        id: id.to_owned(),
        status,
        error: error.map(|message| json!({ "message": message })),
        started_ms,
        ended_ms: Some(ended_ms.unwrap_or(started_ms).max(started_ms)),
        // What the runtime says of it counts more.
        ended_by_manager: true,
        rolled_back: told.is_some_and(|turn| turn.rolled_back),
        begun_as: None,
    }
}

/// Adds what was said and has no row.
fn with_words(
    turn: &str,
    rows: Vec<LedgerRow>,
    said: Vec<RolloutMessage>,
    started_ms: i64,
) -> Vec<TranscriptEntry> {
    let mut rows: Vec<TranscriptEntry> = rows.into_iter().map(|row| row.entry).collect();
    let has = |kind: &str| rows.iter().any(|row| row.kind == kind);
    let (has_user, has_agent) = (has("userMessage"), has("agentMessage"));
    let mut opening = Vec::new();
    let mut rest = Vec::new();
    for (index, message) in said.into_iter().enumerate() {
        if message.by_user && has_user || !message.by_user && has_agent {
            continue;
        }
        let is_opening = message.by_user && rest.is_empty();
        let entry = TranscriptEntry {
            message_id: message.id.unwrap_or_else(|| format!("{turn}-{index}")),
            turn_id: turn.to_owned(),
            role: if message.by_user {
                crate::wire::Role::User
            } else {
                crate::wire::Role::Assistant
            },
            kind: if message.by_user { "userMessage" } else { "agentMessage" }.to_owned(),
            content: message.text,
            details: None,
            started_at: message.at_ms.or(Some(started_ms)),
            completed_at: message.at_ms.or(Some(started_ms)),
            status: RowStatus::Complete,
        };
        if is_opening { opening.push(entry) } else { rest.push(entry) }
    }
    opening.append(&mut rows);
    opening.append(&mut rest);
    opening
}

/// The item of a row, if it is one of the runtime's.
fn item_json(row: &TranscriptEntry) -> Option<String> {
    let item = match row.kind.as_str() {
        "userMessage" => {
            let content = json!([{ "type": "text", "text": row.content, "text_elements": [] }]);
            json!({ "type": row.kind, "id": row.message_id, "content": content })
        }
        "agentMessage" => json!({ "type": row.kind, "id": row.message_id, "text": row.content }),
        kind => {
            let details: Value = serde_json::from_str(row.details.as_deref()?).ok()?;
            let is =
                |name: &str, what: &str| details.get(name).and_then(Value::as_str) == Some(what);
            if !is("id", &row.message_id) || !is("type", kind) {
                return None;
            }
            details
        }
    };
    Some(item.to_string())
}

fn add_item(
    state: &mut ThreadState,
    row: &TranscriptEntry,
    json: String,
    turn_ended_ms: Option<i64>,
) -> Writes {
    let is_over = row.status == RowStatus::Complete || row.status == RowStatus::Error;
    let record = ItemRecord {
        ordinal: state.next_row(),
        turn_id: row.turn_id.clone(),
        id: row.message_id.clone(),
        kind: row.kind.clone(),
        state: if is_over { ItemState::Completed } else { ItemState::Discarded },
        started_ms: row.started_at,
        ended_ms: row.completed_at.or(turn_ended_ms),
        bytes: json.len() as u64,
        digest: RawItem::of_json(&json).and_then(|item| item.digest),
    };
    state.add_row(record, Bytes::from(json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ThreadId;
    use crate::wire::Role;

    fn rollout(lines: &[Value]) -> Rollout {
        let mut rollout = Rollout::default();
        for line in lines {
            rollout.line(
                &json!({ "timestamp": "2026-11-26T17:24:51.377Z", "type": "event_msg",
                "payload": line })
                .to_string(),
            );
        }
        rollout
    }

    fn parts(rollout: Rollout, rows: Vec<LedgerRow>) -> SessionParts {
        SessionParts {
            meta: RolloutMeta {
                id: ThreadId::parse("s").unwrap(),
                created_ms: Some(5_000),
                cwd: "/w".to_owned(),
                cli_version: None,
                source: json!("vscode"),
                model_provider: Some("m".to_owned()),
                parent: None,
            },
            rollout,
            path: "/home/x".to_owned(),
            archived: false,
            title: None,
            name: Some("Named".to_owned()),
            controls: Controls::default(),
            project: None,
            timings: BTreeMap::new(),
            rows,
            now_ms: 9_000,
            item_cap: 1 << 20,
        }
    }

    fn row(sequence: u64, turn: &str, id: &str, kind: &str, details: Option<Value>) -> LedgerRow {
        let entry = TranscriptEntry {
            message_id: id.to_owned(),
            turn_id: turn.to_owned(),
            role: Role::System,
            kind: kind.to_owned(),
            content: format!("content of {id}"),
            details: details.map(|details| format!("{details:#}")),
            started_at: Some(6_000),
            completed_at: Some(7_000),
            status: RowStatus::Complete,
        };
        LedgerRow { sequence, entry }
    }

    fn ids(writes: &Writes) -> Vec<(u64, String)> {
        let items = writes.items.iter().map(|item| (item.record.ordinal, item.record.id.clone()));
        let notes = writes.notes.iter().map(|note| (note.ordinal, note.entry.message_id.clone()));
        let mut ids: Vec<_> = items.chain(notes).collect();
        ids.sort();
        ids
    }

    #[test]
    fn rows_stand_in_the_order_in_which_they_came_and_words_without_rows_are_added() {
        let said = rollout(&[
            json!({ "type": "task_started", "turn_id": "t1" }),
            json!({ "type": "user_message", "message": "early" }),
            json!({ "type": "agent_message", "message": "yes" }),
            json!({ "type": "task_complete", "turn_id": "t1" }),
            json!({ "type": "task_started", "turn_id": "t2" }),
            json!({ "type": "user_message", "message": "later" }),
            json!({ "type": "task_complete", "turn_id": "t2" }),
        ]);
        let command = json!({ "type": "commandExecution", "id": "c", "status": "completed",
            "command": "ls" });
        let rows = vec![
            row(3, "session-controls", "controls-1", "session.controls.updated", None),
            row(4, "t2", "c", "commandExecution", Some(command)),
            row(5, "t2", "a", "agentMessage", None),
            row(6, "t2", "approval-1", "approval.resolved", Some(json!({ "id": 0 }))),
            row(7, "t9", "x", "fileChange", Some(json!({ "id": "other", "type": "fileChange" }))),
        ];
        let (record, writes) = imported_session(parts(said, rows));
        let order: Vec<String> = ids(&writes).into_iter().map(|(_, id)| id).collect();
        assert_eq!(order, ["t1-0", "t1-1", "controls-1", "t2-0", "c", "a", "approval-1", "x"]);
        let turns: Vec<_> =
            writes.turns.iter().map(|t| (t.ordinal, t.id.as_str(), t.status)).collect();
        assert_eq!(
            turns,
            [
                (0, "t1", TurnStatus::Completed),
                (1, "t2", TurnStatus::Completed),
                (2, "t9", TurnStatus::Interrupted),
            ]
        );
        assert!(writes.turns.iter().all(|turn| turn.ended_by_manager));
        let notes: Vec<&str> =
            writes.notes.iter().map(|note| note.entry.message_id.as_str()).collect();
        assert_eq!(notes, ["controls-1", "approval-1", "x"], "what is no item is a row");
        assert_eq!((record.next_turn, record.next_row), (3, 8));
        assert_eq!(record.preview(), Some("early"));
        assert_eq!((record.created_at, record.shown_title()), (5, "Named"));
        assert_eq!(record.seen_updated_at(), None, "its history is compared once");
    }

    #[test]
    fn the_history_of_the_runtime_finds_the_items_again() {
        let said = rollout(&[
            json!({ "type": "task_started", "turn_id": "t1" }),
            json!({ "type": "user_message", "message": "hi \"you\"" }),
            json!({ "type": "agent_message", "message": "hello\nthere" }),
            json!({ "type": "task_complete", "turn_id": "t1" }),
        ]);
        let (record, writes) = imported_session(parts(said, Vec::new()));
        let result = json!({ "thread": { "turns": [{ "id": "t1", "status": "completed", "items": [
            { "type": "userMessage", "id": "item-1",
              "content": [{ "type": "text", "text": "hi \"you\"", "text_elements": [] }] },
            { "type": "agentMessage", "id": "item-2", "text": "hello\nthere" },
        ] }] } })
        .to_string();
        let history = crate::thread::read_thread_turns(&result).unwrap().turns;
        let items: Vec<ItemRecord> = writes.items.iter().map(|item| item.record.clone()).collect();
        let stored = crate::thread::StoredHistory {
            turns: writes.turns.clone(),
            items,
            ..Default::default()
        };
        let mut state = ThreadState::new(record, writes.turns, Vec::new(), 1 << 20);
        let reconciled = state.reconcile(&stored, &history, 10_000);
        assert_eq!((reconciled.items, reconciled.added.len()), (0, 0), "{reconciled:?}");
    }

    #[test]
    fn what_was_taken_back_stays_hidden_and_what_is_too_much_is_left_out() {
        let said = rollout(&[
            json!({ "type": "task_started", "turn_id": "t1" }),
            json!({ "type": "user_message", "message": "x".repeat(4_000) }),
            json!({ "type": "task_started", "turn_id": "t2" }),
            json!({ "type": "user_message", "message": "y".repeat(4_000) }),
            json!({ "type": "thread_rolled_back", "num_turns": 1 }),
        ]);
        let mut parts = parts(said, Vec::new());
        parts.item_cap = 5_000;
        let (record, writes) = imported_session(parts);
        assert!(writes.turns[1].rolled_back && !writes.turns[0].rolled_back);
        assert_eq!(record.kept.first_row(), 1);
        assert_eq!(writes.items.len(), 1, "the oldest is left out");
    }
}
