//! Pure state machine of one thread: which turns run, which items are open, what is to be stored.
//!
//! The runtime stays the authority: this machine follows its notifications, keeps every item that
//! it streams (its own history is incomplete for older versions), and decides only what the
//! runtime can no longer say: that a turn is over because its process is gone.
//!
//! Items themselves pass through: in memory there is only what tells them apart, and of that only
//! the latest.
//!
//! # Layout
//!
//! - `record`: what is stored; `item`: reading an item in place; `kept`: how much is kept; `note`:
//!   rows that are not the runtime's.
//! - `state`: a living thread and its transitions; `remembered`: the items that it knows.
//! - `reconcile`: what the runtime's own history says after a crash; `listed`: what its list says of
//!   threads that other clients work on.

mod item;
mod kept;
mod listed;
mod note;
mod reconcile;
mod record;
mod remembered;
mod state;
mod subagents;
#[cfg(test)]
mod tests;

pub use item::RawItem;
pub(crate) use item::digest;
pub use kept::{Kept, ROW_OVERHEAD};
pub use listed::{ListedChange, ListedPage, ListedThread, read_listed_page};
pub use note::{NOTE_RECORD_VERSION, NoteRecord};
pub use reconcile::{
    HistoryPage, HistoryTurn, Reconciled, StoredHistory, read_thread_turns, read_turns_page,
};
pub use record::{
    ItemRecord, ItemState, THREAD_RECORD_VERSION, ThreadRecord, Title, TurnRecord, TurnStatus,
};
pub use state::{Ended, ItemWrite, REMEMBERED_TURNS, ThreadState, Writes};
pub use subagents::{MOST_SUBAGENTS, started_subagents};
