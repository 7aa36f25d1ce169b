//! Threads and turns as codex 0.169 writes them.

use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::loaded::Status;
use super::meta::Meta;
use super::settings::{MODEL, MODEL_PROVIDER};
use crate::server::Server;

/// A `Thread` object.
///
/// `historyMode` is `legacy`: turns are read whole, there is no paging of items.
pub(crate) fn thread(server: &Server, meta: &Meta, status: &Status, turns: Vec<Value>) -> Value {
    let loaded = !matches!(status, Status::NotLoaded);
    let cwd = &meta.settings.cwd;
    let path = (!meta.ephemeral).then(|| server.store.log_path(meta.id));
    let environment =
        json!([{ "environmentId": "local", "cwd": cwd, "runtimeWorkspaceRoots": [cwd] }]);
    json!({
        "id": meta.id, "environments": loaded.then_some(environment), "extra": null,
        "sessionId": meta.id, "forkedFromId": meta.forked_from, "attachedToThreadId": null,
        "parentThreadId": null, "preview": meta.preview, "ephemeral": meta.ephemeral,
        "section": null, "sectionEnteredAt": null, "projectId": null, "historyMode": "legacy",
        "modelProvider": MODEL_PROVIDER, "model": MODEL, "reasoningEffort": null,
        "createdAt": meta.created_at, "updatedAt": meta.updated_at,
        "recencyAt": meta.updated_at, "status": status, "path": path, "cwd": cwd,
        "cliVersion": server.options.version, "originator": meta.originator, "source": "vscode",
        "canAcceptDirectInput": loaded.then_some(true), "threadSource": null,
        "agentNickname": null, "agentRole": null, "gitInfo": null, "name": meta.name,
        "daybreakEnabled": null, "turns": turns,
    })
}

/// The result of `thread/start`, `thread/resume` and `thread/fork`.
pub(crate) fn session(meta: &Meta, thread: &Value) -> Value {
    let cwd = &meta.settings.cwd;
    json!({
        "thread": thread, "model": MODEL, "modelProvider": MODEL_PROVIDER, "serviceTier": null,
        "disabledPluginIds": [], "cwd": cwd, "runtimeWorkspaceRoots": [cwd],
        "instructionSources": [], "approvalPolicy": meta.settings.approval_policy,
        "approvalsReviewer": "user", "sandbox": meta.settings.sandbox,
        "activePermissionProfile": null, "reasoningEffort": null,
        "multiAgentMode": "explicitRequestOnly",
    })
}

/// A `Turn` object.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Turn {
    pub(crate) id: Uuid,
    root_turn_id: Uuid,
    pub(crate) items: Vec<Value>,
    pub(crate) items_view: &'static str,
    /// `inProgress`, `completed`, `interrupted` or `failed`.
    pub(crate) status: String,
    pub(crate) error: Value,
    /// Seconds since the Unix epoch.
    pub(crate) started_at: Option<u64>,
    pub(crate) completed_at: Option<u64>,
    pub(crate) duration_ms: Option<u64>,
}

/// A turn that has just been accepted.
pub(crate) fn turn(id: Uuid, started_at: Option<u64>) -> Turn {
    Turn {
        id,
        root_turn_id: id,
        items: Vec::new(),
        items_view: "notLoaded",
        status: "inProgress".to_owned(),
        error: Value::Null,
        started_at,
        completed_at: None,
        duration_ms: None,
    }
}
