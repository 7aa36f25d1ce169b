//! What clients see of a thread.

use cm_core::ids::ThreadId;
use cm_core::thread::{ItemState, ThreadRecord, TurnRecord};
use cm_core::transcript::{item_row, request_row, turn_row};
use cm_core::wire::{SessionDetail, SessionSummary, TranscriptEntry};
use serde_json::{Value, json};

use crate::store::Transcript;

/// What lists show of a session that does nothing.
pub(super) const IDLE: &str = "idle";

/// The session as lists show it.
pub(super) fn summary(record: &ThreadRecord, activity: &str) -> SessionSummary {
    let provider = record.thread.get("modelProvider").and_then(Value::as_str);
    SessionSummary {
        session_id: record.id.clone(),
        title: record.shown_title().to_owned(),
        materialized: record.materialized,
        model_provider: provider.map(str::to_owned),
        approval_policy: record.controls.approval_policy,
        session_controls: record.controls.clone(),
        created_at: record.created_at,
        updated_at: record.updated_at,
        cwd: record.cwd.clone(),
        source: record.source().to_owned(),
        project_id: record.project_id.clone(),
        activity: activity.to_owned(),
        preview: record.preview().map(str::to_owned),
        archived: record.archived,
        runtime_thread_id: None,
    }
}

/// The session with everything that was said and done.
pub(super) fn detail(
    record: &ThreadRecord,
    activity: &str,
    transcript: &Transcript,
) -> SessionDetail {
    SessionDetail {
        session: summary(record, activity),
        thread: thread(record, transcript),
        transcript: rows(transcript),
    }
}

/// The runtime's thread object with the turns that the manager stored.
fn thread(record: &ThreadRecord, transcript: &Transcript) -> Value {
    let turns: Vec<Value> = transcript
        .turns
        .iter()
        .map(|turn| {
            let items: Vec<&Value> = transcript
                .items
                .iter()
                .filter(|item| item.turn_id == turn.id && item.state == ItemState::Completed)
                .map(|item| &item.item)
                .collect();
            json!({
                "id": turn.id,
                "items": items,
                "status": turn.status.as_str(),
                "error": turn.error,
                "startedAt": turn.started_ms.div_euclid(1000),
                "completedAt": turn.ended_ms.map(|ms| ms.div_euclid(1000)),
            })
        })
        .collect();
    let mut thread = record.thread.clone();
    if let Value::Object(object) = &mut thread {
        object.insert("turns".to_owned(), Value::Array(turns));
    }
    thread
}

/// Rows in the order of their ordinals; the row that shows why a turn failed stands behind the
/// turn's last row.
fn rows(transcript: &Transcript) -> Vec<TranscriptEntry> {
    let turn_of = |id: &str| transcript.turns.iter().find(|turn| turn.id == id);
    let items =
        transcript.items.iter().map(|item| (item.ordinal, item_row(item, turn_of(&item.turn_id))));
    let requests =
        transcript.requests.iter().map(|request| (request.ordinal, request_row(request)));
    let mut rows: Vec<(u64, TranscriptEntry)> = items.chain(requests).collect();
    rows.sort_by_key(|(ordinal, _)| *ordinal);
    let mut rows: Vec<TranscriptEntry> = rows.into_iter().map(|(_, row)| row).collect();
    for row in transcript.turns.iter().filter_map(turn_row) {
        let behind = rows.iter().rposition(|other| other.turn_id == row.turn_id);
        match behind {
            Some(position) => rows.insert(position + 1, row),
            None => rows.push(row),
        }
    }
    rows
}

/// Params of the `turn/completed` that the manager writes when the child cannot: its process is
/// gone. `origin` tells it from the runtime's own.
pub(super) fn interrupted_params(thread_id: &ThreadId, turn: &TurnRecord) -> Value {
    json!({
        "threadId": thread_id,
        "turn": {
            "id": turn.id,
            "items": [],
            "status": turn.status.as_str(),
            "error": turn.error,
            "startedAt": turn.started_ms.div_euclid(1000),
            "completedAt": turn.ended_ms.map(|ms| ms.div_euclid(1000)),
        },
        "origin": "codex-manager",
    })
}
