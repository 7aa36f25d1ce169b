//! Items in codex 0.169's form.
//!
//! Every constructor answers an item that has started; [`complete`] closes it.

use serde_json::{Value, json};
use uuid::Uuid;

use super::inbox::UserInput;
use crate::wire::now_ms;

/// Closes an item: sets `completedAtMs` and the fields of `changes`.
pub(crate) fn complete(item: &mut Value, changes: Value) {
    item["completedAtMs"] = json!(now_ms());
    if let Value::Object(changes) = changes {
        for (name, value) in changes {
            item[name] = value;
        }
    }
}

pub(super) fn user_message(input: &UserInput) -> Value {
    json!({
        "type": "userMessage", "id": Uuid::now_v7(), "clientId": input.client_id,
        "content": input.content, "startedAtMs": now_ms(), "completedAtMs": null,
    })
}

pub(crate) fn agent_message() -> Value {
    json!({
        "type": "agentMessage", "moderation": null, "id": fresh_id("msg"), "text": "",
        "phase": null, "memoryCitation": null, "delivery": null, "questions": null,
        "startedAtMs": now_ms(), "completedAtMs": null,
    })
}

pub(crate) fn reasoning() -> Value {
    json!({
        "type": "reasoning", "id": fresh_id("rs"), "summary": [], "content": [],
        "startedAtMs": now_ms(), "completedAtMs": null,
    })
}

/// A command, before anybody was asked.
pub(crate) fn command(shown: &str, command: &str, cwd: &str) -> Value {
    json!({
        "type": "commandExecution", "id": fresh_id("call"), "pluginId": null, "scriptPath": null,
        "command": shown, "cwd": cwd, "processId": null, "source": "agent",
        "status": "inProgress", "commandActions": [{ "type": "unknown", "command": command }],
        "aggregatedOutput": null, "exitCode": null, "durationMs": null,
        "startedAtMs": now_ms(), "completedAtMs": null,
    })
}

/// A change of one file.
pub(crate) fn file_change(path: &str, kind: &Value, diff: &str) -> Value {
    json!({
        "type": "fileChange", "id": fresh_id("call"),
        "changes": [{ "path": path, "kind": kind, "diff": diff }], "status": "inProgress",
        "startedAtMs": now_ms(), "completedAtMs": null,
    })
}

/// A call of a tool that the client runs.
pub(crate) fn dynamic_tool_call(namespace: Option<&str>, tool: &str, arguments: &Value) -> Value {
    json!({
        "type": "dynamicToolCall", "id": fresh_id("call"), "namespace": namespace, "tool": tool,
        "arguments": arguments, "status": "inProgress", "contentItems": null, "success": null,
        "durationMs": null, "startedAtMs": now_ms(), "completedAtMs": null,
    })
}

/// An id of the kind that items made by a model have.
pub(crate) fn fresh_id(prefix: &str) -> String {
    format!("{prefix}_{}", Uuid::now_v7().simple())
}
