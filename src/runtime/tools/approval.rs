//! Whether something may happen.

use serde_json::Value;

use crate::wire::Answer;

/// What an approval was answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Accept,
    AcceptForSession,
    /// The item is declined, the turn goes on.
    Decline,
    /// The item is declined and the turn interrupted.
    Cancel,
    /// No decision could be read; the item fails, the turn goes on.
    Malformed,
}

/// The decisions offered. codex lists fewer but honours these four; it also offers policy
/// amendments, which have no meaning here.
pub(super) const OFFERED: [&str; 4] = ["accept", "acceptForSession", "decline", "cancel"];

impl Decision {
    pub(super) fn of(answer: &Answer) -> Self {
        let decision = answer.as_ref().ok().and_then(|result| result["decision"].as_str());
        match decision {
            Some("accept") => Self::Accept,
            Some("acceptForSession") => Self::AcceptForSession,
            Some("decline") => Self::Decline,
            Some("cancel") => Self::Cancel,
            _ => Self::Malformed,
        }
    }

    /// The status and the reason of an item that did not happen; `None` when it may.
    pub(super) fn refusal(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Accept | Self::AcceptForSession => None,
            Self::Decline | Self::Cancel => Some(("declined", "rejected by user")),
            Self::Malformed => Some(("failed", "approval request failed")),
        }
    }
}

/// Reads a text out of a JSON value for a report, shortened.
pub(super) fn brief(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(200) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}
