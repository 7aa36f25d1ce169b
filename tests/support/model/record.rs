//! What the model server saw.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::mailbox::{Mailbox, WaitError};

/// Bytes of requests that are kept. Conversations are sent whole with every request, so a long
/// soak passes this: later requests are then counted and no longer kept.
const BYTE_LIMIT: usize = 512 * 1024 * 1024;

/// One request to the model server.
#[derive(Debug, Clone)]
pub struct ModelRequest {
    /// `GET`, `POST`, …
    pub method: String,
    /// The request target.
    pub path: String,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as JSON; `null` when there is none or it is not JSON.
    pub body: Value,
}

impl ModelRequest {
    /// The first value of a header; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The `Authorization` header.
    pub fn authorization(&self) -> Option<&str> {
        self.header("authorization")
    }

    /// Whether this asks for an answer of the model.
    pub fn is_sampling(&self) -> bool {
        self.method == "POST" && self.path.ends_with("/responses")
    }

    /// The thread that asks, which `codex` sends as the cache key.
    pub fn thread_id(&self) -> Option<&str> {
        self.body["prompt_cache_key"].as_str()
    }

    /// Names of the offered tools, where they are a plain list.
    pub fn tool_names(&self) -> Vec<&str> {
        let tools = self.body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
        tools.iter().filter_map(|tool| tool["name"].as_str()).collect()
    }
}

/// The requests so far, with event-style waits.
#[derive(Debug)]
pub struct Recorder {
    requests: Mailbox<ModelRequest>,
    count: AtomicUsize,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self { requests: Mailbox::new(BYTE_LIMIT), count: AtomicUsize::new(0) }
    }

    pub(super) fn record(&self, request: ModelRequest, size: usize) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.requests.push(request, size);
    }

    /// How many requests came, kept or not.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Every kept request, in order of arrival.
    pub fn all(&self) -> Vec<ModelRequest> {
        self.requests.read(<[ModelRequest]>::to_vec)
    }

    /// Waits until `look`, called with every kept request, answers `Some`.
    ///
    /// # Errors
    ///
    /// [`WaitError`] when the deadline passes.
    pub fn wait<R>(
        &self,
        deadline: Duration,
        look: impl FnMut(&[ModelRequest]) -> Option<R>,
    ) -> Result<R, WaitError> {
        self.requests.wait(deadline, look)
    }
}
