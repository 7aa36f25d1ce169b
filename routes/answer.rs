//! Errors as bodies. Every one has a code, a message and the request's id.

use std::fmt;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use cm_actors::handle::CallError;
use cm_actors::thread::SessionError;
use cm_core::error::{ErrorCode, Failure};
use cm_core::ids::ThreadId;
use cm_core::request::{Decision, ExpiryReason, Refusal, RequestFamily};
use cm_core::wire::ErrorBody;
use serde_json::{Map, Value, json};

/// An error on its way to a client.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    status: u16,
    body: Box<ErrorBody>,
}

impl ApiError {
    /// An error of a code, with `status:"error"`.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::worded(code, "error", message)
    }

    /// An error of a code with the word that version 1 has in `status`.
    pub(crate) fn worded(code: ErrorCode, word: &str, message: impl Into<String>) -> Self {
        let body = ErrorBody {
            status: word.to_owned(),
            code: Some(code.as_str().to_owned()),
            message: Some(message.into()),
            request_id: None,
            more: Map::new(),
        };
        Self { status: code.row().status, body: Box::new(body) }
    }

    /// Whether it has a code.
    pub(crate) fn is(&self, code: ErrorCode) -> bool {
        self.body.code.as_deref() == Some(code.as_str())
    }

    /// A member that was added.
    #[cfg(test)]
    pub(crate) fn member(&self, name: &str) -> Option<&Value> {
        self.body.more.get(name)
    }

    /// Adds a member.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.body.more.insert(name.to_owned(), value.into());
        self
    }

    /// Answers with another status than the code's own, where version 1 does.
    fn at(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Gives the code another name, where version 1 has one.
    fn named(mut self, code: &str) -> Self {
        self.body.code = Some(code.to_owned());
        self
    }

    /// Answers with version 1's status and word for the code.
    pub(crate) fn renamed(self, status: u16, code: &str) -> Self {
        self.at(status).named(code)
    }

    /// Its code and its message, for a list of what did not succeed.
    pub(crate) fn in_words(self) -> (String, String) {
        (self.body.code.unwrap_or_default(), self.body.message.unwrap_or_default())
    }

    /// A session that does not exist; the id may not even be well-formed.
    pub(crate) fn no_session(id: &str) -> Self {
        Self::worded(ErrorCode::NotFound, "not_found", "There is no such session.")
            .with("sessionId", id)
    }

    /// A request that does not exist.
    pub(crate) fn no_request(family: RequestFamily, id: &str) -> Self {
        Self::worded(ErrorCode::NotFound, "not_found", "There is no such request.")
            .with(id_name(family), id)
    }

    /// Says which call of the runtime failed, as version 1 does, where nothing more is known.
    pub(crate) fn of_call(self, method: &str, session: &str) -> Self {
        match self.body.more.is_empty() {
            true => self.with("details", json!({ "method": method, "sessionId": session })),
            false => self,
        }
    }

    /// An error of a session's route.
    pub(crate) fn session(error: SessionError) -> Self {
        match error {
            SessionError::NotFound(id) => Self::no_session(id.as_str()),
            SessionError::Deleted(deleted) => {
                let mut error = Self::worded(ErrorCode::Deleted, deleted.status, deleted.message)
                    .with("sessionId", deleted.session_id.as_str())
                    .with("deletedAt", deleted.deleted_at);
                if let Some(title) = deleted.title {
                    error = error.with("title", title);
                }
                error
            }
            SessionError::NotMaterialized(id) => Self::worded(
                ErrorCode::NotMaterialized,
                "not_materialized",
                "The session never had a turn, so the Codex runtime does not know it any more.",
            )
            .with("sessionId", id.as_str()),
            SessionError::NotInProject(id) => {
                Self::new(ErrorCode::InvalidState, "The session is no longer in the project.")
                    .with("sessionId", id.as_str())
            }
            SessionError::NoActiveTurn(id) => Self::worded(
                ErrorCode::InvalidState,
                "no_active_turn",
                "No such turn runs in this session.",
            )
            .with("sessionId", id.as_str()),
            SessionError::NoRequest(id) => Self::no_request(RequestFamily::Approval, id.as_str()),
            SessionError::Refused { id, thread_id, refusal } => {
                Self::refused(RequestFamily::Approval, id.as_str(), thread_id.as_ref(), refusal)
            }
            SessionError::Misfit(misfit) => invalid(&misfit.path, &misfit.message),
            SessionError::Failed(failure) => failure.into(),
        }
    }

    /// An error of a decision's route.
    pub(crate) fn decision(family: RequestFamily, error: SessionError) -> Self {
        match error {
            SessionError::NoRequest(id) => Self::no_request(family, id.as_str()),
            SessionError::Refused { id, thread_id, refusal } => {
                Self::refused(family, id.as_str(), thread_id.as_ref(), refusal)
            }
            // The session is gone, and its requests with it.
            SessionError::NotFound(_) | SessionError::Deleted(_) => Self::worded(
                ErrorCode::NotFound,
                "not_found",
                "The session of this request is gone.",
            ),
            other => Self::session(other),
        }
    }

    /// A request that was decided before or has expired: told what became of it, in version 1's
    /// shape of the list it is from.
    fn refused(
        family: RequestFamily,
        id: &str,
        thread_id: Option<&ThreadId>,
        refusal: Refusal,
    ) -> Self {
        let in_flight = matches!(refusal, Refusal::InFlight(_));
        if in_flight && family == RequestFamily::ToolCall {
            let message = "Another answer to this tool call is on its way.";
            return Self::worded(ErrorCode::AlreadyResolved, "conflict", message)
                .named("in_flight")
                .with(id_name(family), id);
        }
        let (code, message, decision, by, at) = match refusal {
            Refusal::InFlight(decision) | Refusal::Decided(decision) => {
                let Decision { label, by, at, .. } = *decision;
                let message = format!("The request was decided already: {label}.");
                (None, message, Value::from(label), Value::from(by), at)
            }
            Refusal::Expired { reason, at, decision } => {
                let mut message = expired(reason).to_owned();
                let (mut label, mut by) = (Value::Null, Value::Null);
                if let Some(decision) = decision {
                    let word = &decision.label;
                    message.push_str(&format!(
                        " It had been decided ({word}), but that is not known to have reached Codex."
                    ));
                    (label, by) = (Value::from(decision.label), Value::from(decision.by));
                }
                (Some("expired"), message, label, by, at)
            }
        };
        let error = match family {
            RequestFamily::Approval | RequestFamily::Extended => {
                Self::worded(ErrorCode::AlreadyResolved, "reconciled", message)
                    .named(code.unwrap_or("already_resolved"))
                    .with("threadId", thread_id.map(ThreadId::as_str))
            }
            RequestFamily::ToolInput | RequestFamily::ToolCall => {
                Self::worded(ErrorCode::AlreadyResolved, "not_found", message)
                    .named(code.unwrap_or("already_decided"))
                    .at(404)
            }
        };
        error.with(id_name(family), id).with("decision", decision).with("by", by).with("at", at)
    }
}

fn id_name(family: RequestFamily) -> &'static str {
    match family {
        RequestFamily::Approval | RequestFamily::Extended => "approvalId",
        RequestFamily::ToolInput | RequestFamily::ToolCall => "requestId",
    }
}

fn expired(reason: ExpiryReason) -> &'static str {
    match reason {
        ExpiryReason::TurnEnded => "The request expired: its turn has ended.",
        ExpiryReason::RuntimeDown => "The request expired: the Codex process that asked is gone.",
        ExpiryReason::ManagerRestarted => "The request expired: the manager was restarted.",
        ExpiryReason::SessionDeleted => "The request expired: its session was deleted.",
        ExpiryReason::ResolvedByRuntime => "The request expired: Codex no longer waits for it.",
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        Self::new(failure.code, failure.message)
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        error.failure("manager").into()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.body.message.as_deref().unwrap_or_default())
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status_code()).json(self.body.as_ref());
        // The middleware that knows the request's id writes the body anew with it.
        response.extensions_mut().insert(ErrorBody::clone(&self.body));
        response
    }
}

/// Issues of a body that is JSON but has the wrong shape.
pub(crate) fn invalid(path: &str, message: &str) -> ApiError {
    let path: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
    let issue = json!({ "code": "custom", "path": path, "message": message });
    ApiError::new(
        ErrorCode::InvalidRequest,
        if path.is_empty() {
            format!("request validation failed: {message}")
        } else {
            format!("request validation failed: `{}`: {message}", path.join("."))
        },
    )
    .with("issues", Value::Array(vec![issue]))
}
