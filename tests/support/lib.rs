//! Test support: everything that the test suites share and the product never contains.
//!
//! Helpers here assert: a wait that passes its deadline, a request that gets no answer or a
//! program that does not start ends the calling test with a message that says what was seen
//! instead. Where a failure is a legitimate outcome there is a `try_` variant.
//!
//! # Layout
//!
//! - [`model`]: a loopback server that speaks the Responses API and plays scripts, so that the
//!   real `codex` runs real turns offline.
//! - [`codex`]: the `codex` installations that `tests/run` makes.
//! - [`app`]: the real program as a child process, with HTTP and WebSocket clients.
//! - [`app_server`]: a bare client of `codex app-server` over stdin and stdout.
//! - [`fake`]: the script language of the fake child, as builders.
//! - [`dirs`]: folders of one test under `target/`.
//! - [`disk`]: small file systems that can be filled and made read-only.
//! - [`process`]: questions about processes, and the one polling loop.
//! - [`mailbox`]: what arrived, with event-style waits.
//! - [`http`]: the small HTTP/1.1 reader and client underneath.
//! - `bin/`: the fake child itself, and an MCP server for the real one; `tests/`: tests of all this; `phases.bash`: timed phases for
//!   `tests/run` and `.ci/run`.
#![allow(
    clippy::panic,
    clippy::print_stderr,
    reason = "test support: a failed expectation ends the calling test, and says why"
)]

pub mod app;
pub mod app_server;
pub mod codex;
pub mod dirs;
pub mod disk;
pub mod fake;
pub mod http;
pub mod mailbox;
pub mod model;
pub mod process;
