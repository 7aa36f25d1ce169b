//! What is stored of a key.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Version of [`KeyRecord`].
pub const KEY_RECORD_VERSION: u8 = 1;

/// What a request asks for: its method, its path and its body, made into one text that differs
/// when any of them does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(pub String);

/// One key, beside the kept answer's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRecord {
    /// [`KEY_RECORD_VERSION`].
    pub version: u8,
    /// The one request that was carried out with the key. A late end of an earlier one is known
    /// by it.
    pub attempt: Uuid,
    /// What that request asked for.
    pub fingerprint: Fingerprint,
    /// When it began, epoch milliseconds.
    pub begun_at: i64,
    /// How it ended.
    pub outcome: Outcome,
}

/// How the request with a key ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase")]
pub enum Outcome {
    /// It began. If it does not run any more, how far it came is not known.
    Begun,
    /// It was answered with a status that does not say whether it was carried out.
    Unknown {
        /// The HTTP status.
        status: u16,
    },
    /// It was answered, and the answer is kept.
    #[serde(rename_all = "camelCase")]
    Kept {
        /// The HTTP status.
        status: u16,
        /// The content type.
        content_type: String,
        /// Length of the body.
        bytes: u64,
    },
    /// It was answered, and the answer is not kept: too long, or given up for newer ones.
    NotKept {
        /// The HTTP status.
        status: u16,
    },
}

impl Outcome {
    /// Bytes of the kept body.
    pub fn kept_bytes(&self) -> u64 {
        match self {
            Self::Kept { bytes, .. } => *bytes,
            Self::Begun | Self::Unknown { .. } | Self::NotKept { .. } => 0,
        }
    }

    /// The same without the answer, where it cannot be kept.
    #[must_use]
    pub fn without_answer(self) -> Self {
        match self {
            Self::Kept { status, .. } => Self::NotKept { status },
            other => other,
        }
    }
}
