//! Pages of a session: of its transcript, and of its turns.

use std::collections::HashMap;

use bytes::Bytes;
use cm_core::ids::ThreadId;
use cm_core::rows::{Layout, Row, RowIndex, RowKey, turn_cursor};
use cm_core::thread::{NoteRecord, TurnRecord};
use cm_core::transcript::{item_row, request_row, trimmed_row, turn_row};
use cm_core::wire::{TranscriptEntry, TranscriptPage, TurnPage, TurnSummary};
use serde::Serialize;
use serde_json::Value;

use crate::store::{
    Store, StoreError, read_item_row, read_notes, read_request_row, read_turn, read_turns_before,
};

/// Shows a row together with rows of its id that somebody added.
pub(super) fn merged(
    row: TranscriptEntry,
    more: &[usize],
    notes: &[NoteRecord],
) -> TranscriptEntry {
    let more = more.iter().filter_map(|position| notes.get(*position));
    more.fold(row, |row, note| row.merged(&note.entry))
}

/// A page of the transcript as a [`TranscriptPage`].
///
/// # Errors
///
/// [`StoreError`].
pub(super) fn transcript(
    store: &dyn Store,
    id: &ThreadId,
    index: &RowIndex,
    first_row: u64,
    before: Option<RowKey>,
    limit: usize,
) -> Result<Bytes, StoreError> {
    let notes = read_notes(store, id)?;
    let layout = Layout::new(index, first_row, &notes);
    let (rows, more) = layout.page(before, limit);
    let next_cursor = rows.first().filter(|_| more).map(|(key, _)| key.cursor(id));
    let mut reader = RowReader { store, id, index, notes: &notes, turns: HashMap::new() };
    let mut data = Vec::with_capacity(rows.len());
    for (_, row) in rows {
        // One that was dropped since is not shown.
        data.extend(reader.read(&row)?);
    }
    encode(&TranscriptPage { session_id: id.clone(), data, next_cursor })
}

/// Reads the rows of a page one by one.
struct RowReader<'a> {
    store: &'a dyn Store,
    id: &'a ThreadId,
    index: &'a RowIndex,
    notes: &'a [NoteRecord],
    /// Turns that were read.
    turns: HashMap<u32, Option<TurnRecord>>,
}

impl RowReader<'_> {
    fn turn(&mut self, ordinal: u32) -> Result<Option<&TurnRecord>, StoreError> {
        if !self.turns.contains_key(&ordinal) {
            let turn = read_turn(self.store, self.id, ordinal)?;
            self.turns.insert(ordinal, turn);
        }
        Ok(self.turns.get(&ordinal).and_then(Option::as_ref))
    }

    fn read(&mut self, row: &Row) -> Result<Option<TranscriptEntry>, StoreError> {
        let shown = match row {
            Row::Trimmed(dropped) => Some(trimmed_row(*dropped)),
            Row::Item(ordinal, more) => {
                let Some((record, body)) = read_item_row(self.store, self.id, *ordinal)? else {
                    return Ok(None);
                };
                let item: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let turn = self.index.turn(&record.turn_id).map(|turn| turn.ordinal);
                let turn = match turn {
                    Some(ordinal) => self.turn(ordinal)?,
                    None => None,
                };
                let row = item_row(&record, &item, turn);
                Some(merged(row, more, self.notes))
            }
            Row::Request(ordinal, more) => {
                let record = read_request_row(self.store, self.id, *ordinal)?;
                record.map(|record| merged(request_row(&record), more, self.notes))
            }
            Row::Note(position, more) => {
                let note = self.notes.get(*position);
                note.map(|note| merged(note.entry.clone(), more, self.notes))
            }
            Row::Reason(ordinal) => self.turn(*ordinal)?.and_then(turn_row),
        };
        Ok(shown)
    }
}

/// A page of turns as a [`TurnPage`].
///
/// # Errors
///
/// [`StoreError`].
pub(super) fn turns(
    store: &dyn Store,
    id: &ThreadId,
    index: &RowIndex,
    first_row: u64,
    before: Option<u32>,
    limit: usize,
) -> Result<Bytes, StoreError> {
    let (turns, more) = read_turns_before(store, id, before, limit)?;
    let next_cursor = turns.first().filter(|_| more).map(|turn| turn_cursor(id, turn.ordinal));
    let counts = index.item_counts(first_row, turns.iter().map(|turn| turn.id.as_str()));
    let summary = |(turn, item_count): (TurnRecord, u64)| TurnSummary {
        id: turn.id,
        status: turn.status.as_str().to_owned(),
        started_at: turn.started_ms,
        completed_at: turn.ended_ms,
        error: turn.error,
        item_count,
    };
    let data = turns.into_iter().zip(counts).map(summary).collect();
    encode(&TurnPage { session_id: id.clone(), data, next_cursor })
}

fn encode<T: Serialize>(page: &T) -> Result<Bytes, StoreError> {
    let encoded = serde_json::to_vec(page);
    encoded.map(Bytes::from).map_err(|error| StoreError::Record {
        key: "a page of a session".to_owned(),
        why: error.to_string(),
    })
}
