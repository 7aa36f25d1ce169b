//! Projects: groups of sessions with a name.
//!
//! One actor owns the records of projects and knows whose name is whose. Which project a session is
//! in, its thread keeps; the actor asks threads for changes of it, and the lists for the sessions of
//! a project.
//!
//! **A session is never in a project that is gone.** Assignments hold a gate together, a deletion
//! holds it alone. An assignment passes the gate, looks whether the project is there, and takes its
//! hold along to the thread, which lets go when the change is on the disk and lists show it, or
//! when it failed. A deletion therefore finds every session that was ever told that it is in the
//! project, and refuses; and an assignment that waited for a deletion finds no project. The gate is
//! older than any life of the actor, so that a new life waits for what an earlier one asked for;
//! and what a crash may have left between a write and its list is taken out at the start.
//!
//! # Layout
//!
//! - `handle`: how routes reach projects; `messages`: what is asked; `error`: why it did not happen.
//! - `actor`: the records; `assign`: sessions into projects, and the end of projects; `bulk`: what is
//!   done with all sessions of one.

mod actor;
mod assign;
mod bulk;
mod error;
mod handle;
mod messages;

pub use actor::{Projects, projects_spec};
pub use bulk::{Moved, Removed};
pub use error::ProjectError;
pub use handle::ProjectsHandle;
