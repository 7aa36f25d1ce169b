//! What clients see of a thread.

use cm_core::error::ErrorCode;
use cm_core::ids::ThreadId;
use cm_core::thread::{ItemState, ThreadRecord, TurnRecord};
use cm_core::transcript::{item_row, request_row, turn_row};
use cm_core::wire::{SessionDetail, SessionList, SessionSummary, TranscriptEntry};
use serde_json::{Value, json};

use super::error::SessionError;
use super::handle::ListQuery;
use crate::store::Transcript;

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

/// What lists are sorted by, newest first.
pub(super) fn list_key(record: &ThreadRecord) -> (i64, i64, &ThreadId) {
    (record.updated_at, record.created_at, &record.id)
}

/// One page of a list that is sorted by [`list_key`], newest first. A cursor is the key of the
/// page's last session, so that one that changes in between is not shown twice.
pub(super) fn page(
    records: &[ThreadRecord],
    query: &ListQuery,
    activity: impl Fn(&ThreadId) -> &'static str,
) -> Result<SessionList, SessionError> {
    let start = match query.cursor.as_deref() {
        None => 0,
        Some(cursor) => {
            let (updated, created, id) = parse_cursor(cursor).ok_or_else(|| {
                let message = "The cursor is not one of this list's.";
                SessionError::failed(ErrorCode::InvalidRequest, message)
            })?;
            records.partition_point(|record| list_key(record) >= (updated, created, &id))
        }
    };
    let rest = records.get(start..).unwrap_or_default();
    let shown = rest.get(..query.limit.min(rest.len())).unwrap_or_default();
    let last = shown.last().filter(|_| rest.len() > shown.len());
    Ok(SessionList {
        data: shown.iter().map(|record| summary(record, activity(&record.id))).collect(),
        next_cursor: last.map(|record| {
            let (updated, created, id) = list_key(record);
            format!("{updated}|{created}|{id}")
        }),
        archived: query.archived,
    })
}

fn parse_cursor(cursor: &str) -> Option<(i64, i64, ThreadId)> {
    let (updated, rest) = cursor.split_once('|')?;
    let (created, id) = rest.split_once('|')?;
    Some((updated.parse().ok()?, created.parse().ok()?, ThreadId::parse(id).ok()?))
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
