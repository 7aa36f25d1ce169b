//! The order of everything that subscribers see.
//!
//! The journal gives each frame its number and keeps it, encoded and framed once, in a ring that
//! is bounded by bytes. Each HTTP worker is told of new frames once per batch and reads shared
//! memory: nothing is copied or encoded per subscriber.

mod actor;
mod frame;

pub use actor::{
    Attach, Attached, CatchUp, CaughtUp, Head, Journal, JournalConfig, JournalHandle, Publish,
    journal_spec,
};
pub use frame::{Frame, NewSegment, Segment, text_frame};
