//! Threads: settings, what is on disk, the JSON form, what is loaded.
//!
//! # Layout
//!
//! - `settings`, `meta`: what is known about a thread besides its turns.
//! - `store`: threads on disk; `loaded`: those that this process follows.
//! - `view`: threads and turns in codex's form.

mod loaded;
mod meta;
mod settings;
mod store;
mod view;

pub(crate) use loaded::{ActiveTurn, Loaded, LoadedThread, Status, ThreadState};
pub(crate) use meta::Meta;
pub(crate) use settings::{MODEL, MODEL_PROVIDER, Overrides, Settings};
pub(crate) use store::{Record, Store, ThreadLog};
pub(crate) use view::{Turn, session, thread, turn};
