//! Health, readiness and the runtime's view.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::limits::{MAX_NOTE, at_most};

use crate::controls::Controls;
use crate::ids::{Epoch, Incarnation, Seq};

/// `GET /api`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceInfo {
    /// Always `Codex Manager API`.
    #[schema(pattern = "^Codex Manager API$")]
    pub name: String,
    /// Version of the program.
    pub version: String,
}

/// `GET /api/health`. Always 200 while the server listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Always `ok`: the server answers. Whether it can work is in the rest.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// Always `api`.
    #[schema(pattern = "^api$")]
    pub service: String,
    /// The child.
    pub codex: CodexHealth,
    /// The queue.
    pub orchestrator_queue: QueueHealth,
    /// The login.
    pub auth: AuthHealth,
    /// The store.
    pub store: StoreHealth,
    /// What keeps the server from being ready; empty when it is.
    pub reasons: Vec<Reason>,
    /// What is worth knowing but keeps nothing from working.
    pub warnings: Vec<Reason>,
    /// When this was written, ISO-8601 UTC.
    #[schema(format = DateTime)]
    pub timestamp: String,
}

/// The child's part of health.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CodexHealth {
    /// Whether the process runs.
    pub running: bool,
    /// Its process id.
    #[schema(required)]
    pub pid: Option<u32>,
    /// Whether `initialize` was answered.
    pub initialized: bool,
    /// How the last process ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub last_exit: Option<ExitView>,
    /// `codex` or `embedded`.
    #[schema(pattern = "^(codex|embedded)$")]
    pub runtime: String,
    /// Version of the runtime, once known.
    #[schema(required)]
    pub version: Option<String>,
    /// `starting`, `running`, `backoff`, `failed`, `stopping` or `stopped`.
    #[schema(pattern = "^(starting|running|backoff|failed|stopping|stopped)$")]
    pub state: String,
    /// Which life of the child this is.
    pub incarnation: Incarnation,
    /// Restarts since the manager started.
    pub restarts: u64,
}

/// How a child process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExitView {
    /// Exit code, `null` when a signal ended it.
    #[schema(required)]
    pub code: Option<i32>,
    /// Name of the signal that ended it, such as `SIGKILL`.
    #[schema(required)]
    pub signal: Option<String>,
    /// When, ISO-8601 UTC.
    #[schema(format = DateTime)]
    pub at: String,
    /// What the manager knows about why, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reason: Option<String>,
    /// The last lines the process wrote to stderr.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stderr: Vec<String>,
}

/// The queue's part of health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueHealth {
    /// Whether the queue runs.
    pub enabled: bool,
}

/// The store's part of health.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreHealth {
    /// `ok`; `failing` while nothing can be written; `restored` when it was damaged and what could
    /// be had took its place.
    #[schema(pattern = "^(ok|failing|restored)$")]
    pub state: String,
    /// When restored: everything up to this moment is there, ISO-8601 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    pub restored_up_to: Option<String>,
    /// When restored: where the damaged store is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub damaged_copy: Option<String>,
    /// Records that were met damaged since the start; they cannot be shown.
    #[serde(default)]
    #[schema(required)]
    pub damaged_records: usize,
}

/// The login's part of health.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthHealth {
    /// Whether `OPENAI_API_KEY` is set and not blank.
    pub has_open_ai_api_key: bool,
    /// Whether the child's CODEX_HOME holds an `auth.json` now.
    pub codex_home_auth_file: bool,
    /// Whether turns are likely to end with an authentication error.
    pub likely_unauthenticated: bool,
    /// The account as the child reported it; `null` when it has none or was not asked yet.
    #[schema(required)]
    pub account: Option<Value>,
    /// Whether the runtime needs a login at all.
    pub required: bool,
    /// Whether turns can run: no login needed, or one is there.
    pub ready: bool,
    /// What is wrong with the account: `login_used_up` when it cannot be renewed any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub problem: Option<Reason>,
}

/// One line of a list of reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// Stable code.
    pub code: String,
    /// What is wrong and how to mend it, as a sentence.
    pub message: String,
}

/// `GET /livez`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Liveness {
    /// Always `live`.
    #[schema(pattern = "^live$")]
    pub status: String,
}

/// `GET /readyz`: 200 when `reasons` is empty, else 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// `ready` or `not_ready`.
    #[schema(pattern = "^(ready|not_ready)$")]
    pub status: String,
    /// Why it is not ready.
    pub reasons: Vec<Reason>,
    /// What is worth knowing.
    pub warnings: Vec<Reason>,
}

/// A method that the manager calls and the child has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissingMethod {
    /// The method.
    pub method: String,
    /// What answers 501, or does not work, without it.
    pub affects: String,
}

/// A notification that this build does not know. It is passed on like all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnknownNotification {
    /// Its method.
    pub method: String,
    /// How often it came since the manager was started.
    pub count: u64,
}

/// How the child's protocol differs from those that this build knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeDrift {
    /// Methods that the manager calls and the child has not.
    pub missing: Vec<MissingMethod>,
    /// Methods of the child that this build does not know.
    pub new: Vec<String>,
    /// Notifications that this build does not know, in the order in which they came first; at most
    /// 100.
    pub unknown_notifications: Vec<UnknownNotification>,
    /// How many came under further names.
    pub other_notifications: u64,
}

impl RuntimeDrift {
    /// Names of notifications that are counted one by one. Overflow rule: further ones are counted
    /// together.
    pub const MOST_NAMES: usize = 100;

    /// Longest name that is shown, in characters; what is beyond it is cut off.
    const LONGEST_NAME: usize = 200;

    /// Counts a notification that is not known.
    pub fn count(&mut self, method: &str) {
        let name: String = method.chars().take(Self::LONGEST_NAME).collect();
        let counted = &mut self.unknown_notifications;
        match counted.iter().position(|counted| counted.method == name) {
            Some(place) => counted[place].count += 1,
            None if counted.len() < Self::MOST_NAMES => {
                counted.push(UnknownNotification { method: name, count: 1 });
            }
            None => self.other_notifications += 1,
        }
    }
}

/// `GET /api/runtime`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeView {
    /// The child and what it can do.
    pub app_server: AppServerView,
    /// How its protocol differs from those that this build knows.
    pub drift: RuntimeDrift,
    /// The controls of new sessions.
    pub session_defaults: Controls,
    /// The supervision tree with the observable state of each actor.
    pub tree: TreeNode,
    /// Identity of the stream's history.
    pub epoch: Epoch,
    /// The newest frame's number.
    pub seq: Seq,
}

/// The child in `GET /api/runtime`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppServerView {
    /// As in health.
    #[serde(flatten)]
    pub health: CodexHealth,
    /// As the child introduced itself.
    #[schema(required)]
    pub user_agent: Option<String>,
    /// Methods that the child has.
    pub methods: BTreeSet<String>,
    /// Path of the program that runs.
    pub program: String,
    /// The child's CODEX_HOME.
    pub codex_home: String,
    /// What is wrong with its login, as in health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub login_problem: Option<Reason>,
    /// Calls waiting for an answer.
    pub in_flight: usize,
    /// The last lines that the running process wrote to stderr.
    pub stderr: Vec<String>,
}

/// One actor of the supervision tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TreeNode {
    /// Name of the actor.
    pub name: String,
    /// `running`, `backoff`, `failed`, `stopping` or `stopped`.
    #[schema(pattern = "^(running|backoff|failed|stopping|stopped)$")]
    pub state: String,
    /// Which life of the actor this is.
    pub incarnation: Incarnation,
    /// Restarts so far.
    pub restarts: u64,
    /// How the last life ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub last_exit: Option<String>,
    /// What the actor shows of itself.
    #[serde(default)]
    #[schema(required)]
    pub observed: Value,
    /// The actors it supervises.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    pub children: Vec<TreeNode>,
}

/// Body of `POST /api/runtime/restart`; may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestartBody {
    /// Why, for the log.
    #[serde(default, deserialize_with = "at_most::<MAX_NOTE, _, _>")]
    #[schema(max_length = 65536)]
    pub reason: Option<String>,
}

/// Answer of `POST /api/runtime/restart` (202).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestartRequested {
    /// Always `restarting`.
    #[schema(pattern = "^restarting$")]
    pub status: String,
    /// The life that is being ended.
    pub incarnation: Incarnation,
}
