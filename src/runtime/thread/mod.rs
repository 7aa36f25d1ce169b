//! Threads: settings, what is on disk, the JSON form, what is loaded.

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
