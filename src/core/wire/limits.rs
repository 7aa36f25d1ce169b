//! How long texts in bodies may be.
//!
//! Lengths are in characters, as JSON Schema counts them. What bounds a body as a whole is
//! `CODEX_MANAGER_MAX_BODY_BYTES`; these bound what a single member can put into a list, a log, a file
//! name or a call of the runtime. Types that are stored are not read with these: a record that was
//! written once stays readable.

use serde::de::{Deserialize, Deserializer, Error};

/// Names: of models, tools, scopes, versions, plans, sign-ins.
pub const MAX_NAME: usize = 256;

/// Paths of files and folders (`PATH_MAX` of Linux), branches, and keys of the configuration.
pub const MAX_PATH: usize = 4_096;

/// Keys and tokens.
pub const MAX_SECRET: usize = 16_384;

/// Reasons and descriptions.
pub const MAX_NOTE: usize = 65_536;

/// What is said to the agent and what tools give back: as much as the runtime takes in one turn.
pub const MAX_TEXT: usize = 1_048_576;

/// One word of a command (`MAX_ARG_STRLEN` of Linux).
pub const MAX_WORD: usize = 131_072;

/// Words of a command, changes of a configuration, items of a result, answers to a question.
pub const MAX_ITEMS: usize = 4_096;

/// What holds texts.
pub(super) trait Texts {
    /// Characters of its longest text.
    fn longest(&self) -> usize;
}

impl Texts for String {
    fn longest(&self) -> usize {
        self.chars().count()
    }
}

impl<T: Texts> Texts for Option<T> {
    fn longest(&self) -> usize {
        self.as_ref().map_or(0, T::longest)
    }
}

impl<T: Texts> Texts for Vec<T> {
    fn longest(&self) -> usize {
        self.iter().map(T::longest).max().unwrap_or_default()
    }
}

/// Reads a member whose texts have at most `MAX` characters.
pub(super) fn at_most<'de, const MAX: usize, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Texts + Deserialize<'de>,
    D: Deserializer<'de>,
{
    let value = T::deserialize(deserializer)?;
    if value.longest() > MAX {
        return Err(D::Error::custom(format!("must not be longer than {MAX} characters")));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Body {
        #[serde(deserialize_with = "at_most::<3, _, _>")]
        name: String,
        #[serde(default, deserialize_with = "at_most::<3, _, _>")]
        words: Option<Vec<String>>,
    }

    #[test]
    fn characters_are_counted_and_not_bytes() {
        let body: Body = serde_json::from_str(r#"{"name":"äöü"}"#).unwrap();
        assert_eq!((body.name.as_str(), body.words), ("äöü", None));
        for wrong in [r#"{"name":"four"}"#, r#"{"name":"a","words":["a","four"]}"#] {
            let error = serde_json::from_str::<Body>(wrong).err().map(|error| error.to_string());
            assert!(
                error.is_some_and(|text| text.starts_with("must not be longer than 3")),
                "{wrong}"
            );
        }
    }
}
