//! The wire of `codex app-server`: one JSON object a line, no `jsonrpc` member.
//!
//! Reading is lenient (a line that is too long, not UTF-8 or not JSON is an event, and the stream
//! goes on), writing is strict (one object, one line, one newline).

mod line;
mod message;
mod raw;
mod write;

pub use line::{DEFAULT_LINE_CAP, Line, LineReader};
pub use message::{Inbound, Malformed, RpcError, RpcId, ThreadRef, parse_line};
pub use raw::RawJson;
pub use write::{encode_error, encode_notification, encode_request, encode_result};

/// JSON-RPC error codes that the app-server uses or that we answer with.
///
/// Source: observed on codex 0.106 – 0.169; −32600 stands for nearly everything there.
pub mod code {
    /// Not initialised, unknown method, bad parameters, unknown thread, wrong turn.
    pub const INVALID_REQUEST: i64 = -32600;
    /// "`…` is not supported yet", and our own answer to a server request we do not know.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// Input over the size limit.
    pub const INVALID_PARAMS: i64 = -32602;
    /// Internal error of the app-server.
    pub const INTERNAL: i64 = -32603;
    /// "Server overloaded; retry later."
    pub const OVERLOADED: i64 = -32001;
}
