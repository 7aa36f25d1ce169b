//! Pure state machine of one thread: which turns run, which items are open, what is to be stored.
//!
//! The runtime stays the authority: this machine follows its notifications, keeps every item that
//! it streams (its own history is incomplete for older versions), and decides only what the
//! runtime can no longer say: that a turn is over because its process is gone.

mod record;
mod state;

pub use record::{
    ItemRecord, ItemState, THREAD_RECORD_VERSION, ThreadRecord, Title, TurnRecord, TurnStatus,
};
pub use state::{Ended, ThreadState, Writes};
