//! The index of sessions: what lists show, sorted and encoded, in memory.
//!
//! A list used to cost a scan of the store. Now each session has one row, encoded once and shared
//! by everyone who lists it. The registry and its threads change rows in the index of the control
//! arbiter; each HTTP worker has a copy that is fed with changes, so that a list is answered
//! without leaving its thread. The store stays the truth: every life of the registry reads the rows
//! anew.
//!
//! **Read your writes.** Each change raises a number, [`ListVersion`], before anything that depends
//! on the change is answered. A reader whose copy is older than that number waits for the change.
//!
//! # Layout
//!
//! - `row`: one session, encoded; `rows`: the sorted lists and their pages; `query`: what is asked of
//!   them.
//! - `sessions`: the index of the control arbiter, and how it tells its readers.

mod query;
mod row;
mod rows;
mod sessions;
#[cfg(test)]
mod tests;

pub use query::{ListCursor, ListOrder, ListQuery, ProjectFilter, SortBy};
pub use row::{SessionRow, SessionStatus};
pub use rows::{Member, SessionRows};
pub use sessions::{AttachedReader, ListVersion, RowChange, RowsChanged, SessionIndex};
