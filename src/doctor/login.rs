//! Who codex will be logged in as.

use std::path::Path;

use serde_json::Value;

use crate::config::{ResolvedRuntime, RuntimeKind, Settings};
use crate::login::{AUTH_FILE, own_login};

use super::report::Finding;

const AREA: &str = "login";

/// What turns will run with.
pub(super) fn check(settings: &Settings, runtime: &ResolvedRuntime) -> Finding {
    if runtime.kind == RuntimeKind::Embedded {
        return Finding::ok(AREA, "the embedded runtime needs none");
    }
    let home = &settings.runtime.codex_home;
    let login = home.join(AUTH_FILE);
    if login.is_file() {
        return there(&login, own_login(&settings.runtime).as_deref());
    }
    if let Some(own) = own_login(&settings.runtime) {
        let message = format!(
            "{} will be copied to {} at the next start; a ChatGPT login then shares its refresh \
             token with the original",
            own.display(),
            login.display()
        );
        return Finding::ok(AREA, message);
    }
    if settings.runtime.openai_api_key.is_some() {
        let kept = match runtime.version {
            Some(version) if version.keeps_credentials_in_memory() => "in memory only",
            _ => "in its auth.json, because this version cannot keep it in memory",
        };
        let message = format!("codex will be logged in with OPENAI_API_KEY, kept {kept}");
        return Finding::ok(AREA, message);
    }
    if names_a_provider(settings) {
        let message = "none, but config.toml names a model provider, which may need none";
        return Finding::note(AREA, message);
    }
    Finding::problem(
        AREA,
        "codex has no login and there is no API key: turns will end with an authentication error",
        format!(
            "run `CODEX_HOME={} codex login`, or set OPENAI_API_KEY in the environment or in \
             `.env`, or try without codex: --runtime embedded",
            home.display()
        ),
    )
}

/// A login that is there, beside the user's own: the older copy of a ChatGPT login cannot be
/// renewed.
fn there(login: &Path, own: Option<&Path>) -> Finding {
    let read = |path: &Path| -> Value {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    };
    let here = read(login);
    let theirs = own.map(read).unwrap_or_default();
    let text = |login: &Value, name: &str| {
        login
            .pointer(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .filter(|text| !text.is_empty())
    };
    let same = |name: &str| text(&here, name).is_some() && text(&here, name) == text(&theirs, name);
    let token = "/tokens/refresh_token";
    let shown = login.display();
    if same("/tokens/account_id") && !same(token) && text(&theirs, token).is_some() {
        // Both are ISO-8601, which sort by their time.
        if text(&theirs, "/last_refresh") > text(&here, "/last_refresh") {
            return Finding::problem(
                AREA,
                format!(
                    "{shown} is there, and is older than your own login of the same account: it may \
                     not be renewable any more"
                ),
                "run `codex-manager account adopt`, or sign in for that home",
            );
        }
    }
    let shares =
        if same(token) { ", and shares its refresh token with your own login" } else { "" };
    Finding::ok(AREA, format!("{shown} is there{shares}"))
}

/// Whether the child's own configuration chooses a model provider.
fn names_a_provider(settings: &Settings) -> bool {
    let path = settings.runtime.codex_home.join("config.toml");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    table.contains_key("model_provider")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::State;
    use serde_json::json;

    #[test]
    fn an_older_copy_of_the_users_login_is_a_problem() {
        let place = tempfile::tempdir().unwrap();
        let put = |name: &str, token: &str, account: &str, at: &str| {
            let tokens = json!({ "refresh_token": token, "account_id": account });
            let path = place.path().join(name);
            let login = json!({ "tokens": tokens, "last_refresh": at });
            std::fs::write(&path, login.to_string()).unwrap();
            path
        };
        let here = put("here", "secret-1", "a", "2026-11-20T00:00:00Z");
        let state = |own: Option<&Path>| there(&here, own).state;
        assert_eq!(state(None), State::Ok);
        let newer = put("newer", "secret-2", "a", "2026-11-21T00:00:00Z");
        assert_eq!(state(Some(&newer)), State::Problem);
        let message = there(&here, Some(&newer)).message;
        assert!(!message.contains("secret"), "{message}");
        let older = put("older", "secret-2", "a", "2026-11-19T00:00:00Z");
        assert_eq!(state(Some(&older)), State::Ok);
        let other = put("other", "secret-2", "b", "2026-11-21T00:00:00Z");
        assert_eq!(state(Some(&other)), State::Ok);
        let same = put("same", "secret-1", "a", "2026-11-20T00:00:00Z");
        assert!(there(&here, Some(&same)).message.contains("shares"));
    }
}
