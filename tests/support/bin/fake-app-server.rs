//! A child that behaves like a small correct `codex app-server`, and misbehaves as told.
//!
//! It is for what the real one cannot be made to do: to hang in `initialize`, to crash at a given
//! frame, to write garbage, to ignore SIGTERM. A script in JSON (`FAKE_APP_SERVER_SCRIPT` names
//! the file) says what; the module `script` is the language.
//!
//! # Layout
//!
//! - `script`: the script language.
//! - `server`: reads stdin, answers calls.
//! - `turn`: plays the steps of a turn.
//! - `threads`: threads, and what calls about them answer.
//! - `text`: the text of long items.
//! - `output`: stdout, ids, the log of what was received.

mod fake;

use std::process::ExitCode;

fn main() -> ExitCode {
    fake::main()
}
