//! `cmgr`: the short name of `codex-manager`.
//!
//! It becomes the program of that name beside it, or else the one on PATH, so that both names are
//! always the same version and nothing is built twice.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

const PROGRAM: &str = "codex-manager";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let beside = std::env::current_exe()
        .and_then(std::fs::canonicalize)
        .ok()
        .map(|path| path.with_file_name(PROGRAM))
        .filter(|path| path.is_file());
    let program = beside.unwrap_or_else(|| PROGRAM.into());
    // Returns only when it fails.
    let error = Command::new(&program).args(&arguments).exec();
    let message = format!("error: {} cannot be started: {error}\n", program.display());
    let _ = std::io::stderr().write_all(message.as_bytes());
    ExitCode::FAILURE
}
