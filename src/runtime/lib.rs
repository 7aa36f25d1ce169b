//! The embedded app-server: a second, independent implementation of the protocol that
//! `codex app-server` speaks, so that a machine without `codex` runs every flow.
//!
//! It has no model and no sandbox. Its *guided agent* says so, understands a few documented
//! [`DIRECTIVES`] and drives the same items, approvals, questions and tool calls that a real
//! turn has. Because nothing is sandboxed, every command and every file change asks first;
//! approval policy `never` declines them, sandbox `read-only` refuses them.
//!
//! Method names, field names and the order of notifications follow what codex 0.169 emits. The
//! framing is shared with the client side (`cm_core::rpc`); payloads are defined here on purpose,
//! because a shared struct would let a typo cancel out.
//!
//! # Layout
//!
//! - `options`: what a caller may set, and why [`run`] may fail.
//! - `server`: the loop over standard input, the method table, start and stop.
//! - `wire`: the bounded outbox, faults, parameters, requests to the client.
//! - `handlers`: one function per method, one file per family.
//! - `thread`: settings, the thread on disk, its JSON form, the loaded threads.
//! - `turn`: one turn on its own OS thread: inbox, items, usage, its end.
//! - `agent`: the directives and what each does.
//! - `tools`: commands, file changes, questions, tools of the client.
//!
//! # Threads of the machine
//!
//! The caller's thread reads standard input and answers; one thread writes standard output; each
//! running turn has one thread, and each running command two more (output and exit). All queues
//! between them are bounded and their overflow rule is *wait* (the outbox, command output) or
//! *refuse* (steering input, turns at once).

mod agent;
mod handlers;
mod options;
mod server;
mod thread;
mod tools;
mod turn;
mod wire;

#[cfg(test)]
mod wire_tests;

pub use agent::{DIRECTIVES, DirectiveHelp};
pub use options::{Limits, RuntimeError, RuntimeOptions};
pub use server::run;
