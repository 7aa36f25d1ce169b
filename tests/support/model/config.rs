//! `config.toml` for a `codex` that talks to the scripted model.

/// A model name that `codex` does not know: it then offers its tools as a plain list and uses
/// fallback metadata (a `warning` notification says so).
pub const MODEL: &str = "mock-model";
/// A model name for which 0.140 and later offer the custom tool `apply_patch`.
pub const PATCH_MODEL: &str = "gpt-5.5";

/// A configuration with the scripted model as a custom provider that needs no login.
///
/// `base_url` is [`super::ScriptedModel::base_url`].
pub fn config_toml(base_url: &str) -> String {
    config_toml_for(base_url, MODEL)
}

/// [`config_toml`] with another model name.
pub fn config_toml_for(base_url: &str, model: &str) -> String {
    format!(
        r#"model = "{model}"
model_provider = "mock"
{COMMON_SETTINGS}
[model_providers.mock]
name = "Scripted model"
base_url = "{base_url}"
wire_api = "responses"
requires_openai_auth = false
request_max_retries = 1
stream_max_retries = 1
{COMMON_TABLES}"#
    )
}

/// A configuration with the built-in provider pointed at the scripted model: what a user has who
/// logs in with an API key. The built-in provider tries a WebSocket before it posts.
pub fn openai_config_toml(base_url: &str) -> String {
    format!(
        r#"model = "{MODEL}"
openai_base_url = "{base_url}"
{COMMON_SETTINGS}{COMMON_TABLES}"#
    )
}

/// Nothing here may reach out of the machine, so everything that only would is off.
const COMMON_SETTINGS: &str = r#"check_for_update_on_startup = false
"#;

/// The tools that the builders use. 0.155 and later offer `update_plan` only when asked to, and
/// `request_user_input` outside of plan mode is a feature; older versions ignore both lines.
const COMMON_TABLES: &str = r#"
[analytics]
enabled = false

[tools.update_plan]
enabled = true

[features]
default_mode_request_user_input = true
"#;
