//! Who codex will be logged in as.

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
        return Finding::ok(AREA, format!("{} is there", login.display()));
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

/// Whether the child's own configuration chooses a model provider.
fn names_a_provider(settings: &Settings) -> bool {
    let path = settings.runtime.codex_home.join("config.toml");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    table.contains_key("model_provider")
}
