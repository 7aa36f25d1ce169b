//! Measures a manager from the outside: it starts one over a child that emits as fast as a pipe
//! allows, connects clients that count frames in raw bytes, and prints what that cost the manager.
//!
//! # Layout
//!
//! - `arguments`: the command line; `run`: what its commands do; `report`: medians and ratios.
//! - `scenarios/`: one file per kind of load, and the table of their names and sizes.
//! - `manager`: the program under load; `process`: what the system says of its CPU and memory.
//! - `client/`: HTTP on one connection, and subscribers of the stream.
//! - `stub/`: the child.
//! - `clock`, `error`: what all share.
//! - `tests/`: every scenario once, with tiny counts.

mod arguments;
mod client;
mod clock;
mod error;
mod manager;
mod process;
mod report;
mod run;
mod scenarios;
mod stub;

use std::process::ExitCode;

fn main() -> ExitCode {
    run::main()
}
