//! What the manager calls, and for what.

use std::collections::BTreeSet;

use super::known::is_known_method;
use crate::wire::MissingMethod;

/// A method that the manager calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// The method.
    pub method: &'static str,
    /// The method that is called where the child has not this one.
    pub or: Option<&'static str>,
    /// What does not work without it.
    pub affects: &'static str,
}

const fn used(method: &'static str, affects: &'static str) -> Use {
    Use { method, or: None, affects }
}

impl Use {
    const fn or(self, other: &'static str) -> Self {
        Self { or: Some(other), ..self }
    }
}

/// Every method that the manager calls. `skills/remote/read` and `…/write` are not among them: no
/// known version has them.
pub const USES: &[Use] = &[
    used("thread/start", "POST /api/sessions"),
    used(
        "thread/resume",
        "messages to sessions that the runtime has not loaded, POST /api/sessions/{id}/resume",
    ),
    used("thread/read", "sessions that were cut"),
    used("thread/turns/list", "sessions that were cut").or("thread/read"),
    used("turn/start", "POST /api/sessions/{id}/messages"),
    used("turn/steer", "messages while a turn runs, POST /api/sessions/{id}/turns/{turn}/steer"),
    used("turn/interrupt", "POST /api/sessions/{id}/interrupt"),
    used(
        "thread/name/set",
        "POST /api/sessions/{id}/rename, sessions without a first turn after a restart",
    ),
    used("thread/archive", "POST /api/sessions/{id}/archive"),
    used("thread/unarchive", "POST /api/sessions/{id}/unarchive"),
    used("thread/delete", "DELETE /api/sessions/{id}").or("thread/archive"),
    used("thread/fork", "POST /api/sessions/{id}/fork"),
    used("thread/rollback", "POST /api/sessions/{id}/rollback").or("thread/revert"),
    used("thread/compact/start", "POST /api/sessions/{id}/compact"),
    used("thread/backgroundTerminals/clean", "POST /api/sessions/{id}/background-terminals/clean"),
    used("review/start", "POST /api/sessions/{id}/review"),
    used("command/exec", "POST /api/commands/exec"),
    used("feedback/upload", "POST /api/feedback"),
    used("model/list", "GET /api/models"),
    used("app/list", "GET /api/apps"),
    used("experimentalFeature/list", "GET /api/features/experimental"),
    used("collaborationMode/list", "GET /api/collaboration/modes"),
    used("skills/list", "GET /api/skills"),
    used("skills/config/write", "POST /api/skills/config"),
    used("mcpServerStatus/list", "GET /api/mcp/servers"),
    used("config/mcpServer/reload", "POST /api/mcp/reload"),
    used("mcpServer/oauth/login", "POST /api/mcp/servers/{serverName}/oauth/login"),
    used("account/read", "GET /api/account, the login in health"),
    used("account/login/start", "POST /api/account/login/start, the login with OPENAI_API_KEY"),
    used("account/login/cancel", "POST /api/account/login/cancel"),
    used("account/logout", "POST /api/account/logout"),
    used("account/rateLimits/read", "GET /api/account/rate-limits"),
    used("config/read", "GET /api/config"),
    used("configRequirements/read", "GET /api/config/requirements"),
    used("config/value/write", "POST /api/config/value"),
    used("config/batchWrite", "POST /api/config/batch"),
];

/// Methods without which no session works.
const VITAL: [&str; 5] =
    ["thread/start", "thread/resume", "thread/read", "turn/start", "turn/interrupt"];

/// Methods that the manager calls and the child has not, nor what is called in their place. A child
/// that did not list its methods is believed to have them all.
pub fn missing(methods: &BTreeSet<String>) -> Vec<MissingMethod> {
    if methods.is_empty() {
        return Vec::new();
    }
    let has = |method: &str| methods.contains(method);
    let lacking = USES.iter().filter(|used| !has(used.method) && !used.or.is_some_and(has));
    let missing = |used: &Use| MissingMethod {
        method: used.method.to_owned(),
        affects: used.affects.to_owned(),
    };
    lacking.map(missing).collect()
}

/// Whether one of the methods is one without which no session works.
pub fn lacks_vital(missing: &[MissingMethod]) -> bool {
    missing.iter().any(|missing| VITAL.contains(&missing.method.as_str()))
}

/// Methods of the child that no known version has.
pub fn new(methods: &BTreeSet<String>) -> Vec<String> {
    methods.iter().filter(|method| !is_known_method(method)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::is_known_notification;

    fn having(methods: &[&str]) -> BTreeSet<String> {
        methods.iter().map(|method| (*method).to_owned()).collect()
    }

    fn all() -> BTreeSet<String> {
        USES.iter().map(|used| used.method.to_owned()).collect()
    }

    #[test]
    fn what_is_used_is_known() {
        for used in USES {
            let names = [Some(used.method), used.or];
            assert!(names.into_iter().flatten().all(is_known_method), "{used:?}");
        }
        assert!(VITAL.iter().all(|vital| USES.iter().any(|used| used.method == *vital)));
        assert!(is_known_method("newConversation") && is_known_method("thread/sample/cancel"));
        assert!(is_known_notification("turn/completed"));
        assert!(!is_known_notification("turn/start"));
    }

    #[test]
    fn a_method_is_missing_if_nothing_takes_its_place() {
        assert!(missing(&all()).is_empty() && new(&all()).is_empty());
        let mut methods = all();
        methods.remove("thread/rollback");
        assert_eq!(missing(&methods)[0].affects, "POST /api/sessions/{id}/rollback");
        assert!(!lacks_vital(&missing(&methods)));
        methods.insert("thread/revert".to_owned());
        methods.insert("thread/dream".to_owned());
        assert!(missing(&methods).is_empty());
        assert_eq!(new(&methods), ["thread/dream"]);
        methods.remove("turn/start");
        assert!(lacks_vital(&missing(&methods)));
        assert!(missing(&having(&[])).is_empty(), "it did not say");
    }
}
