//! The journal: numbers for frames, the ring, the log of events, and the workers that read them.
//!
//! Every frame gets one number, is encoded once, and lies in a ring that all subscribers read. What
//! is durable also goes to a log on the disk, from which a cursor of before a restart is served.
//!
//! # Layout
//!
//! - `segment`: numbered frames as they lie in the ring; `record`: as they lie in the log.
//! - `actor`: the journal; `boot`: what it starts from; `log`: what it keeps on the disk;
//!   `uncertain`: what it had no time to keep.
//! - `flow`: how the readers of the ring hold back the child.
//! - `messages`, `handle`: how everyone else reaches it.

mod actor;
mod boot;
mod flow;
mod handle;
mod log;
mod messages;
mod record;
mod segment;
mod uncertain;

pub use actor::{Journal, JournalConfig, journal_spec};
pub use flow::{Flow, WorkerFlow};
pub use handle::{JournalHandle, Staged};
pub use messages::{
    AttachWorker, Attached, CatchUp, CaughtUp, FramesPublished, Head, History, PublishFrames,
    ResetReason,
};
pub use segment::{Interest, Place, Segment, text_frame};
