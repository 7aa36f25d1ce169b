//! Keys by which a client repeats a request without repeating what it does
//! (draft-ietf-httpapi-idempotency-key-header-07).
//!
//! - `key`: the key as it stands in the header; `record`: what is stored of it.
//! - `ledger`: which keys are known, what a request with one of them is told, and what is forgotten.

mod key;
mod ledger;
mod record;

pub use key::{IdempotencyKey, KeyError};
pub use ledger::{Begin, Change, Known, Ledger, Limits, RETENTION_MS};
pub use record::{Fingerprint, KEY_RECORD_VERSION, KeyRecord, Outcome};
