//! The kinds of request, and what answers each.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::wire::{ApprovalDecision, ApprovalScope};

/// What kind of answer a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
}

/// The three lists that requests are shown in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestFamily {
    /// Approvals.
    Approval,
    /// Questions.
    ToolInput,
    /// Tool calls.
    ToolCall,
}

impl RequestKind {
    /// The kind of a server request, or `None` when this build has no answer for the method.
    pub fn of_method(method: &str) -> Option<Self> {
        Some(match method {
            "item/commandExecution/requestApproval" => Self::CommandApproval,
            "item/fileChange/requestApproval" => Self::FileChangeApproval,
            "execCommandApproval" => Self::LegacyCommandApproval,
            "applyPatchApproval" => Self::LegacyPatchApproval,
            "item/tool/requestUserInput" | "tool/requestUserInput" => Self::ToolInput,
            "item/tool/call" => Self::ToolCall,
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
        }
    }

    /// The JSON-RPC result for a decision on an approval.
    pub fn approval_result(self, decision: ApprovalDecision, scope: ApprovalScope) -> Value {
        let legacy = matches!(self, Self::LegacyCommandApproval | Self::LegacyPatchApproval);
        let word = match (legacy, decision, scope) {
            (false, ApprovalDecision::Accept, ApprovalScope::Turn) => "accept",
            (false, ApprovalDecision::Accept, ApprovalScope::Session) => "acceptForSession",
            (false, ApprovalDecision::Decline, _) => "decline",
            (false, ApprovalDecision::Cancel, _) => "cancel",
            (true, ApprovalDecision::Accept, ApprovalScope::Turn) => "approved",
            (true, ApprovalDecision::Accept, ApprovalScope::Session) => "approved_for_session",
            (true, ApprovalDecision::Decline, _) => "denied",
            (true, ApprovalDecision::Cancel, _) => "abort",
        };
        json!({ "decision": word })
    }

    /// The JSON-RPC result that refuses a request for which nobody answers.
    pub fn refusal_result(self) -> Value {
        match self.family() {
            RequestFamily::Approval => {
                self.approval_result(ApprovalDecision::Decline, ApprovalScope::Turn)
            }
            RequestFamily::ToolInput => json!({ "answers": {} }),
            RequestFamily::ToolCall => json!({
                "success": false,
                "contentItems": [{ "type": "inputText", "text": "the tool call was not answered" }],
            }),
        }
    }
}

impl RequestFamily {
    /// Prefix of the transcript row's id.
    pub fn row_prefix(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::ToolInput => "tool-input",
            Self::ToolCall => "tool-call",
        }
    }

    /// Stem of the transcript row's type: `<stem>.request`, then `<stem>.resolved`.
    pub fn row_stem(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::ToolInput => "tool_input",
            Self::ToolCall => "tool_call",
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
        assert_eq!(RequestKind::ToolInput.refusal_result(), json!({"answers": {}}));
    }
}
