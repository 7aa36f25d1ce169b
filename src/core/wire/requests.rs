//! Approvals, questions and tool calls that wait for a person or a program.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::limits::{MAX_NAME, MAX_SECRET, MAX_TEXT, at_most};

use crate::ids::{RequestId, ThreadId};
use crate::request::{ExpiryReason, RequestKind};

/// A list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ListOf<T> {
    /// The rows, oldest first.
    pub data: Vec<T>,
}

/// A row of a list: the request, and what became of it. The members besides the request's own are
/// additions to version 1.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listed<T> {
    /// The request.
    #[serde(flatten)]
    pub request: T,
    /// How long its params are where they are too long to be in `details` whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub params_bytes: Option<u64>,
    /// Where they are as they came.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub params_href: Option<String>,
    /// What was decided: `accept`, `decline`, `cancel`; of a tool call `success` or `failure`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub decision: Option<String>,
    /// Who decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub decided_by: Option<String>,
    /// When, ISO-8601 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    pub decided_at: Option<String>,
    /// Why it ended without an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub expired_reason: Option<ExpiryReason>,
    /// When it did, ISO-8601 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    pub expired_at: Option<String>,
}

/// A pending approval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Opaque id to decide with.
    pub approval_id: RequestId,
    /// What is asked. An addition to version 1.
    #[serde(default)]
    #[schema(required, nullable = false)]
    pub kind: Option<RequestKind>,
    /// The app-server's method.
    pub method: String,
    /// Session.
    pub thread_id: ThreadId,
    /// Turn, when the app-server named it.
    #[schema(required)]
    pub turn_id: Option<String>,
    /// Item, when the app-server named it.
    #[schema(required)]
    pub item_id: Option<String>,
    /// One line for a person.
    pub summary: String,
    /// The app-server's params, unchanged.
    pub details: Value,
    /// ISO-8601 UTC.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// `pending`; with `?status=all` also `resolved` and `expired`.
    #[schema(pattern = "^(pending|resolved|expired)$")]
    pub status: String,
    /// Until when somebody has to decide, ISO-8601 UTC; absent: for ever. An addition to
    /// version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    pub deadline_at: Option<String>,
}

/// A question that waits for answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolInput {
    /// Opaque id to decide with.
    pub request_id: RequestId,
    /// The app-server's method.
    pub method: String,
    /// Session.
    pub thread_id: ThreadId,
    /// Turn, when the app-server named it.
    #[schema(required)]
    pub turn_id: Option<String>,
    /// Item, when the app-server named it.
    #[schema(required)]
    pub item_id: Option<String>,
    /// One line for a person.
    pub summary: String,
    /// The questions.
    pub questions: Vec<Question>,
    /// The app-server's params, unchanged.
    pub details: Value,
    /// ISO-8601 UTC.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// `pending`; with `?status=all` also `resolved` and `expired`.
    #[schema(pattern = "^(pending|resolved|expired)$")]
    pub status: String,
    /// Until when somebody has to decide, ISO-8601 UTC; absent: for ever. An addition to
    /// version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    pub deadline_at: Option<String>,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// Key of the answer.
    pub id: String,
    /// Short heading.
    pub header: String,
    /// The question.
    pub question: String,
    /// What can be chosen; `null` for free text.
    #[schema(required)]
    pub options: Option<Vec<QuestionOption>>,
    /// Whether an answer outside of the options is welcome.
    pub is_other: bool,
    /// Whether the answer must not be shown.
    pub is_secret: bool,
}

/// One choice of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuestionOption {
    /// What to answer.
    pub label: String,
    /// What it means.
    pub description: String,
}

/// A call of a tool that the client offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolCall {
    /// Opaque id to answer with.
    pub request_id: RequestId,
    /// Always `item/tool/call`.
    pub method: String,
    /// Session.
    pub thread_id: ThreadId,
    /// Turn.
    #[schema(required)]
    pub turn_id: Option<String>,
    /// Item, when the app-server named it.
    #[schema(required)]
    pub item_id: Option<String>,
    /// The call's id.
    #[schema(required)]
    pub call_id: Option<String>,
    /// Name of the tool.
    pub tool: String,
    /// Arguments, unchanged.
    pub arguments: Value,
    /// One line for a person.
    pub summary: String,
    /// The app-server's params, unchanged.
    pub details: Value,
    /// ISO-8601 UTC.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// `pending`; with `?status=all` also `resolved` and `expired`.
    #[schema(pattern = "^(pending|resolved|expired)$")]
    pub status: String,
    /// Until when somebody has to decide, ISO-8601 UTC; absent: for ever. An addition to
    /// version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    pub deadline_at: Option<String>,
}

/// A request of any kind. An addition to version 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentRequest {
    /// Opaque id to decide with.
    pub request_id: RequestId,
    /// What is asked.
    pub kind: RequestKind,
    /// The app-server's method.
    pub method: String,
    /// Session; `null` for what the runtime asks for itself.
    #[schema(required)]
    pub thread_id: Option<ThreadId>,
    /// Turn, when the app-server named it.
    #[schema(required)]
    pub turn_id: Option<String>,
    /// Item, when the app-server named it.
    #[schema(required)]
    pub item_id: Option<String>,
    /// One line for a person.
    pub summary: String,
    /// The app-server's params, unchanged.
    pub details: Value,
    /// ISO-8601 UTC.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// `pending`; with `?status=all` also `resolved` and `expired`.
    #[schema(pattern = "^(pending|resolved|expired)$")]
    pub status: String,
    /// Where it is answered, with `POST`.
    pub answer_href: String,
    /// Until when somebody has to decide, ISO-8601 UTC; absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    pub deadline_at: Option<String>,
}

/// What a person says to an approval or a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalDecision {
    /// Do it.
    Accept,
    /// Do not do it; the turn goes on.
    Decline,
    /// Do not do it, and stop the turn.
    Cancel,
}

impl ApprovalDecision {
    /// The decision as clients spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Decline => "decline",
            Self::Cancel => "cancel",
        }
    }
}

/// How far an acceptance reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalScope {
    /// This once.
    #[default]
    Turn,
    /// The same action for the rest of the session.
    Session,
    /// The same action from now on, in every session: the runtime writes it to its configuration.
    Always,
}

impl ApprovalScope {
    /// The scope as clients spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Session => "session",
            Self::Always => "always",
        }
    }
}

/// Body of `POST /api/approvals/:id/decision`. The members behind `scope` are looked at when the
/// decision is to accept, and each is taken by one kind of request only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DecideApproval {
    /// The decision.
    pub decision: ApprovalDecision,
    /// How far it reaches. `session` and `always` only where the request offers them.
    #[serde(default)]
    pub scope: ApprovalScope,
    /// Kind `elicitation`: what the form asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Map<String, Value>>,
    /// Kind `permissions`: a part of what was asked for; absent: all of it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub permissions: Option<Map<String, Value>>,
    /// Kind `auth_refresh`: the tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<AuthTokens>,
}

impl DecideApproval {
    /// A decision without particulars.
    pub fn of(decision: ApprovalDecision, scope: ApprovalScope) -> Self {
        Self { decision, scope, content: None, permissions: None, tokens: None }
    }
}

/// Tokens of a ChatGPT login that somebody else keeps. They are shown to nobody but the runtime.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthTokens {
    /// The access token.
    #[schema(format = Password, min_length = 1, max_length = 16384)]
    #[serde(deserialize_with = "at_most::<MAX_SECRET, _, _>")]
    pub access_token: String,
    /// The workspace that it is for.
    #[schema(min_length = 1, max_length = 256)]
    #[serde(deserialize_with = "at_most::<MAX_NAME, _, _>")]
    pub chatgpt_account_id: String,
    /// The plan, when known.
    #[serde(default, deserialize_with = "at_most::<MAX_NAME, _, _>")]
    #[schema(max_length = 256)]
    pub chatgpt_plan_type: Option<String>,
}

impl fmt::Debug for AuthTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthTokens(…)")
    }
}

/// Body of `POST /api/tool-input/:id/decision`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DecideToolInput {
    /// The decision.
    pub decision: ApprovalDecision,
    /// Answers by question id: `{"q1":{"answers":["a"]}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, Answer>>)]
    pub answers: Option<BTreeMap<String, Value>>,
    /// Sent to the app-server as it is, instead of the answers.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub response: Option<Value>,
}

/// Body of `POST /api/tool-calls/:id/response`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RespondToolCall {
    /// Whether the tool did its work; `true` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
    /// What the agent gets to see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<ContentItem>>, max_items = 4096)]
    pub content_items: Option<Vec<Value>>,
    /// Short for one text item.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_TEXT, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(max_length = 1048576)]
    pub text: Option<String>,
    /// Sent to the app-server as it is, instead of the rest.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub response: Option<Value>,
}

/// What a person answers to one question.
#[derive(Debug, ToSchema)]
pub struct Answer {
    /// Labels of options, or any text where others are welcome.
    #[schema(max_items = 4096, max_length = 1048576)]
    pub answers: Vec<String>,
}

/// One piece of what a tool gives back.
#[derive(Debug, ToSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ContentItem {
    /// A text.
    InputText {
        /// The text.
        #[schema(max_length = 1048576)]
        text: String,
    },
    /// A picture.
    #[serde(rename_all = "camelCase")]
    InputImage {
        /// Where it is; may be a `data:` URL.
        #[schema(min_length = 1, max_length = 1048576)]
        image_url: String,
    },
}

/// Refuses `null`, which might be meant as nothing where absence means everything.
fn given<'de, D>(deserializer: D) -> Result<Option<Map<String, Value>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    Map::deserialize(deserializer).map(Some)
}

/// Tells a `null` that is there from a member that is absent.
pub(crate) fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Answer of the three decision routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decided {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// Set for approvals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub approval_id: Option<RequestId>,
    /// Set for questions and tool calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub request_id: Option<RequestId>,
    /// Session; `null` for what the runtime asks for itself.
    #[schema(required)]
    pub thread_id: Option<ThreadId>,
}
