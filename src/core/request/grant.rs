//! Permissions that are granted: what was asked for, or a part of it.

use serde_json::{Map, Value};

/// Whether a grant goes no further than what was asked for.
///
/// A member that is left out or `null` is not granted; lists may be shorter; `true` may become
/// `false`. What was asked to be denied within a granted folder stays denied: without that, a part
/// would be more than the whole.
pub(super) fn is_part(asked: &Value, granted: &Map<String, Value>) -> bool {
    granted.iter().all(|(name, granted)| match asked.get(name) {
        Some(asked) if name == "fileSystem" => {
            is_less(asked, granted) && keeps_denials(asked, granted)
        }
        Some(asked) => is_less(asked, granted),
        None => granted.is_null(),
    })
}

fn is_less(asked: &Value, granted: &Value) -> bool {
    match (asked, granted) {
        (_, Value::Null) | (Value::Bool(true), Value::Bool(false)) => true,
        (Value::Object(asked), Value::Object(granted)) => granted.iter().all(|(name, granted)| {
            asked.get(name).map_or_else(|| granted.is_null(), |asked| is_less(asked, granted))
        }),
        // An entry is granted as it is: a part of one would mean something else.
        (Value::Array(asked), Value::Array(granted)) => {
            granted.iter().all(|entry| asked.contains(entry))
        }
        _ => asked == granted,
    }
}

fn keeps_denials(asked: &Value, granted: &Value) -> bool {
    if granted.is_null() {
        return true;
    }
    let entries = |profile: &Value| -> Vec<Value> {
        profile.get("entries").and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let kept = entries(granted);
    let denied = |entry: &Value| entry.get("access").is_some_and(|access| access == "deny");
    let mut denied = entries(asked).into_iter().filter(denied).peekable();
    // How deep denied patterns are looked for belongs to them.
    let depth = |profile: &Value| profile.get("globScanMaxDepth").cloned().unwrap_or(Value::Null);
    let same_depth = denied.peek().is_none() || depth(asked) == depth(granted);
    same_depth && denied.all(|entry| kept.contains(&entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fits(asked: &Value, granted: &Value) -> bool {
        is_part(asked, granted.as_object().unwrap())
    }

    #[test]
    fn a_part_is_granted_and_nothing_more() {
        let asked = json!({
            "network": { "enabled": true },
            "fileSystem": { "read": ["/a", "/b"], "write": ["/c"], "entries": null },
        });
        for part in [
            json!({}),
            asked.clone(),
            json!({ "network": null }),
            json!({ "network": { "enabled": false } }),
            json!({ "fileSystem": { "read": ["/b"] } }),
        ] {
            assert!(fits(&asked, &part), "{part}");
        }
        for more in [
            json!({ "other": {} }),
            json!({ "fileSystem": { "read": ["/"] } }),
            json!({ "fileSystem": { "write": ["/a"] } }),
            json!({ "fileSystem": "all" }),
            json!({ "network": { "enabled": "yes" } }),
        ] {
            assert!(!fits(&asked, &more), "{more}");
        }
    }

    #[test]
    fn what_is_denied_within_a_folder_stays_denied() {
        let entry =
            |path: &str, access: &str| json!({ "path": { "path": path }, "access": access });
        let (write, deny) = (entry("/a", "write"), entry("/a/secret", "deny"));
        let asked = json!({ "fileSystem": { "entries": [write, deny], "globScanMaxDepth": 3 } });
        assert!(fits(&asked, &asked));
        assert!(fits(&asked, &json!({ "fileSystem": null })));
        let bare = json!({ "fileSystem": { "entries": [write], "globScanMaxDepth": 3 } });
        assert!(!fits(&asked, &bare), "without the denial it is more");
        let shallow = json!({ "fileSystem": { "entries": [write, deny] } });
        assert!(!fits(&asked, &shallow), "a denied pattern is looked for less deeply");
    }
}
