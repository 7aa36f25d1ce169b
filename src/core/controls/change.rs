//! Changes of controls.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{ApprovalPolicy, Controls, NetworkAccess, SandboxMode};

/// Controls in place of others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewControls {
    /// Model id; `null` leaves the choice to the runtime.
    #[serde(deserialize_with = "given")]
    #[schema(required, max_length = 256)]
    pub model: Option<String>,
    /// When the agent must ask.
    pub approval_policy: ApprovalPolicy,
    /// Whether commands may use the network.
    pub network_access: NetworkAccess,
    /// What commands may write.
    pub filesystem_sandbox: SandboxMode,
    /// Settings in place of those that are there, which stay when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Map<String, Value>>,
}

/// A member that must be there, `null` included.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

/// A change of settings.
#[derive(Debug, Clone, PartialEq)]
pub enum SettingsChange {
    /// One key gets a value.
    Set(String, Value),
    /// Each key gets its value; others stay.
    Merge(Map<String, Value>),
    /// These and no others.
    Replace(Map<String, Value>),
    /// One key goes.
    Remove(String),
}

impl SettingsChange {
    /// The settings after the change.
    #[must_use]
    pub fn apply(&self, settings: &Map<String, Value>) -> Map<String, Value> {
        let mut changed = settings.clone();
        match self {
            Self::Set(key, value) => {
                changed.insert(key.clone(), value.clone());
            }
            Self::Merge(more) => {
                changed.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            Self::Replace(others) => changed.clone_from(others),
            Self::Remove(key) => {
                changed.remove(key);
            }
        }
        changed
    }
}

/// A change of the controls of a session, or of new sessions.
#[derive(Debug, Clone, PartialEq)]
pub enum ControlsChange {
    /// All of them.
    Replace(NewControls),
    /// Only when the agent must ask.
    ApprovalPolicy(ApprovalPolicy),
    /// Only settings.
    Settings(SettingsChange),
}

impl Controls {
    /// These controls after a change.
    #[must_use]
    pub fn changed(&self, change: &ControlsChange) -> Self {
        let mut changed = self.clone();
        match change {
            ControlsChange::Replace(new) => {
                changed.model.clone_from(&new.model);
                changed.approval_policy = new.approval_policy;
                changed.network_access = new.network_access;
                changed.filesystem_sandbox = new.filesystem_sandbox;
                if let Some(settings) = &new.settings {
                    changed.settings.clone_from(settings);
                }
            }
            ControlsChange::ApprovalPolicy(policy) => changed.approval_policy = *policy,
            ControlsChange::Settings(change) => changed.settings = change.apply(&self.settings),
        }
        changed
    }

    /// The controls in one line, as version 1 writes them.
    pub fn line(&self) -> String {
        format!(
            "{} | {} | {} | {} | settings:{}",
            self.model.as_deref().unwrap_or("default"),
            self.approval_policy.as_str(),
            self.network_access.as_str(),
            self.filesystem_sandbox.as_str(),
            self.settings.len()
        )
    }
}

/// Current [`DefaultsRecord::version`].
pub const DEFAULTS_RECORD_VERSION: u32 = 1;

/// What was changed of the controls of new sessions. What nobody changed is the configuration's,
/// so that a change of that still counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefaultsRecord {
    /// Version of this record's format.
    pub version: u32,
    /// The controls, without settings.
    pub controls: Option<NewControls>,
    /// The settings.
    pub settings: Option<Map<String, Value>>,
}

impl Default for DefaultsRecord {
    fn default() -> Self {
        Self { version: DEFAULTS_RECORD_VERSION, controls: None, settings: None }
    }
}

impl DefaultsRecord {
    /// The controls of new sessions, where the configuration has these.
    pub fn over(&self, configured: &Controls) -> Controls {
        let mut controls = configured.clone();
        if let Some(new) = &self.controls {
            controls = controls.changed(&ControlsChange::Replace(new.clone()));
        }
        if let Some(settings) = &self.settings {
            controls.settings.clone_from(settings);
        }
        controls
    }

    /// The record after a change.
    #[must_use]
    pub fn changed(&self, change: &ControlsChange, configured: &Controls) -> Self {
        let mut record = self.clone();
        let now = self.over(configured).changed(change);
        let (controls, settings) = match change {
            ControlsChange::Replace(new) => (true, new.settings.is_some()),
            ControlsChange::ApprovalPolicy(_) => (true, false),
            ControlsChange::Settings(_) => (false, true),
        };
        if controls {
            record.controls = Some(NewControls {
                model: now.model,
                approval_policy: now.approval_policy,
                network_access: now.network_access,
                filesystem_sandbox: now.filesystem_sandbox,
                settings: None,
            });
        }
        if settings {
            record.settings = Some(now.settings);
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn new_controls(settings: Option<Map<String, Value>>) -> NewControls {
        NewControls {
            model: None,
            approval_policy: ApprovalPolicy::Never,
            network_access: NetworkAccess::Enabled,
            filesystem_sandbox: SandboxMode::WorkspaceWrite,
            settings,
        }
    }

    #[test]
    fn a_replacement_without_settings_keeps_them() {
        let settings = map(&json!({ "a": 1 }));
        let controls = Controls {
            model: Some("m".to_owned()),
            settings: settings.clone(),
            ..Controls::default()
        };
        let changed = controls.changed(&ControlsChange::Replace(new_controls(None)));
        assert_eq!((changed.model.as_ref(), &changed.settings), (None, &settings));
        assert_eq!(changed.line(), "default | never | enabled | workspace-write | settings:1");
        let none = ControlsChange::Replace(new_controls(Some(Map::new())));
        assert!(controls.changed(&none).settings.is_empty());
    }

    #[test]
    fn settings_are_flat() {
        let settings = map(&json!({ "a": { "x": 1 }, "b.c": 2 }));
        let set = SettingsChange::Set("b".to_owned(), Value::Null).apply(&settings);
        assert_eq!(Value::from(set), json!({ "a": { "x": 1 }, "b": null, "b.c": 2 }));
        let merged = SettingsChange::Merge(map(&json!({ "a": { "y": 2 } }))).apply(&settings);
        assert_eq!(Value::from(merged), json!({ "a": { "y": 2 }, "b.c": 2 }));
        let replaced = SettingsChange::Replace(map(&json!({ "z": 1 }))).apply(&settings);
        assert_eq!(Value::from(replaced), json!({ "z": 1 }));
        let removed = SettingsChange::Remove("b.c".to_owned()).apply(&settings);
        assert_eq!(Value::from(removed), json!({ "a": { "x": 1 } }));
    }

    #[test]
    fn what_nobody_changed_is_the_configurations() {
        let configured = Controls::default();
        let key = SettingsChange::Set("a".to_owned(), json!(1));
        let record = DefaultsRecord::default().changed(&ControlsChange::Settings(key), &configured);
        let stricter = Controls { approval_policy: ApprovalPolicy::OnRequest, ..configured };
        let now = record.over(&stricter);
        assert_eq!(now.approval_policy, ApprovalPolicy::OnRequest);
        assert_eq!(now.settings["a"], 1);
        let record = record.changed(&ControlsChange::Replace(new_controls(None)), &stricter);
        let now = record.over(&stricter);
        assert_eq!((now.approval_policy, &now.settings["a"]), (ApprovalPolicy::Never, &json!(1)));
    }
}
