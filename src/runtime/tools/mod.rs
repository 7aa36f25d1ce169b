//! What the agent can do: commands, file changes, questions, tools of the client.

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
