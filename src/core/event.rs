//! Names and bodies of stream events.
//!
//! A frame on the wire is `{"seq":…,"epoch":…,"type":…,"threadId":…,"payload":…}`. The thread (or
//! whoever publishes) writes the part from `"type"` on; the journal puts the numbers in front, so
//! that each frame is encoded once whatever the number of subscribers.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::ids::{Epoch, Seq, ThreadId};

/// Who receives a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Sockets without a filter, and those filtered to the thread.
    Thread(ThreadId),
    /// Sockets without a filter.
    Unfiltered,
    /// Every socket, whatever its filter.
    Everyone,
}

/// How durable a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Token deltas, command output, usage: kept in the ring only; the completed item supersedes
    /// them.
    Ephemeral,
    /// Items, turns, status: published at once, committed right behind.
    Recorded,
    /// Acknowledged commands, requests and decisions: committed first, then shown.
    DurableFirst,
}

/// A frame without its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameBody {
    /// Who receives it.
    pub audience: Audience,
    /// How durable it is.
    pub durability: Durability,
    /// `"type":…,"threadId":…,"payload":…}`: everything after the numbers.
    pub tail: String,
}

impl FrameBody {
    /// Writes a frame's body.
    ///
    /// The thread id in the frame is the audience's, or `shown` where the audience is wider.
    ///
    /// # Errors
    ///
    /// When the payload cannot be written as JSON.
    pub fn new<P: Serialize>(
        kind: &str,
        audience: Audience,
        shown: Option<&ThreadId>,
        durability: Durability,
        payload: &P,
    ) -> Result<Self, serde_json::Error> {
        #[derive(Serialize)]
        struct Body<'a, P> {
            #[serde(rename = "type")]
            kind: &'a str,
            #[serde(rename = "threadId")]
            thread_id: Option<&'a ThreadId>,
            payload: &'a P,
        }
        let thread_id = match &audience {
            Audience::Thread(id) => Some(id),
            Audience::Unfiltered | Audience::Everyone => shown,
        };
        let mut tail = serde_json::to_string(&Body { kind, thread_id, payload })?;
        tail.remove(0);
        Ok(Self { audience, durability, tail })
    }

    /// The whole frame.
    pub fn numbered(&self, epoch: &Epoch, seq: Seq) -> String {
        // An epoch is made of letters and digits, so it needs no escaping.
        format!("{{\"seq\":{seq},\"epoch\":\"{epoch}\",{}", self.tail)
    }
}

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
pub fn alias(method: &str) -> Option<(&'static str, bool)> {
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
pub fn durability_of(method: &str) -> Durability {
    let is_delta = method.ends_with("Delta")
        || method.ends_with("/delta")
        || method.ends_with("/progress")
        || method.ends_with("/terminalInteraction");
    let is_usage = matches!(method, "thread/tokenUsage/updated" | "account/rateLimits/updated");
    if is_delta || is_usage { Durability::Ephemeral } else { Durability::Recorded }
}

/// The session as the envelope of an `app_server.*` event shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvelopeSession<'a> {
    /// Session id.
    pub id: &'a ThreadId,
    /// The title a person or the runtime gave it.
    pub title: Option<&'a str>,
    /// The project it is assigned to.
    pub project_id: Option<&'a str>,
}

/// The ids an event belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvelopeContext<'a> {
    /// Thread.
    pub thread_id: Option<&'a str>,
    /// Turn: named by the event, else the active one.
    pub turn_id: Option<&'a str>,
}

/// Payload of an `app_server.*` event.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope<'a> {
    /// Always `app_server`.
    pub source: &'static str,
    /// Notification or request.
    pub signal_type: Signal,
    /// The event's own type.
    pub event_type: &'a str,
    /// The method as the app-server named it.
    pub method: &'a str,
    /// When the manager read it, ISO-8601 UTC with milliseconds.
    pub received_at: &'a str,
    /// What it belongs to.
    pub context: EnvelopeContext<'a>,
    /// Raw params, `null` when there are none.
    pub params: Option<&'a RawValue>,
    /// The session, `null` when the event names no thread.
    pub session: Option<EnvelopeSession<'a>>,
    /// The JSON-RPC id of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a crate::rpc::RpcId>,
}

/// Payload of a `notification` event.
#[derive(Debug, Serialize)]
pub struct RawNotification<'a> {
    /// The method as the app-server named it.
    pub method: &'a str,
    /// Raw params; absent when the app-server sent none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
    fn a_frame_carries_its_numbers_in_front() {
        let thread = ThreadId::parse("t1").unwrap();
        let body = FrameBody::new(
            "approval",
            Audience::Thread(thread),
            None,
            Durability::DurableFirst,
            &json!({"a": 1}),
        )
        .unwrap();
        let frame = body.numbered(&Epoch::parse("e1").unwrap(), Seq(7));
        let value: serde_json::Value = serde_json::from_str(&frame).unwrap();
        assert_eq!(
            value,
            json!({"seq": 7, "epoch": "e1", "type": "approval", "threadId": "t1", "payload": {"a": 1}})
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
