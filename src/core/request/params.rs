//! Params that are too long to be shown.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// Bytes of params that are shown whole.
pub const SHOWN_PARAMS_BYTES: usize = 1 << 20;

/// Bytes of a member that is shown where the whole is too long.
const SHOWN_MEMBER_BYTES: usize = 64 * 1024;

/// Params as a request's record holds them: whole, or without the members that make them too long;
/// and their length where they are.
///
/// A member that is left out is replaced by `{"truncated": true, "bytes": …}`.
pub fn shown_params(params: Option<&str>) -> (Value, Option<u64>) {
    let Some(params) = params else {
        return (Value::Null, None);
    };
    if params.len() <= SHOWN_PARAMS_BYTES {
        return (serde_json::from_str(params).unwrap_or(Value::Null), None);
    }
    let length = params.len() as u64;
    let truncated = |bytes: usize| json!({ "truncated": true, "bytes": bytes });
    let members: Result<std::collections::BTreeMap<String, &RawValue>, _> =
        serde_json::from_str(params);
    let Ok(members) = members else {
        return (truncated(params.len()), Some(length));
    };
    let mut shown = Map::new();
    let mut room = SHOWN_PARAMS_BYTES;
    for (name, raw) in members {
        let raw = raw.get();
        let fits = raw.len() <= SHOWN_MEMBER_BYTES.min(room);
        room -= if fits { raw.len() } else { 0 };
        let whole = fits.then(|| serde_json::from_str(raw).ok()).flatten();
        shown.insert(name, whole.unwrap_or_else(|| truncated(raw.len())));
    }
    (Value::Object(shown), Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_params_are_shown_whole() {
        let text = r#"{"tool":"t","arguments":{"a":[1]}}"#;
        let (shown, bytes) = shown_params(Some(text));
        assert_eq!((shown, bytes), (json!({"tool": "t", "arguments": {"a": [1]}}), None));
        assert_eq!(shown_params(None), (Value::Null, None));
        assert_eq!(shown_params(Some("{")), (Value::Null, None));
    }

    #[test]
    fn of_long_params_the_long_member_is_left_out() {
        let text = json!({ "tool": "t", "arguments": "x".repeat(2 << 20) }).to_string();
        let (shown, bytes) = shown_params(Some(&text));
        assert_eq!(bytes, Some(text.len() as u64));
        assert_eq!(shown["tool"], "t");
        assert_eq!(shown["arguments"], json!({ "truncated": true, "bytes": (2 << 20) + 2 }));
    }

    #[test]
    fn many_members_are_bounded_together() {
        let members: Map<String, Value> =
            (0..100).map(|n| (format!("m{n}"), json!("x".repeat(60_000)))).collect();
        let text = Value::Object(members).to_string();
        let (shown, _) = shown_params(Some(&text));
        assert!(shown.to_string().len() <= SHOWN_PARAMS_BYTES + 100 * 50);
        assert_eq!(shown.as_object().map(Map::len), Some(100));
    }
}
