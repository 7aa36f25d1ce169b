//! Threads: the registry and one actor per Codex thread.
//!
//! A thread's actor is the one place that orders its life: what the child says of it, what people
//! and programs ask of it, what is stored and what subscribers see. Its memory is a cache: it is
//! started on first use from the store and can be rebuilt from there at any time.

mod actor;
mod calls;
mod commands;
mod config;
mod error;
mod frames;
mod handle;
mod inbound;
mod messages;
mod registry;
mod registry_create;
mod registry_events;
mod requests;
mod sessions;
#[cfg(test)]
mod tests;
mod view;

pub use config::{Cage, CageError, ThreadConfig};
pub use error::SessionError;
pub use handle::{ListQuery, ThreadsHandle};
pub use messages::{DecisionInput, Deleted, SteerFailure};
pub(crate) use messages::{ParkAll, RequestChanged};
pub use registry::{ThreadRegistry, registry_spec};
