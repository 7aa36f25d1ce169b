//! Frames of the manager's own events.

use cm_core::event::{Audience, Durability, FrameBatch};
use cm_core::ids::ThreadId;
use serde::Serialize;

/// Adds a frame; a payload that cannot be written as JSON is logged, which cannot happen for what
/// came in as JSON.
pub(crate) fn push<P: Serialize>(
    frames: &mut FrameBatch,
    kind: &str,
    audience: &Audience,
    shown: Option<&ThreadId>,
    durability: Durability,
    payload: &P,
) {
    if let Err(error) = frames.push(kind, audience, shown, durability, payload) {
        tracing::error!(kind, %error, "an event could not be written");
    }
}
