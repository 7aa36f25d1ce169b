//! The shapes of what is emitted, as codex 0.169 writes them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// What begins the text of a paced delta; the nanoseconds of its emission and `@` follow.
pub(crate) const EMITTED_AT: &str = "@";

/// Whose line it is.
#[derive(Debug, Clone)]
pub(super) struct Ids {
    pub(super) thread: String,
    pub(super) turn: String,
}

/// Milliseconds since the epoch.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A new id in the form of codex.
pub(super) fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Appends a notification's line.
pub(super) fn notify(lines: &mut Vec<u8>, method: &str, params: &Value) {
    let line = json!({ "method": method, "params": params, "emittedAtMs": now_ms() });
    lines.extend_from_slice(line.to_string().as_bytes());
    lines.push(b'\n');
}

/// Appends a delta's line. Written without a JSON library: a flood makes a million of them.
pub(super) fn delta(lines: &mut Vec<u8>, ids: &Ids, item: &str, text: &str) {
    let Ids { thread, turn } = ids;
    let at = now_ms();
    let line = format!(
        "{{\"method\":\"item/agentMessage/delta\",\"params\":{{\"threadId\":\"{thread}\",\
         \"turnId\":\"{turn}\",\"itemId\":\"{item}\",\"delta\":\"{text}\"}},\"emittedAtMs\":{at}}}\n"
    );
    lines.extend_from_slice(line.as_bytes());
}

/// Appends `item/started` or `item/completed`.
pub(super) fn item(lines: &mut Vec<u8>, ids: &Ids, method: &str, item: &Value) {
    let at = if method == "item/started" { "startedAtMs" } else { "completedAtMs" };
    let params = json!({ "threadId": ids.thread, "turnId": ids.turn, "item": item, at: now_ms() });
    notify(lines, method, &params);
}

/// An agent message.
pub(super) fn message(id: &str, text: &str) -> Value {
    json!({ "type": "agentMessage", "id": id, "text": text, "phase": null })
}

/// The `turn` member of answers and notifications.
pub(super) fn turn(id: &str, status: &str) -> Value {
    let ended = (status != "inProgress").then(|| now_ms() / 1000);
    json!({
        "id": id,
        "items": [],
        "itemsView": "notLoaded",
        "status": status,
        "error": null,
        "startedAt": now_ms() / 1000,
        "completedAt": ended,
        "durationMs": ended.map(|_| 1),
    })
}

/// The answer to `thread/start` and `thread/resume`: what was asked for, echoed.
pub(super) fn opened(id: &str, params: &Value) -> Value {
    let cwd = params["cwd"].as_str().unwrap_or("/");
    let sandbox = match params["sandbox"].as_str() {
        Some("danger-full-access") => json!({ "type": "dangerFullAccess" }),
        Some("workspace-write") => json!({ "type": "workspaceWrite", "networkAccess": false }),
        _ => json!({ "type": "readOnly", "networkAccess": false }),
    };
    json!({
        "thread": thread(id, cwd),
        "model": "stub-model",
        "modelProvider": "stub",
        "serviceTier": null,
        "cwd": cwd,
        "approvalPolicy": params["approvalPolicy"],
        "approvalsReviewer": "user",
        "sandbox": sandbox,
        "reasoningEffort": null,
    })
}

/// The `thread` member of answers.
pub(super) fn thread(id: &str, cwd: &str) -> Value {
    let now = now_ms() / 1000;
    json!({
        "id": id,
        "sessionId": id,
        "forkedFromId": null,
        "preview": "",
        "ephemeral": false,
        "modelProvider": "stub",
        "model": "stub-model",
        "createdAt": now,
        "updatedAt": now,
        "status": { "type": "idle" },
        "path": null,
        "cwd": cwd,
        "cliVersion": super::VERSION,
        "source": "vscode",
        "gitInfo": null,
        "name": null,
        "turns": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_is_a_json_line_of_the_length_that_codex_writes() {
        let ids = Ids { thread: new_id(), turn: new_id() };
        let mut lines = Vec::new();
        delta(&mut lines, &ids, "msg_88_0", "sixteen bytes...");
        assert!((220..260).contains(&lines.len()), "{}", lines.len());
        let line: Value = serde_json::from_slice(&lines).unwrap();
        assert_eq!(line["method"], "item/agentMessage/delta");
        assert_eq!(line["params"]["threadId"], ids.thread.as_str());
        assert_eq!(line["params"]["delta"], "sixteen bytes...");
        assert!(line["emittedAtMs"].is_u64());
    }
}
