//! One function per method, one file per family.
//!
//! # Layout
//!
//! - `table`: every method and its function.
//! - `session`: the handshake, model and account.
//! - `open`: start, resume, fork; `lifecycle`: names, archive, deletion.
//! - `list`, `history`: which threads there are, and what happened on one.
//! - `turns`: start, steer, interrupt.

mod history;
mod lifecycle;
mod list;
mod open;
mod session;
mod table;
mod turns;

pub(crate) use table::{Call, METHODS};
