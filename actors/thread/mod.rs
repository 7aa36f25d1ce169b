//! Threads: the registry and one actor per Codex thread.
//!
//! A thread's actor is the one place that orders its life: what the child says of it, what people
//! and programs ask of it, what is stored and what subscribers see. Its memory is a cache: it is
//! started on first use from the store and can be rebuilt from there at any time.
//!
//! # Layout
//!
//! - `handle`: how routes reach sessions; `messages`: what is asked; `error`: why it did not happen.
//! - `registry`: which threads live; `registry_create`: new sessions; `registry_events`: what the
//!   child says, on its way to the threads; `registry_list`: the lists, and reading them at the
//!   start; `registry_recovery`: threads that were cut; `registry_requests`: what the runtime asks for
//!   itself, and the pending requests of all.
//! - `passivation`: letting go of threads in which nothing happens.
//! - `actor`: a thread's state; `notes`: what it notes for the store; `flush`: how that becomes
//!   durable and visible.
//! - `inbound`: what the child says of it; `frames`: the stream events that this becomes.
//! - `actions`: what the runtime does with a thread beside turns; `roll_back`: turns that are taken
//!   back; `fork`: a session that begins with the history of another one.
//! - `commands`: messages and turns; `interrupt`: turns that are stopped; `sessions`: creation,
//!   names, archive; `delete`: its end; `replace`: another thread of the runtime behind a session,
//!   of which `recreate` is for one that never had a turn and that the runtime lost; `assign`:
//!   which project it is in; `requests`: approvals, questions and tool calls; `controls`: what a
//!   turn may do; `rows`: rows of the transcript that are not the runtime's; `calls`: calls of the
//!   child that these wait for.
//! - `subagents`: threads that the agent of another one starts.
//! - `registry_sync`, `listed`: what other clients of the runtime make and change.
//! - `recovery`: what a thread does that was cut; `snapshot`: how unfinished sessions stand, for
//!   subscribers that come back.
//! - `view`, `detail`, `pages`: what clients see; `reading`: how they are answered; `answers`: what is
//!   kept of that; `paths`: looking at files; `config`: defaults, and the cage
//!   around the manager's own state.

mod actions;
mod actor;
mod answers;
mod assign;
mod calls;
mod commands;
mod config;
mod controls;
mod delete;
mod detail;
mod error;
mod flush;
mod fork;
pub(crate) mod frames;
mod handle;
mod inbound;
mod interrupt;
mod listed;
mod messages;
mod notes;
mod pages;
mod passivation;
mod paths;
mod reading;
mod recovery;
mod recreate;
mod registry;
mod registry_create;
mod registry_events;
mod registry_list;
mod registry_recovery;
mod registry_requests;
mod registry_sync;
mod replace;
mod requests;
mod roll_back;
mod rows;
mod sessions;
mod snapshot;
mod subagents;
#[cfg(test)]
mod tests;
mod view;

pub use actions::ThreadAction;
pub(crate) use assign::Place;
pub use config::{Cage, CageError, STORE_PATIENCE, ThreadConfig};
pub use controls::{ChangedBy, ControlsChanged, Defaults};
pub use error::SessionError;
pub use handle::ThreadsHandle;
pub use messages::{DecisionInput, Deleted, Families, SteerFailure};
pub(crate) use messages::{ParkAll, RequestNews};
pub use registry::{ThreadRegistry, registry_spec};
