//! The frames of what the app-server says, as version 1 orders and spells them.
//!
//! They are the bulk of all frames, so they are put together from pieces that do not change,
//! around params that are copied as they came.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::batch::{Audience, Content, Durability, FrameBatch};
use super::names::{Method, Signal};
use crate::ids::ThreadId;
use crate::rpc::{RawJson, RpcId};

/// Params above this many bytes are replaced by a reference in frames: the item is read over REST.
pub const BIG_PARAMS: usize = 1024 * 1024;

/// What the frames of a session have in common, written once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPieces {
    thread_id: Option<ThreadId>,
    title: Option<String>,
    project_id: Option<String>,
    audience: Audience,
    /// The session's id as JSON.
    id: String,
    /// The `session` member of envelopes as JSON.
    session: String,
}

impl SessionPieces {
    /// The pieces of a session.
    pub fn new(thread_id: &ThreadId, title: Option<&str>, project_id: Option<&str>) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Session<'a> {
            id: &'a ThreadId,
            title: Option<&'a str>,
            project_id: Option<&'a str>,
        }
        let session = Session { id: thread_id, title, project_id };
        // Texts always encode.
        Self {
            audience: Audience::Thread(thread_id.clone()),
            id: serde_json::to_string(thread_id).unwrap_or_default(),
            session: serde_json::to_string(&session).unwrap_or_default(),
            thread_id: Some(thread_id.clone()),
            title: title.map(str::to_owned),
            project_id: project_id.map(str::to_owned),
        }
    }

    /// The pieces of what belongs to no session.
    pub fn none() -> Self {
        Self {
            thread_id: None,
            title: None,
            project_id: None,
            audience: Audience::Unfiltered,
            id: "null".to_owned(),
            session: "null".to_owned(),
        }
    }

    /// Whether the session is still called this.
    pub fn is_current(&self, title: Option<&str>, project_id: Option<&str>) -> bool {
        self.title.as_deref() == title && self.project_id.as_deref() == project_id
    }

    /// Who receives the session's frames.
    pub fn audience(&self) -> &Audience {
        &self.audience
    }
}

/// One notification or request of the app-server.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The session that it belongs to.
    pub session: &'a SessionPieces,
    /// The turn that it names, else the active one.
    pub turn_id: Option<&'a str>,
    /// When it was read, ISO-8601 UTC with milliseconds.
    pub received_at: &'a str,
    /// Its method.
    pub method: &'a Method,
    /// Its params as they came.
    pub params: Option<&'a RawJson>,
}

/// What stands in frames for params that are too big for them. It keeps what clients find their
/// way by.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Truncated<'a> {
    truncated: bool,
    /// Bytes of the params.
    bytes: usize,
    /// Where the whole is to be had: the item, else the session.
    href: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<&'a ThreadId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<TruncatedItem<'a>>,
}

#[derive(Serialize)]
struct TruncatedItem<'a> {
    id: &'a str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
}

/// The members of big params that are kept.
#[derive(Deserialize)]
struct Kept<'a> {
    #[serde(borrow, default)]
    item: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct KeptItem {
    id: String,
    #[serde(rename = "type", default)]
    kind: Option<String>,
}

impl Event<'_> {
    /// The params, or what stands for them. Frames of one event write the same.
    fn shown(&self) -> Option<RawJson> {
        let params = self.params?;
        if params.size() <= BIG_PARAMS {
            return Some(params.clone());
        }
        let kept: Option<Kept<'_>> = serde_json::from_slice(params.as_bytes()).ok();
        let item = kept.and_then(|kept| kept.item);
        let item: Option<KeptItem> = item.and_then(|item| serde_json::from_str(item.get()).ok());
        let thread_id = self.session.thread_id.as_ref();
        let href = thread_id.map(|thread_id| match &item {
            Some(item) => format!("/api/sessions/{thread_id}/items/{}", encoded(&item.id)),
            None => format!("/api/sessions/{thread_id}"),
        });
        let truncated = Truncated {
            truncated: true,
            bytes: params.size(),
            href,
            thread_id,
            turn_id: self.turn_id,
            item: item
                .as_ref()
                .map(|item| TruncatedItem { id: &item.id, kind: item.kind.as_deref() }),
        };
        Some(RawJson::encode(&truncated).unwrap_or_else(|_| RawJson::null()))
    }
}

/// A text as one segment of a path (RFC 3986 §2).
fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            path.push(char::from(byte));
        } else {
            // Writing to a text does not fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path
}

fn text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        // Writing to memory does not fail, and a text always encodes.
        Some(text) => serde_json::to_writer(out, text).unwrap_or_default(),
        None => out.extend_from_slice(b"null"),
    }
}

impl FrameBatch {
    /// Adds the frame that comes before anything the manager makes of a notification.
    pub fn first(&mut self, event: &Event<'_>) {
        let durability = event.method.durability;
        let start = self.text().len();
        let shown = event.shown();
        let out = self.text();
        out.extend_from_slice(event.method.head.as_bytes());
        out.extend_from_slice(event.session.id.as_bytes());
        let payload_at = out.len() - start + ",\"payload\":".len();
        out.extend_from_slice(event.method.envelope.as_bytes());
        envelope_rest(out, event, shown.as_ref());
        out.extend_from_slice(b"}}");
        self.end(payload_at, &event.session.audience, durability, Content::Own);
    }

    /// Adds the frame that comes before anything the manager makes of a request.
    pub fn request(&mut self, event: &Event<'_>, id: &RpcId) {
        let start = self.text().len();
        let shown = event.shown();
        let out = self.text();
        let event_type = Signal::Request.event_type(event.method.name());
        out.extend_from_slice(b"\"type\":\"");
        out.extend_from_slice(event_type.as_bytes());
        out.extend_from_slice(b"\",\"threadId\":");
        out.extend_from_slice(event.session.id.as_bytes());
        out.extend_from_slice(b",\"payload\":");
        let payload_at = out.len() - start;
        out.extend_from_slice(
            b"{\"source\":\"app_server\",\"signalType\":\"request\",\"eventType\":\"",
        );
        out.extend_from_slice(event_type.as_bytes());
        out.extend_from_slice(b"\",\"method\":");
        text(out, Some(event.method.name()));
        out.extend_from_slice(b",\"receivedAt\":\"");
        envelope_rest(out, event, shown.as_ref());
        out.extend_from_slice(b",\"requestId\":");
        // A number or a text always encodes.
        serde_json::to_writer(&mut *out, id).unwrap_or_default();
        out.extend_from_slice(b"}}");
        let audience = &event.session.audience;
        self.end(payload_at, audience, Durability::DurableFirst, Content::Own);
    }

    /// Adds the frames that come after what the manager makes of a notification: the alias, if
    /// the method has one, and the raw notification.
    pub fn last(&mut self, event: &Event<'_>) {
        let durability = event.method.durability;
        let audience = &event.session.audience;
        let shown = event.shown();
        if let Some((kind, to_everyone)) = event.method.alias {
            let start = self.text().len();
            let out = self.text();
            out.extend_from_slice(b"\"type\":\"");
            out.extend_from_slice(kind.as_bytes());
            out.extend_from_slice(b"\",\"threadId\":");
            out.extend_from_slice(event.session.id.as_bytes());
            out.extend_from_slice(b",\"payload\":");
            let payload_at = out.len() - start;
            out.extend_from_slice(shown.as_ref().map_or(b"{}", RawJson::as_bytes));
            out.push(b'}');
            let audience = if to_everyone { &Audience::Everyone } else { audience };
            self.end(payload_at, audience, durability, Content::Alias);
        }
        let start = self.text().len();
        let out = self.text();
        out.extend_from_slice(b"\"type\":\"notification\",\"threadId\":");
        out.extend_from_slice(event.session.id.as_bytes());
        let payload_at = out.len() - start + ",\"payload\":".len();
        out.extend_from_slice(event.method.raw.as_bytes());
        if let Some(params) = &shown {
            out.extend_from_slice(b",\"params\":");
            out.extend_from_slice(params.as_bytes());
        }
        out.extend_from_slice(b"}}");
        self.end(payload_at, audience, durability, Content::Notification);
    }

    /// Adds all frames of a notification of which the manager makes nothing.
    pub fn plain(&mut self, event: &Event<'_>) {
        self.first(event);
        self.last(event);
    }
}

/// Writes an envelope from the time of receipt to its session.
fn envelope_rest(out: &mut Vec<u8>, event: &Event<'_>, shown: Option<&RawJson>) {
    out.extend_from_slice(event.received_at.as_bytes());
    out.extend_from_slice(b"\",\"context\":{\"threadId\":");
    out.extend_from_slice(event.session.id.as_bytes());
    out.extend_from_slice(b",\"turnId\":");
    text(out, event.turn_id);
    out.extend_from_slice(b"},\"params\":");
    out.extend_from_slice(shown.map_or(b"null", RawJson::as_bytes));
    out.extend_from_slice(b",\"session\":");
    out.extend_from_slice(event.session.session.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn frames(batch: &FrameBatch) -> Vec<Value> {
        let read = |tail: &[u8]| serde_json::from_slice(&[b"{", tail].concat()).unwrap();
        batch.frames().map(|frame| read(frame.tail)).collect()
    }

    fn params(value: &Value) -> RawJson {
        RawJson::encode(value).unwrap()
    }

    #[test]
    fn a_notification_is_shown_as_version_1_shows_it() {
        let thread = ThreadId::parse("t1").unwrap();
        let session = SessionPieces::new(&thread, Some("a \"title\""), None);
        let method = Method::new("turn/plan/updated");
        let raw = params(&json!({"threadId": "t1", "plan": []}));
        let event = Event {
            session: &session,
            turn_id: Some("u1"),
            received_at: "2026-11-21T00:00:00.000Z",
            method: &method,
            params: Some(&raw),
        };
        let mut batch = FrameBatch::default();
        batch.plain(&event);
        let expected_params = json!({"threadId": "t1", "plan": []});
        let envelope = json!({
            "source": "app_server",
            "signalType": "notification",
            "eventType": "app_server.turn.plan.updated",
            "method": "turn/plan/updated",
            "receivedAt": "2026-11-21T00:00:00.000Z",
            "context": {"threadId": "t1", "turnId": "u1"},
            "params": expected_params,
            "session": {"id": "t1", "title": "a \"title\"", "projectId": null},
        });
        let raw = json!({"method": "turn/plan/updated", "params": expected_params});
        assert_eq!(
            frames(&batch),
            [
                json!({"type": "app_server.turn.plan.updated", "threadId": "t1", "payload": envelope}),
                json!({"type": "turn_plan_updated", "threadId": "t1", "payload": expected_params}),
                json!({"type": "notification", "threadId": "t1", "payload": raw}),
            ]
        );
        let contents: Vec<Content> = batch.frames().map(|frame| frame.content).collect();
        assert_eq!(contents, [Content::Own, Content::Alias, Content::Notification]);
        for frame in batch.frames() {
            assert!(frame.tail[..frame.payload_at].ends_with(b",\"payload\":"), "{frame:?}");
        }
    }

    #[test]
    fn what_belongs_to_no_session_and_has_no_params_is_shown() {
        let session = SessionPieces::none();
        let method = Method::new("app/list/updated");
        let event = Event {
            session: &session,
            turn_id: None,
            received_at: "now",
            method: &method,
            params: None,
        };
        let mut batch = FrameBatch::default();
        batch.plain(&event);
        let shown = frames(&batch);
        assert_eq!(shown[0]["payload"]["params"], Value::Null);
        assert_eq!(shown[0]["payload"]["session"], Value::Null);
        assert_eq!(shown[1], json!({"type": "app_list_updated", "threadId": null, "payload": {}}));
        assert_eq!(shown[2]["payload"], json!({"method": "app/list/updated"}));
        let audiences: Vec<&Audience> =
            batch.frames().map(|frame| &batch.audiences()[frame.audience]).collect();
        let wanted = [&Audience::Unfiltered, &Audience::Everyone, &Audience::Unfiltered];
        assert_eq!(audiences, wanted);
    }

    #[test]
    fn a_request_carries_its_id() {
        let thread = ThreadId::parse("t1").unwrap();
        let session = SessionPieces::new(&thread, None, None);
        let method = Method::new("item/tool/call");
        let raw = params(&json!({}));
        let event = Event {
            session: &session,
            turn_id: None,
            received_at: "now",
            method: &method,
            params: Some(&raw),
        };
        let mut batch = FrameBatch::default();
        batch.request(&event, &RpcId::Number(7));
        let shown = frames(&batch);
        assert_eq!(shown[0]["type"], "app_server.request.item.tool.call");
        assert_eq!(shown[0]["payload"]["requestId"], 7);
        assert_eq!(shown[0]["payload"]["signalType"], "request");
    }

    #[test]
    fn big_params_are_replaced_by_a_reference() {
        let thread = ThreadId::parse("t1").unwrap();
        let session = SessionPieces::new(&thread, None, None);
        let method = Method::new("item/completed");
        let text = "x".repeat(BIG_PARAMS);
        let raw = params(&json!({"item": {"id": "a b", "type": "agentMessage", "text": text}}));
        let event = Event {
            session: &session,
            turn_id: Some("u1"),
            received_at: "now",
            method: &method,
            params: Some(&raw),
        };
        let mut batch = FrameBatch::default();
        batch.plain(&event);
        assert!(batch.bytes() < 2_000);
        for frame in frames(&batch) {
            let shown = &frame["payload"]["params"];
            assert_eq!(shown["truncated"], true);
            assert_eq!(shown["bytes"], raw.size());
            assert_eq!(shown["href"], "/api/sessions/t1/items/a%20b");
            assert_eq!(shown["item"], json!({"id": "a b", "type": "agentMessage"}));
            assert_eq!(shown["turnId"], "u1");
        }
    }
}
