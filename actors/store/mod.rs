//! Durable state: a `Store` trait, its sled implementation, and the thread that owns it.
//!
//! A write is acknowledged when it is on the disk: whatever writes are queued are applied as one
//! group, then flushed and `fdatasync`ed, then acknowledged. Nothing lingers when idle.
//!
//! # Layout
//!
//! - `backend`: the [`Store`] trait; `sled_backend`, `memory`: what implements it.
//! - `batch`, `scan`: what is written, and what is read.
//! - `actor`: the store's thread, its group commit, and the actor that supervises it.
//! - `handle`: how actors reach it.
//! - [`keys`], `records`: what lies where, and in which form.

mod actor;
mod backend;
mod batch;
mod handle;
pub mod keys;
mod memory;
mod records;
mod scan;
mod sled_backend;

pub use actor::{StoreActor, StoreOpener, store_spec};
pub use backend::{Entry, Store, StoreError};
pub use batch::{StoreValue, WriteBatch};
pub use handle::{StoreHandle, Ticket};
pub use memory::MemoryStore;
pub use records::{
    StoredThread, Transcript, put_item, put_request, put_thread, put_turn, read_request,
    read_thread, read_thread_requests, read_transcript, remove_thread, scan_threads,
};
pub use scan::Scan;
pub use sled_backend::SledStore;
