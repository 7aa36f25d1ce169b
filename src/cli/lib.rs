//! The command line client of Codex Manager.
//!
//! It sees the wire types of `cm-core` and an HTTP and a WebSocket client, and nothing else of the
//! manager: what it can do, every other client can do. It is synchronous; the only threads are the
//! caller's and one that reads the keyboard.
//!
//! Standard output carries what was asked for (the agent's words, a list, JSON), standard error
//! everything around it. Nothing that a server sends reaches a terminal with its control
//! characters.
//!
//! # Layout
//!
//! - `command`: [`ClientCommand`] and [`execute`], which the program calls.
//! - `options`, `endpoint`: [`ClientOptions`], where the server is.
//! - `hooks`: what the program does for the client ([`RunHooks`]).
//! - `run`, `sessions`, `approvals`, `tool_input`, `tool_calls`: one per noun.
//! - `message`: what `run` and `sessions send` have in common.
//! - `follow`: one turn from its message to its end, over broken connections.
//! - `render`: from events and rows to text.
//! - `http`, `stream`: REST calls and one WebSocket connection.
//! - `resolve`, `pending`: from what is typed to ids; requests over all sessions.
//! - `console`, `terminal`: the outputs, the keyboard.
//! - `failure`: what can go wrong, with exit codes and hints.
//! - `table`, `visible`: text.

mod approvals;
mod command;
mod console;
mod endpoint;
mod failure;
#[cfg(test)]
mod flow_tests;
mod follow;
mod hooks;
mod http;
mod message;
mod options;
mod pending;
mod render;
mod resolve;
mod run;
mod sessions;
mod stream;
mod table;
mod terminal;
mod tool_calls;
mod tool_input;
mod trust;
mod visible;

pub use approvals::{ApprovalAction, ApprovalsArgs};
pub use command::{ClientCommand, execute};
pub use hooks::{RunHooks, StartServer, StartedServer};
pub use message::{AnswerArgs, ControlArgs, EffortArgs};
pub use options::{ClientOptions, ColourChoice};
pub use run::RunArgs;
pub use sessions::{
    CreateArgs, DeleteArgs, InterruptArgs, ListArgs, RenameArgs, SendArgs, SessionAction,
    SessionArgs, SessionsArgs, SteerArgs,
};
pub use tool_calls::{ToolCallAction, ToolCallsArgs};
pub use tool_input::{ToolInputAction, ToolInputArgs};
