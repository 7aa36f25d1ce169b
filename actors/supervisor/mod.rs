//! Our own supervision, in the manner of OTP.
//!
//! actix's `Supervisor` neither survives a panic nor rebuilds the actor nor backs off. This one
//! holds a factory per child, learns of every exit (panic, error, order) through a guard that the
//! child carries, asks the pure policy in `cm_core::restart` what to do, and shows its tree.
//!
//! # Layout
//!
//! - `spec`: what a supervisor needs to know of a child, and what a started one can be asked.
//! - `actor`: the supervisor; `child`: a child's state between two decisions.
//! - `guard`: how it learns of an end; `handle`: what it is asked, and how it is reached.

mod actor;
mod child;
mod guard;
mod handle;
mod spec;
#[cfg(test)]
mod tests;

pub use actor::{Strategy, Supervisor};
pub use guard::ExitGuard;
pub use handle::{ChildExited, GetTree, RestartChild, ShutDown, SupervisorHandle};
pub use spec::{ChildSpec, ChildState, Observe, Started, StateCell, Watcher, observer};
