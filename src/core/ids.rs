//! One newtype per kind of identifier, so that they cannot be mixed up.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::{Object, ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// Longest identifier accepted from outside, in bytes. Codex uses 36-byte UUIDs.
pub const MAX_ID_BYTES: usize = 128;

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("id is empty")]
    Empty,
    /// The text is longer than [`MAX_ID_BYTES`].
    #[error("id is longer than {MAX_ID_BYTES} bytes")]
    TooLong,
    /// The text holds a character outside of letters, digits and `-_.:`.
    #[error("id holds a character outside of letters, digits, '-', '_', '.' and ':'")]
    Character,
    /// The text is made of dots only and could climb a path.
    #[error("id is made of dots only")]
    Dots,
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong);
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':')) {
        return Err(IdError::Character);
    }
    if text.bytes().all(|b| b == b'.') {
        return Err(IdError::Dots);
    }
    Ok(())
}

/// What [`check`] lets through, for the description of the API.
fn schema() -> RefOr<Schema> {
    let text: Object = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(MAX_ID_BYTES))
        .pattern(Some("^[A-Za-z0-9_.:-]*[A-Za-z0-9_:-][A-Za-z0-9_.:-]*$"))
        .build();
    text.into()
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text that came from outside.
            ///
            /// # Errors
            ///
            /// [`IdError`] when the text is empty, too long or holds a character that could act
            /// as a separator in a path, a key or a log line.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check(text).map(|()| Self(Arc::from(text)))
            }

            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                schema()
            }
        }

        impl ToSchema for $name {}

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id! {
    /// A Codex thread. The same text is the session id in every route, event and body.
    ThreadId
}

text_id! {
    /// A turn of a thread, as the app-server named it.
    TurnId
}

text_id! {
    /// A pending request (approval, question, tool call). Made by us: the app-server's own ids
    /// start at 0 in every process and would collide after a restart.
    RequestId
}

text_id! {
    /// A project. Made by us; version 1's are UUIDs as well.
    ProjectId
}

text_id! {
    /// A background job. Version 1's are UUIDs.
    JobId
}

text_id! {
    /// The identity of a store's history. It changes only when history is lost.
    Epoch
}

impl RequestId {
    /// Makes an id from random bytes that the caller supplies.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(Arc::from(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()))
    }
}

impl ProjectId {
    /// Makes an id from random bytes that the caller supplies.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(Arc::from(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()))
    }
}

impl Epoch {
    /// Makes an id from random bytes that the caller supplies.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(Arc::from(uuid::Builder::from_random_bytes(bytes).into_uuid().simple().to_string()))
    }
}

/// One life of a supervised child. Counts from 1; never reused within a manager's life.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// The life after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a stream frame: global, strictly increasing, never reused within an epoch.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_from_outside_are_checked() {
        assert!(ThreadId::parse("01a1fb44-8eb7-7430-ad6d-9ee9c175c992").is_ok());
        assert!(ThreadId::parse("__proto__").is_ok());
        for (text, error) in [
            ("", IdError::Empty),
            ("..", IdError::Dots),
            ("a/b", IdError::Character),
            ("a\0b", IdError::Character),
            ("a b", IdError::Character),
            ("ä", IdError::Character),
        ] {
            assert_eq!(ThreadId::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(ThreadId::parse(&"x".repeat(129)), Err(IdError::TooLong));
    }
}
