//! Durable state: a `Store` trait, its implementations, and the threads that own it.
//!
//! A write is acknowledged when it is on the disk: whatever writes are queued are applied as one
//! group, then flushed and `fdatasync`ed, then acknowledged. Nothing lingers when idle.
//!
//! # Layout
//!
//! - `backend`: the [`Store`] trait and its errors; `batch`, `scan`: what is written and read.
//! - `layered`: the store itself, checked records over any engine; `writing`: what its writer
//!   knows; `upkeep`: what else is done for it; `envelope`, `chunks`: the records' form; `engine`: what an engine is; `sled_engine`, `memory`: the two that there are.
//! - `actor`: supervises the threads; `writer`: group commit and what becomes of writes that fail;
//!   `reader`: reads beside it; `handle`: how actors reach them; `stats`: what they count.
//! - `folder`: where a store lies and who holds it; `open`: how it is opened; `format`: the gate of
//!   formats; `high_water`: how a loss is noticed; `restore`: what takes a damaged one's place.
//! - `export`, `import`, `copy`, `check`, `maintain`: what is done with a store as a whole.
//! - [`keys`], `records`, `projects`, `idempotency`: what lies where, and in which form; `lists`:
//!   reading all threads; `transcript`: reading a thread's items; `notes`: rows that are not the
//!   runtime's; `fork`: copying a history; `history`: what the runtime's is compared with; `taken`:
//!   what was taken over from version 1; `migrate`: records of the first format.

mod actor;
mod backend;
mod batch;
mod check;
mod chunks;
mod copy;
mod engine;
mod envelope;
mod export;
mod folder;
mod fork;
mod format;
mod handle;
mod high_water;
mod history;
mod idempotency;
mod import;
pub mod keys;
mod layered;
mod lists;
mod maintain;
#[cfg(test)]
mod memory;
mod migrate;
mod notes;
mod open;
mod own_requests;
mod projects;
mod reader;
mod records;
mod restore;
mod rows;
mod scan;
mod sled_engine;
mod stats;
mod taken;
mod transcript;
mod upkeep;
mod writer;
mod writing;

#[cfg(test)]
mod tests;

pub use actor::{StoreActor, StoreOpener, store_spec};
pub use backend::{Entry, Store, StoreError, Upkeep, Visitor};
pub use batch::{StoreValue, WriteBatch};
pub use check::{Check, DamagedRecord, Kind};
pub use export::ExportPlan;
pub use folder::StoreFolder;
pub use fork::{CopiedHistory, CopiedPage, copy_history};
pub use handle::{StoreCondition, StoreHandle, Ticket};
pub use history::{read_ended_turns, read_history};
pub use idempotency::{put_change, read_kept_answer, read_keys};
pub use import::{ExportInfo, ImportError};
pub use layered::Layered;
pub use lists::{ThreadPage, read_thread_page};
pub use maintain::{Compacted, Imported, MaintainError};
#[cfg(test)]
pub(crate) use memory::{Faults, MemoryStore, Operation};
pub use notes::{put_defaults, put_note, read_defaults, read_note, read_notes};
pub use open::{OpenedStore, SledStore};
pub use own_requests::OwnRequests;
pub use projects::{StoredProjects, put_project, read_projects};
pub use records::{
    OpenMark, StoredThread, drop_items, drop_requests, put_item, put_open, put_request, put_thread,
    put_turn, read_latest_items, read_latest_turns, read_request, read_request_params, read_thread,
    read_thread_record, read_thread_requests, remove_thread,
};
pub use restore::Restored;
pub use rows::{read_item_row, read_request_row, read_turn, read_turns_before, refresh_rows};
pub use scan::Scan;
pub use sled_engine::SledEngine;
pub use stats::{COMMIT_BATCHES, COMMIT_MICROS, StoreStats, StoreStatsView};
pub use taken::{
    put_audit, put_job, put_taken, read_audits, read_jobs as read_stored_jobs, was_taken,
};
pub use transcript::{StoredItems, read_item, read_turns};
