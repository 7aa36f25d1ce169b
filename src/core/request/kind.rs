//! The kinds of request, and what answers each.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::wire::{ApprovalDecision, ApprovalScope};

/// What kind of answer a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// A command wants to run.
    CommandApproval,
    /// Files want to be changed.
    FileChangeApproval,
    /// `execCommandApproval` of old runtimes.
    LegacyCommandApproval,
    /// `applyPatchApproval` of old runtimes.
    LegacyPatchApproval,
    /// The agent asks questions.
    ToolInput,
    /// The agent calls a tool of the client.
    ToolCall,
    /// An MCP server asks the user for something.
    Elicitation,
    /// The agent wants to call a tool of an MCP server.
    McpToolApproval,
    /// The agent asks for more permissions.
    Permissions,
    /// The runtime needs fresh tokens from whoever gave it the login.
    AuthRefresh,
}

/// How requests are shown and decided: the three lists of version 1, and what it did not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestFamily {
    /// Approvals.
    Approval,
    /// Questions.
    ToolInput,
    /// Tool calls.
    ToolCall,
    /// Kinds that version 1 did not know: decided as approvals are, shown on demand.
    Extended,
}

/// Prefix of the id of the question by which 0.106 asks whether an MCP tool may be called.
const MCP_QUESTION: &str = "mcp_tool_call_approval_";

/// Whether questions ask whether an MCP tool may be called.
pub(crate) fn asks_for_mcp_tool(questions: &Value) -> bool {
    let id = questions.get(0).and_then(|question| question.get("id")).and_then(Value::as_str);
    id.is_some_and(|id| id.starts_with(MCP_QUESTION))
}

impl RequestKind {
    /// The kind of a server request, or `None` when this build has no answer for it.
    pub fn of_request(method: &str, params: &Value) -> Option<Self> {
        Some(match method {
            "item/commandExecution/requestApproval" => Self::CommandApproval,
            "item/fileChange/requestApproval" => Self::FileChangeApproval,
            "execCommandApproval" => Self::LegacyCommandApproval,
            "applyPatchApproval" => Self::LegacyPatchApproval,
            "item/tool/requestUserInput" | "tool/requestUserInput" => Self::ToolInput,
            "item/tool/call" => {
                let tool = params.get("tool").and_then(Value::as_str).map(str::trim);
                return tool.filter(|tool| !tool.is_empty()).map(|_| Self::ToolCall);
            }
            "mcpServer/elicitation/request" => {
                match params.pointer("/_meta/codex_approval_kind").and_then(Value::as_str) {
                    Some("mcp_tool_call") => Self::McpToolApproval,
                    _ => Self::Elicitation,
                }
            }
            "item/permissions/requestApproval" => Self::Permissions,
            "account/chatgptAuthTokens/refresh" => Self::AuthRefresh,
            _ => return None,
        })
    }

    /// The list that it is shown in.
    pub fn family(self) -> RequestFamily {
        match self {
            Self::CommandApproval
            | Self::FileChangeApproval
            | Self::LegacyCommandApproval
            | Self::LegacyPatchApproval => RequestFamily::Approval,
            Self::ToolInput => RequestFamily::ToolInput,
            Self::ToolCall => RequestFamily::ToolCall,
            Self::Elicitation | Self::McpToolApproval | Self::Permissions | Self::AuthRefresh => {
                RequestFamily::Extended
            }
        }
    }

    /// The kind as clients spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CommandApproval => "command_approval",
            Self::FileChangeApproval => "file_change_approval",
            Self::LegacyCommandApproval => "legacy_command_approval",
            Self::LegacyPatchApproval => "legacy_patch_approval",
            Self::ToolInput => "tool_input",
            Self::ToolCall => "tool_call",
            Self::Elicitation => "elicitation",
            Self::McpToolApproval => "mcp_tool_approval",
            Self::Permissions => "permissions",
            Self::AuthRefresh => "auth_refresh",
        }
    }

    /// Stem of the transcript row's type: `<stem>.request`, then `<stem>.resolved`.
    pub fn row_stem(self) -> &'static str {
        match self.family() {
            RequestFamily::Approval => "approval",
            _ => self.as_str(),
        }
    }

    /// Whether its answer must not be stored or shown.
    pub fn is_secret(self) -> bool {
        self == Self::AuthRefresh
    }

    /// The JSON-RPC result for a decision on an approval of version 1.
    pub(super) fn approval_result(self, decision: ApprovalDecision, scope: ApprovalScope) -> Value {
        let legacy = matches!(self, Self::LegacyCommandApproval | Self::LegacyPatchApproval);
        let word = match (legacy, decision, scope) {
            (false, ApprovalDecision::Accept, ApprovalScope::Session) => "acceptForSession",
            (false, ApprovalDecision::Accept, _) => "accept",
            (false, ApprovalDecision::Decline, _) => "decline",
            (false, ApprovalDecision::Cancel, _) => "cancel",
            (true, ApprovalDecision::Accept, ApprovalScope::Session) => "approved_for_session",
            (true, ApprovalDecision::Accept, _) => "approved",
            (true, ApprovalDecision::Decline, _) => "denied",
            (true, ApprovalDecision::Cancel, _) => "abort",
        };
        json!({ "decision": word })
    }

    /// The JSON-RPC result that refuses a request; `None` where only an error refuses it.
    pub fn refusal_result(self, decision: ApprovalDecision) -> Option<Value> {
        Some(match self {
            Self::CommandApproval
            | Self::FileChangeApproval
            | Self::LegacyCommandApproval
            | Self::LegacyPatchApproval => self.approval_result(decision, ApprovalScope::Turn),
            Self::ToolInput => json!({ "answers": {} }),
            Self::ToolCall => json!({
                "success": false,
                "contentItems": [{ "type": "inputText", "text": "the tool call was not answered" }],
            }),
            Self::Elicitation | Self::McpToolApproval => {
                json!({ "action": decision.as_str(), "content": null, "_meta": null })
            }
            // Nothing is granted.
            Self::Permissions => json!({ "permissions": {}, "scope": "turn" }),
            Self::AuthRefresh => return None,
        })
    }
}

impl RequestFamily {
    /// Prefix of the transcript row's id.
    pub fn row_prefix(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::ToolInput => "tool-input",
            Self::ToolCall => "tool-call",
            Self::Extended => "request",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_runtimes_get_their_own_words() {
        let legacy = RequestKind::LegacyCommandApproval;
        assert_eq!(
            legacy.approval_result(ApprovalDecision::Accept, ApprovalScope::Session),
            json!({"decision": "approved_for_session"})
        );
        let refusal = RequestKind::ToolInput.refusal_result(ApprovalDecision::Decline);
        assert_eq!(refusal, Some(json!({"answers": {}})));
    }

    #[test]
    fn a_request_is_known_by_its_method_and_what_it_asks_for() {
        let kind = |method: &str, params: Value| RequestKind::of_request(method, &params);
        let elicitation = "mcpServer/elicitation/request";
        let meta = |word: &str| json!({ "_meta": { "codex_approval_kind": word } });
        assert_eq!(kind(elicitation, json!({ "_meta": null })), Some(RequestKind::Elicitation));
        assert_eq!(kind(elicitation, meta("other")), Some(RequestKind::Elicitation));
        assert_eq!(kind(elicitation, meta("mcp_tool_call")), Some(RequestKind::McpToolApproval));
        let permissions = kind("item/permissions/requestApproval", json!({}));
        assert_eq!(permissions, Some(RequestKind::Permissions));
        let refresh = kind("account/chatgptAuthTokens/refresh", Value::Null);
        assert_eq!(refresh, Some(RequestKind::AuthRefresh));
        assert_eq!(kind("item/tool/call", json!({ "tool": " " })), None);
        assert_eq!(kind("item/tool/call", json!({ "tool": "t" })), Some(RequestKind::ToolCall));
        assert_eq!(kind("currentTime/read", json!({})), None);
    }

    #[test]
    fn words_are_those_of_stored_records() {
        for kind in [
            RequestKind::CommandApproval,
            RequestKind::LegacyPatchApproval,
            RequestKind::McpToolApproval,
            RequestKind::AuthRefresh,
        ] {
            assert_eq!(json!(kind), kind.as_str());
        }
    }
}
