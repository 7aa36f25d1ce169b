//! `doctor`: what is installed, what would run, what is wrong and how to mend it.
//!
//! # Layout
//!
//! - `report`: the findings and how they are printed.
//! - `checks`: all checks in order; `files`: directories and permissions; `login`: who codex
//!   is logged in as; `port`: the port and whoever answers there.

mod checks;
mod files;
mod login;
mod port;
mod report;

pub(crate) use checks::examine;
