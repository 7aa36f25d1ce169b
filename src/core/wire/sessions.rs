//! Sessions, messages and the transcript.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::limits::{MAX_NAME, MAX_PATH, MAX_TEXT, at_most};

use crate::controls::{
    ApprovalPolicy, Controls, ControlsPatch, NetworkAccess, ReasoningEffort, SandboxMode,
};
use crate::ids::ThreadId;

/// Every error body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// `error`, or the word version 1 uses: `not_found`, `deleted`, `reconciled`, …
    pub status: String,
    /// Stable code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub code: Option<String>,
    /// What happened and what to do, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub message: Option<String>,
    /// The id under which the server logged the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub request_id: Option<String>,
    /// Further members, such as `sessionId` or `details`.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A session as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionSummary {
    /// The session's id, which is the thread's id.
    pub session_id: ThreadId,
    /// Title.
    pub title: String,
    /// Whether the session had a first turn.
    pub materialized: bool,
    /// Model provider as the runtime named it.
    #[schema(required)]
    pub model_provider: Option<String>,
    /// Same as in `sessionControls`.
    pub approval_policy: ApprovalPolicy,
    /// The controls in force.
    pub session_controls: Controls,
    /// Epoch seconds.
    pub created_at: i64,
    /// Epoch seconds.
    pub updated_at: i64,
    /// Working directory.
    pub cwd: String,
    /// Where the thread comes from, as the runtime says.
    pub source: String,
    /// Project it is assigned to.
    #[schema(required)]
    pub project_id: Option<String>,
    /// `idle`, `running` or `waiting`; an addition to version 1.
    #[serde(default)]
    #[schema(required, pattern = "^(idle|running|waiting)$")]
    pub activity: String,
    /// How the first message begins; an addition to version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub preview: Option<String>,
    /// Whether it is archived; an addition to version 1.
    #[serde(default)]
    #[schema(required)]
    pub archived: bool,
    /// The runtime's own id of the thread where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub runtime_thread_id: Option<ThreadId>,
    /// What keeps it from working as it should; an addition to version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub problem: Option<SessionProblem>,
    /// The session whose subagent it is; an addition to version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub parent_session_id: Option<ThreadId>,
}

/// What keeps a session from working as it should, until its next turn runs well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionProblem {
    /// `thread_in_use`, `controls_not_taken`, `resume_failed`, `degraded` or `login_used_up`.
    #[schema(
        pattern = "^(thread_in_use|controls_not_taken|resume_failed|degraded|login_used_up)$"
    )]
    pub code: String,
    /// What happened, as a sentence.
    pub message: String,
    /// When, ISO-8601 UTC.
    #[schema(format = DateTime)]
    pub at: String,
}

impl SessionSummary {
    /// What tells the session from others: its title, or how it begins while it has none.
    pub fn label(&self) -> &str {
        match &self.preview {
            Some(preview) if self.title == UNTITLED => preview,
            _ => &self.title,
        }
    }
}

/// Title of a session that was given none.
pub const UNTITLED: &str = "New chat";

/// A tool that the client offers to the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DynamicTool {
    /// Name the agent calls it by.
    #[schema(min_length = 1, max_length = 256)]
    pub name: String,
    /// What it does.
    #[schema(min_length = 1, max_length = 65536)]
    pub description: String,
    /// JSON Schema of its arguments.
    pub input_schema: Map<String, Value>,
}

/// Body of `POST /api/sessions`; may be absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateSession {
    /// Working directory; the server's own when absent.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_PATH, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(min_length = 1, max_length = 4096)]
    pub cwd: Option<String>,
    /// Model id.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_NAME, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(max_length = 256)]
    pub model: Option<String>,
    /// When the agent must ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_policy: Option<ApprovalPolicy>,
    /// Whether commands may use the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_access: Option<NetworkAccess>,
    /// What commands may write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystem_sandbox: Option<SandboxMode>,
    /// Tools that the client offers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 128)]
    pub dynamic_tools: Option<Vec<DynamicTool>>,
}

impl CreateSession {
    /// The controls that the body names.
    pub fn patch(&self) -> ControlsPatch {
        ControlsPatch {
            model: self.model.clone(),
            approval_policy: self.approval_policy,
            network_access: self.network_access,
            filesystem_sandbox: self.filesystem_sandbox,
        }
    }
}

/// Answer of create, fork, unarchive and resume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionCreated {
    /// Always `ok` where version 1 has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^ok$")]
    pub status: Option<String>,
    /// The session that this one is a fork of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_session_id: Option<ThreadId>,
    /// The session.
    pub session: SessionSummary,
    /// The runtime's thread object.
    pub thread: Value,
    /// What is worth knowing, such as a sandbox that cannot protect the manager.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What the runtime says to be in force; absent where it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub runtime_controls: Option<RuntimeControls>,
    /// Whether Codex trusts the folder from now on, because the session may write there: it names
    /// the folder in its configuration and reads the project's own `.codex`. Absent where not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trusts_project: bool,
}

/// Controls in the runtime's words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeControls {
    /// When it asks.
    pub approval_policy: Value,
    /// What commands may do.
    pub sandbox: Value,
    /// The model, where it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub model: Option<String>,
}

impl RuntimeControls {
    /// Reads them out of the result of `thread/start`, `thread/resume` or `thread/fork`; `None` where
    /// it lacks them.
    pub fn of(result: &Value) -> Option<Self> {
        Some(Self {
            approval_policy: result.get("approvalPolicy")?.clone(),
            sandbox: result.get("sandbox")?.clone(),
            model: result.get("model").and_then(Value::as_str).map(str::to_owned),
        })
    }
}

/// `GET /api/sessions/:id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionDetail {
    /// The session.
    pub session: SessionSummary,
    /// The runtime's thread object with `turns`.
    pub thread: Value,
    /// What was said and done, oldest first.
    pub transcript: Vec<TranscriptEntry>,
    /// Sessions of the subagents that it has started; an addition to version 1.
    #[serde(default)]
    #[schema(required)]
    pub subagents: Vec<ThreadId>,
}

/// `GET /api/sessions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionList {
    /// The page.
    pub data: Vec<SessionSummary>,
    /// Where the next page starts; `null` at the end.
    #[schema(required)]
    pub next_cursor: Option<String>,
    /// Which list this is.
    pub archived: bool,
}

/// Who a transcript row is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person or program that sent the message.
    User,
    /// The agent's words.
    Assistant,
    /// Everything else: commands, file changes, requests, notes.
    System,
}

/// How far a transcript row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RowStatus {
    /// Still growing.
    Streaming,
    /// Done.
    Complete,
    /// Cut off by an interrupt or a crash.
    Canceled,
    /// Failed.
    Error,
}

/// One row of a transcript.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TranscriptEntry {
    /// Item id, or an id with a prefix such as `approval-`.
    pub message_id: String,
    /// Turn it belongs to.
    pub turn_id: String,
    /// Who it is from.
    pub role: Role,
    /// Item type, or `approval.request`, `turn.error`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Text to show.
    pub content: String,
    /// JSON text with the particulars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub details: Option<String>,
    /// Epoch milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub started_at: Option<i64>,
    /// Epoch milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub completed_at: Option<i64>,
    /// How far it is.
    pub status: RowStatus,
}

/// `GET /api/sessions/:id/transcript`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TranscriptPage {
    /// The session.
    pub session_id: ThreadId,
    /// Rows of the page, oldest first.
    pub data: Vec<TranscriptEntry>,
    /// What `before` is for the page of older rows; `null` when there are none.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// One turn of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TurnSummary {
    /// Turn id.
    pub id: String,
    /// `inProgress`, `completed`, `interrupted` or `failed`.
    #[schema(pattern = "^(inProgress|completed|interrupted|failed)$")]
    pub status: String,
    /// Epoch milliseconds.
    pub started_at: i64,
    /// Epoch milliseconds; `null` while it runs.
    #[schema(required)]
    pub completed_at: Option<i64>,
    /// Why it failed or was cut off, as the runtime says it; `null` when it did not.
    #[schema(required)]
    pub error: Option<Value>,
    /// Its items that are kept.
    pub item_count: u64,
}

/// `GET /api/sessions/:id/turns`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TurnPage {
    /// The session.
    pub session_id: ThreadId,
    /// Turns of the page, oldest first.
    pub data: Vec<TurnSummary>,
    /// What `before` is for the page of older turns; `null` when there are none.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// Answer of `POST /api/sessions/:id/transcript/upsert`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RowAdded {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// The session.
    pub session_id: ThreadId,
    /// The row as it is now.
    pub entry: TranscriptEntry,
}

/// Body of `POST /api/sessions/:id/messages`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SendMessage {
    /// What to say to the agent.
    #[schema(min_length = 1, max_length = 1048576)]
    #[serde(deserialize_with = "at_most::<MAX_TEXT, _, _>")]
    pub text: String,
    /// Model id, from now on.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_NAME, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(max_length = 256)]
    pub model: Option<String>,
    /// How much to think, for this turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effort: Option<ReasoningEffort>,
    /// When the agent must ask, from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_policy: Option<ApprovalPolicy>,
    /// Whether commands may use the network, from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_access: Option<NetworkAccess>,
    /// What commands may write, from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystem_sandbox: Option<SandboxMode>,
    /// Tools that the client offers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 128)]
    pub dynamic_tools: Option<Vec<DynamicTool>>,
}

impl SendMessage {
    /// The controls that the body names.
    pub fn patch(&self) -> ControlsPatch {
        ControlsPatch {
            model: self.model.clone(),
            approval_policy: self.approval_policy,
            network_access: self.network_access,
            filesystem_sandbox: self.filesystem_sandbox,
        }
    }
}

/// Answer of `POST /api/sessions/:id/messages` (202).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageAccepted {
    /// Always `accepted`.
    #[schema(pattern = "^accepted$")]
    pub status: String,
    /// The session.
    pub session_id: ThreadId,
    /// The turn that the message started or joined.
    pub turn_id: String,
    /// What is worth knowing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Body of `POST /api/sessions/:id/rename`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rename {
    /// The new title, 1 to 200 characters after trimming.
    #[schema(min_length = 1, max_length = 200)]
    pub title: String,
}

/// Body of `POST /api/sessions/:id/resume`; may be absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResumeSession {
    /// Tools that the client offers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 128)]
    pub dynamic_tools: Option<Vec<DynamicTool>>,
}

/// Body of `POST /api/sessions/:id/interrupt`; may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Interrupt {
    /// The turn; the active one when absent.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_NAME, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(min_length = 1, max_length = 256)]
    pub turn_id: Option<String>,
}

/// Body of `POST /api/sessions/:id/turns/:turnId/steer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Steer {
    /// What to add to the running turn.
    #[schema(min_length = 1, max_length = 1048576)]
    #[serde(deserialize_with = "at_most::<MAX_TEXT, _, _>")]
    pub input: String,
}

/// The `result` member of a steer's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SteerResult {
    /// Always `turn.steer`.
    #[schema(pattern = "^turn\\.steer$")]
    pub action_type: String,
    /// `performed`, `conflict`, `already_resolved`, `not_eligible` or `failed`.
    #[schema(pattern = "^(performed|conflict|already_resolved|not_eligible|failed)$")]
    pub status: String,
    /// `threadId`, `turnId` and, on failure, `error`.
    pub details: Map<String, Value>,
}
