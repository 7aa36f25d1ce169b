//! Items as they come: found in raw JSON and never turned into a tree.
//!
//! An item may be as long as a line of the runtime. What the manager needs of it is read in place;
//! the item itself goes to the store as it is.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::transcript::user_text;

/// Bytes of an item's words that its digest covers, besides their length.
const DIGESTED_BYTES: usize = 64 * 1024;

/// An item inside of raw JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawItem<'a> {
    /// The item, unchanged.
    pub json: &'a str,
    /// The runtime's id.
    pub id: Cow<'a, str>,
    /// The runtime's `type`; `unknown` where it names none.
    pub kind: Cow<'a, str>,
    /// What the item says, made short: two items of a turn and a kind that say the same are taken
    /// for one where their ids cannot be compared. `None` for an item without words.
    pub digest: Option<u64>,
    /// The text of a user's message.
    pub words: Option<String>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    item: &'a RawValue,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    command: Option<&'a RawValue>,
    #[serde(borrow, default)]
    changes: Option<&'a RawValue>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, default)]
    summary: Option<&'a RawValue>,
}

impl<'a> RawItem<'a> {
    /// The member `item` of the params of a notification. `None` where there is none with an id.
    pub fn of_params(params: &'a str) -> Option<Self> {
        let params: Params<'a> = serde_json::from_str(params).ok()?;
        Self::of_json(params.item.get())
    }

    /// An item that stands alone. `None` where it has no id.
    pub fn of_json(json: &'a str) -> Option<Self> {
        let head: Head<'a> = serde_json::from_str(json).ok()?;
        let kind = head.kind.and_then(|kind| text_of(kind.get()));
        let kind = kind.unwrap_or(Cow::Borrowed("unknown"));
        if kind == "userMessage" {
            // The words of a person are bounded by the size of a request's body.
            let words = user_text(&serde_json::from_str::<Value>(json).ok()?);
            let digest = Some(digest(words.as_bytes()));
            return Some(Self { json, id: head.id, kind, digest, words: Some(words) });
        }
        let said = [head.text, head.command, head.changes, head.arguments, head.summary];
        let said = said.into_iter().flatten().map(RawValue::get).find(|raw| says_something(raw));
        let digest = said.map(|raw| digest(raw.as_bytes()));
        Some(Self { json, id: head.id, kind, digest, words: None })
    }
}

/// The text of a JSON string.
fn text_of(raw: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(raw).ok().map(|Text(text)| text)
}

fn says_something(raw: &str) -> bool {
    !matches!(raw, "null" | "\"\"" | "[]" | "{}")
}

/// FNV-1a (64 bit, RFC 9923) over the length and the beginning: stable over builds, since it is
/// stored.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let length = (bytes.len() as u64).to_be_bytes();
    let beginning = bytes.iter().take(DIGESTED_BYTES);
    length
        .iter()
        .chain(beginning)
        .fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn an_item_is_found_in_place() {
        let params = r#"{"threadId":"t","item": {"type":"agentMessage","id":"i","text":"a\"b"} }"#;
        let item = RawItem::of_params(params).unwrap();
        assert_eq!(item.json, r#"{"type":"agentMessage","id":"i","text":"a\"b"}"#);
        assert_eq!((item.id.as_ref(), item.kind.as_ref()), ("i", "agentMessage"));
        assert!(matches!(item.id, Cow::Borrowed(_)));
        assert!(item.digest.is_some() && item.words.is_none());
    }

    #[test]
    fn what_is_no_item_is_none() {
        for params in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"item":null}"#,
            r#"{"item":{"type":"plan"}}"#,
            r#"{"item":{"id":7}}"#,
        ] {
            assert_eq!(RawItem::of_params(params), None, "{params}");
        }
        let item = RawItem::of_json(r#"{"id":"i","type":9}"#).unwrap();
        assert_eq!((item.kind.as_ref(), item.digest), ("unknown", None));
    }

    #[test]
    fn a_users_words_are_told_apart_and_the_same_ones_are_not() {
        let message = |id: &str, text: &str| {
            let content = json!([{ "type": "text", "text": text, "text_elements": [] }]);
            json!({ "id": id, "type": "userMessage", "content": content }).to_string()
        };
        let (a, b, c) = (message("1", "go"), message("item-9", "go"), message("1", "stay"));
        let digest = |json: &str| RawItem::of_json(json).unwrap().digest;
        assert_eq!(digest(&a), digest(&b));
        assert_ne!(digest(&a), digest(&c));
        assert_eq!(RawItem::of_json(&a).unwrap().words.as_deref(), Some("go"));
    }

    proptest! {
        /// Whatever is in an item, its JSON comes out as it went in.
        #[test]
        fn an_item_is_never_changed(id in ".{1,20}", text in ".{0,200}") {
            let item = json!({ "id": id, "type": "agentMessage", "text": text }).to_string();
            let params = format!("{{\"item\":{item},\"turnId\":\"u\"}}");
            let found = RawItem::of_params(&params).unwrap();
            prop_assert_eq!(found.json, item.as_str());
            prop_assert_eq!(found.id.as_ref(), id.as_str());
        }
    }
}
