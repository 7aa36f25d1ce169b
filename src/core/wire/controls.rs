//! Session controls and settings.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::controls::{ApprovalPolicy, Controls, NewControls};
use crate::ids::ThreadId;

/// Whose controls or settings are meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ControlsScope {
    /// Those of the session.
    #[default]
    Session,
    /// Those of new sessions.
    Default,
}

/// Why the controls of new sessions cannot be changed, as version 1 says it.
pub const LOCKED: &str = "Managed by harness configuration";

/// `GET /api/sessions/:id/session-controls`, and what its POST answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionControlsView {
    /// `ok`, or `unchanged` when a change changed nothing.
    #[schema(pattern = "^(ok|unchanged)$")]
    pub status: String,
    /// Whose controls were changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub scope: Option<ControlsScope>,
    /// What is in force there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub applied: Option<Controls>,
    /// The same in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub summary: Option<String>,
    /// The session.
    pub session_id: ThreadId,
    /// Its controls.
    pub controls: Controls,
    /// Those of new sessions.
    pub defaults: Controls,
    /// Whether those can be changed.
    pub defaults_editable: bool,
    /// Why not.
    #[schema(required)]
    pub default_lock_reason: Option<String>,
    /// What is worth knowing of what is in force now, such as a sandbox that protects nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Body of `POST /api/sessions/:id/session-controls`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeControls {
    /// Whose.
    pub scope: ControlsScope,
    /// The new ones, all of them.
    pub controls: NewControls,
    /// Who changes them, for the transcript; `user` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 120)]
    pub actor: Option<String>,
    /// With what, for the transcript; `ui` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64)]
    pub source: Option<String>,
}

/// How settings are put in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SettingsMode {
    /// Beside the keys that are there.
    #[default]
    Merge,
    /// In their place.
    Replace,
}

/// Body of `POST /api/sessions/:id/settings`: `settings`, or `key` and `value`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeSettings {
    /// Whose.
    pub scope: ControlsScope,
    /// One key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 240)]
    pub key: Option<String>,
    /// Its value, `null` included.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// Several keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Map<String, Value>>,
    /// How several keys are put in.
    #[serde(default)]
    pub mode: SettingsMode,
    /// Who changes them, for the transcript; `user` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 120)]
    pub actor: Option<String>,
    /// With what, for the transcript; `api` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64)]
    pub source: Option<String>,
}

/// Tells a `null` that was given from a member that is absent.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Settings, as the routes under `/api/sessions/:id/settings` answer them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SettingsView {
    /// `ok`, or `unchanged` when a change changed nothing.
    #[schema(pattern = "^(ok|unchanged)$")]
    pub status: String,
    /// The session.
    pub session_id: ThreadId,
    /// Whose.
    pub scope: ControlsScope,
    /// The key that was asked for or changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub key: Option<String>,
    /// Whether it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub found: Option<bool>,
    /// Its value.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// Whether it was there and is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub removed: Option<bool>,
    /// All of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub settings: Option<Map<String, Value>>,
}

/// Body of `POST /api/sessions/:id/approval-policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeApprovalPolicy {
    /// When the agent must ask from now on.
    pub approval_policy: ApprovalPolicy,
}

/// Answer of `POST /api/sessions/:id/approval-policy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalPolicyChanged {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// The session.
    pub session_id: ThreadId,
    /// When the agent must ask.
    pub approval_policy: ApprovalPolicy,
}
