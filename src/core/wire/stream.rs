//! Frames of `GET /api/stream`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::ids::{Epoch, Seq};

/// What a subscriber receives. Control frames (`ready`, `pong`, `error`) have no payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamFrame {
    /// Event type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Session it belongs to.
    #[serde(default)]
    pub thread_id: Option<String>,
    /// The event.
    #[serde(default)]
    pub payload: Value,
    /// The frame's number; absent on control frames other than `ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub seq: Option<Seq>,
    /// Identity of the history that the number belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub epoch: Option<Epoch>,
    /// Set on `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub message: Option<String>,
}

/// What a subscriber may send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum StreamCommand {
    /// Replaces the filter, and goes on behind a position.
    Subscribe {
        /// The only session to hear of; all of them when absent, which needs `after`.
        #[serde(rename = "threadId", default, skip_serializing_if = "Option::is_none")]
        thread_id: Option<String>,
        /// `<epoch>:<seq>` of the last frame that the client has had; from now on when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
    /// Clears the filter.
    Unsubscribe,
    /// Asks for a `pong`.
    Ping,
}
