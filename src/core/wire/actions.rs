//! What is done with a session beside turns.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::limits::{MAX_NAME, MAX_PATH, MAX_TEXT, at_most};

use super::coerce::positive;
use crate::ids::ThreadId;

/// Answer of an action whose result is the runtime's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionActed {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// The session.
    pub session_id: ThreadId,
    /// How many turns were taken back, where that was the action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_turns: Option<u32>,
    /// What the runtime answered.
    pub result: Value,
}

/// Body of `POST /api/sessions/:id/rollback`; may be absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollBack {
    /// How many of the latest turns are taken back; 1 when absent.
    #[serde(default, deserialize_with = "positive", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10000)]
    pub num_turns: Option<u64>,
}

/// Where a review takes place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum ReviewDelivery {
    /// In the session itself.
    #[default]
    Inline,
    /// In a session of its own, which sees what this one has seen.
    Detached,
}

/// What is reviewed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum ReviewTarget {
    /// What is not committed.
    UncommittedChanges,
    /// What differs from a branch.
    BaseBranch,
    /// One commit.
    Commit,
    /// What the instructions say.
    #[default]
    Custom,
}

/// Body of `POST /api/sessions/:id/review`; may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Review {
    /// Where.
    pub delivery: ReviewDelivery,
    /// What.
    pub target_type: ReviewTarget,
    /// The branch of `baseBranch`; `main` when absent.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_PATH, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(min_length = 1, max_length = 4096)]
    pub branch: Option<String>,
    /// The commit of `commit`.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_NAME, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(min_length = 1, max_length = 256)]
    pub sha: Option<String>,
    /// The title of that commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 300)]
    pub title: Option<String>,
    /// What to look at, for `custom`.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_TEXT, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(min_length = 1, max_length = 1048576)]
    pub instructions: Option<String>,
}
