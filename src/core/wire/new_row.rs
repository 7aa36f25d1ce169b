//! Rows that clients add to a transcript.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::limits::{MAX_TEXT, at_most};
use super::sessions::{Role, RowStatus};

/// Characters of the names in a row that a client adds.
pub const MAX_ROW_NAME: usize = 512;

/// Body of `POST /api/sessions/:id/transcript/upsert`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewRow {
    /// The row's id: the same one writes the row again.
    #[serde(deserialize_with = "at_most::<MAX_ROW_NAME, _, _>")]
    #[schema(min_length = 1, max_length = 512)]
    pub message_id: String,
    /// Turn it belongs to.
    #[serde(deserialize_with = "at_most::<MAX_ROW_NAME, _, _>")]
    #[schema(min_length = 1, max_length = 512)]
    pub turn_id: String,
    /// Who it is from.
    pub role: Role,
    /// What it is, in a word of the client's choice.
    #[serde(rename = "type", deserialize_with = "at_most::<MAX_ROW_NAME, _, _>")]
    #[schema(min_length = 1, max_length = 512)]
    pub kind: String,
    /// Text to show.
    #[serde(deserialize_with = "at_most::<MAX_TEXT, _, _>")]
    #[schema(max_length = 1048576)]
    pub content: String,
    /// JSON text with the particulars.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_TEXT, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(max_length = 1048576)]
    pub details: Option<String>,
    /// Epoch milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub started_at: Option<i64>,
    /// Epoch milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub completed_at: Option<i64>,
    /// How far it is.
    pub status: RowStatus,
}
