//! Lenient classification of one line.
//!
//! Only what routing needs is read: the id, the method and the thread. Everything else stays raw,
//! so that fields and methods this build has never heard of reach subscribers unchanged.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A JSON-RPC id. The app-server uses integers from 0; both forms are echoed exactly.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RpcId {
    /// An integer id.
    Number(i64),
    /// A string id.
    Text(String),
}

impl fmt::Display for RpcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// The `error` member of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("codex rpc error {code}: {message}")]
pub struct RpcError {
    /// JSON-RPC code; see [`super::code`].
    #[serde(default = "unknown_code")]
    pub code: i64,
    /// What the app-server says.
    #[serde(default = "unknown_message")]
    pub message: String,
    /// Structured detail, kept as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
}

fn unknown_code() -> i64 {
    -1
}

fn unknown_message() -> String {
    "unknown error".to_owned()
}

/// A classified line. Raw members borrow from the line.
#[derive(Debug)]
pub enum Inbound<'a> {
    /// `method` without `id`.
    Notification {
        /// The method's name.
        method: Cow<'a, str>,
        /// Raw `params`, `None` when the member is absent.
        params: Option<&'a RawValue>,
    },
    /// `method` and `id`: the app-server asks us.
    Request {
        /// The id to answer with; unique only within one child process.
        id: RpcId,
        /// The method's name.
        method: Cow<'a, str>,
        /// Raw `params`, `None` when the member is absent.
        params: Option<&'a RawValue>,
    },
    /// `id` without `method`: the answer to one of our calls.
    Answer {
        /// The id of our call.
        id: RpcId,
        /// Raw result, or the error. An answer with neither counts as a `null` result.
        outcome: Result<Option<&'a RawValue>, RpcError>,
    },
}

/// Why a line could not be classified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not a JSON object of the expected member types.
    #[error("not a JSON-RPC object: {0}")]
    Json(String),
    /// Neither `id` nor `method`.
    #[error("neither an id nor a method")]
    Empty,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default)]
    id: Option<RpcId>,
    #[serde(borrow, default)]
    method: Option<Word<'a>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<RpcError>,
}

/// A text that borrows; inside of an `Option` serde would copy a `Cow`.
#[derive(Deserialize)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

/// Classifies one line.
///
/// # Errors
///
/// [`Malformed`] when the line is not a JSON-RPC object. The caller reports it and goes on.
pub fn parse_line(line: &[u8]) -> Result<Inbound<'_>, Malformed> {
    let envelope: Envelope<'_> =
        serde_json::from_slice(line).map_err(|error| Malformed::Json(error.to_string()))?;
    match (envelope.method.map(|word| word.0), envelope.id) {
        (Some(method), Some(id)) => Ok(Inbound::Request { id, method, params: envelope.params }),
        (Some(method), None) => Ok(Inbound::Notification { method, params: envelope.params }),
        (None, Some(id)) => {
            let outcome = match envelope.error {
                Some(error) => Err(error),
                None => Ok(envelope.result),
            };
            Ok(Inbound::Answer { id, outcome })
        }
        (None, None) => Err(Malformed::Empty),
    }
}

/// The ids inside `params` by which a message is routed. They borrow from the params.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ThreadRef<'a> {
    /// `threadId`, `conversationId` or `thread.id`, whichever comes first in that order.
    pub thread_id: Option<Cow<'a, str>>,
    /// `turnId`, `turn_id`, `turn.id` or `item.turnId`.
    pub turn_id: Option<Cow<'a, str>>,
    /// `itemId`, `callId` or `item.id`.
    pub item_id: Option<Cow<'a, str>>,
}

impl<'a> ThreadRef<'a> {
    /// Reads the ids out of raw params; anything of another shape counts as absent.
    pub fn of(params: Option<&'a RawValue>) -> Self {
        let Some(params) = params else {
            return Self::default();
        };
        let Ok(scan) = serde_json::from_str::<Scan<'a>>(params.get()) else {
            return Self::default();
        };
        let thread_id = scan.thread_id.0.or(scan.conversation_id.0).or(scan.thread.id);
        Self {
            thread_id,
            turn_id: scan.turn_id.0.or(scan.turn_id_snake.0).or(scan.turn.id).or(scan.item.turn_id),
            item_id: scan.item_id.0.or(scan.call_id.0).or(scan.item.id),
        }
    }
}

#[derive(Deserialize)]
struct Scan<'a> {
    #[serde(borrow, default, rename = "threadId")]
    thread_id: Text<'a>,
    #[serde(borrow, default, rename = "conversationId")]
    conversation_id: Text<'a>,
    #[serde(borrow, default)]
    thread: Nested<'a>,
    #[serde(borrow, default, rename = "turnId")]
    turn_id: Text<'a>,
    #[serde(borrow, default, rename = "turn_id")]
    turn_id_snake: Text<'a>,
    #[serde(borrow, default)]
    turn: Nested<'a>,
    #[serde(borrow, default, rename = "itemId")]
    item_id: Text<'a>,
    #[serde(borrow, default, rename = "callId")]
    call_id: Text<'a>,
    #[serde(borrow, default)]
    item: Nested<'a>,
}

/// A non-blank JSON text, or nothing for every other value.
#[derive(Default)]
struct Text<'a>(Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lenient).map(|found| Self(found.text))
    }
}

/// The ids of an object, or nothing for every other value.
#[derive(Default)]
struct Nested<'a> {
    id: Option<Cow<'a, str>>,
    turn_id: Option<Cow<'a, str>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Nested<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lenient).map(|found| found.nested)
    }
}

/// What a value of any kind holds of a text or of ids.
#[derive(Default)]
struct Found<'a> {
    text: Option<Cow<'a, str>>,
    nested: Nested<'a>,
}

/// Takes any value; only texts and objects say something.
struct Lenient;

fn non_blank(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    (!text.trim().is_empty()).then_some(text)
}

impl<'de> Visitor<'de> for Lenient {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Found { text: non_blank(Cow::Borrowed(text)), ..Found::default() })
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Found { text: non_blank(Cow::Owned(text.to_owned())), ..Found::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut nested = Nested::default();
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match key.0.as_deref() {
                Some("id") => nested.id = map.next_value::<Text<'de>>()?.0,
                Some("turnId") => nested.turn_id = map.next_value::<Text<'de>>()?.0,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Found { text: None, nested })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Found::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Found::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Found::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Found::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Found::default())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Found::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_kinds_of_line_are_told_apart() {
        assert!(matches!(
            parse_line(br#"{"method":"turn/started","params":{"a":1},"emittedAtMs":5}"#),
            Ok(Inbound::Notification { method, params: Some(_) }) if method == "turn/started"
        ));
        assert!(matches!(
            parse_line(br#"{"id":0,"method":"item/tool/call"}"#),
            Ok(Inbound::Request { id: RpcId::Number(0), params: None, .. })
        ));
        assert!(matches!(
            parse_line(br#"{"error":{"code":-32600,"message":"no"},"id":"x"}"#),
            Ok(Inbound::Answer { id: RpcId::Text(_), outcome: Err(RpcError { code: -32600, .. }) })
        ));
        assert!(matches!(
            parse_line(br#"{"id":3,"result":{}}"#),
            Ok(Inbound::Answer { outcome: Ok(Some(_)), .. })
        ));
    }

    #[test]
    fn garbage_is_reported_and_never_panics() {
        for line in ["", "[]", "nonsense", "{}", "{\"id\":1.5}", "{\"id\":null}", "{\"method\":7}"]
        {
            assert!(parse_line(line.as_bytes()).is_err(), "{line}");
        }
        let deep = "[".repeat(100_000);
        assert!(parse_line(deep.as_bytes()).is_err());
    }

    #[test]
    fn ids_are_found_wherever_the_versions_put_them() {
        let raw = |json: &str| RawValue::from_string(json.to_owned()).expect("json");
        let direct = raw(r#"{"threadId":"t1","turnId":"u1","itemId":"i1"}"#);
        let found = ThreadRef::of(Some(&direct));
        assert_eq!(found.thread_id.as_deref(), Some("t1"));
        assert_eq!((found.turn_id.as_deref(), found.item_id.as_deref()), (Some("u1"), Some("i1")));
        let nested = raw(r#"{"thread":{"id":"t2"},"turn":{"id":"u2"},"item":{"id":"i2"}}"#);
        let found = ThreadRef::of(Some(&nested));
        assert_eq!(found.thread_id.as_deref(), Some("t2"));
        assert_eq!((found.turn_id.as_deref(), found.item_id.as_deref()), (Some("u2"), Some("i2")));
        let odd = raw(r#"{"threadId":5,"thread":"x","turn":null}"#);
        assert_eq!(ThreadRef::of(Some(&odd)), ThreadRef::default());
    }
}
