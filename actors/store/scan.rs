//! What is read: ranges of keys, in pages.

use std::ops::Bound;

/// Two ends of a range of keys.
pub(super) type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Which keys to read, and in which order.
///
/// A caller that may meet many keys reads in pages: it sets a bound, and gives the last key of a
/// page as [`Scan::after`] of the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// What the keys begin with.
    pub prefix: Vec<u8>,
    /// A whole key to go on behind: in the order of the scan, only keys behind it are read. It
    /// need not exist.
    pub after: Option<Vec<u8>>,
    /// Whether the greatest key comes first.
    pub reverse: bool,
    /// How many at most.
    pub limit: usize,
    /// No further key is read once the bytes of keys and values reach this. The first one is
    /// always read, so that a caller that pages gets on.
    pub max_bytes: usize,
}

impl Scan {
    /// All keys with a prefix, smallest first.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        Self {
            prefix: prefix.into(),
            after: None,
            reverse: false,
            limit: usize::MAX,
            max_bytes: usize::MAX,
        }
    }

    /// Goes on behind a key.
    #[must_use]
    pub fn after(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.after = Some(key.into());
        self
    }

    /// Reads the greatest key first.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// Reads so many keys at most.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Stops once so many bytes were read.
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// The range of keys that match; `None` when none can.
    pub(super) fn range(&self) -> Option<KeyRange> {
        let lower = Bound::Included(self.prefix.clone());
        let end = after_prefix(&self.prefix);
        let upper = end.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let Some(key) = &self.after else {
            return Some((lower, upper));
        };
        let (below, above) = (*key < self.prefix, end.is_some_and(|end| *key >= end));
        match (self.reverse, below, above) {
            (false, true, _) | (true, _, true) => Some((lower, upper)),
            (false, _, true) | (true, true, _) => None,
            (false, false, false) => Some((Bound::Excluded(key.clone()), upper)),
            (true, false, false) if *key == self.prefix => None,
            (true, false, false) => Some((lower, Bound::Excluded(key.clone()))),
        }
    }
}

/// The smallest key that is greater than all keys with this prefix; `None` when there is none.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut after = prefix.get(..=last)?.to_vec();
    *after.last_mut()? += 1;
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_found_also_behind_the_greatest_bytes() {
        assert_eq!(after_prefix(b"a\x00"), Some(b"a\x01".to_vec()));
        assert_eq!(after_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff"), None);
        assert_eq!(after_prefix(b""), None);
    }
}
