//! Small answers: that something was done, and to what.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::limits::{MAX_SECRET, at_most};

use super::sessions::{SessionSummary, SteerResult};
use crate::ids::ThreadId;

/// It was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
}

impl Default for Done {
    fn default() -> Self {
        Self { status: "ok".to_owned() }
    }
}

/// Body of `POST /api/login`.
#[derive(Deserialize, ToSchema)]
pub struct LogIn {
    /// The server's token.
    #[schema(write_only, max_length = 16384)]
    #[serde(deserialize_with = "at_most::<MAX_SECRET, _, _>")]
    pub token: String,
}

/// Answer of `POST /api/stream/tickets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ticket {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// Good for one connection.
    pub ticket: String,
    /// Seconds that it can be used for.
    pub expires_in_seconds: u64,
}

/// Answer of `POST /api/sessions/:id/archive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionArchived {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// The session.
    pub session_id: ThreadId,
}

/// Answer of `POST /api/sessions/:id/rename`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionRenamed {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// The session as it is now.
    pub session: SessionSummary,
}

/// Answer of `DELETE /api/sessions/:id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionDeleted {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// The session.
    pub session_id: ThreadId,
    /// Its title, if it had one.
    #[schema(required)]
    pub title: Option<String>,
    /// Files of the runtime that are gone with it.
    pub deleted_file_count: u32,
}

/// Answer of `POST /api/sessions/:id/interrupt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TurnInterrupted {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// The session.
    pub session_id: ThreadId,
    /// The turn that was interrupted.
    pub turn_id: String,
}

/// Answer of `POST /api/sessions/:id/turns/:turnId/steer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TurnSteered {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// The session.
    pub session_id: ThreadId,
    /// The turn that was added to.
    pub turn_id: String,
    /// What became of it.
    pub result: SteerResult,
}
