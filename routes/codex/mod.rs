//! Operations that the Codex runtime answers itself: the manager asks it and passes on what it
//! says.
//!
//! - `capabilities`: what this version of the runtime has.
//! - `catalog`: models, apps, features and collaboration modes; `skills`, `mcp`.
//! - `account`, `config`: the runtime's login and configuration.
//! - `commands`: commands outside of a session, and feedback.

pub(crate) mod account;
pub(crate) mod capabilities;
pub(crate) mod catalog;
pub(crate) mod commands;
pub(crate) mod config;
pub(crate) mod mcp;
pub(crate) mod skills;

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use cm_actors::app_server::CallFailure;
use cm_core::ids::ThreadId;
use cm_core::rpc::RawJson;
use serde_json::{Map, Value, json};

use crate::answer::{ApiError, invalid};
use crate::api::Api;

/// One call of the runtime, and what its error says beside the method.
pub(crate) struct RuntimeCall<'a> {
    api: &'a Api,
    method: &'static str,
    deadline: Option<Duration>,
    background: bool,
    confidential: bool,
    details: Map<String, Value>,
}

impl<'a> RuntimeCall<'a> {
    /// A call of `method`.
    pub(crate) fn new(api: &'a Api, method: &'static str) -> Self {
        let details = Map::new();
        Self { api, method, deadline: None, background: false, confidential: false, details }
    }

    /// Gives it another deadline than the usual one.
    fn within(mut self, deadline: Option<Duration>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Leaves the places that turns need to turns, however long it takes.
    fn in_background(mut self) -> Self {
        self.background = true;
        self
    }

    /// Keeps the runtime's words out of its error: its params are secrets.
    fn confidential(mut self) -> Self {
        self.confidential = true;
        self
    }

    /// Adds a member to the details of its error.
    fn about(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Makes the call; `null` params are left out.
    ///
    /// # Errors
    ///
    /// 400, 401, 409, 501, 502, 503 or 504 with `details`.
    async fn run(self, params: Value) -> Result<RawJson, ApiError> {
        // Told from what it has, where it has said so: the call would list every method it knows.
        let status = self.api.app_server.status();
        let failure = match status.profile.has(self.method) {
            true => {
                let call =
                    self.api.app_server.call(self.method, params, self.deadline, self.background);
                match call.await {
                    Ok(result) => return Ok(result),
                    Err(error) if self.confidential => error.sign_in_failure(self.method),
                    Err(error) => error.failure(self.method),
                }
            }
            false => CallFailure::unknown_method(self.method),
        };
        let mut details = self.details;
        details.insert("method".to_owned(), Value::from(self.method));
        Err(ApiError::from(failure).with("details", details))
    }

    /// Answers with the runtime's own result.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    async fn pass_on(self, params: Value) -> Result<HttpResponse, ApiError> {
        let result = self.run(params).await?;
        Ok(HttpResponse::Ok().content_type(ContentType::json()).body(result.bytes()))
    }

    /// Answers `{status:"ok", result}`.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    async fn wrapped(self, params: Value) -> Result<HttpResponse, ApiError> {
        let result = self.run(params).await?;
        let body = [br#"{"status":"ok","result":"#, result.as_bytes(), b"}"].concat();
        Ok(HttpResponse::Ok().content_type(ContentType::json()).body(body))
    }

    /// Answers `{data, nextCursor}`, whatever else the runtime says and whatever it leaves out.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    async fn page(self, params: Value) -> Result<HttpResponse, ApiError> {
        let mut result = self.run(params).await?.value();
        let data = match result.get_mut("data").map(Value::take) {
            Some(data @ Value::Array(_)) => data,
            _ => Value::Array(Vec::new()),
        };
        let cursor = result.get("nextCursor").filter(|cursor| cursor.is_string());
        let page = json!({ "data": data, "nextCursor": cursor });
        Ok(HttpResponse::Ok().json(page))
    }
}

/// Trims a member and refuses a blank one.
fn trim(name: &str, value: &mut String) -> Result<(), ApiError> {
    let trimmed = value.trim();
    if trimmed.is_empty() {
        return Err(invalid(name, "must not be empty"));
    }
    if trimmed.len() != value.len() {
        *value = trimmed.to_owned();
    }
    Ok(())
}

/// Trims a member that may be absent and refuses a blank one.
fn trim_given(name: &str, value: &mut Option<String>) -> Result<(), ApiError> {
    value.as_mut().map_or(Ok(()), |value| trim(name, value))
}

/// The id by which the runtime knows a session's thread. What is no session of ours is passed on:
/// the runtime says what it thinks of it.
async fn runtime_thread(api: &Api, session: Option<String>) -> Option<String> {
    let session = session?;
    let Ok(id) = ThreadId::parse(&session) else { return Some(session) };
    let known = api.threads.runtime_id(&id).await;
    Some(known.map_or(session, |id| id.as_str().to_owned()))
}
