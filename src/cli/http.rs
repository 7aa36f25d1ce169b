//! REST calls: one at a time, each with a deadline.

use std::io;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::StatusCode;
use ureq::{Agent, Timeout};

use crate::endpoint::Endpoint;
use crate::failure::{Failure, Refusal};

/// Largest answer that is read, in bytes. A transcript may be long; more than this is an error.
const MAX_ANSWER_BYTES: u64 = 256 * 1024 * 1024;

/// The server's REST side.
#[derive(Clone)]
pub(crate) struct Api {
    agent: Agent,
    endpoint: Endpoint,
    token: Option<String>,
    timeout: Duration,
}

impl Api {
    /// A client of the given server. Nothing is sent yet.
    pub(crate) fn new(endpoint: Endpoint, token: Option<String>, timeout: Duration) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // The manager is on this machine or at the end of a tunnel: a proxy of the environment
            // is for other traffic, and must not see the token.
            .proxy(None)
            .timeout_global(Some(timeout))
            .user_agent(concat!("codex-manager-cli/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: Agent::new_with_config(config), endpoint, token, timeout }
    }

    /// The same client with another deadline.
    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        Self::new(self.endpoint.clone(), self.token.clone(), timeout)
    }

    /// Where the server is.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The token, if there is one.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// How long one answer may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// `GET`, typed.
    pub(crate) fn get<T: DeserializeOwned>(&self, route: &str) -> Result<T, Failure> {
        self.typed(route, self.get_value(route)?)
    }

    /// `GET`.
    pub(crate) fn get_value(&self, route: &str) -> Result<Value, Failure> {
        let request = self.agent.get(self.endpoint.url(route));
        self.finish(route, self.authorised(request).call())
    }

    /// `DELETE`.
    pub(crate) fn delete(&self, route: &str) -> Result<Value, Failure> {
        let request = self.agent.delete(self.endpoint.url(route));
        self.finish(route, self.authorised(request).call())
    }

    /// `POST` of a JSON body, typed.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        route: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.typed(route, self.post_value(route, body)?)
    }

    /// `POST` of a JSON body.
    pub(crate) fn post_value(&self, route: &str, body: &impl Serialize) -> Result<Value, Failure> {
        let request = self.agent.post(self.endpoint.url(route));
        self.finish(route, self.authorised(request).send_json(body))
    }

    fn authorised<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        let request = request.header("Accept", "application/json");
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// Reads a value as a type.
    pub(crate) fn typed<T: DeserializeOwned>(
        &self,
        route: &str,
        value: Value,
    ) -> Result<T, Failure> {
        serde_json::from_value(value).map_err(|error| self.bad_answer(route, error.to_string()))
    }

    fn finish(
        &self,
        route: &str,
        outcome: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value, Failure> {
        let mut response = outcome.map_err(|error| self.broken(route, error))?;
        let status = response.status();
        let text = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER_BYTES)
            .lossy_utf8(true)
            .read_to_string()
            .map_err(|error| self.broken(route, error))?;
        self.read(route, status, &text)
    }

    fn read(&self, route: &str, status: StatusCode, text: &str) -> Result<Value, Failure> {
        if status.is_client_error() || status.is_server_error() {
            return Err(Failure::Refused(Box::new(Refusal::read(status.as_u16(), text))));
        }
        if !status.is_success() {
            return Err(self.bad_answer(route, format!("status {status}")));
        }
        serde_json::from_str(text).map_err(|error| self.bad_answer(route, error.to_string()))
    }

    fn bad_answer(&self, route: &str, reason: String) -> Failure {
        Failure::BadAnswer { url: self.endpoint.url(route), reason }
    }

    fn broken(&self, route: &str, error: ureq::Error) -> Failure {
        let unreachable =
            |reason: String| Failure::Unreachable { url: self.endpoint.base(), reason };
        match error {
            ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
                unreachable("the connection was not accepted in time".to_owned())
            }
            ureq::Error::Timeout(_) => {
                Failure::TimedOut { what: format!("the answer to {route}"), limit: self.timeout }
            }
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                Failure::TimedOut { what: format!("the answer to {route}"), limit: self.timeout }
            }
            ureq::Error::Io(error) => unreachable(error.to_string()),
            ureq::Error::BodyExceedsLimit(limit) => {
                self.bad_answer(route, format!("more than {limit} bytes"))
            }
            other => unreachable(other.to_string()),
        }
    }
}
