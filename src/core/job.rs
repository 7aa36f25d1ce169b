//! What is stored of background jobs and of reloads of extensions.
//!
//! This version runs neither; what version 1 left of them is kept for a version that does.

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::ids::JobId;
use crate::wire::Job;

/// Current [`JobRecord::version`].
pub const JOB_RECORD_VERSION: u32 = 1;

/// Current [`AuditRecord::version`].
pub const AUDIT_RECORD_VERSION: u32 = 1;

/// What is stored of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Version of this record's format.
    pub version: u32,
    /// Its id.
    pub id: JobId,
    /// Whether it was taken over from version 1.
    pub imported: bool,
    /// The job.
    pub job: Job,
}

/// What is stored of one reload of extensions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Version of this record's format.
    pub version: u32,
    /// When it was, epoch milliseconds.
    pub at_ms: i64,
    /// What tells it from others of the same moment.
    pub digest: u64,
    /// What was recorded, as it was.
    pub record: Value,
}
