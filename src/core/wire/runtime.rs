//! Bodies of the operations that the Codex runtime answers itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::limits::{MAX_NAME, MAX_NOTE, MAX_PATH, MAX_SECRET, MAX_WORD, at_most};

use super::coerce::positive;

/// Answer of an operation whose result is the runtime's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RuntimeResult {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// What the runtime answered, unchanged.
    pub result: Value,
}

/// A page of a list of the runtime.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuntimePage {
    /// The entries, as the runtime writes them.
    pub data: Vec<Value>,
    /// Where the next page starts; `null` at the end.
    #[serde(default)]
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// Body of `POST /api/skills/config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigureSkill {
    /// Path of the skill's file.
    #[schema(min_length = 1, max_length = 4096)]
    #[serde(deserialize_with = "at_most::<MAX_PATH, _, _>")]
    pub path: String,
    /// Whether the agent may use it.
    pub enabled: bool,
}

/// Body of `POST /api/skills/remote`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WriteRemoteSkill {
    /// The skill's id in its catalogue.
    #[schema(min_length = 1, max_length = 256)]
    #[serde(deserialize_with = "at_most::<MAX_NAME, _, _>")]
    pub hazelnut_id: String,
    /// Whether it is loaded before it is asked for.
    pub is_preload: bool,
}

/// Body of `POST /api/mcp/servers/:serverName/oauth/login`; may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct McpLogin {
    /// OAuth scopes to ask for; the server's own choice when absent.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_NAME, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(max_items = 4096, max_length = 256)]
    pub scopes: Option<Vec<String>>,
    /// Seconds that the sign-in may take.
    #[serde(default, deserialize_with = "positive", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, nullable = false)]
    pub timeout_secs: Option<u64>,
}

/// Body of `POST /api/account/login/start`.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum StartLogin {
    /// With an API key.
    #[serde(rename_all = "camelCase")]
    ApiKey {
        /// The key.
        #[schema(min_length = 1, max_length = 16384)]
        api_key: String,
    },
    /// With a ChatGPT account, in a browser; the answer has the address to open.
    Chatgpt,
    /// With tokens of a ChatGPT account that the caller keeps fresh.
    #[serde(rename_all = "camelCase")]
    ChatgptAuthTokens {
        /// The access token.
        #[schema(min_length = 1, max_length = 16384)]
        access_token: String,
        /// The account that it is of.
        #[schema(min_length = 1, max_length = 256)]
        chatgpt_account_id: String,
        /// The account's plan.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(min_length = 1, max_length = 256)]
        chatgpt_plan_type: Option<String>,
    },
}

/// How [`StartLogin`] is read: a tagged enum would not say which member is wrong.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoginMembers {
    r#type: LoginType,
    #[serde(default, deserialize_with = "at_most::<MAX_SECRET, _, _>")]
    api_key: Option<String>,
    #[serde(default, deserialize_with = "at_most::<MAX_SECRET, _, _>")]
    access_token: Option<String>,
    #[serde(default, deserialize_with = "at_most::<MAX_NAME, _, _>")]
    chatgpt_account_id: Option<String>,
    #[serde(default, deserialize_with = "at_most::<MAX_NAME, _, _>")]
    chatgpt_plan_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum LoginType {
    ApiKey,
    Chatgpt,
    ChatgptAuthTokens,
}

impl<'de> Deserialize<'de> for StartLogin {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members = LoginMembers::deserialize(deserializer)?;
        let needed = |name: &'static str, value: Option<String>| {
            value.ok_or_else(|| <D::Error as serde::de::Error>::missing_field(name))
        };
        Ok(match members.r#type {
            LoginType::ApiKey => Self::ApiKey { api_key: needed("apiKey", members.api_key)? },
            LoginType::Chatgpt => Self::Chatgpt,
            LoginType::ChatgptAuthTokens => Self::ChatgptAuthTokens {
                access_token: needed("accessToken", members.access_token)?,
                chatgpt_account_id: needed("chatgptAccountId", members.chatgpt_account_id)?,
                chatgpt_plan_type: members.chatgpt_plan_type,
            },
        })
    }
}

// Keys and tokens belong in no log.
impl std::fmt::Debug for StartLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ApiKey { .. } => "StartLogin::ApiKey",
            Self::Chatgpt => "StartLogin::Chatgpt",
            Self::ChatgptAuthTokens { .. } => "StartLogin::ChatgptAuthTokens",
        })
    }
}

/// Body of `POST /api/account/login/cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CancelLogin {
    /// The sign-in, as its start answered.
    #[schema(min_length = 1, max_length = 256)]
    #[serde(deserialize_with = "at_most::<MAX_NAME, _, _>")]
    pub login_id: String,
}

/// How a value is put into the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum MergeStrategy {
    /// In place of what is there.
    Replace,
    /// Into what is there, table by table.
    Upsert,
}

/// One change of the runtime's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigEdit {
    /// Where, as dotted keys.
    #[schema(min_length = 1, max_length = 4096)]
    #[serde(deserialize_with = "at_most::<MAX_PATH, _, _>")]
    pub key_path: String,
    /// How.
    pub merge_strategy: MergeStrategy,
    /// What; `null` removes the key.
    #[serde(deserialize_with = "given")]
    #[schema(required)]
    pub value: Value,
}

/// A value that must be there, `null` included.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Value::deserialize(deserializer)
}

/// Body of `POST /api/config/value`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WriteConfigValue {
    /// Where, as dotted keys.
    #[serde(deserialize_with = "at_most::<MAX_PATH, _, _>")]
    #[schema(min_length = 1, max_length = 4096)]
    pub key_path: String,
    /// How.
    pub merge_strategy: MergeStrategy,
    /// What; `null` removes the key.
    #[serde(deserialize_with = "given")]
    #[schema(required)]
    pub value: Value,
    /// The version that is to be changed; refused when it is another one by now.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_NAME, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(min_length = 1, max_length = 256)]
    pub expected_version: Option<String>,
    /// The file to write, if not the user's.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_PATH, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(min_length = 1, max_length = 4096)]
    pub file_path: Option<String>,
}

/// Body of `POST /api/config/batch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WriteConfigBatch {
    /// The changes; all or none.
    #[schema(min_items = 1, max_items = 4096)]
    pub edits: Vec<ConfigEdit>,
    /// The version that is to be changed; refused when it is another one by now.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_NAME, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(min_length = 1, max_length = 256)]
    pub expected_version: Option<String>,
    /// The file to write, if not the user's.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_PATH, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(min_length = 1, max_length = 4096)]
    pub file_path: Option<String>,
}

/// Body of `POST /api/commands/exec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecuteCommand {
    /// The program and its arguments.
    #[serde(deserialize_with = "at_most::<MAX_WORD, _, _>")]
    #[schema(min_items = 1, max_items = 4096, max_length = 131072)]
    pub command: Vec<String>,
    /// Where it runs; the runtime's own folder when absent.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_PATH, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(min_length = 1, max_length = 4096)]
    pub cwd: Option<String>,
    /// Milliseconds after which it is ended.
    #[serde(default, deserialize_with = "positive", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, nullable = false)]
    pub timeout_ms: Option<u64>,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommandOutput {
    /// Its exit code; 124 when its time was over.
    pub exit_code: i64,
    /// What it wrote.
    pub stdout: String,
    /// What it wrote to its error output.
    pub stderr: String,
}

/// Answer of `POST /api/commands/exec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandExecuted {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// What became of it.
    pub result: CommandOutput,
}

/// Body of `POST /api/feedback`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SendFeedback {
    /// What it is about, such as `bug`.
    #[schema(min_length = 1, max_length = 256)]
    #[serde(deserialize_with = "at_most::<MAX_NAME, _, _>")]
    pub classification: String,
    /// Whether the runtime's logs go with it.
    pub include_logs: bool,
    /// In words.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_NOTE, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(min_length = 1, max_length = 65536)]
    pub reason: Option<String>,
    /// The thread that it is about.
    #[serde(
        default,
        deserialize_with = "at_most::<MAX_NAME, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(min_length = 1, max_length = 256)]
    pub thread_id: Option<String>,
}

/// Whether the runtime has a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum MethodStatus {
    /// It has.
    Available,
    /// It has not.
    Disabled,
    /// It has not said yet what it has.
    Unknown,
}

/// What is known of one method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MethodDetail {
    /// Whether the runtime has it.
    pub status: MethodStatus,
    /// Why not.
    #[schema(required)]
    pub reason: Option<String>,
}

/// The runtime's part of [`Capabilities`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CapabilitiesRuntime {
    /// Whether a child is up that has introduced itself.
    pub initialized: bool,
    /// When it did, ISO-8601 UTC.
    #[schema(required, format = DateTime)]
    pub capabilities_last_updated_at: Option<String>,
}

/// `GET /api/capabilities`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Capabilities {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    pub status: String,
    /// Since when it is known.
    pub runtime: CapabilitiesRuntime,
    /// Methods that version 1 knew.
    pub methods: BTreeMap<String, MethodStatus>,
    /// The same with reasons.
    pub details: BTreeMap<String, MethodDetail>,
    /// What can be done.
    pub features: BTreeMap<String, bool>,
}
