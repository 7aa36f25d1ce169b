//! What was left out, and why.

use serde::Serialize;

/// Things that are named one by one. Overflow rule: further ones are counted.
const NAMED: usize = 200;

/// Characters of a name that are shown: it came from a file and may be anything.
const NAME_CHARS: usize = 80;

/// Something that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Skip {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// Everything that was left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Skips {
    /// The first ones.
    pub named: Vec<Skip>,
    /// How many there are beyond those.
    pub more: usize,
}

impl Skips {
    /// Adds one.
    pub fn add(&mut self, what: impl Into<String>, why: impl Into<String>) {
        match self.named.len() < NAMED {
            true => self.named.push(Skip { what: what.into(), why: why.into() }),
            false => self.more += 1,
        }
    }

    /// Adds those of another list.
    pub fn extend(&mut self, other: Self) {
        self.more += other.more;
        for Skip { what, why } in other.named {
            self.add(what, why);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.named.len() + self.more
    }

    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A text from a file as it can be shown: short, and without control characters.
pub(super) fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(NAME_CHARS).map(plain).collect();
    if text.chars().nth(NAME_CHARS).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_bounded_and_a_name_can_be_shown() {
        let mut skips = Skips::default();
        assert!(skips.is_empty());
        for number in 0..NAMED + 7 {
            skips.add(number.to_string(), "why");
        }
        assert_eq!((skips.named.len(), skips.more, skips.len()), (NAMED, 7, NAMED + 7));
        assert_eq!(shown("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), NAME_CHARS + 1);
    }
}
