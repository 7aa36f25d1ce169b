//! The error table: every failure that leaves the program has a code from here.
//!
//! A code is stable: clients and scripts branch on it. Each one has a page in `docs/errors/`.

use serde::{Deserialize, Serialize};

/// What one error code means on every surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorRow {
    /// HTTP status.
    pub status: u16,
    /// WebSocket close code (RFC 6455 §7.4) when the error ends a stream.
    pub close: u16,
    /// Exit code of the command line client.
    pub exit: u8,
    /// Whether the same call may succeed later without anything being changed.
    pub retryable: bool,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal, $close:literal, $exit:expr, $retry:literal;)*) => {
        /// A stable error code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
        }

        impl ErrorCode {
            /// Every code, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as clients see it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The code's row.
            pub fn row(self) -> ErrorRow {
                match self {
                    $(Self::$variant => ErrorRow {
                        status: $status, close: $close, exit: $exit, retryable: $retry,
                    },)*
                }
            }
        }
    };
}

/// Exit codes of the program and of the command line client.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// Something unexpected failed.
    pub const FAILURE: u8 = 1;
    /// The command line or the configuration is wrong.
    pub const USAGE: u8 = 2;
    /// No server, or the connection broke.
    pub const UNREACHABLE: u8 = 3;
    /// What was named does not exist.
    pub const NOT_FOUND: u8 = 4;
    /// The state does not allow it: busy, locked, decided already.
    pub const CONFLICT: u8 = 5;
    /// Not allowed, or not signed in.
    pub const DENIED: u8 = 6;
    /// A deadline passed.
    pub const TIMEOUT: u8 = 7;
    /// The turn failed or was interrupted.
    pub const TURN_FAILED: u8 = 8;
    /// The server or its child is not able to serve now.
    pub const UNAVAILABLE: u8 = 9;
}

error_codes! {
    /// The body or query has the wrong shape.
    InvalidRequest = "invalid_request", 400, 1007, exit::USAGE, false;
    /// The request could not be read at all: malformed JSON, empty body, bad encoding.
    RequestFailed = "request_failed", 400, 1007, exit::USAGE, false;
    /// The app-server refused the parameters.
    InvalidParams = "invalid_params", 400, 1007, exit::USAGE, false;
    /// A token is needed and was not given, or is wrong.
    Unauthorized = "unauthorized", 401, 1008, exit::DENIED, false;
    /// The app-server wants a login first.
    AuthRequired = "auth_required", 401, 1008, exit::DENIED, false;
    /// The app-server's login cannot be renewed any more.
    LoginUsedUp = "login_used_up", 401, 1008, exit::DENIED, false;
    /// The `Host` header names a host that this server does not answer for.
    HostNotAllowed = "host_not_allowed", 403, 1008, exit::DENIED, false;
    /// The `Origin` header names a page that may not talk to this server.
    OriginNotAllowed = "origin_not_allowed", 403, 1008, exit::DENIED, false;
    /// A writable workspace would contain the manager's own state.
    UnsafeWorkspace = "unsafe_workspace", 403, 1008, exit::DENIED, false;
    /// What was named does not exist.
    NotFound = "not_found", 404, 1008, exit::NOT_FOUND, false;
    /// The state of the session does not allow it now.
    InvalidState = "invalid_state", 409, 1008, exit::CONFLICT, false;
    /// The session never had a turn.
    NotMaterialized = "not_materialized", 409, 1008, exit::CONFLICT, false;
    /// Another project has the name.
    DuplicateName = "duplicate_name", 409, 1008, exit::CONFLICT, false;
    /// The project has sessions.
    ProjectNotEmpty = "project_not_empty", 409, 1008, exit::CONFLICT, false;
    /// The request was decided already.
    AlreadyResolved = "already_resolved", 409, 1008, exit::CONFLICT, false;
    /// Another process holds the thread.
    ThreadInUse = "thread_in_use", 409, 1008, exit::CONFLICT, true;
    /// A request with this idempotency key runs and has not ended in time.
    RequestInProgress = "request_in_progress", 409, 1008, exit::CONFLICT, true;
    /// A request with this idempotency key began, and how far it came is not known.
    OutcomeUnknown = "outcome_unknown", 409, 1008, exit::CONFLICT, false;
    /// A request with this idempotency key was carried out, and its answer is not kept.
    AnswerNotKept = "answer_not_kept", 409, 1008, exit::CONFLICT, false;
    /// The idempotency key belongs to another request.
    KeyReused = "idempotency_key_reused", 422, 1008, exit::USAGE, false;
    /// The configuration keeps clients from changing it.
    Locked = "locked", 423, 1008, exit::CONFLICT, false;
    /// The session was deleted.
    Deleted = "deleted", 410, 1008, exit::NOT_FOUND, false;
    /// The body is larger than the limit.
    TooLarge = "too_large", 413, 1009, exit::USAGE, false;
    /// The content type is not JSON.
    UnsupportedMediaType = "unsupported_media_type", 415, 1003, exit::USAGE, false;
    /// Something failed that the manager did not foresee.
    Internal = "internal_error", 500, 1011, exit::FAILURE, false;
    /// The app-server answered with an error of no known class.
    CodexError = "codex_error", 502, 1011, exit::FAILURE, false;
    /// This version of the app-server has no such method.
    MethodNotSupported = "method_not_supported", 501, 1008, exit::FAILURE, false;
    /// A bounded queue is full.
    Overloaded = "overloaded", 503, 1013, exit::UNAVAILABLE, true;
    /// The app-server is not running: starting, restarting, or failed.
    RuntimeUnavailable = "runtime_unavailable", 503, 1013, exit::UNAVAILABLE, true;
    /// The app-server could not reach a service that it needs.
    UpstreamUnavailable = "upstream_unavailable", 503, 1013, exit::UNAVAILABLE, true;
    /// The manager is stopping.
    ShuttingDown = "shutting_down", 503, 1001, exit::UNAVAILABLE, true;
    /// The queue of background jobs is off.
    JobConflict = "job_conflict", 503, 1013, exit::UNAVAILABLE, false;
    /// The app-server did not answer in time.
    CodexTimeout = "codex_timeout", 504, 1011, exit::TIMEOUT, true;
    /// Part of the manager did not answer in time.
    DeadlineExceeded = "deadline_exceeded", 504, 1011, exit::TIMEOUT, true;
    /// The store cannot be written: disk full, read-only, broken.
    StoreUnavailable = "store_unavailable", 507, 1011, exit::UNAVAILABLE, true;
    /// A client fell further behind the stream than the ring reaches back.
    StreamGap = "stream_gap", 503, 1013, exit::UNAVAILABLE, true;
    /// The configuration is wrong.
    InvalidConfig = "invalid_config", 500, 1011, exit::USAGE, false;
    /// The port is taken.
    PortInUse = "port_in_use", 500, 1011, exit::CONFLICT, true;
    /// The data directory cannot be used.
    DataDirUnusable = "data_dir_unusable", 500, 1011, exit::USAGE, false;
    /// Another manager runs on the data directory.
    DataDirInUse = "data_dir_in_use", 500, 1011, exit::CONFLICT, true;
    /// `codex` was asked for and cannot be started.
    CodexNotFound = "codex_not_found", 500, 1011, exit::USAGE, false;
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure with its code and a sentence that a person can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The stable code.
    pub code: ErrorCode,
    /// What happened and what to do, as a sentence.
    pub message: String,
}

impl Failure {
    /// Makes a failure.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_what_the_documents_say() {
        let table: Vec<String> = ErrorCode::ALL
            .iter()
            .map(|code| {
                let row = code.row();
                format!(
                    "{:<24} http {} close {} exit {} {}",
                    code.as_str(),
                    row.status,
                    row.close,
                    row.exit,
                    if row.retryable { "retryable" } else { "final" }
                )
            })
            .collect();
        insta::assert_snapshot!(table.join("\n"));
    }

    #[test]
    fn codes_are_unique() {
        let mut texts: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), ErrorCode::ALL.len());
    }
}
