//! Why a call to the child failed, and what clients are told.

use cm_core::error::{ErrorCode, Failure};
use cm_core::login::{LoginFailure, SIGN_IN_TOKENS, sign_in_refusal};
use cm_core::rpc::{RpcError, code};

/// Why a call to the child failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallFailure {
    /// The child answered with an error.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The child is not running, or ended before it answered.
    #[error("the app-server is not running")]
    Unavailable,
    /// The child did not answer in time. It may still do what it was asked.
    #[error("the app-server did not answer in time")]
    Timeout,
    /// Too many calls wait already.
    #[error("too many calls wait for the app-server")]
    Overloaded,
}

impl CallFailure {
    /// Whether the child says that it does not know the thread.
    ///
    /// Texts as codex 0.106 – 0.169 write them; the code is −32600, as for nearly everything.
    pub fn is_unknown_thread(&self) -> bool {
        let Self::Rpc(error) = self else { return false };
        let text = error.message.to_ascii_lowercase();
        [
            "thread not found",
            "conversation not found",
            "no rollout found for",
            "invalid thread id",
            "invalid conversation id",
            "thread not loaded",
        ]
        .iter()
        .any(|known| text.contains(known))
    }

    /// Whether the child did nothing, and says that it may be asked again shortly: it has too much to
    /// do, or is still closing the thread.
    ///
    /// Text as codex 0.106 – 0.171 write it for `thread/resume` right after `thread/unsubscribe`.
    pub fn asks_again(&self) -> bool {
        let Self::Rpc(error) = self else { return false };
        error.code == code::OVERLOADED || error.message.contains("is closing; retry")
    }

    /// Whether the child says that the turn that was named no longer runs.
    ///
    /// Texts as codex 0.106 – 0.169 write them for `turn/steer`.
    pub fn is_turn_over(&self) -> bool {
        let Self::Rpc(error) = self else { return false };
        let text = error.message.to_ascii_lowercase();
        text.contains("no active turn") || text.contains("expected active turn id")
    }

    /// Whether the child keeps a thread because forks refer to its history.
    ///
    /// Text as codex 0.169 writes it for `thread/delete`.
    pub fn is_forked_from(&self) -> bool {
        let Self::Rpc(error) = self else { return false };
        error.message.to_ascii_lowercase().contains("forked history still references")
    }

    /// Whether the child says that its login cannot be renewed any more.
    pub fn login_failure(&self) -> Option<LoginFailure> {
        let Self::Rpc(error) = self else { return None };
        LoginFailure::find(&error.message)
    }

    /// What clients are told about a method that this version of the child has not.
    pub fn unknown_method(method: &str) -> Failure {
        let message = format!("This version of the Codex runtime has no `{method}`.");
        Failure::new(ErrorCode::MethodNotSupported, message)
    }

    /// What clients are told about a sign-in that failed. None of the child's own words is in it:
    /// they may hold what it was given.
    pub fn sign_in_failure(&self, method: &str) -> Failure {
        let failure = self.failure(method);
        match self {
            Self::Rpc(error)
                if !matches!(
                    failure.code,
                    ErrorCode::MethodNotSupported | ErrorCode::LoginUsedUp
                ) =>
            {
                let why = sign_in_refusal(&error.message);
                // Codex calls it an error of its own.
                let code =
                    if why == SIGN_IN_TOKENS { ErrorCode::InvalidParams } else { failure.code };
                Failure::new(code, why)
            }
            _ => failure,
        }
    }

    /// What clients are told about a failed call of `method`.
    pub fn failure(&self, method: &str) -> Failure {
        match self {
            Self::Rpc(error) => rpc_failure(error, method, self.is_unknown_thread()),
            Self::Unavailable => Failure::new(
                ErrorCode::RuntimeUnavailable,
                "The Codex runtime is not running at the moment; it is started again by itself. \
                 See /api/runtime for its state.",
            ),
            Self::Timeout => Failure::new(
                ErrorCode::CodexTimeout,
                format!("The Codex runtime did not answer `{method}` in time."),
            ),
            Self::Overloaded => Failure::new(
                ErrorCode::Overloaded,
                "Too many calls wait for the Codex runtime; try again shortly.",
            ),
        }
    }
}

/// What a refused write of the configuration means. The child names the reason beside its words.
fn written_config(error: &RpcError) -> Option<ErrorCode> {
    let reason = error.data.as_ref()?.get("config_write_error_code")?.as_str()?;
    Some(match reason {
        // Somebody else wrote it meanwhile: the same write is right once it was read again.
        "configVersionConflict" => ErrorCode::InvalidState,
        _ => ErrorCode::InvalidParams,
    })
}

/// Whether the child says, in small letters here, that what it was given is wrong, not that the time
/// for it is.
///
/// Texts as codex 0.106 – 0.169 write them; the code is −32600, as for nearly everything.
fn is_bad_input(text: &str) -> bool {
    // A page of a list that has become shorter.
    let beyond = text.starts_with("cursor ") && text.contains("exceeds total");
    beyond
        || text.starts_with("invalid request: ")
        || [
            "missing field",
            "invalid type",
            "unknown variant",
            "invalid configuration",
            "absolutepathbuf deserialized",
            "invalid cursor",
            "invalid login id",
            "dynamic tool name",
            "must not be empty",
            "must be >= 1",
            "only writes to the user config are allowed",
            "failed to set external auth",
            "failed to spawn command",
        ]
        .iter()
        .any(|known| text.contains(known))
}

fn rpc_failure(error: &RpcError, method: &str, unknown_thread: bool) -> Failure {
    if let Some(login) = LoginFailure::find(&error.message) {
        return Failure::new(ErrorCode::LoginUsedUp, login.message());
    }
    let text = error.message.to_ascii_lowercase();
    let has = |known: &str| text.contains(known);
    let unknown_method = text
        .contains(&format!("unknown variant `{}`", method.to_ascii_lowercase()))
        || has("experimentalapi capability")
        || has("method not found")
        || error.code == code::METHOD_NOT_FOUND;
    let code = if unknown_method {
        ErrorCode::MethodNotSupported
    } else if has("already has an active writer") {
        ErrorCode::ThreadInUse
    } else if unknown_thread {
        ErrorCode::NotFound
    } else if let Some(written) = written_config(error) {
        written
    } else if has("failed to load configuration") {
        // It is what stands in the file, whatever is wrong with it: nothing of the call.
        ErrorCode::InvalidState
    } else if error.code == code::INVALID_PARAMS || is_bad_input(&text) {
        ErrorCode::InvalidParams
    } else if has("unauthorized") || has("authentication required") || has("missing bearer") {
        ErrorCode::AuthRequired
    } else if error.code == code::OVERLOADED {
        ErrorCode::Overloaded
    } else if has("error sending request") || has("dns error") || has("error trying to connect") {
        ErrorCode::UpstreamUnavailable
    } else if error.code == code::INVALID_REQUEST {
        ErrorCode::InvalidState
    } else {
        ErrorCode::CodexError
    };
    match code {
        // The child's own text lists every method of the build: several kilobytes.
        ErrorCode::MethodNotSupported => CallFailure::unknown_method(method),
        _ => Failure::new(code, error.message.chars().take(2_000).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn code_of(code: i64, message: &str) -> ErrorCode {
        let error = RpcError { code, message: message.to_owned(), data: None };
        CallFailure::Rpc(error).failure("thread/delete").code
    }

    #[test]
    fn a_failed_sign_in_repeats_nothing() {
        for code in [-32600, -32602, -32603, -32601, 7] {
            for message in
                ["invalid sk-secret", "missing field `sk-secret`", "unauthorized sk-secret"]
            {
                let error = RpcError { code, message: message.to_owned(), data: None };
                let failure = CallFailure::Rpc(error).sign_in_failure("account/login/start");
                assert!(!failure.message.contains("sk-secret"), "{failure:?}");
            }
        }
    }

    #[test]
    fn what_the_caller_got_wrong_is_told_so() {
        for text in [
            "Invalid configuration: invalid type: integer `7`, expected a string\nin `model`\n",
            "Invalid configuration: approval_policy = \"untrusted\" is no longer supported",
            "Invalid request: AbsolutePathBuf deserialized without a base path",
            "dynamic tool name has leading/trailing whitespace:  a ",
            "dynamic tool name must match ^[a-zA-Z0-9_-]+$ to match Responses API: a b!",
            "dynamic tool name is reserved: mcp__x",
            "duplicate dynamic tool name: a",
            "invalid cursor: bad",
            "cursor 999 exceeds total models 9",
            "keyPath segments must not be empty",
            "command must not be empty",
            "numTurns must be >= 1",
            "invalid login id: zzz",
            "Only writes to the user config are allowed",
        ] {
            assert_eq!(code_of(-32600, text), ErrorCode::InvalidParams, "{text}");
        }
        let written = |reason: &str, message: &str| {
            let data = Some(json!({ "config_write_error_code": reason }));
            let error = RpcError { code: -32600, message: message.to_owned(), data };
            CallFailure::Rpc(error).failure("config/value/write").code
        };
        let conflict =
            "Configuration was modified since last read. Fetch latest version and retry.";
        assert_eq!(written("configVersionConflict", conflict), ErrorCode::InvalidState);
        assert_eq!(written("configValidationError", "any words"), ErrorCode::InvalidParams);
        assert_eq!(written("configLayerReadonly", "any words"), ErrorCode::InvalidParams);
        assert_eq!(code_of(-32600, conflict), ErrorCode::InvalidState);
        let no_server = "No MCP server named 'nope' found.";
        assert_eq!(code_of(-32600, no_server), ErrorCode::InvalidState);
        let no_turn = "no active turn to interrupt";
        assert_eq!(code_of(-32600, no_turn), ErrorCode::InvalidState);
    }

    #[test]
    fn errors_are_told_apart_by_code_and_text() {
        let unknown = "Invalid request: unknown variant `thread/delete`, expected one of `a`";
        assert_eq!(code_of(-32600, unknown), ErrorCode::MethodNotSupported);
        let value = "Invalid request: unknown variant `sometimes`, expected one of `never`";
        assert_eq!(code_of(-32600, value), ErrorCode::InvalidParams);
        assert_eq!(code_of(-32600, "no rollout found for thread id x"), ErrorCode::NotFound);
        assert_eq!(
            code_of(-32600, "thread x already has an active writer"),
            ErrorCode::ThreadInUse
        );
        assert_eq!(code_of(-32600, "no active turn"), ErrorCode::InvalidState);
        assert_eq!(code_of(-32001, "Server overloaded; retry later."), ErrorCode::Overloaded);
        let upload =
            "failed to upload feedback: error sending request for url (https://a/): dns error";
        assert_eq!(code_of(-32603, upload), ErrorCode::UpstreamUnavailable);
        let token = "failed to set external auth: invalid ID token format";
        assert_eq!(code_of(-32603, token), ErrorCode::InvalidParams);
        assert_eq!(code_of(-32600, "invalid cursor: zzz"), ErrorCode::InvalidParams);
        let spawn = "failed to spawn command: No such file or directory (os error 2)";
        assert_eq!(code_of(-32603, spawn), ErrorCode::InvalidParams);
        assert_eq!(code_of(-32603, "boom"), ErrorCode::CodexError);
        let broken = "failed to load configuration: invalid type: unit variant, expected string";
        assert_eq!(code_of(-32600, broken), ErrorCode::InvalidState);
        let used = "Your access token could not be refreshed because your refresh token was \
                    already used. Please log out and sign in again.";
        assert_eq!(code_of(-32603, used), ErrorCode::LoginUsedUp);
    }
}
