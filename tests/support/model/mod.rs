//! A scripted model: a loopback server that speaks the Responses API.
//!
//! The real `codex` takes its turns against it, so approvals, tool calls, retries and failures
//! are the real ones and need no account. The text of a user message carries the script; see
//! [`Step`] for the language and [`prompt`] for how to write one.
//!
//! # Layout
//!
//! - `script`: the language; `select`: which step a request plays; `answer`: how it is played.
//! - `server`: the HTTP side; `record`: what it saw; `config`: a `config.toml` that leads here.

mod answer;
mod config;
mod record;
mod script;
mod select;
mod server;

pub use config::{MODEL, PATCH_MODEL, config_toml, config_toml_for, openai_config_toml};
pub use record::{ModelRequest, Recorder};
pub use script::{
    Failure, Part, Step, apply_patch, ask, call, call_in, chain, flood, hang, hold, http_error,
    plan, prompt, raw_sse, run, run_in_sandbox, run_patch, say, script, sse_error, stream, think,
};
pub use server::ScriptedModel;
