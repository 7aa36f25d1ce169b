//! What the agent can do: commands, file changes, questions, tools of the client.
//!
//! # Layout
//!
//! - `command`: `/run`, on `shell`, which really runs it; `guard`: no command outlives the process.
//! - `change`: `/write` and `/delete`, with `diff` and `path`.
//! - `approval`: whether something may happen.
//! - `question`: `/ask` and `/call`.

mod approval;
mod change;
mod command;
mod diff;
mod guard;
mod path;
mod question;
mod shell;

pub(crate) use change::change_file;
pub(crate) use command::run_command;
pub(crate) use diff::TurnDiff;
pub(crate) use guard::GroupGuard;
pub(crate) use question::{ask, call};
