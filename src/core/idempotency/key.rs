//! The key as it stands in the header.

use std::fmt;
use std::sync::Arc;

/// A client's key: 1 to 255 printable ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey(Arc<str>);

/// Why a header holds no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is empty.
    #[error("is empty")]
    Empty,
    /// It is longer than [`IdempotencyKey::MAX_BYTES`].
    #[error("is longer than {} characters", IdempotencyKey::MAX_BYTES)]
    TooLong,
    /// It holds something else than printable ASCII characters.
    #[error("holds something else than printable ASCII characters")]
    Character,
    /// It begins as a quoted string and does not end as one.
    #[error("is no quoted string")]
    Quotes,
}

impl IdempotencyKey {
    /// Longest key, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Reads the header's value: a quoted string, as the draft wants it (RFC 9651, section 4.2.5;
    /// parameters are ignored), or the bare characters, as most clients send them.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub fn parse(header: &[u8]) -> Result<Self, KeyError> {
        let header = header.trim_ascii();
        match header.strip_prefix(b"\"") {
            Some(quoted) => Self::new(&unquoted(quoted)?),
            None => Self::new(header),
        }
    }

    /// Checks the key itself, as it stands in the store.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub fn new(key: &[u8]) -> Result<Self, KeyError> {
        if key.is_empty() {
            return Err(KeyError::Empty);
        }
        if key.len() > Self::MAX_BYTES {
            return Err(KeyError::TooLong);
        }
        let text = std::str::from_utf8(key).map_err(|_| KeyError::Character)?;
        if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(KeyError::Character);
        }
        Ok(Self(text.into()))
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What stands between the quotes, given what follows the first one.
fn unquoted(text: &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut key = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                let rest = bytes.as_slice().trim_ascii();
                let ends = rest.is_empty() || rest.starts_with(b";");
                return if ends { Ok(key) } else { Err(KeyError::Quotes) };
            }
            b'\\' => match bytes.next() {
                Some(escaped @ (b'"' | b'\\')) => key.push(*escaped),
                _ => return Err(KeyError::Quotes),
            },
            other => key.push(*other),
        }
    }
    Err(KeyError::Quotes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(header: &str) -> Result<String, KeyError> {
        IdempotencyKey::parse(header.as_bytes()).map(|key| key.to_string())
    }

    #[test]
    fn a_key_is_the_same_with_quotes_and_without() {
        assert_eq!(parsed("8e03978e-40d5"), Ok("8e03978e-40d5".to_owned()));
        assert_eq!(parsed(" \"8e03978e-40d5\" "), Ok("8e03978e-40d5".to_owned()));
        assert_eq!(parsed(r#""a\"b\\c""#), Ok(r#"a"b\c"#.to_owned()));
        assert_eq!(parsed(r#""a"; from=cli"#), Ok("a".to_owned()));
        assert_eq!(parsed("a b"), Ok("a b".to_owned()));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(parsed(""), Err(KeyError::Empty));
        assert_eq!(parsed("\"\""), Err(KeyError::Empty));
        assert_eq!(parsed(&"k".repeat(255)).map(|key| key.len()), Ok(255));
        assert_eq!(parsed(&"k".repeat(256)), Err(KeyError::TooLong));
        assert_eq!(parsed("ä"), Err(KeyError::Character));
        assert_eq!(parsed("a\tb"), Err(KeyError::Character));
        for open in ["\"", "\"a", "\"a\"b", r#""a\b""#, r#""a\"#] {
            assert_eq!(parsed(open), Err(KeyError::Quotes), "{open}");
        }
    }
}
