//! One turn: its inbox, its items, what it emits, how it ends.
//!
//! # Layout
//!
//! - `start`: how a turn starts, and that it always ends; `slots`: how many run at once.
//! - `run`: everything that it says, in order; `item`: items in codex's form.
//! - `inbox`: what reaches it from outside.

mod inbox;
mod item;
mod run;
mod slots;
mod start;

pub(crate) use inbox::{CommandEvent, Inbox, Pause, UserInput};
pub(crate) use item::{
    agent_message, command, complete, dynamic_tool_call, file_change, reasoning,
};
pub(crate) use run::{Stop, Turn};
pub(crate) use slots::TurnSlots;
pub(crate) use start::start;
