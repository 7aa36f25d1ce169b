//! Transcript rows: what a person or program sees of items, requests and failed turns.

use serde_json::{Map, Value, json};

use crate::error::ErrorCode;
use crate::login::{LOGIN_ADVICE, LoginFailure};
use crate::request::{RequestFamily, RequestKind, RequestRecord, asks_for_mcp_tool};
use crate::thread::{ItemRecord, ItemState, TurnRecord, TurnStatus};
use crate::wire::{
    AgentRequest, Approval, Question, QuestionOption, Role, RowStatus, ToolCall, ToolInput,
    TranscriptEntry,
};

/// The row of an item, as the runtime wrote it. `turn` gives the times and the fate of items that
/// were never completed.
pub fn item_row(record: &ItemRecord, item: &Value, turn: Option<&TurnRecord>) -> TranscriptEntry {
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    let kind = record.kind.clone();
    let status = text("status").unwrap_or("unknown");
    let (role, content) = match kind.as_str() {
        "userMessage" => (Role::User, user_text(item)),
        "agentMessage" => (Role::Assistant, text("text").unwrap_or_default().to_owned()),
        "commandExecution" => {
            let command = text("command").unwrap_or("(unknown command)");
            (Role::System, format!("Command execution {status}: {command}"))
        }
        "fileChange" => {
            let count = item.get("changes").and_then(Value::as_array).map_or(0, Vec::len);
            let noun = if count == 1 { "change" } else { "changes" };
            (Role::System, format!("File change {status}: {count} {noun}"))
        }
        "mcpToolCall" => {
            let server = text("server").unwrap_or("unknown-server");
            let tool = text("tool").unwrap_or("unknown-tool");
            (Role::System, format!("Tool {server}/{tool} {status}"))
        }
        "reasoning" => (Role::System, "Reasoning update".to_owned()),
        "plan" => match text("text") {
            Some(plan) => (Role::System, format!("Plan: {plan}")),
            None => (Role::System, "Plan update".to_owned()),
        },
        other => (Role::System, format!("[{other}]")),
    };
    let details = (role == Role::System)
        .then(|| serde_json::to_string_pretty(item).unwrap_or_else(|_| item.to_string()));
    let row_status = match record.state {
        ItemState::Completed if matches!(status, "failed" | "errored") => RowStatus::Error,
        ItemState::Completed => RowStatus::Complete,
        ItemState::Open if turn.is_none_or(|turn| turn.status == TurnStatus::InProgress) => {
            RowStatus::Streaming
        }
        // An open item of a turn that is over was forgotten among many: it is discarded too.
        ItemState::Open | ItemState::Discarded => match turn.map(|turn| turn.status) {
            Some(TurnStatus::Failed) => RowStatus::Error,
            Some(TurnStatus::Completed) => RowStatus::Complete,
            _ => RowStatus::Canceled,
        },
    };
    TranscriptEntry {
        message_id: record.id.clone(),
        turn_id: record.turn_id.clone(),
        role,
        kind,
        content,
        details,
        started_at: record.started_ms.or_else(|| turn.map(|turn| turn.started_ms)),
        completed_at: record.ended_ms.or_else(|| turn.and_then(|turn| turn.ended_ms)),
        status: row_status,
    }
}

/// The row that stands where older rows were dropped, because the session's items were more than
/// is kept.
pub fn trimmed_row(dropped: u64) -> TranscriptEntry {
    TranscriptEntry {
        message_id: "history-trimmed".to_owned(),
        turn_id: "history".to_owned(),
        role: Role::System,
        kind: "history.trimmed".to_owned(),
        content: format!(
            "Older rows of this session were dropped: its first {dropped} rows are gone. \
             CODEX_MANAGER_THREAD_ITEMS_BYTES says how much is kept of a session."
        ),
        details: None,
        started_at: None,
        completed_at: None,
        status: RowStatus::Complete,
    }
}

/// The text of a user's message: its inputs, one a line.
pub(crate) fn user_text(item: &Value) -> String {
    let Some(inputs) = item.get("content").and_then(Value::as_array) else {
        return item.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
    };
    let lines: Vec<String> = inputs
        .iter()
        .map(|input| {
            let text = |name: &str| input.get(name).and_then(Value::as_str).unwrap_or_default();
            match text("type") {
                "text" => text("text").to_owned(),
                "image" => format!("[image] {}", text("url")),
                kind @ ("localImage" | "skill" | "mention") => format!("[{kind}] {}", text("path")),
                other => format!("[{other}]"),
            }
        })
        .collect();
    lines.join("\n").trim().to_owned()
}

/// The row that shows why a turn failed or was cut off; `None` for a turn that ended well.
pub fn turn_row(turn: &TurnRecord) -> Option<TranscriptEntry> {
    let (kind, status, word) = match turn.status {
        TurnStatus::Failed => ("turn.error", RowStatus::Error, "Turn failed"),
        TurnStatus::Interrupted => ("turn.interrupted", RowStatus::Canceled, "Turn interrupted"),
        TurnStatus::Completed | TurnStatus::InProgress => return None,
    };
    let why = turn.error.as_ref().and_then(|error| error.get("message")).and_then(Value::as_str);
    if turn.status == TurnStatus::Interrupted && why.is_none() {
        return None;
    }
    let mut content = why.map_or_else(|| word.to_owned(), |why| format!("{word}: {why}"));
    if let Some(advice) = turn.error.as_ref().and_then(turn_error_advice) {
        content.push_str(". ");
        content.push_str(advice);
    }
    Some(TranscriptEntry {
        message_id: format!("turn-{}", turn.id),
        turn_id: turn.id.clone(),
        role: Role::System,
        kind: kind.to_owned(),
        content,
        details: turn.error.as_ref().map(turn_error_details),
        started_at: Some(turn.started_ms),
        completed_at: turn.ended_ms,
        status,
    })
}

/// What a person can do about the error of a turn, as a sentence; `None` when only the error itself
/// knows.
///
/// Codex names the status of the model's answer inside of `codexErrorInfo`
/// (`{"httpConnectionFailed":{"httpStatusCode":401}}` and its siblings) or says `unauthorized`
/// there; 0.140 says `other`, and only the message tells.
pub fn turn_error_advice(error: &Value) -> Option<&'static str> {
    if login_failure(error).is_some() {
        return Some(LOGIN_ADVICE);
    }
    let info = error.get("codexErrorInfo").unwrap_or(&Value::Null);
    let status = info
        .as_object()
        .and_then(|kinds| kinds.values().find_map(|kind| kind.get("httpStatusCode")))
        .and_then(Value::as_u64);
    let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
    let unauthorized = info == "unauthorized"
        || status == Some(401)
        || message.starts_with("unexpected status 401 ");
    unauthorized.then_some(
        "Codex is not signed in, or its login is refused: set OPENAI_API_KEY, sign in with \
         `codex login` (CODEX_HOME as /api/runtime shows it), or start with --runtime embedded.",
    )
}

/// The id of a request's row, and the turn that it is shown in.
pub fn request_row_ids(record: &RequestRecord) -> (String, String) {
    let prefix = record.kind.family().row_prefix();
    let turn_id = record.turn_id.clone().unwrap_or_else(|| prefix.to_owned());
    (format!("{prefix}-{}", record.id), turn_id)
}

/// Why the login could not be renewed, if that is why a turn failed.
pub fn login_failure(error: &Value) -> Option<LoginFailure> {
    LoginFailure::find(error.get("message")?.as_str()?)
}

/// The error of a turn, with our own code beside it where there is one.
fn turn_error_details(error: &Value) -> String {
    let mut error = error.clone();
    if login_failure(&error).is_some()
        && let Some(members) = error.as_object_mut()
    {
        members.insert("code".to_owned(), ErrorCode::LoginUsedUp.as_str().into());
    }
    error.to_string()
}

/// The row of a request: `approval.request`, and `approval.resolved` once it ended.
pub fn request_row(record: &RequestRecord) -> TranscriptEntry {
    let family = record.kind.family();
    let stem = record.kind.row_stem();
    let ended = !matches!(record.status(), "pending");
    let mut details = Map::new();
    let id_name = if family == RequestFamily::Approval { "approvalId" } else { "requestId" };
    let content = if ended {
        details.insert(id_name.to_owned(), json!(record.id));
        details.insert("status".to_owned(), json!(record.status()));
        let mut particulars = String::new();
        if let Some(decision) = record.decision().filter(|_| record.status() == "resolved") {
            match (family, decision.success) {
                (RequestFamily::ToolCall, success) => {
                    let success = success.unwrap_or(true);
                    details.insert("success".to_owned(), json!(success));
                    particulars = format!(" (success={success})");
                }
                _ => {
                    details.insert("decision".to_owned(), json!(decision.label));
                    if let Some(scope) = &decision.scope {
                        details.insert("scope".to_owned(), json!(scope));
                    }
                    particulars = format!(" ({})", decision.label);
                }
            }
        }
        let word = match record.kind {
            RequestKind::ToolInput => "Tool input",
            RequestKind::ToolCall => "Tool call",
            RequestKind::Elicitation => "Elicitation",
            RequestKind::McpToolApproval => "MCP tool approval",
            RequestKind::Permissions => "Permissions",
            RequestKind::AuthRefresh => "Token refresh",
            RequestKind::CommandApproval
            | RequestKind::FileChangeApproval
            | RequestKind::LegacyCommandApproval
            | RequestKind::LegacyPatchApproval => "Approval",
        };
        format!("{word} {}{particulars}", record.status())
    } else {
        details.insert(id_name.to_owned(), json!(record.id));
        details.insert("method".to_owned(), json!(record.method));
        details.insert("createdAt".to_owned(), json!(record.created_at));
        if let Value::Object(params) = &record.params {
            details.extend(params.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        summary(record)
    };
    let (message_id, turn_id) = request_row_ids(record);
    TranscriptEntry {
        message_id,
        turn_id,
        role: Role::System,
        kind: format!("{stem}.{}", if ended { "resolved" } else { "request" }),
        content,
        details: serde_json::to_string_pretty(&details).ok(),
        started_at: Some(record.created_ms),
        completed_at: record.ended_ms,
        status: RowStatus::Complete,
    }
}

/// One line for a person.
pub fn summary(record: &RequestRecord) -> String {
    use RequestKind as Kind;
    let text = |name: &str| record.params.get(name).and_then(Value::as_str);
    let with = |what: &str, more: Option<&str>| match more {
        Some(more) => format!("{what}: {more}"),
        None => what.to_owned(),
    };
    match record.kind {
        Kind::CommandApproval => {
            with("Command approval required", text("command").or_else(|| text("reason")))
        }
        Kind::FileChangeApproval => with("File change approval required", text("reason")),
        Kind::LegacyCommandApproval => {
            let words = record.params.get("command").and_then(Value::as_array);
            let words: Vec<&str> = words.into_iter().flatten().filter_map(Value::as_str).collect();
            words.join(" ")
        }
        Kind::LegacyPatchApproval => with("Patch approval required", text("reason")),
        Kind::ToolInput => {
            let questions = record.params.get("questions").unwrap_or(&Value::Null);
            if asks_for_mcp_tool(questions) {
                let question = questions.pointer("/0/question").and_then(Value::as_str);
                return with("MCP tool approval required", question);
            }
            let count = questions.as_array().map_or(0, Vec::len);
            let noun = if count == 1 { "question" } else { "questions" };
            format!("Tool input required ({count} {noun})")
        }
        Kind::ToolCall => {
            format!("Tool call requested: {}", text("tool").unwrap_or_default().trim())
        }
        Kind::Elicitation => {
            let server = text("serverName").unwrap_or("An MCP server");
            let what = match text("url") {
                Some(url) => format!("{server} asks to open {url}"),
                None => format!("{server} asks"),
            };
            with(&what, text("message"))
        }
        Kind::McpToolApproval => with("MCP tool approval required", text("message")),
        Kind::Permissions => with("Permissions required", text("reason")),
        Kind::AuthRefresh => with("Fresh ChatGPT tokens required", text("reason")),
    }
}

/// A request of any kind as clients see it.
pub fn agent_request(record: &RequestRecord) -> AgentRequest {
    let id = &record.id;
    AgentRequest {
        request_id: id.clone(),
        kind: record.kind,
        method: record.method.clone(),
        thread_id: record.thread_id.clone(),
        turn_id: record.turn_id.clone(),
        item_id: record.item_id.clone(),
        summary: summary(record),
        details: record.params.clone(),
        created_at: record.created_at.clone(),
        status: record.status().to_owned(),
        answer_href: match record.kind.family() {
            RequestFamily::Approval | RequestFamily::Extended => {
                format!("/api/approvals/{id}/decision")
            }
            RequestFamily::ToolInput => format!("/api/tool-input/{id}/decision"),
            RequestFamily::ToolCall => format!("/api/tool-calls/{id}/response"),
        },
        deadline_at: record.deadline_at.clone(),
    }
}

/// The approval as clients see it; `None` for what belongs to no session.
pub fn approval(record: &RequestRecord) -> Option<Approval> {
    Some(Approval {
        approval_id: record.id.clone(),
        kind: Some(record.kind),
        method: record.method.clone(),
        thread_id: record.thread_id.clone()?,
        turn_id: record.turn_id.clone(),
        item_id: record.item_id.clone(),
        summary: summary(record),
        details: record.params.clone(),
        created_at: record.created_at.clone(),
        status: record.status().to_owned(),
        deadline_at: record.deadline_at.clone(),
    })
}

/// The question as clients see it; `None` for what belongs to no session. Malformed questions and
/// options are left out.
pub fn tool_input(record: &RequestRecord) -> Option<ToolInput> {
    let text =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let flag =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
    let option = |value: &Value| {
        Some(QuestionOption {
            label: text(value, "label")?,
            description: text(value, "description").unwrap_or_default(),
        })
    };
    let questions = record.params.get("questions").and_then(Value::as_array);
    let questions = questions
        .into_iter()
        .flatten()
        .filter_map(|value| {
            Some(Question {
                id: text(value, "id")?,
                header: text(value, "header")?,
                question: text(value, "question")?,
                options: value
                    .get("options")
                    .and_then(Value::as_array)
                    .map(|options| options.iter().filter_map(option).collect()),
                is_other: flag(value, "isOther"),
                is_secret: flag(value, "isSecret"),
            })
        })
        .collect();
    Some(ToolInput {
        request_id: record.id.clone(),
        method: record.method.clone(),
        thread_id: record.thread_id.clone()?,
        turn_id: record.turn_id.clone(),
        item_id: record.item_id.clone(),
        summary: summary(record),
        questions,
        details: record.params.clone(),
        created_at: record.created_at.clone(),
        status: record.status().to_owned(),
        deadline_at: record.deadline_at.clone(),
    })
}

/// The tool call as clients see it; `None` for what belongs to no session.
pub fn tool_call(record: &RequestRecord) -> Option<ToolCall> {
    let tool = record.params.get("tool").and_then(Value::as_str).unwrap_or_default();
    Some(ToolCall {
        request_id: record.id.clone(),
        method: record.method.clone(),
        thread_id: record.thread_id.clone()?,
        turn_id: record.turn_id.clone(),
        item_id: record.item_id.clone(),
        call_id: record.call_id.clone(),
        tool: tool.trim().to_owned(),
        arguments: record.params.get("arguments").cloned().unwrap_or(Value::Null),
        summary: summary(record),
        details: record.params.clone(),
        created_at: record.created_at.clone(),
        status: record.status().to_owned(),
        deadline_at: record.deadline_at.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_login_is_told_from_other_errors_in_every_spelling() {
        let refused = [
            json!({ "codexErrorInfo": "unauthorized" }),
            json!({ "codexErrorInfo": { "httpConnectionFailed": { "httpStatusCode": 401 } } }),
            json!({ "codexErrorInfo": "other", "message": "unexpected status 401 Unauthorized" }),
        ];
        assert!(refused.iter().all(|error| turn_error_advice(error).is_some()));
        let others = [
            json!({ "codexErrorInfo": { "httpConnectionFailed": { "httpStatusCode": 500 } } }),
            json!({ "codexErrorInfo": "usageLimitExceeded", "message": "the limit is 401 tokens" }),
            json!({ "codexErrorInfo": { "responseTooManyFailedAttempts": {} } }),
            Value::Null,
        ];
        assert!(others.iter().all(|error| turn_error_advice(error).is_none()));
    }
}
