//! What is kept of items, requests and turns to put rows in order.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::thread::{TurnRecord, TurnStatus};
use crate::transcript::turn_row;

/// An item or a request. Ids are kept as hashes: they are only compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct IndexedRow {
    pub(super) ordinal: u64,
    /// The row's id.
    pub(super) id: u64,
    /// Its turn's id.
    pub(super) turn: u64,
    pub(super) is_request: bool,
}

/// A turn.
#[derive(Debug, Clone, Copy)]
pub struct IndexedTurn {
    /// Position among the thread's turns.
    pub ordinal: u32,
    hash: u64,
    ended: bool,
    /// Whether it was taken back.
    pub gone: bool,
    /// Whether a row says why it failed.
    pub explained: bool,
}

/// Items, requests and turns of one thread. It grows with them: what is known is not read again.
#[derive(Debug, Clone, Default)]
pub struct RowIndex {
    hasher: RandomState,
    /// In the order of ordinals.
    rows: Vec<IndexedRow>,
    /// In the order of ordinals.
    turns: Vec<IndexedTurn>,
    /// Where turns are found by the hash of their id.
    places: HashMap<u64, usize>,
}

impl RowIndex {
    /// The hash of an id.
    pub(super) fn hash(&self, id: &str) -> u64 {
        self.hasher.hash_one(id)
    }

    /// Items and requests from this ordinal on are not known.
    pub fn next_row(&self) -> u64 {
        self.rows.last().map_or(0, |row| row.ordinal.saturating_add(1))
    }

    /// Turns from this ordinal on are not known, or not to their end.
    pub fn next_turn(&self) -> u32 {
        let open = self.turns.iter().find(|turn| !turn.ended).map(|turn| turn.ordinal);
        open.or_else(|| self.turns.last().map(|turn| turn.ordinal.saturating_add(1))).unwrap_or(0)
    }

    /// Takes over a turn; turns come in the order of their ordinals.
    pub fn put_turn(&mut self, turn: &TurnRecord) {
        let indexed = IndexedTurn {
            ordinal: turn.ordinal,
            hash: self.hash(&turn.id),
            ended: turn.status != TurnStatus::InProgress,
            gone: turn.rolled_back,
            explained: !turn.rolled_back && turn_row(turn).is_some(),
        };
        let place = match self.turns.binary_search_by_key(&turn.ordinal, |turn| turn.ordinal) {
            Ok(place) => place,
            Err(_) => self.turns.len(),
        };
        match self.turns.get_mut(place) {
            Some(known) => *known = indexed,
            None => self.turns.push(indexed),
        }
        self.places.insert(indexed.hash, place);
    }

    /// Adds an item. [`RowIndex::sort`] comes behind the last one.
    pub fn add_item(&mut self, ordinal: u64, id: &str, turn_id: &str) {
        self.add(ordinal, id, turn_id, false);
    }

    /// Adds a request by its row's id. [`RowIndex::sort`] comes behind the last one.
    pub fn add_request(&mut self, ordinal: u64, message_id: &str, turn_id: &str) {
        self.add(ordinal, message_id, turn_id, true);
    }

    fn add(&mut self, ordinal: u64, id: &str, turn_id: &str, is_request: bool) {
        let (id, turn) = (self.hash(id), self.hash(turn_id));
        self.rows.push(IndexedRow { ordinal, id, turn, is_request });
    }

    /// Puts what was added in order.
    pub fn sort(&mut self) {
        self.rows.sort_by_key(|row| row.ordinal);
        self.rows.dedup_by_key(|row| row.ordinal);
    }

    /// Bytes of memory, about.
    pub fn weight(&self) -> usize {
        let turn = size_of::<IndexedTurn>() + 3 * size_of::<u64>();
        size_of::<Self>() + self.rows.len() * size_of::<IndexedRow>() + self.turns.len() * turn
    }

    /// A turn by its id.
    pub fn turn(&self, id: &str) -> Option<&IndexedTurn> {
        self.turn_of(self.hash(id))
    }

    pub(super) fn turn_of(&self, hash: u64) -> Option<&IndexedTurn> {
        self.turns.get(*self.places.get(&hash)?)
    }

    /// Turns of which a row says why they failed: their ordinals and the hashes of their ids.
    pub(super) fn explained(&self) -> impl Iterator<Item = (u32, u64)> {
        self.turns.iter().filter(|turn| turn.explained).map(|turn| (turn.ordinal, turn.hash))
    }

    /// Items and requests from a row on that were not taken back, oldest first.
    pub(super) fn shown(
        &self,
        first_row: u64,
    ) -> impl DoubleEndedIterator<Item = &IndexedRow> + Clone {
        self.shown_before(first_row, u64::MAX)
    }

    /// The same up to a row, which is not among them.
    pub(super) fn shown_before(
        &self,
        first_row: u64,
        end: u64,
    ) -> impl DoubleEndedIterator<Item = &IndexedRow> + Clone {
        let from = self.rows.partition_point(|row| row.ordinal < first_row);
        let to = self.rows.partition_point(|row| row.ordinal < end).max(from);
        let rows = self.rows.get(from..to).unwrap_or_default();
        rows.iter().filter(|row| self.turn_of(row.turn).is_none_or(|turn| !turn.gone))
    }

    /// How many items turns have, by their ids.
    pub fn item_counts<'a>(
        &self,
        first_row: u64,
        turn_ids: impl IntoIterator<Item = &'a str>,
    ) -> Vec<u64> {
        let wanted: Vec<u64> = turn_ids.into_iter().map(|id| self.hash(id)).collect();
        let mut counts: HashMap<u64, u64> = wanted.iter().map(|hash| (*hash, 0)).collect();
        for row in self.shown(first_row).filter(|row| !row.is_request) {
            if let Some(count) = counts.get_mut(&row.turn) {
                *count += 1;
            }
        }
        wanted.iter().map(|hash| counts.get(hash).copied().unwrap_or_default()).collect()
    }
}
