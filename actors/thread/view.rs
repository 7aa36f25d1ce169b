//! What clients see of a thread.

use cm_core::ids::ThreadId;
use cm_core::thread::{ThreadRecord, TurnRecord};
use cm_core::wire::SessionSummary;
use serde_json::{Value, json};

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
        project_id: record.project_id.as_ref().map(ToString::to_string),
        activity: activity.to_owned(),
        preview: record.preview().map(str::to_owned),
        archived: record.archived,
        runtime_thread_id: record.runtime_id.clone(),
        problem: record.problem.clone(),
        parent_session_id: record.parent.clone(),
    }
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
