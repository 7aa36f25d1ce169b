//! How much of a thread's items is kept: bytes are counted in sections of the history, and the
//! oldest section goes when there are too many.
//!
//! Counting by sections instead of by rows keeps the count small (it is part of the thread's
//! record) and lets rows be dropped without reading them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Sections that a full history has: so much of it goes at a time.
const SECTIONS: u64 = 16;

/// Bytes that a row counts beyond its item: its key, its times, its place in an index.
pub const ROW_OVERHEAD: u64 = 256;

/// A part of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Section {
    /// Its first row.
    first: u64,
    /// Bytes of its rows.
    bytes: u64,
}

/// What is kept of a thread's items.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The first row that is kept.
    first_row: u64,
    /// Sections, oldest first; at most twice [`SECTIONS`].
    sections: Vec<Section>,
}

impl Kept {
    /// Whether there never was a row.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The first row that is kept; those before it were dropped.
    pub fn first_row(&self) -> u64 {
        self.first_row
    }

    /// Bytes of what is kept, overhead included.
    pub fn bytes(&self) -> u64 {
        self.sections.iter().map(|section| section.bytes).sum()
    }

    /// A row was added, or its item has another length now. Rows come in the order of their
    /// ordinals; `before` is 0 for a new one.
    pub fn count(&mut self, ordinal: u64, before: u64, after: u64, cap: u64) {
        let newest = self.sections.last();
        let is_full = newest.is_none_or(|section| section.bytes >= (cap / SECTIONS).max(1));
        let is_new = newest.is_none_or(|section| ordinal >= section.first) && before == 0;
        if is_full && is_new {
            self.sections.push(Section { first: ordinal, bytes: 0 });
            // Items that shrink leave small sections behind.
            if self.sections.len() as u64 > 2 * SECTIONS {
                let merged = self.sections.remove(1);
                if let Some(oldest) = self.sections.first_mut() {
                    oldest.bytes = oldest.bytes.saturating_add(merged.bytes);
                }
            }
        }
        let index = self.sections.partition_point(|section| section.first <= ordinal);
        if let Some(section) = self.sections.get_mut(index.saturating_sub(1)) {
            section.bytes = section.bytes.saturating_sub(before).saturating_add(after);
        }
    }

    /// Drops the oldest sections until what is kept fits; answers the rows that are to go. The
    /// newest section always stays, however long its last item is.
    pub fn trim(&mut self, cap: u64) -> Option<Range<u64>> {
        let before = self.first_row;
        let mut gone = 0;
        while self.bytes() > cap && self.sections.len() > 1 {
            gone = self.sections.remove(0).first.max(gone);
            self.first_row = self.sections.first().map_or(gone, |section| section.first);
        }
        (self.first_row > before).then_some(before..self.first_row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_oldest_goes_when_there_is_too_much() {
        let mut kept = Kept::default();
        let mut dropped = 0;
        for ordinal in 0..1_000 {
            kept.count(ordinal, 0, 10, 1_600);
            if let Some(range) = kept.trim(1_600) {
                assert_eq!(range.start, dropped, "rows go in order and none is forgotten");
                dropped = range.end;
            }
            assert!(kept.bytes() <= 1_600);
        }
        assert_eq!(kept.first_row(), dropped);
        assert!(dropped >= 840, "{dropped}");
        assert!(1_000 - dropped >= 140, "not more than a section goes at a time: {dropped}");
        assert!(kept.sections.len() as u64 <= SECTIONS + 1);
    }

    #[test]
    fn one_item_over_the_cap_is_kept() {
        let mut kept = Kept::default();
        kept.count(0, 0, 10, 100);
        kept.trim(100);
        kept.count(1, 0, 5_000, 100);
        assert_eq!(kept.trim(100), Some(0..1));
        assert_eq!((kept.first_row(), kept.bytes()), (1, 5_000));
        kept.count(2, 0, 10, 100);
        assert_eq!(kept.trim(100), Some(1..2));
    }

    proptest! {
        /// The count is that of the rows that are left, whatever grows or shrinks.
        #[test]
        fn the_count_is_exact(steps in prop::collection::vec((0u64..60, 1u64..500), 1..200)) {
            const CAP: u64 = 4_000;
            let mut kept = Kept::default();
            let mut rows: Vec<u64> = Vec::new();
            for (which, bytes) in steps {
                let first = usize::try_from(kept.first_row()).unwrap();
                let index = usize::try_from(which).unwrap();
                if index >= first && index < rows.len() {
                    kept.count(which, rows[index], bytes, CAP);
                    rows[index] = bytes;
                } else {
                    kept.count(rows.len() as u64, 0, bytes, CAP);
                    rows.push(bytes);
                }
                kept.trim(CAP);
                let first = usize::try_from(kept.first_row()).unwrap();
                prop_assert_eq!(kept.bytes(), rows[first..].iter().sum::<u64>());
                prop_assert!(kept.sections.len() as u64 <= 2 * SECTIONS);
            }
        }
    }
}
