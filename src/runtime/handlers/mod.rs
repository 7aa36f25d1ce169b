//! One function per method, one file per family.

mod history;
mod lifecycle;
mod list;
mod open;
mod session;
mod table;
mod turns;

pub(crate) use table::{Call, METHODS};
