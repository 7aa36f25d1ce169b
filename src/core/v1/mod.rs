//! What version 1 kept in its data directory, read without touching it.
//!
//! Everything here is tolerant: what cannot be understood is named and left out, and never keeps
//! the rest from being read.
//!
//! # Layout
//!
//! - `skips`: what was left out, and why; `moment`: times in the forms that version 1 accepted.
//! - `metadata`: `session-metadata.json`; `controls`: controls in it, legacy forms included.
//! - `ledger`: `supplemental-transcript.json`; `rollout`: a thread's own file in the codex home.
//! - `jobs`: `orchestrator-jobs.json`; `audit`: `agent-extension-audit.json`.
//! - `session`: a session put together from all of these.

mod audit;
mod controls;
mod jobs;
mod ledger;
mod metadata;
mod moment;
mod rollout;
mod session;
mod skips;

pub use audit::read_audit;
pub use jobs::{IMPORTED, read_jobs};
pub use ledger::{Ledger, LedgerRow, read_ledger, read_rows};
pub use metadata::{Metadata, TurnTiming, read_metadata};
pub use rollout::{MOST_WORDS, Rollout, RolloutMessage, RolloutMeta, RolloutTurn};
pub use session::{SessionParts, imported_session};
pub use skips::{Skip, Skips};
