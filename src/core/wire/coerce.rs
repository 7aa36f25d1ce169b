//! Numbers that version 1 also took as text.

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Written {
    Number(serde_json::Number),
    Text(String),
}

/// Reads a whole number above 0 that may be written as text; version 1 took `"2"` for `2`.
pub(super) fn positive<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    let message = "must be a whole number above 0";
    let number = match Written::deserialize(deserializer) {
        Ok(Written::Number(number)) => number.as_u64(),
        Ok(Written::Text(text)) => text.trim().parse().ok(),
        Err(_) => None,
    };
    number.filter(|number| *number > 0).map(Some).ok_or_else(|| D::Error::custom(message))
}
