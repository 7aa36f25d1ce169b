//! One actor per pending request of the child, of whatever kind.
//!
//! It owns its record: it claims for the first decision, stores it, writes the answer to the
//! child, and tells its owner (its thread, or the registry where it has none) of each change, and
//! then that its end is stored.

mod actor;
mod policy;

pub(crate) use actor::{Decide, Expire, Request};
pub use policy::{FixedPolicy, POLICY, RequestPolicy};
