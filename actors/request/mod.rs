//! One actor per pending approval, question or tool call.
//!
//! It owns its record: it claims for the first decision, stores it, writes the answer to the
//! child, and tells its thread of each change, and then that its end is stored.

mod actor;
mod policy;

pub(crate) use actor::{Decide, Expire, Request};
pub use policy::{FixedPolicy, POLICY, RequestPolicy};
