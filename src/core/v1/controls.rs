//! Controls as version 1 stored them.

use std::str::FromStr;

use serde_json::{Map, Value};

use super::skips::{Skips, shown};
use crate::controls::Controls;

/// Longest model name that is taken, in bytes.
const MOST_MODEL_BYTES: usize = 1024;

/// Reads controls over those that hold where nothing, or nothing that is known, is said.
pub(super) fn read_controls(
    value: &Value,
    base: &Controls,
    whose: &str,
    skips: &mut Skips,
) -> Controls {
    let mut controls = base.clone();
    let Some(given) = value.as_object() else {
        skips.add(format!("controls of {whose}"), "they are no JSON object");
        return controls;
    };
    match given.get("model") {
        Some(Value::Null) => controls.model = None,
        Some(Value::String(model)) if model.len() <= MOST_MODEL_BYTES => {
            let model = model.trim();
            controls.model = (!model.is_empty()).then(|| model.to_owned());
        }
        Some(_) => skips.add(format!("model of {whose}"), "it is no text of a sensible length"),
        None => {}
    }
    let mut take = |names: &[&str]| -> Option<String> {
        let (name, value) = names.iter().find_map(|name| Some((*name, given.get(*name)?)))?;
        match value {
            Value::String(text) => Some(text.clone()),
            _ => {
                skips.add(format!("{name} of {whose}"), "it is no text");
                None
            }
        }
    };
    let policy = take(&["approvalPolicy"]);
    let network = take(&["networkAccess"]);
    let sandbox = take(&["filesystemSandbox", "sandbox"]);
    choose(policy, &mut controls.approval_policy, "approvalPolicy", whose, skips);
    choose(network, &mut controls.network_access, "networkAccess", whose, skips);
    choose(sandbox, &mut controls.filesystem_sandbox, "filesystemSandbox", whose, skips);
    match given.get("settings") {
        Some(Value::Object(settings)) => controls.settings.clone_from(settings),
        Some(Value::Null) | None => {}
        Some(_) => skips.add(format!("settings of {whose}"), "they are no JSON object"),
    }
    // An early version 1 kept this beside the settings.
    if let Some(Value::Object(supervisor)) = given.get("supervisor")
        && !controls.settings.contains_key("supervisor")
    {
        let file_change = Map::from_iter([("fileChange".to_owned(), supervisor.clone().into())]);
        controls.settings.insert("supervisor".to_owned(), file_change.into());
    }
    controls
}

/// Takes a value if it is one that is known.
pub(super) fn choose<T: FromStr>(
    given: Option<String>,
    place: &mut T,
    name: &str,
    whose: &str,
    skips: &mut Skips,
) {
    let Some(given) = given else { return };
    match given.parse() {
        Ok(value) => *place = value,
        Err(_) => {
            let why = format!("{} is no value of it", shown(&given));
            skips.add(format!("{name} of {whose}"), why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::{ApprovalPolicy, NetworkAccess, SandboxMode};
    use serde_json::json;

    fn read(value: &Value) -> (Controls, Skips) {
        let mut skips = Skips::default();
        let controls = read_controls(value, &Controls::default(), "s", &mut skips);
        (controls, skips)
    }

    #[test]
    fn legacy_members_are_understood() {
        let (controls, skips) = read(&json!({
            "model": " gpt ", "approvalPolicy": "never", "networkAccess": "enabled",
            "sandbox": "workspace-write", "supervisor": { "autoApprove": true },
        }));
        assert!(skips.is_empty(), "{skips:?}");
        assert_eq!(controls.model.as_deref(), Some("gpt"));
        assert_eq!(controls.approval_policy, ApprovalPolicy::Never);
        assert_eq!(controls.network_access, NetworkAccess::Enabled);
        assert_eq!(controls.filesystem_sandbox, SandboxMode::WorkspaceWrite);
        let settings = Value::from(controls.settings);
        assert_eq!(settings["supervisor"]["fileChange"]["autoApprove"], true);
    }

    #[test]
    fn what_is_unknown_is_named_and_does_not_open_anything() {
        let (controls, skips) = read(&json!({
            "model": 7, "approvalPolicy": "always", "networkAccess": 1,
            "filesystemSandbox": "open", "settings": [],
        }));
        assert_eq!(controls, Controls::default());
        assert_eq!(skips.len(), 5, "{skips:?}");
        assert_eq!(read(&json!("x")).1.len(), 1);
    }
}
