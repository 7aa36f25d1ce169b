//! The kinds of load.
//!
//! # Layout
//!
//! - `table`: their names and sizes.
//! - `bench`: what all of them do.
//! - One file for each kind.

mod bench;
mod big_line;
mod boot;
mod fanout;
mod latency;
mod level;
mod messages;
mod mix;
mod start;
mod stopped;
mod table;

pub(crate) use bench::Bench;
pub(crate) use table::{Scenario, Sizes};
