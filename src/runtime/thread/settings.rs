//! Working directory, approval policy and sandbox: how a client spells them, how they are echoed.

use std::path::{Path, absolute};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::wire::Fault;

/// The one model: the guided agent, under a name that cannot be taken for a language model.
pub(crate) const MODEL: &str = "codex-manager-guide";

/// The provider of [`MODEL`].
pub(crate) const MODEL_PROVIDER: &str = "embedded";

/// What a thread runs under. Kept in the form in which it is echoed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Absolute; need not exist until a turn needs it, as in codex.
    pub(crate) cwd: String,
    /// `untrusted`, `on-request`, `never` or `{granular: …}`.
    pub(crate) approval_policy: Value,
    /// `{type: readOnly | workspaceWrite | dangerFullAccess, …}`.
    pub(crate) sandbox: Value,
}

/// Settings as a call may carry them; absent ones stay as they are.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Overrides {
    pub(crate) cwd: Option<String>,
    pub(crate) approval_policy: Option<Value>,
    /// The short spelling of thread calls.
    pub(crate) sandbox: Option<String>,
    /// The long spelling of turn calls.
    pub(crate) sandbox_policy: Option<Value>,
    /// A built-in permission profile.
    pub(crate) permissions: Option<String>,
    pub(crate) config: Option<Map<String, Value>>,
    pub(crate) model: Option<String>,
}

impl Settings {
    /// codex's defaults in the directory of this process.
    pub(crate) fn initial() -> Self {
        let cwd = std::env::current_dir().unwrap_or_else(|_| Path::new("/").to_owned());
        Self {
            cwd: cwd.to_string_lossy().into_owned(),
            approval_policy: json!("on-request"),
            sandbox: workspace_write(false),
        }
    }

    /// The settings with a call's overrides, or why the call is refused.
    pub(crate) fn with(&self, overrides: &Overrides, experimental: bool) -> Result<Self, Fault> {
        let mut settings = self.clone();
        if let Some(cwd) = &overrides.cwd {
            let cwd = absolute(cwd).map_err(|error| Fault::bad_request(format!("cwd: {error}")))?;
            settings.cwd = cwd.to_string_lossy().into_owned();
        }
        if let Some(policy) = &overrides.approval_policy {
            check_policy(policy, experimental)?;
            settings.approval_policy = policy.clone();
        }
        if overrides.permissions.is_some() && overrides.sandbox.is_some() {
            return Err(Fault::invalid("`permissions` cannot be combined with `sandbox`"));
        }
        let sandbox = match overrides.permissions.as_deref() {
            Some(":read-only") => Some("read-only"),
            Some(":workspace") => Some("workspace-write"),
            Some(":danger-full-access") => Some("danger-full-access"),
            Some(other) => {
                return Err(Fault::invalid(format!("unknown permission profile `{other}`")));
            }
            None => overrides.sandbox.as_deref(),
        };
        if let Some(mode) = sandbox {
            settings.sandbox = named_sandbox(mode, overrides.config.as_ref())?;
        }
        if let Some(policy) = &overrides.sandbox_policy {
            settings.sandbox = full_sandbox(policy)?;
        }
        Ok(settings)
    }

    /// Whether commands and file changes are refused.
    pub(crate) fn is_read_only(&self) -> bool {
        self.sandbox["type"] == "readOnly"
    }

    /// Whether commands and file changes are declined without asking.
    pub(crate) fn never_asks(&self) -> bool {
        self.approval_policy == "never"
    }
}

fn check_policy(policy: &Value, experimental: bool) -> Result<(), Fault> {
    let name = match policy {
        Value::String(name) => name.as_str(),
        Value::Object(object) => object.keys().next().map_or("", String::as_str),
        other => {
            return Err(Fault::bad_request(format!("invalid approval policy {other}")));
        }
    };
    match (name, policy.is_object()) {
        ("untrusted" | "on-request" | "never", false) => Ok(()),
        ("granular", true) if experimental => Ok(()),
        ("granular", true) => {
            Err(Fault::invalid("askForApproval.granular requires experimentalApi capability"))
        }
        _ => Err(unknown_variant(name, &["untrusted", "on-request", "granular", "never"])),
    }
}

fn named_sandbox(mode: &str, config: Option<&Map<String, Value>>) -> Result<Value, Fault> {
    match mode {
        "read-only" => Ok(json!({ "type": "readOnly", "networkAccess": false })),
        "workspace-write" => {
            let network = config.and_then(|c| c.get("sandbox_workspace_write.network_access"));
            Ok(workspace_write(network == Some(&Value::Bool(true))))
        }
        "danger-full-access" => Ok(json!({ "type": "dangerFullAccess" })),
        other => {
            Err(unknown_variant(other, &["read-only", "workspace-write", "danger-full-access"]))
        }
    }
}

fn full_sandbox(policy: &Value) -> Result<Value, Fault> {
    let network = policy["networkAccess"] == true;
    match policy["type"].as_str() {
        Some("readOnly") => Ok(json!({ "type": "readOnly", "networkAccess": network })),
        Some("workspaceWrite") => Ok(workspace_write(network)),
        Some("dangerFullAccess") => Ok(json!({ "type": "dangerFullAccess" })),
        Some(other) => {
            Err(unknown_variant(other, &["dangerFullAccess", "readOnly", "workspaceWrite"]))
        }
        None => Err(Fault::bad_request("missing field `type`")),
    }
}

/// Only the working directory is ever written, so no other roots are echoed.
fn workspace_write(network: bool) -> Value {
    json!({
        "type": "workspaceWrite", "writableRoots": [], "networkAccess": network,
        "excludeTmpdirEnvVar": false, "excludeSlashTmp": false,
    })
}

fn unknown_variant(found: &str, known: &[&str]) -> Fault {
    let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    Fault::bad_request(format!("unknown variant `{found}`, expected one of {}", known.join(", ")))
}
