//! The order of a transcript's rows, known without reading what the rows say.
//!
//! A row stands where a key of three numbers puts it: its place, what kind of row it is, and its
//! own number. Pages are cut by these keys, so a page costs what is on it, however long the
//! transcript is.
//!
//! # Layout
//!
//! - `key`: keys, and the cursors that clients hold.
//! - `index`: what is kept of items, requests and turns.
//! - `layout`: the order, with the rows that are not the runtime's.

mod index;
mod key;
mod layout;
#[cfg(test)]
mod tests;

pub use index::{IndexedTurn, RowIndex};
pub use key::{RowClass, RowKey, parse_turn_cursor, turn_cursor};
pub use layout::{Layout, Row};
