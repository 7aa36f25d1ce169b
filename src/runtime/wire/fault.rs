//! JSON-RPC errors, worded as codex 0.169 words them.

use cm_core::rpc::{RpcError, code};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use uuid::Uuid;

/// The error answer to one call.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) RpcError);

impl Fault {
    /// −32600, codex's answer to nearly everything.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::with_code(code::INVALID_REQUEST, message)
    }

    /// The call itself could not be understood.
    pub(crate) fn bad_request(detail: impl std::fmt::Display) -> Self {
        Self::invalid(format!("Invalid request: {detail}"))
    }

    /// A bound is reached; the one error a client may retry.
    pub(crate) fn overloaded() -> Self {
        Self::with_code(code::OVERLOADED, "Server overloaded; retry later.")
    }

    /// The disk refused.
    pub(crate) fn internal(detail: impl std::fmt::Display) -> Self {
        Self::with_code(code::INTERNAL, detail.to_string())
    }

    /// The thread is not loaded in this process.
    pub(crate) fn thread_not_found(id: Uuid) -> Self {
        Self::invalid(format!("thread not found: {id}"))
    }

    /// Nothing is on disk for the thread.
    pub(crate) fn no_rollout(id: Uuid) -> Self {
        Self::invalid(format!("no rollout found for thread id {id}"))
    }

    fn with_code(code: i64, message: impl Into<String>) -> Self {
        Self(RpcError { code, message: message.into(), data: None })
    }

    /// The same fault with structured detail.
    pub(crate) fn data(mut self, data: serde_json::Value) -> Self {
        self.0.data = Some(data);
        self
    }

    /// The same fault under another code.
    pub(crate) fn code(mut self, code: i64) -> Self {
        self.0.code = code;
        self
    }
}

/// Reads a call's parameters. Unknown fields are ignored, as in codex; absent or null parameters
/// are a fault.
pub(crate) fn parse_params<P: DeserializeOwned>(raw: Option<&RawValue>) -> Result<P, Fault> {
    let missing = || Fault::bad_request("missing field `params`");
    let raw = raw.filter(|raw| raw.get() != "null").ok_or_else(missing)?;
    // Going through `Value` keeps line and column numbers out of the message.
    let value: serde_json::Value = serde_json::from_str(raw.get()).map_err(Fault::bad_request)?;
    serde_json::from_value(value).map_err(Fault::bad_request)
}

/// Reads a thread id; codex ids are UUIDs.
pub(crate) fn parse_thread_id(text: &str) -> Result<Uuid, Fault> {
    Uuid::parse_str(text).map_err(|error| Fault::invalid(format!("invalid thread id: {error}")))
}
