//! Background jobs and suggested requests, as version 1 answers them while its queue is on. In this
//! version the queue is off; clients are told so, and what they may prepare for is described.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::limits::{MAX_NAME, at_most};

use crate::controls::ReasoningEffort;
use crate::ids::ThreadId;

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum JobState {
    /// It waits.
    Queued,
    /// It runs.
    Running,
    /// It was done.
    Completed,
    /// It failed.
    Failed,
    /// It was called off.
    Canceled,
}

/// Which jobs come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum JobPriority {
    /// Somebody waits for it.
    Interactive,
    /// Nobody does.
    Background,
}

/// Where a job runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobContext {
    /// The session.
    #[schema(required)]
    pub thread_id: Option<ThreadId>,
    /// The turn.
    #[schema(required)]
    pub turn_id: Option<String>,
}

/// A background job. Times are ISO-8601 UTC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its id.
    pub id: String,
    /// What kind it is, such as `agent_instruction`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Version of that kind.
    pub version: u32,
    /// Its owner: a project, or `session:` and a session.
    pub project_id: String,
    /// The session that it came from.
    #[schema(required)]
    pub source_session_id: Option<ThreadId>,
    /// Which jobs come first.
    pub priority: JobPriority,
    /// How far it is.
    pub state: JobState,
    /// By which others are known as the same.
    #[schema(required)]
    pub dedupe_key: Option<String>,
    /// What it is to do.
    pub payload: Map<String, Value>,
    /// What came of it.
    #[schema(required)]
    pub result: Option<Map<String, Value>>,
    /// Why it failed or was called off.
    #[schema(required)]
    pub error: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// How often it is tried at the most.
    pub max_attempts: u32,
    /// When it was queued.
    pub created_at: String,
    /// When it was started.
    #[schema(required)]
    pub started_at: Option<String>,
    /// When it ended.
    #[schema(required)]
    pub completed_at: Option<String>,
    /// When it was to be called off.
    #[schema(required)]
    pub cancel_requested_at: Option<String>,
    /// When it is tried next.
    #[schema(required)]
    pub next_attempt_at: Option<String>,
    /// When it was tried last.
    #[schema(required)]
    pub last_attempt_at: Option<String>,
    /// Where it runs.
    pub running_context: JobContext,
}

/// `GET /api/orchestrator/jobs/:jobId`, and the answer of calling it off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// The job.
    pub job: Job,
}

/// `GET /api/projects/:projectId/orchestrator/jobs`, the oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// The jobs.
    pub data: Vec<Job>,
}

/// Body of `POST /api/sessions/:id/suggested-request` and `…/jobs`; may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SuggestRequest {
    /// The model that is asked.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_NAME, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(min_length = 1, max_length = 256)]
    pub model: Option<String>,
    /// How much it thinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<ReasoningEffort>,
    /// What was written already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 4000)]
    pub draft: Option<String>,
}

/// Answer of `POST /api/sessions/:id/suggested-request/jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuggestionQueued {
    /// Always `queued`.
    #[schema(pattern = "^queued$")]
    pub status: String,
    /// The job.
    pub job_id: String,
    /// By which the suggestion is known in the stream.
    pub request_key: String,
    /// The session.
    pub session_id: ThreadId,
    /// The job's owner.
    pub project_id: String,
    /// `enqueued`, or `already_queued` where such a job waited.
    #[schema(pattern = "^(enqueued|already_queued)$")]
    pub dedupe: String,
}

/// Answer of `POST /api/sessions/:id/suggested-request`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suggestion {
    /// `ok`, or `fallback` where there was none in time.
    #[schema(pattern = "^(ok|fallback)$")]
    pub status: String,
    /// The session.
    pub session_id: ThreadId,
    /// By which it is known in the stream.
    pub request_key: String,
    /// What might be said next.
    pub suggestion: String,
}

/// How far a suggestion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum SuggestionStatus {
    /// It is being written.
    Streaming,
    /// It is whole.
    Complete,
    /// It failed.
    Error,
    /// It was called off.
    Canceled,
}

/// Body of `POST /api/sessions/:id/suggested-request/upsert`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpsertSuggestion {
    /// By which it is known.
    #[schema(min_length = 1, max_length = 256)]
    #[serde(deserialize_with = "at_most::<MAX_NAME, _, _>")]
    pub request_key: String,
    /// How far it is.
    pub status: SuggestionStatus,
    /// Its text so far; needed where it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 8000)]
    pub suggestion: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4000)]
    pub error: Option<String>,
}

/// A suggestion as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuggestionEntry {
    /// How far it is.
    pub status: SuggestionStatus,
    /// Its text so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it changed, epoch milliseconds.
    pub updated_at: i64,
}

/// Answer of `POST /api/sessions/:id/suggested-request/upsert`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuggestionUpserted {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// The session.
    pub session_id: ThreadId,
    /// By which it is known.
    pub request_key: String,
    /// The suggestion.
    pub entry: SuggestionEntry,
}
