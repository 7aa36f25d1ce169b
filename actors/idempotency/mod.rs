//! Keys by which clients repeat a request and not what it does.
//!
//! A key is on the disk as begun before its request is carried out, and with the answer before that
//! is given. What a crash leaves in between is known to have begun and nothing more, and is said so.
//!
//! # Layout
//!
//! - `actor`: the one owner of all keys; `messages`: what it is told.
//! - `handle`: how routes reach it, and the attempt that one of them holds.

mod actor;
mod handle;
mod messages;
#[cfg(test)]
mod tests;

pub use actor::{Idempotency, LONGEST_ANSWER, idempotency_spec};
pub use handle::{Attempt, Begun, IdempotencyHandle};
pub use messages::{Ended, KeptAnswer};
