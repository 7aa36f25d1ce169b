//! The kinds of load.
//!
//! # Layout
//!
//! - `table`: their names and sizes.
//! - `bench`: what all of them do; `crowd`: many connections that ask.
//! - One file for each kind.

mod bench;
mod big_line;
mod boot;
mod crowd;
mod fanout;
mod latency;
mod level;
mod messages;
mod mix;
mod reads;
mod start;
mod stopped;
mod table;
mod writes;

pub(crate) use bench::Bench;
pub(crate) use table::{Scenario, Sizes};
