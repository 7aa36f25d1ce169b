//! The order of rows, with those that are not the runtime's.

use std::collections::HashMap;

use super::index::RowIndex;
use super::key::{RowClass, RowKey};
use crate::thread::NoteRecord;

/// What a row shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// How many rows were dropped.
    Trimmed(u64),
    /// The item of an ordinal, together with rows of its id that somebody added.
    Item(u64, Vec<usize>),
    /// The request of an ordinal, likewise.
    Request(u64, Vec<usize>),
    /// A row that is not the runtime's, by its position among them; likewise.
    Note(usize, Vec<usize>),
    /// Why the turn of an ordinal failed.
    Reason(u32),
}

/// The rows of a thread in order.
#[derive(Debug)]
pub struct Layout<'a> {
    index: &'a RowIndex,
    first_row: u64,
    /// Rows that are neither items nor requests, in order.
    others: Vec<(RowKey, Row)>,
    /// Rows that are shown together with the item or request of an ordinal.
    merged: HashMap<u64, Vec<usize>>,
}

/// Where the last row of an id, and of a turn, stands.
#[derive(Default)]
struct Found {
    ids: HashMap<u64, Option<u64>>,
    turns: HashMap<u64, Option<u64>>,
}

impl Found {
    /// Looks for what is wanted of items and requests; nothing is looked at when nothing is.
    fn look(&mut self, index: &RowIndex, first_row: u64) {
        if self.ids.is_empty() && self.turns.is_empty() {
            return;
        }
        for row in index.shown(first_row) {
            if let Some(found) = self.ids.get_mut(&row.id) {
                *found = Some(row.ordinal);
            }
            if let Some(found) = self.turns.get_mut(&row.turn) {
                *found = Some(row.ordinal);
            }
        }
    }
}

impl<'a> Layout<'a> {
    /// Puts rows in order. `notes` are those that are not the runtime's, in the order in which they
    /// came.
    ///
    /// One with the id of another row is shown together with it; one that names an anchor stands
    /// behind that; one that came after the end of its turn stands at the end of the turn, and any
    /// other where it came. Why a turn failed stands behind the turn's last row.
    pub fn new(index: &'a RowIndex, first_row: u64, notes: &[NoteRecord]) -> Self {
        let is_shown = |note: &NoteRecord| {
            let turn = index.turn(&note.entry.turn_id);
            note.ordinal >= first_row && turn.is_none_or(|turn| !turn.gone)
        };
        let shown: Vec<(usize, &NoteRecord)> =
            notes.iter().enumerate().filter(|(_, note)| is_shown(note)).collect();
        let mut found = Found::default();
        for (_, note) in &shown {
            let anchor = note.entry.anchor();
            for id in [Some(&note.entry.message_id), anchor.as_ref()].into_iter().flatten() {
                found.ids.insert(index.hash(id), None);
            }
            found.turns.insert(index.hash(&note.entry.turn_id), None);
        }
        for (_, turn) in index.explained() {
            found.turns.insert(turn, None);
        }
        found.look(index, first_row);
        let mut layout = Self { index, first_row, others: Vec::new(), merged: HashMap::new() };
        if first_row > 0 {
            let key = RowKey { place: 0, class: RowClass::Own, ordinal: 0 };
            layout.others.push((key, Row::Trimmed(first_row)));
        }
        let mut last_of_turn = found.turns.clone();
        // Where rows that were added stand, by the hash of their id.
        let mut placed: HashMap<u64, usize> = HashMap::new();
        for (position, note) in shown {
            let id = index.hash(&note.entry.message_id);
            if let Some(twin) = placed.get(&id).and_then(|place| layout.others.get_mut(*place)) {
                if let (_, Row::Note(_, more)) = twin {
                    more.push(position);
                }
                continue;
            }
            if let Some(ordinal) = found.ids.get(&id).copied().flatten() {
                layout.merged.entry(ordinal).or_default().push(position);
                continue;
            }
            let anchor = note.entry.anchor().map(|anchor| index.hash(&anchor));
            let anchor = anchor.and_then(|anchor| {
                let note = placed.get(&anchor).and_then(|place| layout.others.get(*place));
                note.map(|(key, _)| key.place).or_else(|| found.ids.get(&anchor).copied().flatten())
            });
            let turn = index.hash(&note.entry.turn_id);
            let end = found.turns.get(&turn).copied().flatten().filter(|end| *end < note.ordinal);
            let place = anchor.or(end).unwrap_or(note.ordinal);
            if let Some(last) = last_of_turn.get_mut(&turn) {
                *last = (*last).max(Some(place));
            }
            placed.insert(id, layout.others.len());
            let key = RowKey { place, class: RowClass::Note, ordinal: note.ordinal };
            layout.others.push((key, Row::Note(position, Vec::new())));
        }
        for (ordinal, turn) in index.explained() {
            let place = last_of_turn.get(&turn).copied().flatten().unwrap_or(u64::MAX);
            let key = RowKey { place, class: RowClass::Reason, ordinal: u64::from(ordinal) };
            layout.others.push((key, Row::Reason(ordinal)));
        }
        layout.others.sort_by_key(|(key, _)| *key);
        layout
    }

    /// The rows before a key, or all, newest first.
    pub fn backwards(&self, before: Option<RowKey>) -> impl Iterator<Item = (RowKey, Row)> {
        let end = before.map_or(u64::MAX, |key| match key.class {
            RowClass::Own => key.ordinal,
            // The row at whose place it stands is before it.
            RowClass::Note | RowClass::Reason => key.place.saturating_add(1),
        });
        let mut own = self.index.shown_before(self.first_row, end).rev().peekable();
        let others = self.others.partition_point(|(key, _)| before.is_none_or(|end| *key < end));
        let others = self.others.get(..others).unwrap_or_default();
        let mut others = others.iter().rev().peekable();
        std::iter::from_fn(move || {
            let own_key = own.peek().map(|row| RowKey {
                place: row.ordinal,
                class: RowClass::Own,
                ordinal: row.ordinal,
            });
            if others.peek().map(|(key, _)| *key) > own_key {
                return others.next().cloned();
            }
            let (key, row) = (own_key?, own.next()?);
            let merged = self.merged.get(&row.ordinal).cloned().unwrap_or_default();
            let shown = match row.is_request {
                true => Row::Request(row.ordinal, merged),
                false => Row::Item(row.ordinal, merged),
            };
            Some((key, shown))
        })
    }

    /// The newest rows before a key, or of all, in order; and whether there are more before them.
    pub fn page(&self, before: Option<RowKey>, limit: usize) -> (Vec<(RowKey, Row)>, bool) {
        let mut rest = self.backwards(before);
        let mut page: Vec<(RowKey, Row)> = rest.by_ref().take(limit).collect();
        page.reverse();
        (page, rest.next().is_some())
    }
}
