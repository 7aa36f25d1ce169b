//! JSON text that shares its memory with the line it came in.

use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON value as it was written, without a copy: cloning it costs a counter, whatever its size.
///
/// As long as one lives, the whole line does.
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson(Bytes);

impl RawJson {
    /// The part of `line` that `value` borrows.
    ///
    /// A value that is not part of the line is copied.
    pub fn of(line: &Bytes, value: &RawValue) -> Self {
        Self::within(line, value.get())
    }

    fn within(line: &Bytes, text: &str) -> Self {
        let text = text.as_bytes();
        let start = (text.as_ptr() as usize).checked_sub(line.as_ptr() as usize);
        let shared = start.and_then(|start| {
            let end = start.checked_add(text.len())?;
            (end <= line.len()).then(|| line.slice(start..end))
        });
        Self(shared.unwrap_or_else(|| Bytes::copy_from_slice(text)))
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    ///
    /// When it cannot be written as JSON.
    pub fn encode<T: Serialize>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(value).map(|text| Self(text.into()))
    }

    /// `null`.
    pub fn null() -> Self {
        Self(Bytes::from_static(b"null"))
    }

    /// The text.
    pub fn get(&self) -> &str {
        // Both ways to make one start from text; an empty text is what a reader of JSON refuses.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The bytes of the text, without a check.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes of the text, shared.
    pub fn bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// Bytes of the text.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// A value that is part of this one and borrows its text from it.
    pub fn part(&self, text: &str) -> Self {
        Self::within(&self.0, text)
    }

    /// Reads the value.
    ///
    /// # Errors
    ///
    /// When it has another shape.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }

    /// The value as a tree; `null` for what is nested too deep to be one.
    pub fn value(&self) -> serde_json::Value {
        self.read().unwrap_or(serde_json::Value::Null)
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A log line is no place for a whole item.
        const SHOWN: usize = 200;
        let text: String = self.get().chars().take(SHOWN).collect();
        let more = if self.0.len() > text.len() { "…" } else { "" };
        write!(f, "RawJson({text}{more})")
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_slice(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_line_shares_its_memory() {
        #[derive(serde::Deserialize)]
        struct Outer<'a> {
            #[serde(borrow)]
            params: &'a RawValue,
        }
        let line = Bytes::from_static(br#"{"params":{"a":[1,2]}}"#);
        let outer: Outer<'_> = serde_json::from_slice(&line).unwrap();
        let raw = RawJson::of(&line, outer.params);
        assert_eq!(raw.get(), r#"{"a":[1,2]}"#);
        assert_eq!(raw.as_bytes().as_ptr(), outer.params.get().as_ptr());
        let elsewhere = RawValue::from_string("[3]".to_owned()).unwrap();
        assert_eq!(RawJson::of(&line, &elsewhere).get(), "[3]");
        assert_eq!(serde_json::to_string(&raw).unwrap(), r#"{"a":[1,2]}"#);
    }
}
