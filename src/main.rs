//! Codex Manager: a local-first control plane for Codex sessions.
//!
//! # Layout
//!
//! - `arguments`: what the command line accepts; `commands`: what each command does;
//!   `client`: the commands that talk to a running server; `own_server`: one of their own.
//! - `config`: configuration, and which app-server runs; `login`: its login.
//! - `app`: the server, built from its parts; `shutdown`: signals and the ordered stop.
//! - `account`: the login of codex; `neighbour`: a manager that runs here already.
//! - `doctor`: what is wrong and how to mend it; `store_tool`: maintenance of the store; `import`:
//!   taking over version 1's data directory.
//! - `telemetry`: logging and the panic hook; `complaint`: messages and exit codes.
//!
//! The folders `core`, `process`, `runtime` and `cli` are crates of their own; `bin/cmgr.rs` is the
//! program's short name.

mod account;
mod app;
mod arguments;
mod client;
mod commands;
mod complaint;
mod config;
mod doctor;
mod import;
mod login;
mod neighbour;
mod own_server;
mod shutdown;
mod store_tool;
mod telemetry;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use cm_core::error::exit;

fn main() -> ExitCode {
    telemetry::install_panic_hook();
    let arguments = match arguments::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too; neither fails because nobody reads on.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    match commands::run(arguments.command) {
        Ok(code) => ExitCode::from(code),
        // Whoever closed the pipe has read what they wanted, as with `… | head`.
        Err(commands::Ended::PipeClosed) => ExitCode::from(exit::OK),
        Err(commands::Ended::Complaint(complaint)) => {
            let _ = writeln!(io::stderr(), "{complaint}");
            ExitCode::from(complaint.exit)
        }
    }
}
