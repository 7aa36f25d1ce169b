//! Approvals, questions and tool calls that wait for a person or a program.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{RequestId, ThreadId};

/// A list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListOf<T> {
    /// The rows, oldest first.
    pub data: Vec<T>,
}

/// A pending approval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Opaque id to decide with.
    pub approval_id: RequestId,
    /// The app-server's method.
    pub method: String,
    /// Session.
    pub thread_id: ThreadId,
    /// Turn, when the app-server named it.
    pub turn_id: Option<String>,
    /// Item, when the app-server named it.
    pub item_id: Option<String>,
    /// One line for a person.
    pub summary: String,
    /// The app-server's params, unchanged.
    pub details: Value,
    /// ISO-8601 UTC.
    pub created_at: String,
    /// `pending`; with `?status=all` also `resolved` and `expired`.
    pub status: String,
    /// Until when somebody has to decide, ISO-8601 UTC; absent: for ever. An addition to
    /// version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<String>,
}

/// A question that waits for answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolInput {
    /// Opaque id to decide with.
    pub request_id: RequestId,
    /// The app-server's method.
    pub method: String,
    /// Session.
    pub thread_id: ThreadId,
    /// Turn, when the app-server named it.
    pub turn_id: Option<String>,
    /// Item, when the app-server named it.
    pub item_id: Option<String>,
    /// One line for a person.
    pub summary: String,
    /// The questions.
    pub questions: Vec<Question>,
    /// The app-server's params, unchanged.
    pub details: Value,
    /// ISO-8601 UTC.
    pub created_at: String,
    /// `pending`; with `?status=all` also `resolved` and `expired`.
    pub status: String,
    /// Until when somebody has to decide, ISO-8601 UTC; absent: for ever. An addition to
    /// version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<String>,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// Key of the answer.
    pub id: String,
    /// Short heading.
    pub header: String,
    /// The question.
    pub question: String,
    /// What can be chosen; `null` for free text.
    pub options: Option<Vec<QuestionOption>>,
    /// Whether an answer outside of the options is welcome.
    pub is_other: bool,
    /// Whether the answer must not be shown.
    pub is_secret: bool,
}

/// One choice of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionOption {
    /// What to answer.
    pub label: String,
    /// What it means.
    pub description: String,
}

/// A call of a tool that the client offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolCall {
    /// Opaque id to answer with.
    pub request_id: RequestId,
    /// Always `item/tool/call`.
    pub method: String,
    /// Session.
    pub thread_id: ThreadId,
    /// Turn.
    pub turn_id: Option<String>,
    /// Item, when the app-server named it.
    pub item_id: Option<String>,
    /// The call's id.
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
    pub created_at: String,
    /// `pending`; with `?status=all` also `resolved` and `expired`.
    pub status: String,
    /// Until when somebody has to decide, ISO-8601 UTC; absent: for ever. An addition to
    /// version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<String>,
}

/// What a person says to an approval or a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalScope {
    /// This once.
    #[default]
    Turn,
    /// The same action for the rest of the session.
    Session,
}

impl ApprovalScope {
    /// The scope as clients spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Session => "session",
        }
    }
}

/// Body of `POST /api/approvals/:id/decision`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecideApproval {
    /// The decision.
    pub decision: ApprovalDecision,
    /// How far it reaches.
    #[serde(default)]
    pub scope: ApprovalScope,
}

/// Body of `POST /api/tool-input/:id/decision`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecideToolInput {
    /// The decision.
    pub decision: ApprovalDecision,
    /// Answers by question id: `{"q1":{"answers":["a"]}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<BTreeMap<String, Value>>,
    /// Sent to the app-server as it is, instead of the answers.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub response: Option<Value>,
}

/// Body of `POST /api/tool-calls/:id/response`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RespondToolCall {
    /// Whether the tool did its work; `true` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
    /// What the agent gets to see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_items: Option<Vec<Value>>,
    /// Short for one text item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Sent to the app-server as it is, instead of the rest.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub response: Option<Value>,
}

/// Tells a `null` that is there from a member that is absent.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Answer of the three decision routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decided {
    /// Always `ok`.
    pub status: String,
    /// Set for approvals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_id: Option<RequestId>,
    /// Set for questions and tool calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// Session.
    pub thread_id: ThreadId,
}
