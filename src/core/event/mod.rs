//! Names and bodies of stream events.
//!
//! A frame on the wire is `{"seq":…,"epoch":…,"type":…,"threadId":…,"payload":…}`. The thread (or
//! whoever publishes) writes the part from `"type"` on; the journal puts the numbers in front, so
//! that each frame is encoded once whatever the number of subscribers.
//!
//! # Layout
//!
//! - `names`: event types, aliases and durability classes of methods.
//! - `batch`: frames that are published together, in one piece of memory.
//! - `write`: the frames of what the app-server says.

mod batch;
mod names;
mod write;

pub use batch::{Audience, Content, Durability, Frame, FrameBatch};
pub use names::{Method, Signal, normalise};
pub use write::{BIG_PARAMS, Event, SessionPieces};
