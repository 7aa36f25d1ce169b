//! The first words with a new child: introduction, what it can do, the login.

use cm_core::compat::{PROBE_METHOD, Profile, Version};
use cm_core::drift;
use cm_core::wire::{MissingMethod, RuntimeDrift};
use serde_json::{Value, json};

use super::failure::CallFailure;
use super::messages::CallOutcome;
use super::status::AccountStatus;

/// Calls that the actor makes for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnCall {
    /// `initialize`.
    Initialize,
    /// The call of no method that makes the child list its methods.
    Probe,
    /// `account/read`, before it is ready or after the child said that something changed.
    Account,
    /// `account/login/start` with the key.
    Login,
}

impl OwnCall {
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Probe => PROBE_METHOD,
            Self::Account => "account/read",
            Self::Login => "account/login/start",
        }
    }
}

/// Notifications by which codex 0.106 repeats every event in an older form. Only exact names can
/// be opted out of; the most frequent ones are, the rest is dropped when it is read.
const LEGACY_DELTAS: &[&str] = &[
    "codex/event/agent_message",
    "codex/event/agent_message_content_delta",
    "codex/event/agent_message_delta",
    "codex/event/agent_reasoning",
    "codex/event/agent_reasoning_delta",
    "codex/event/agent_reasoning_raw_content_delta",
    "codex/event/exec_command_begin",
    "codex/event/exec_command_end",
    "codex/event/exec_command_output_delta",
    "codex/event/item_completed",
    "codex/event/item_started",
    "codex/event/plan_delta",
    "codex/event/reasoning_content_delta",
    "codex/event/reasoning_raw_content_delta",
    "codex/event/task_complete",
    "codex/event/task_started",
    "codex/event/token_count",
    "codex/event/user_message",
];

pub(super) fn initialize_params(version: &str) -> Value {
    json!({
        "clientInfo": { "name": "codex_manager", "title": "Codex Manager", "version": version },
        "capabilities": {
            "experimentalApi": true,
            "optOutNotificationMethods": LEGACY_DELTAS,
        },
    })
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Say `initialized`, then make these calls.
    Introduced,
    /// Sign in with the key.
    LogIn,
    /// Read the account again.
    ReadAccount,
    /// The child is ready.
    Ready,
    /// The child cannot be used, with the reason.
    Unusable(String),
    /// Wait for more.
    Wait,
}

/// How far the first words are.
#[derive(Debug, Default)]
pub(super) struct Boot {
    pub(super) profile: Profile,
    pub(super) account: AccountStatus,
    probed: bool,
    asked_account: bool,
    logged_in: bool,
    ready: bool,
}

impl Boot {
    /// Takes the outcome of a call.
    pub(super) fn apply(&mut self, call: OwnCall, outcome: &CallOutcome, has_key: bool) -> Step {
        match (call, outcome) {
            (OwnCall::Initialize, Ok(result)) => {
                let result = result.value();
                let agent = result.get("userAgent").and_then(Value::as_str).map(str::to_owned);
                self.profile.version = agent.as_deref().and_then(Version::from_user_agent);
                self.profile.user_agent = agent;
                Step::Introduced
            }
            (OwnCall::Initialize, Err(error)) => {
                Step::Unusable(format!("initialize failed: {error}"))
            }
            (OwnCall::Probe, outcome) => {
                self.probed = true;
                if let Err(CallFailure::Rpc(error)) = outcome {
                    self.profile.methods = Profile::methods_in(&error.message);
                }
                self.next()
            }
            (OwnCall::Account, Ok(result)) => {
                let result = result.value();
                self.account.account =
                    result.get("account").filter(|account| !account.is_null()).cloned();
                self.account.required =
                    result.get("requiresOpenaiAuth").and_then(Value::as_bool).unwrap_or(false);
                self.account.known = true;
                // An account that the child has is never touched; the key is tried once a life.
                let wants_login = self.account.account.is_none() && self.account.required;
                if wants_login && has_key && !self.logged_in {
                    self.logged_in = true;
                    return Step::LogIn;
                }
                self.asked_account = true;
                self.next()
            }
            (OwnCall::Account, Err(_)) => {
                self.asked_account = true;
                self.next()
            }
            (OwnCall::Login, outcome) => {
                if let Err(error) = outcome {
                    let failure = error.sign_in_failure(call.method());
                    self.account.login_error = Some(failure.message);
                }
                Step::ReadAccount
            }
        }
    }

    fn next(&mut self) -> Step {
        if self.probed && self.asked_account && !self.ready {
            self.ready = true;
            return Step::Ready;
        }
        Step::Wait
    }
}

/// How the protocol of the child differs from those that are known, given what was known of the
/// child before it.
pub(super) fn drift(profile: &Profile, before: &RuntimeDrift) -> RuntimeDrift {
    let (missing, new) = (drift::missing(&profile.methods), drift::new(&profile.methods));
    RuntimeDrift { missing, new, ..before.clone() }
}

/// Says in the log what differs, and what that means.
pub(super) fn say(drift: &RuntimeDrift, version: Option<Version>) {
    let name = |missing: &MissingMethod| format!("{} ({})", missing.method, missing.affects);
    let lacks = drift.missing.iter().map(name).collect::<Vec<_>>().join("; ");
    let version = version.map(|version| version.to_string());
    if drift::lacks_vital(&drift.missing) {
        tracing::error!(
            version,
            lacks,
            "this Codex lacks methods without which sessions do not work; install another one"
        );
    } else if !lacks.is_empty() {
        tracing::warn!(
            version,
            lacks,
            "this Codex lacks methods: what needs them answers 501, everything else works"
        );
    } else if !drift.new.is_empty() {
        let new = drift.new.join(", ");
        tracing::info!(version, new, "this Codex has methods that are not known; none is used");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cm_core::rpc::RpcError;

    fn ok(value: &Value) -> CallOutcome {
        Ok(cm_core::rpc::RawJson::encode(value).unwrap())
    }

    fn listed() -> CallOutcome {
        let message = "unknown variant `x`, expected one of `thread/start`".to_owned();
        Err(CallFailure::Rpc(RpcError { code: -32600, message, data: None }))
    }

    #[test]
    fn a_child_is_ready_when_it_said_who_it_is_and_what_it_can() {
        let mut boot = Boot::default();
        let hello = ok(&json!({"userAgent": "codex_manager/0.169.0 (Debian; x86_64) x"}));
        assert_eq!(boot.apply(OwnCall::Initialize, &hello, false), Step::Introduced);
        assert_eq!(boot.apply(OwnCall::Probe, &listed(), false), Step::Wait);
        let account = ok(&json!({"account": null, "requiresOpenaiAuth": true}));
        assert_eq!(boot.apply(OwnCall::Account, &account, false), Step::Ready);
        assert_eq!(boot.profile.version, Some(Version::new(0, 169, 0)));
        assert!(boot.account.required);
    }

    #[test]
    fn the_key_is_used_once_and_only_when_there_is_no_account() {
        let none = ok(&json!({"account": null, "requiresOpenaiAuth": true}));
        let some = ok(&json!({"account": {"type": "chatgpt"}, "requiresOpenaiAuth": true}));
        let mut boot = Boot::default();
        boot.apply(OwnCall::Probe, &listed(), true);
        assert_eq!(boot.apply(OwnCall::Account, &none, true), Step::LogIn);
        let refused = Err(CallFailure::Timeout);
        assert_eq!(boot.apply(OwnCall::Login, &refused, true), Step::ReadAccount);
        assert_eq!(boot.apply(OwnCall::Account, &none, true), Step::Ready);
        assert!(boot.account.login_error.is_some());
        let mut boot = Boot::default();
        boot.apply(OwnCall::Probe, &listed(), true);
        assert_eq!(boot.apply(OwnCall::Account, &some, true), Step::Ready);
    }
}
