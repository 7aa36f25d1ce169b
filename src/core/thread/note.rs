//! Rows of a transcript that are not the runtime's: what clients and extensions add, and what is
//! told of changed controls.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kept::ROW_OVERHEAD;
use crate::wire::{RowStatus, TranscriptEntry};

/// Current [`NoteRecord::version`].
pub const NOTE_RECORD_VERSION: u32 = 1;

/// A row that is not the runtime's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoteRecord {
    /// Version of this record's format.
    pub version: u32,
    /// Position among the thread's transcript rows.
    pub ordinal: u64,
    /// The row.
    pub entry: TranscriptEntry,
}

impl NoteRecord {
    /// Bytes that it counts among what is kept of a thread.
    pub(super) fn weight(&self) -> u64 {
        let TranscriptEntry { message_id, turn_id, kind, content, details, .. } = &self.entry;
        let details = details.as_deref().unwrap_or_default();
        let texts = [message_id, turn_id, kind, content].map(String::len);
        (texts.iter().sum::<usize>() + details.len()) as u64 + ROW_OVERHEAD
    }
}

impl TranscriptEntry {
    /// The row that this one belongs behind, as its details name it.
    pub fn anchor(&self) -> Option<String> {
        let details: Value = serde_json::from_str(self.details.as_deref()?).ok()?;
        let anchor = details.get("anchorItemId")?.as_str()?.trim();
        (!anchor.is_empty()).then(|| anchor.to_owned())
    }

    /// This row after it was written again, as version 1 merges them: the earliest start and the
    /// latest end count, details that are absent stay, and what has ended does not stream again.
    #[must_use]
    pub fn written_again(&self, new: &Self) -> Self {
        let goes_back = new.status == RowStatus::Streaming && self.status != RowStatus::Streaming;
        let mut row = if goes_back { self.clone() } else { new.clone() };
        row.details = row.details.or_else(|| self.details.clone());
        row.started_at = earliest(self.started_at, new.started_at);
        row.completed_at = latest(self.completed_at, new.completed_at);
        if let (Some(started), Some(completed)) = (row.started_at, row.completed_at) {
            row.completed_at = Some(completed.max(started));
        }
        row
    }

    /// The runtime's row together with one of the same id that somebody added, as version 1 shows
    /// them: the one that is further, or says more, gives what is shown.
    #[must_use]
    pub fn merged(&self, added: &Self) -> Self {
        let rank = |row: &Self| match row.status {
            RowStatus::Streaming => 0,
            RowStatus::Complete => 1,
            RowStatus::Canceled => 2,
            RowStatus::Error => 3,
        };
        let length = |text: &str| text.trim().len();
        let weight = |row: &Self| {
            let details = row.details.as_deref().map_or(0, length);
            (rank(row), details, length(&row.content))
        };
        let (more, less) = if weight(added) > weight(self) { (added, self) } else { (self, added) };
        let mut row = more.clone();
        if length(&less.content) > length(&more.content) {
            row.content.clone_from(&less.content);
        }
        let details = |row: &Self| row.details.as_deref().map_or(0, length);
        if details(less) > details(more) {
            row.details.clone_from(&less.details);
        }
        row.started_at = earliest(more.started_at, less.started_at);
        row.completed_at = latest(more.completed_at, less.completed_at);
        row
    }
}

fn earliest(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

fn latest(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Role;

    fn row(status: RowStatus, content: &str) -> TranscriptEntry {
        TranscriptEntry {
            message_id: "m".to_owned(),
            turn_id: "t".to_owned(),
            role: Role::System,
            kind: "note".to_owned(),
            content: content.to_owned(),
            details: None,
            started_at: None,
            completed_at: None,
            status,
        }
    }

    #[test]
    fn what_has_ended_does_not_stream_again() {
        let mut ended = row(RowStatus::Complete, "done");
        ended.details = Some("{}".to_owned());
        let again = ended.written_again(&row(RowStatus::Streaming, "do"));
        assert_eq!((again.status, again.content.as_str()), (RowStatus::Complete, "done"));
        let failed = ended.written_again(&row(RowStatus::Error, "no"));
        assert_eq!((failed.status, failed.content.as_str()), (RowStatus::Error, "no"));
        assert_eq!(failed.details.as_deref(), Some("{}"), "what is not said again stays");
    }

    #[test]
    fn times_only_widen() {
        let mut first = row(RowStatus::Streaming, "");
        (first.started_at, first.completed_at) = (Some(5), Some(6));
        let mut second = row(RowStatus::Complete, "");
        (second.started_at, second.completed_at) = (Some(7), Some(3));
        let again = first.written_again(&second);
        assert_eq!((again.started_at, again.completed_at), (Some(5), Some(6)));
        let mut odd = row(RowStatus::Complete, "");
        (odd.started_at, odd.completed_at) = (Some(9), Some(2));
        let once = row(RowStatus::Streaming, "").written_again(&odd);
        assert_eq!(once.completed_at, Some(9), "an end before the start is the start");
    }

    #[test]
    fn the_row_that_is_further_is_shown() {
        let mine = row(RowStatus::Complete, "short");
        let mut added = row(RowStatus::Error, "s");
        added.kind = "other".to_owned();
        let shown = mine.merged(&added);
        assert_eq!((shown.status, shown.kind.as_str()), (RowStatus::Error, "other"));
        assert_eq!(shown.content, "short", "the longer text");
        assert_eq!(mine.merged(&row(RowStatus::Complete, "other")).content, "short", "a tie");
    }
}
