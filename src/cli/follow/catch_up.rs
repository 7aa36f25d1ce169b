//! What REST says about a turn, for when the stream was silent or broke.

use cm_core::ids::ThreadId;
use cm_core::wire::{
    Approval, ListOf, Role, RowStatus, SessionDetail, ToolCall, ToolInput, TranscriptEntry,
};
use serde_json::{Value, json};

use super::desk::Desk;
use crate::console::Console;
use crate::failure::Failure;
use crate::http::Api;
use crate::render::{LiveView, TurnEnd};

/// How far a turn is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TurnState {
    /// It runs.
    Running,
    /// It is over.
    Ended(TurnEnd),
    /// The session does nothing, yet nothing says how the turn ended.
    Doubtful,
}

/// The turns that a session has, as far as somebody's message started them.
pub(super) fn turns_of(detail: &SessionDetail) -> Vec<String> {
    let rows = detail.transcript.iter().filter(|row| row.role == Role::User);
    let ids = turns(detail).filter_map(|turn| turn.get("id").and_then(Value::as_str));
    ids.chain(rows.map(|row| row.turn_id.as_str())).map(str::to_owned).collect()
}

fn turns(detail: &SessionDetail) -> impl Iterator<Item = &Value> {
    detail.thread.get("turns").and_then(Value::as_array).into_iter().flatten()
}

/// Reads how far a turn is.
pub(super) fn state_of(detail: &SessionDetail, turn_id: &str) -> TurnState {
    let found = turns(detail).find(|turn| turn.get("id").and_then(Value::as_str) == Some(turn_id));
    let status = found.and_then(|turn| turn.get("status")).and_then(Value::as_str);
    if let Some(status @ ("completed" | "failed" | "interrupted")) = status {
        let error = found
            .and_then(|turn| turn.pointer("/error/message"))
            .and_then(Value::as_str)
            .map(str::to_owned);
        return ended(turn_id, status, error);
    }
    if detail.session.activity != "idle" {
        return TurnState::Running;
    }
    let mut rows = detail.transcript.iter().filter(|row| row.turn_id == turn_id).peekable();
    if status.is_some() || rows.peek().is_none() {
        return TurnState::Doubtful;
    }
    let mut state = ("completed", None);
    for row in rows {
        match row.status {
            RowStatus::Error => state = ("failed", Some(row.content.clone())),
            RowStatus::Canceled if state.0 == "completed" => state = ("interrupted", None),
            RowStatus::Streaming => return TurnState::Doubtful,
            RowStatus::Canceled | RowStatus::Complete => {}
        }
    }
    ended(turn_id, state.0, state.1)
}

fn ended(turn_id: &str, status: &str, error: Option<String>) -> TurnState {
    TurnState::Ended(TurnEnd { turn_id: turn_id.to_owned(), status: status.to_owned(), error })
}

/// Shows the rows of a turn that are complete and not on the screen yet.
pub(super) fn show_rows(
    view: &mut LiveView,
    detail: &SessionDetail,
    turn_id: &str,
    console: &mut Console,
) -> Result<(), Failure> {
    let rows = detail.transcript.iter();
    for row in rows.filter(|row| row.turn_id == turn_id && row.status != RowStatus::Streaming) {
        if let Some(item) = item_of(row) {
            view.completed(&item, console)?;
        }
    }
    Ok(())
}

/// The item that a row was made of.
fn item_of(row: &TranscriptEntry) -> Option<Value> {
    match row.role {
        Role::User => None,
        Role::Assistant => {
            Some(json!({"type": "agentMessage", "id": row.message_id, "text": row.content}))
        }
        Role::System => {
            let item: Value = serde_json::from_str(row.details.as_deref()?).ok()?;
            // Rows of requests and notes have details too, but those are no items.
            (item.get("type").and_then(Value::as_str) == Some(row.kind.as_str())).then_some(item)
        }
    }
}

/// Takes the requests in that wait now.
///
/// # Errors
///
/// When a list cannot be read.
pub(super) fn take_requests(
    api: &Api,
    session: &ThreadId,
    view: &LiveView,
    desk: &mut Desk,
    console: &mut Console,
) -> Result<(), Failure> {
    let approvals: ListOf<Approval> = api.get(&format!("/sessions/{session}/approvals"))?;
    for approval in approvals.data {
        if view.shows(approval.turn_id.as_deref()) {
            desk.approval(approval, api, console);
        }
    }
    let inputs: ListOf<ToolInput> = api.get(&format!("/sessions/{session}/tool-input"))?;
    for input in inputs.data {
        if view.shows(input.turn_id.as_deref()) {
            desk.question(input, api, console);
        }
    }
    let calls: ListOf<ToolCall> = api.get(&format!("/sessions/{session}/tool-calls"))?;
    for call in calls.data {
        if view.shows(call.turn_id.as_deref()) {
            desk.call(&call, api, console);
        }
    }
    Ok(())
}
