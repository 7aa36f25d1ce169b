//! Session controls: what a turn may do, and how the runtime spells it.

mod change;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

pub use change::{
    ControlsChange, DEFAULTS_RECORD_VERSION, DefaultsRecord, NewControls, SettingsChange,
};

macro_rules! text_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:tt,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// Every value as clients spell it.
            pub const TEXTS: &'static [&'static str] = &[$($text,)*];

            /// The value as clients spell it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(format!("expected one of {}", Self::TEXTS.join(", "))),
                }
            }
        }
    };
}

text_enum! {
    /// When the agent must ask before it acts.
    ApprovalPolicy {
        /// Ask before everything that is not known to be harmless.
        Untrusted = "untrusted",
        /// Ask after the sandbox refused something.
        OnFailure = "on-failure",
        /// Ask when the model wants more than the sandbox allows.
        OnRequest = "on-request",
        /// Never ask; what would need it is refused.
        Never = "never",
    }
}

text_enum! {
    /// Whether commands may use the network.
    NetworkAccess {
        /// No.
        Restricted = "restricted",
        /// Yes.
        Enabled = "enabled",
    }
}

text_enum! {
    /// What commands may write.
    SandboxMode {
        /// Nothing.
        ReadOnly = "read-only",
        /// The workspace and the temporary folders.
        WorkspaceWrite = "workspace-write",
        /// Everything that the manager's user may.
        DangerFullAccess = "danger-full-access",
    }
}

text_enum! {
    /// How much the model thinks.
    ReasoningEffort {
        /// Not at all.
        None = "none",
        /// As little as possible.
        Minimal = "minimal",
        /// A little.
        Low = "low",
        /// The usual.
        Medium = "medium",
        /// More.
        High = "high",
        /// Most.
        Xhigh = "xhigh",
    }
}

/// The controls of one session. All five members are always present in answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Controls {
    /// Model id; `null` leaves the choice to the runtime.
    #[schema(required)]
    pub model: Option<String>,
    /// When the agent must ask.
    pub approval_policy: ApprovalPolicy,
    /// Whether commands may use the network.
    pub network_access: NetworkAccess,
    /// What commands may write.
    pub filesystem_sandbox: SandboxMode,
    /// Free settings of clients and extensions.
    #[serde(default)]
    #[schema(required)]
    pub settings: Map<String, Value>,
}

impl Default for Controls {
    fn default() -> Self {
        Self {
            model: None,
            approval_policy: ApprovalPolicy::Untrusted,
            network_access: NetworkAccess::Restricted,
            filesystem_sandbox: SandboxMode::ReadOnly,
            settings: Map::new(),
        }
    }
}

/// Changes to controls that come with one request; absent members keep what is there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlsPatch {
    /// Model id; a blank one counts as absent.
    pub model: Option<String>,
    /// When the agent must ask.
    pub approval_policy: Option<ApprovalPolicy>,
    /// Whether commands may use the network.
    pub network_access: Option<NetworkAccess>,
    /// What commands may write.
    pub filesystem_sandbox: Option<SandboxMode>,
}

impl Controls {
    /// These controls with the given changes.
    #[must_use]
    pub fn patched(&self, patch: &ControlsPatch) -> Self {
        let mut controls = self.clone();
        if let Some(model) = patch.model.as_deref().map(str::trim).filter(|m| !m.is_empty()) {
            controls.model = Some(model.to_owned());
        }
        controls.approval_policy = patch.approval_policy.unwrap_or(controls.approval_policy);
        controls.network_access = patch.network_access.unwrap_or(controls.network_access);
        controls.filesystem_sandbox =
            patch.filesystem_sandbox.unwrap_or(controls.filesystem_sandbox);
        controls
    }

    /// `approvalPolicy` as the runtime's RPC takes it.
    ///
    /// `on-failure` is refused from 0.155 on (`unknown variant`); there the granular form with
    /// every kind of question allowed behaves the same: ask after a failure.
    pub fn approval_policy_param(&self, version: Option<crate::compat::Version>) -> Value {
        let refuses_on_failure =
            version.is_some_and(|version| version >= crate::compat::Version::new(0, 155, 0));
        if self.approval_policy == ApprovalPolicy::OnFailure && refuses_on_failure {
            return json!({"granular": {
                "sandbox_approval": true,
                "rules": true,
                "skill_approval": true,
                "request_permissions": true,
                "mcp_elicitations": true,
            }});
        }
        Value::from(self.approval_policy.as_str())
    }

    /// `sandboxPolicy` of `turn/start`.
    pub fn sandbox_policy_param(&self) -> Value {
        let network = self.network_access == NetworkAccess::Enabled;
        match self.filesystem_sandbox {
            SandboxMode::ReadOnly if network => json!({"type": "readOnly", "networkAccess": true}),
            SandboxMode::ReadOnly => json!({"type": "readOnly"}),
            SandboxMode::WorkspaceWrite => {
                json!({"type": "workspaceWrite", "networkAccess": network})
            }
            SandboxMode::DangerFullAccess => json!({"type": "dangerFullAccess"}),
        }
    }

    /// Configuration that goes with `sandbox` where the runtime takes no sandbox policy: a person's own
    /// may open the network.
    pub fn config_param(&self) -> Value {
        let network = self.network_access == NetworkAccess::Enabled;
        json!({ "sandbox_workspace_write.network_access": network })
    }

    /// Compares the runtime's echo of approval policy and sandbox with what was asked for.
    ///
    /// Every version ignores parameters that it does not know, so only the echo shows what is in
    /// force. Members that the echo lacks are not compared.
    ///
    /// # Errors
    ///
    /// A fragment that names both sides when the runtime answers with something weaker or
    /// different.
    pub fn check_echo(
        &self,
        version: Option<crate::compat::Version>,
        result: &Value,
    ) -> Result<(), String> {
        if let Some(echo) = result.get("approvalPolicy").filter(|echo| !echo.is_null()) {
            let asked = self.approval_policy_param(version);
            let same = match (&asked, echo) {
                (Value::Object(asked), Value::Object(echo)) => asked.keys().eq(echo.keys()),
                (asked, echo) => asked == echo,
            };
            if !same {
                return Err(format!("approval policy {asked} became {echo}"));
            }
        }
        if let Some(echo) = result.get("sandbox").filter(|echo| !echo.is_null()) {
            let kind = echo.get("type").unwrap_or(echo).as_str().unwrap_or_default();
            let same = match self.filesystem_sandbox {
                SandboxMode::ReadOnly => matches!(kind, "readOnly" | "read-only"),
                SandboxMode::WorkspaceWrite => matches!(kind, "workspaceWrite" | "workspace-write"),
                SandboxMode::DangerFullAccess => {
                    matches!(kind, "dangerFullAccess" | "danger-full-access")
                }
            };
            if !same {
                let asked = self.filesystem_sandbox.as_str();
                return Err(format!("sandbox {asked} became {kind}"));
            }
            let is_open = result.pointer("/sandbox/networkAccess") == Some(&Value::Bool(true));
            if is_open && self.network_access == NetworkAccess::Restricted {
                return Err("network access restricted became enabled".to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compat::Version;

    #[test]
    fn a_patch_changes_only_what_it_names() {
        let base = Controls { model: Some("m".to_owned()), ..Controls::default() };
        let patch = ControlsPatch {
            model: Some("  ".to_owned()),
            filesystem_sandbox: Some(SandboxMode::WorkspaceWrite),
            ..ControlsPatch::default()
        };
        let patched = base.patched(&patch);
        assert_eq!(patched.model.as_deref(), Some("m"));
        assert_eq!(patched.filesystem_sandbox, SandboxMode::WorkspaceWrite);
        assert_eq!(patched.approval_policy, ApprovalPolicy::Untrusted);
    }

    #[test]
    fn on_failure_is_spelled_as_the_version_takes_it() {
        let controls =
            Controls { approval_policy: ApprovalPolicy::OnFailure, ..Controls::default() };
        assert_eq!(controls.approval_policy_param(Some(Version::new(0, 140, 0))), "on-failure");
        let newer = controls.approval_policy_param(Some(Version::new(0, 169, 0)));
        assert_eq!(newer["granular"]["rules"], true);
    }

    #[test]
    fn a_weakened_echo_is_noticed() {
        let controls = Controls::default();
        let good = json!({"approvalPolicy": "untrusted", "sandbox": {"type": "readOnly"}});
        assert_eq!(controls.check_echo(None, &good), Ok(()));
        assert_eq!(controls.check_echo(None, &json!({})), Ok(()));
        let weaker = json!({"approvalPolicy": "untrusted", "sandbox": {"type": "workspaceWrite"}});
        assert!(controls.check_echo(None, &weaker).is_err());
        let open = json!({"sandbox": {"type": "readOnly", "networkAccess": true}});
        assert!(controls.check_echo(None, &open).is_err());
        let silent = json!({"approvalPolicy": "never", "sandbox": {"type": "readOnly"}});
        assert!(controls.check_echo(None, &silent).is_err());
    }
}
