//! Event types, aliases and durability classes of methods.

use serde::Serialize;

use super::batch::Durability;
use crate::drift::is_known_notification;

/// Whether an event came as a notification or as a request of the app-server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// A notification.
    Notification,
    /// A request that waits for an answer.
    Request,
}

impl Signal {
    /// The event type of a method: `app_server.<norm>` or `app_server.request.<norm>`.
    pub fn event_type(self, method: &str) -> String {
        match self {
            Self::Notification => format!("app_server.{}", normalise(method)),
            Self::Request => format!("app_server.request.{}", normalise(method)),
        }
    }
}

/// Turns a method name into the dotted, snake-cased form of event types.
///
/// `item/fileChange/requestApproval` becomes `item.file_change.request_approval`.
pub fn normalise(method: &str) -> String {
    let segments: Vec<String> =
        method.split('/').map(normalise_segment).filter(|segment| !segment.is_empty()).collect();
    if segments.is_empty() { "unknown".to_owned() } else { segments.join(".") }
}

fn normalise_segment(segment: &str) -> String {
    let segment = segment.trim();
    if segment.is_empty() {
        return "unknown".to_owned();
    }
    let characters: Vec<char> = segment.chars().collect();
    let mut text = String::with_capacity(segment.len() + 4);
    for (index, &character) in characters.iter().enumerate() {
        if !character.is_ascii_alphanumeric() {
            if !text.ends_with('_') {
                text.push('_');
            }
            continue;
        }
        let before = index.checked_sub(1).map(|i| characters[i]);
        let after = characters.get(index + 1);
        let starts_word = character.is_ascii_uppercase()
            && (before.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
                || (before.is_some_and(|c| c.is_ascii_uppercase())
                    && after.is_some_and(char::is_ascii_lowercase)));
        if starts_word && !text.ends_with('_') {
            text.push('_');
        }
        text.push(character.to_ascii_lowercase());
    }
    text.trim_matches('_').to_owned()
}

/// The alias that version 1 publishes beside some notifications, and whether it goes to everyone.
fn alias(method: &str) -> Option<(&'static str, bool)> {
    Some(match method {
        "turn/plan/updated" => ("turn_plan_updated", false),
        "turn/diff/updated" => ("turn_diff_updated", false),
        "thread/tokenUsage/updated" => ("thread_token_usage_updated", false),
        "app/list/updated" => ("app_list_updated", true),
        "mcpServer/oauthLogin/completed" => ("mcp_oauth_completed", true),
        "account/updated" => ("account_updated", true),
        "account/login/completed" => ("account_login_completed", true),
        "account/rateLimits/updated" => ("account_rate_limits_updated", true),
        _ => return None,
    })
}

/// The durability class of a notification.
fn durability_of(method: &str) -> Durability {
    let is_delta = method.ends_with("Delta")
        || method.ends_with("/delta")
        || method.ends_with("/progress")
        || method.ends_with("/terminalInteraction");
    let is_usage = matches!(method, "thread/tokenUsage/updated" | "account/rateLimits/updated");
    if is_delta || is_usage { Durability::Ephemeral } else { Durability::Recorded }
}

/// A method of the app-server, with everything about its events that depends on its name alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    name: String,
    /// Whether notifications of this name were known when this was built.
    pub is_known: bool,
    /// The durability class of its notifications.
    pub durability: Durability,
    /// The alias that version 1 publishes beside its notifications, and whether it goes to everyone.
    pub alias: Option<(&'static str, bool)>,
    /// `"type":"app_server.<norm>","threadId":`
    pub(super) head: String,
    /// What stands between the thread's id and the time of receipt in the envelope.
    pub(super) envelope: String,
    /// What stands between the thread's id and the params in the raw notification; without
    /// params it ends the payload.
    pub(super) raw: String,
}

impl Method {
    /// Works out what depends on the name alone.
    pub fn new(name: &str) -> Self {
        let event_type = Signal::Notification.event_type(name);
        // A text always encodes.
        let quoted = serde_json::to_string(name).unwrap_or_default();
        Self {
            is_known: is_known_notification(name),
            durability: durability_of(name),
            alias: alias(name),
            head: format!("\"type\":\"{event_type}\",\"threadId\":"),
            envelope: format!(
                ",\"payload\":{{\"source\":\"app_server\",\"signalType\":\"notification\",\
                 \"eventType\":\"{event_type}\",\"method\":{quoted},\"receivedAt\":\""
            ),
            raw: format!(",\"payload\":{{\"method\":{quoted}"),
            name: name.to_owned(),
        }
    }

    /// The name as the app-server spells it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_become_event_types() {
        for (method, norm) in [
            ("turn/started", "turn.started"),
            ("thread/tokenUsage/updated", "thread.token_usage.updated"),
            ("mcpServer/oauthLogin/completed", "mcp_server.oauth_login.completed"),
            ("execCommandApproval", "exec_command_approval"),
            ("item/fileChange/requestApproval", "item.file_change.request_approval"),
            ("item/MCPToolCall/x", "item.mcp_tool_call.x"),
            ("HTTPServer2Start", "http_server2_start"),
            ("v2Item/x1Y", "v2_item.x1_y"),
            ("codex/event/agent_message", "codex.event.agent_message"),
            ("a b/c-d", "a_b.c_d"),
            ("", "unknown"),
            ("//", "unknown.unknown.unknown"),
            ("__", "unknown"),
        ] {
            assert_eq!(normalise(method), norm, "{method:?}");
        }
        assert_eq!(
            Signal::Request.event_type("item/tool/call"),
            "app_server.request.item.tool.call"
        );
    }

    #[test]
    fn deltas_are_ephemeral_and_items_are_recorded() {
        assert_eq!(durability_of("item/agentMessage/delta"), Durability::Ephemeral);
        assert_eq!(durability_of("item/commandExecution/outputDelta"), Durability::Ephemeral);
        assert_eq!(durability_of("item/completed"), Durability::Recorded);
        assert_eq!(durability_of("some/thing/new"), Durability::Recorded);
    }
}
