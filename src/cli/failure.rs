//! What can go wrong, and how it is told to people, programs and the shell.

use std::io;
use std::time::Duration;

use cm_core::error::{ErrorCode, exit};
use cm_core::transcript::turn_error_advice;
use cm_core::wire::ErrorBody;
use serde_json::{Value, json};

/// Codes with which decision routes say that somebody was faster.
const DECIDED_CODES: [&str; 6] =
    ["already_resolved", "already_decided", "expired", "in_flight", "conflict", "not_eligible"];

/// An answer of the server that is not a success.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    /// HTTP status.
    pub(crate) status: u16,
    /// The body, as far as it is an error body.
    pub(crate) body: ErrorBody,
}

impl Refusal {
    /// Reads an answer.
    pub(crate) fn read(status: u16, body: &str) -> Self {
        let body = serde_json::from_str(body).unwrap_or_else(|_| ErrorBody {
            status: String::new(),
            code: None,
            message: None,
            request_id: None,
            more: serde_json::Map::new(),
        });
        Self { status, body }
    }

    /// The code, or the word in its place that version 1 uses.
    pub(crate) fn code(&self) -> &str {
        match self.body.code.as_deref() {
            Some(code) => code,
            None if self.body.status.is_empty() => "http_error",
            None => &self.body.status,
        }
    }

    fn known_code(&self) -> Option<ErrorCode> {
        ErrorCode::ALL.iter().copied().find(|code| code.as_str() == self.code())
    }

    /// Whether the request was decided by somebody else, or is over.
    pub(crate) fn is_decided_already(&self) -> bool {
        matches!(self.status, 404 | 409) && DECIDED_CODES.contains(&self.code())
    }

    /// Whether the same call may succeed a little later.
    pub(crate) fn is_passing(&self) -> bool {
        match self.known_code() {
            Some(code) => code.row().retryable && code.row().status == 503,
            None => self.status == 503,
        }
    }

    fn exit_code(&self) -> u8 {
        if self.is_decided_already() {
            return exit::CONFLICT;
        }
        if let Some(code) = self.known_code() {
            return code.row().exit;
        }
        match self.status {
            400 | 405 | 413 | 415 | 422 => exit::USAGE,
            401 | 403 => exit::DENIED,
            404 | 410 => exit::NOT_FOUND,
            409 | 423 => exit::CONFLICT,
            408 | 504 => exit::TIMEOUT,
            429 | 503 | 507 => exit::UNAVAILABLE,
            _ => exit::FAILURE,
        }
    }

    fn message(&self) -> String {
        if self.is_decided_already() {
            return self.decision_message();
        }
        match &self.body.message {
            Some(message) => message.clone(),
            None => format!("the server answered {} ({})", self.status, self.code()),
        }
    }

    fn decision_message(&self) -> String {
        let member = |name: &str| self.body.more.get(name).and_then(Value::as_str);
        if self.code() == "expired" {
            return "the request is over: its turn or the runtime ended before it was decided"
                .to_owned();
        }
        if self.code() == "in_flight" {
            return "the request is being answered by somebody else".to_owned();
        }
        let mut text = String::from("the request was decided already");
        if let Some(decision) = member("decision") {
            text.push_str(&format!(": {decision}"));
        }
        if let Some(by) = member("by") {
            text.push_str(&format!(" by {by}"));
        }
        if let Some(at) = member("at") {
            text.push_str(&format!(" at {at}"));
        }
        text
    }
}

/// Why a command did not do what it was asked to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line, a file that it names, or the environment is wrong.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers, or the connection broke.
    #[error("no Codex Manager answers at {url}")]
    Unreachable {
        /// The address that was tried.
        url: String,
        /// What the operating system said.
        reason: String,
    },
    /// The server said no.
    #[error("{}", .0.message())]
    Refused(Box<Refusal>),
    /// Something answered that is not Codex Manager, or a very different version of it.
    #[error("what {url} answered is not what Codex Manager answers")]
    BadAnswer {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A deadline passed.
    #[error("{what} took longer than {} s", limit.as_secs_f32())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// What was named is not the only one.
    #[error("{0}")]
    Ambiguous(String),
    /// The turn ended, but not well.
    #[error("the turn {status}{}", message.as_deref().map(|m| format!(": {m}")).unwrap_or_default())]
    Turn {
        /// `failed`, `was interrupted`, …
        status: String,
        /// Why, as the runtime said.
        message: Option<String>,
    },
    /// The turn completed, but what it asked for was declined because nobody could be asked.
    #[error("{0} request(s) were declined because there was no terminal to ask on")]
    NobodyToAsk(u32),
    /// The person at the keyboard said no to a question of the client itself.
    #[error("{0}")]
    NotConfirmed(&'static str),
    /// The person at the keyboard ended the command.
    #[error("interrupted")]
    Interrupted,
    /// Standard output cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// Whether whoever reads our output has gone: `… | head`. That is no failure.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether the same call may succeed a little later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_passing())
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Output(_) if self.is_closed_pipe() => exit::OK,
            Self::Usage(_) => exit::USAGE,
            Self::Unreachable { .. } => exit::UNREACHABLE,
            Self::Refused(refusal) => refusal.exit_code(),
            Self::BadAnswer { .. } | Self::Output(_) => exit::FAILURE,
            Self::TimedOut { .. } => exit::TIMEOUT,
            Self::NotFound(_) => exit::NOT_FOUND,
            Self::Ambiguous(_) => exit::CONFLICT,
            Self::Turn { .. } | Self::Interrupted => exit::TURN_FAILED,
            Self::NobodyToAsk(_) | Self::NotConfirmed(_) => exit::DENIED,
        }
    }

    /// The stable code.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Usage(_) => "usage",
            Self::Unreachable { .. } => "unreachable",
            Self::Refused(refusal) => refusal.code(),
            Self::BadAnswer { .. } => "bad_answer",
            Self::TimedOut { .. } => "timeout",
            Self::NotFound(_) => "not_found",
            Self::Ambiguous(_) => "ambiguous",
            Self::Turn { .. } => "turn_failed",
            Self::NobodyToAsk(_) => "nobody_to_ask",
            Self::NotConfirmed(_) => "not_confirmed",
            Self::Interrupted => "interrupted",
            Self::Output(_) => "output_failed",
        }
    }

    /// What is behind the primary sentence.
    pub(crate) fn detail(&self) -> Option<String> {
        match self {
            Self::Unreachable { reason, .. } | Self::BadAnswer { reason, .. } => {
                Some(reason.clone())
            }
            Self::Refused(refusal) => refusal.body.request_id.as_ref().map(|id| {
                format!("code {}, status {}, request {id}", refusal.code(), refusal.status)
            }),
            _ => None,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } => Some(
                "start one with `codex-manager serve`, let `codex-manager run --serve` start one, \
                 or name another with --server",
            ),
            Self::BadAnswer { .. } => {
                Some("check --server and --api-prefix, and that both sides have one version")
            }
            Self::Turn { message: Some(message), .. } => {
                turn_error_advice(&json!({ "message": message }))
            }
            Self::NobodyToAsk(_) => {
                Some("run it in a terminal, or say --yes or --no to answer without asking")
            }
            Self::Refused(refusal) => match refusal.code() {
                "unauthorized" => {
                    Some("give the server's token with --token-file or CODEX_MANAGER_BEARER_TOKEN")
                }
                "login_used_up" => Some(
                    "`codex-manager account adopt` takes over a fresh login of yours, or sign in \
                     for the home of this codex",
                ),
                "auth_required" | "runtime_unavailable" | "codex_not_found" => {
                    Some("`codex-manager doctor` says what is missing")
                }
                "not_found" | "deleted" => {
                    Some("`codex-manager sessions list` shows what there is")
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The failure as `--json` prints it.
    pub(crate) fn to_json(&self) -> Value {
        let mut error = json!({"code": self.code(), "message": self.to_string()});
        if let Self::Refused(refusal) = self {
            error["status"] = json!(refusal.status);
            if let Some(id) = &refusal.body.request_id {
                error["requestId"] = json!(id);
            }
            if refusal.is_decided_already() {
                for name in ["decision", "by", "at"] {
                    if let Some(value) = refusal.body.more.get(name) {
                        error[name] = value.clone();
                    }
                }
            }
        }
        if let Some(detail) = self.detail() {
            error["detail"] = json!(detail);
        }
        if let Some(hint) = self.hint() {
            error["hint"] = json!(hint);
        }
        json!({"ok": false, "error": error})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_without_a_login_says_how_to_log_in() {
        let turn = |message: &str| Failure::Turn {
            status: "failed".to_owned(),
            message: Some(message.to_owned()),
        };
        let hint = turn("unexpected status 401 Unauthorized: no key").hint();
        assert!(hint.is_some_and(|hint| hint.contains("codex login")), "{hint:?}");
        assert_eq!(turn("the model is busy").hint(), None);
    }

    fn refused(status: u16, body: &Value) -> Failure {
        Failure::Refused(Box::new(Refusal::read(status, &body.to_string())))
    }

    #[test]
    fn scripts_can_branch_on_the_exit_code() {
        for (status, body, code) in [
            (404, json!({"status": "not_found", "sessionId": "x"}), exit::NOT_FOUND),
            (
                409,
                json!({"status": "error", "code": "invalid_state", "message": "m"}),
                exit::CONFLICT,
            ),
            (423, json!({"status": "locked"}), exit::CONFLICT),
            (401, json!({"status": "error", "code": "unauthorized"}), exit::DENIED),
            (503, json!({"status": "error", "code": "runtime_unavailable"}), exit::UNAVAILABLE),
            (504, json!({"status": "error", "code": "codex_timeout"}), exit::TIMEOUT),
            (404, json!({"status": "not_found", "code": "already_decided"}), exit::CONFLICT),
            (409, json!({"status": "reconciled", "code": "expired"}), exit::CONFLICT),
            (418, json!("teapot"), exit::FAILURE),
        ] {
            assert_eq!(refused(status, &body).exit_code(), code, "{status} {body}");
        }
    }

    #[test]
    fn a_decision_that_came_too_late_says_what_was_decided() {
        let failure = refused(
            409,
            &json!({"status": "reconciled", "code": "already_resolved", "approvalId": "a",
                    "threadId": "t", "decision": "accept", "by": "dashboard", "at": "noon"}),
        );
        assert_eq!(
            failure.to_string(),
            "the request was decided already: accept by dashboard at noon"
        );
        assert_eq!(failure.to_json()["error"]["by"], "dashboard");
    }

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        assert!(
            refused(503, &json!({"status": "error", "code": "runtime_unavailable"})).is_passing()
        );
        assert!(!refused(504, &json!({"status": "error", "code": "codex_timeout"})).is_passing());
        assert!(!refused(409, &json!({"status": "error", "code": "thread_in_use"})).is_passing());
    }
}
