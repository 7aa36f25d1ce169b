//! The state of a living thread and its transitions.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use serde_json::{Value, json};

use super::item::{RawItem, digest};
use super::kept::ROW_OVERHEAD;
use super::note::{NOTE_RECORD_VERSION, NoteRecord};
use super::record::{ItemRecord, ItemState, ThreadRecord, Title, TurnRecord, TurnStatus};
use super::remembered::Remembered;
use crate::wire::TranscriptEntry;

/// Ended turns and their items that are remembered for events that come late.
///
/// Codex 0.140 commonly sends `item/completed` of a command up to 30 ms after `turn/completed`.
pub const REMEMBERED_TURNS: usize = 4;

/// Prefix of the id of a message that the runtime has not shown yet.
pub(super) const ACCEPTED: &str = "accepted-";

/// An item to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemWrite {
    /// What is known of it.
    pub record: ItemRecord,
    /// The item as the runtime wrote it; `None` where what is stored stays.
    pub body: Option<Bytes>,
}

/// What a transition wants stored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Writes {
    /// Whether the thread's record changed.
    pub thread: bool,
    /// Turns that changed.
    pub turns: Vec<TurnRecord>,
    /// Items that changed.
    pub items: Vec<ItemWrite>,
    /// Rows that are not the runtime's and changed.
    pub notes: Vec<NoteRecord>,
    /// Rows whose items are to go.
    pub dropped: Vec<Range<u64>>,
}

impl Writes {
    /// Adds what another transition wants.
    pub fn extend(&mut self, other: Self) {
        self.thread |= other.thread;
        self.turns.extend(other.turns);
        self.items.extend(other.items);
        self.notes.extend(other.notes);
        self.dropped.extend(other.dropped);
    }

    /// Whether nothing is to be stored.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A turn that ended, and what is to be stored of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// The turn.
    pub turn: TurnRecord,
    /// Whether the end was news; a repeated one is not.
    pub news: bool,
    /// What is to be stored.
    pub writes: Writes,
}

/// A living thread.
#[derive(Debug, Clone, PartialEq)]
pub struct ThreadState {
    /// The stored record.
    pub record: ThreadRecord,
    /// Turns that run, oldest first; nearly always at most one.
    pub(super) running: Vec<TurnRecord>,
    /// Turns that ended lately.
    pub(super) ended: VecDeque<TurnRecord>,
    /// The id of the review that was begun last, until the runtime says that something began.
    review: Option<String>,
    /// Items of running and remembered turns.
    pub(super) items: Remembered,
    /// Bytes of items that are kept at the most.
    item_cap: u64,
}

impl ThreadState {
    /// A thread as it was stored: with its latest turns, and the latest items of those that run.
    /// `item_cap` bounds the bytes of items that are kept of it.
    pub fn new(
        record: ThreadRecord,
        turns: Vec<TurnRecord>,
        items: Vec<ItemRecord>,
        item_cap: u64,
    ) -> Self {
        let (running, mut ended): (Vec<TurnRecord>, VecDeque<TurnRecord>) =
            partition(turns, |turn| turn.status == TurnStatus::InProgress);
        while ended.len() > REMEMBERED_TURNS {
            ended.pop_front();
        }
        Self { record, running, ended, review: None, items: Remembered::of(items), item_cap }
    }

    /// The turn that runs now.
    pub fn active_turn(&self) -> Option<&TurnRecord> {
        self.running.last()
    }

    /// Turns that run.
    pub fn running(&self) -> &[TurnRecord] {
        &self.running
    }

    /// Whether the id is of a turn that runs.
    pub fn is_running(&self, turn_id: &str) -> bool {
        self.running.iter().any(|turn| turn.is(turn_id))
    }

    /// The id of the turn that the runtime calls so.
    pub fn id_of<'a>(&'a self, name: &'a str) -> &'a str {
        let known = self.running.iter().chain(&self.ended).find(|turn| turn.is(name));
        known.map_or(name, |turn| turn.id.as_str())
    }

    /// The name by which a turn is interrupted.
    pub fn first_name_of<'a>(&'a self, name: &'a str) -> &'a str {
        let running = self.running.iter().find(|turn| turn.is(name));
        running.map_or(name, TurnRecord::first_name)
    }

    /// A review began: our `review/start` was answered. The runtime may be about to say that it began
    /// under another name.
    pub fn review_began(&mut self, turn_id: &str, now_ms: i64) -> Writes {
        let writes = self.turn_began(turn_id, now_ms);
        self.review = self.is_running(turn_id).then(|| turn_id.to_owned());
        writes
    }

    /// Whether the runtime has not said yet that the review began.
    pub fn is_review_awaited(&self) -> bool {
        self.review.is_some()
    }

    /// Whether a name is the other one of the review that was begun last.
    fn names_review(&mut self, name: &str) -> Option<&mut TurnRecord> {
        let review = self.review.take()?;
        self.running.iter_mut().find(|turn| turn.id == review && turn.id != name)
    }

    /// A turn began: our `turn/start` was answered, or the runtime said so.
    pub fn turn_began(&mut self, turn_id: &str, now_ms: i64) -> Writes {
        let known = self.running.iter().chain(&self.ended).any(|turn| turn.is(turn_id));
        if known || turn_id.is_empty() {
            self.review.take_if(|review| review == turn_id);
            return Writes::default();
        }
        if let Some(review) = self.names_review(turn_id) {
            review.begun_as = Some(turn_id.to_owned());
            return Writes { turns: vec![review.clone()], ..Writes::default() };
        }
        let turn = TurnRecord {
            ordinal: self.record.next_turn,
            id: turn_id.to_owned(),
            status: TurnStatus::InProgress,
            error: None,
            started_ms: now_ms,
            ended_ms: None,
            ended_by_manager: false,
            rolled_back: false,
            begun_as: None,
        };
        self.record.next_turn += 1;
        self.record.materialized = true;
        self.touch(now_ms);
        self.running.push(turn.clone());
        Writes { thread: true, turns: vec![turn], ..Writes::default() }
    }

    /// The runtime ended a turn.
    pub fn turn_ended(
        &mut self,
        turn_id: &str,
        status: TurnStatus,
        error: Option<Value>,
        now_ms: i64,
    ) -> Ended {
        let began = self.turn_began(turn_id, now_ms);
        let turn_id = self.id_of(turn_id).to_owned();
        let turn_id = turn_id.as_str();
        if let Some(known) = self.ended.iter().find(|turn| turn.id == turn_id) {
            return Ended { turn: known.clone(), news: false, writes: began };
        }
        let position = self.running.iter().position(|turn| turn.id == turn_id);
        let mut turn = match position {
            Some(position) => self.running.remove(position),
            // Only a blank id gets here: it names no turn, so nothing is kept.
            None => {
                let turn = TurnRecord {
                    ordinal: self.record.next_turn,
                    id: turn_id.to_owned(),
                    status,
                    error,
                    started_ms: now_ms,
                    ended_ms: Some(now_ms),
                    ended_by_manager: false,
                    rolled_back: false,
                    begun_as: None,
                };
                return Ended { turn, news: false, writes: began };
            }
        };
        turn.status = status;
        turn.error = error.filter(|error| !error.is_null());
        turn.ended_ms = Some(now_ms.max(turn.started_ms));
        self.touch(now_ms);
        self.review.take_if(|review| *review == turn.id);
        let mut writes = Writes { thread: true, turns: vec![turn.clone()], ..Writes::default() };
        let first_row = self.record.kept.first_row();
        for item in self.items.iter_mut() {
            if item.turn_id == turn_id && item.state == ItemState::Open {
                item.state = ItemState::Discarded;
                item.ended_ms = Some(now_ms);
                if item.ordinal >= first_row {
                    writes.items.push(ItemWrite { record: item.clone(), body: None });
                }
            }
        }
        self.ended.push_back(turn.clone());
        while self.ended.len() > REMEMBERED_TURNS {
            if let Some(oldest) = self.ended.pop_front() {
                self.items.forget_turn(&oldest.id);
            }
        }
        Ended { turn, news: true, writes }
    }

    /// Turns that began while this one ran, and run. The runtime runs one at a time: they are other
    /// names of it, as codex gives to a review, and nobody says how they end.
    pub fn begun_within(&self, turn_id: &str) -> Vec<String> {
        let outer = self.running.iter().skip_while(|turn| turn.id != turn_id);
        outer.skip(1).map(|turn| turn.id.clone()).collect()
    }

    /// A turn ends as the one did within which it began.
    pub fn turn_ended_as(&mut self, turn_id: &str, outer: &str, now_ms: i64) -> Ended {
        let outer = self.ended.iter().find(|turn| turn.id == outer);
        let status = outer.map_or(TurnStatus::Interrupted, |turn| turn.status);
        self.turn_ended(turn_id, status, None, now_ms)
    }

    /// A turn that runs is over, and nobody says how it ended: it ends `interrupted`.
    pub fn turn_lost(&mut self, turn_id: &str, why: &str, now_ms: i64) -> Ended {
        for turn in self.running.iter_mut().filter(|turn| turn.is(turn_id)) {
            turn.ended_by_manager = true;
        }
        let error = json!({ "message": why, "codexErrorInfo": null });
        self.turn_ended(turn_id, TurnStatus::Interrupted, Some(error), now_ms)
    }

    /// The process that ran the turns is gone: every running turn ends `interrupted`.
    pub fn runtime_down(&mut self, why: &str, now_ms: i64) -> Vec<Ended> {
        let ids: Vec<String> = self.running.iter().map(|turn| turn.id.clone()).collect();
        ids.iter().map(|id| self.turn_lost(id, why, now_ms)).collect()
    }

    /// Turns were taken back; none of them runs.
    pub fn rolled_back(&mut self, turns: Vec<TurnRecord>) -> Writes {
        let gone = |turn: &TurnRecord| turns.iter().any(|gone| gone.id == turn.id);
        for turn in self.ended.iter_mut().filter(|turn| gone(turn)) {
            turn.rolled_back = true;
        }
        for turn in &turns {
            self.items.forget_turn(&turn.id);
        }
        let turns = turns.into_iter().map(|turn| TurnRecord { rolled_back: true, ..turn });
        Writes { turns: turns.collect(), thread: true, ..Writes::default() }
    }

    /// A message was accepted: its words are kept until the runtime shows them as an item of its
    /// own, which takes this row over. A runtime that ends before that never does.
    pub fn message_accepted(&mut self, turn_id: &str, text: &str, now_ms: i64) -> Writes {
        let ordinal = self.next_row();
        let id = format!("{ACCEPTED}{ordinal}");
        let content = json!([{ "type": "text", "text": text }]);
        let body = json!({ "type": "userMessage", "id": id, "content": content }).to_string();
        let row = ItemRecord {
            ordinal,
            turn_id: turn_id.to_owned(),
            id,
            kind: "userMessage".to_owned(),
            state: ItemState::Open,
            started_ms: Some(now_ms),
            ended_ms: None,
            bytes: body.len() as u64,
            // As the runtime's item will be read.
            digest: Some(digest(text.trim().as_bytes())),
        };
        self.record.keep_preview(text);
        self.add_row(row, Bytes::from(body))
    }

    /// An item was started or completed; `body` is [`RawItem::json`] as it is to be stored. Items
    /// of ended turns are taken too.
    pub fn item(
        &mut self,
        turn_id: Option<&str>,
        item: &RawItem<'_>,
        body: Bytes,
        completed: bool,
        now_ms: i64,
    ) -> Writes {
        let turn_id = turn_id
            .map(|name| self.id_of(name))
            .or_else(|| self.active_turn().map(|turn| turn.id.as_str()))
            .unwrap_or("turn")
            .to_owned();
        let is_meant = |row: &ItemRecord| row.id == item.id && row.turn_id == turn_id;
        // One that has its row takes over no other one: two messages may say the same.
        if item.words.is_some() && !self.items.iter_mut().any(|row| is_meant(row)) {
            let is_accepted = |row: &ItemRecord| {
                row.turn_id == turn_id && row.id.starts_with(ACCEPTED) && row.digest == item.digest
            };
            self.items.change_oldest(is_accepted, |row| row.id = item.id.as_ref().to_owned());
        }
        let state = if completed { ItemState::Completed } else { ItemState::Open };
        let known = self.items.change(is_meant, |row| {
            let before = (row.ordinal, row.bytes);
            row.kind = item.kind.as_ref().to_owned();
            row.digest = item.digest;
            row.bytes = body.len() as u64;
            if completed {
                row.state = state;
                row.ended_ms = Some(now_ms);
            }
            (before, row.clone())
        });
        if let Some((before, row)) = known {
            return self.change_row(before, row, body);
        }
        if let Some(words) = &item.words {
            self.record.keep_preview(words);
        }
        let row = ItemRecord {
            ordinal: self.next_row(),
            turn_id,
            id: item.id.as_ref().to_owned(),
            kind: item.kind.as_ref().to_owned(),
            state,
            started_ms: Some(now_ms),
            ended_ms: completed.then_some(now_ms),
            bytes: body.len() as u64,
            digest: item.digest,
        };
        self.add_row(row, body)
    }

    /// Adds a row that nobody knows yet.
    pub(crate) fn add_row(&mut self, row: ItemRecord, body: Bytes) -> Writes {
        self.record.kept.count(row.ordinal, 0, row.bytes + ROW_OVERHEAD, self.item_cap);
        self.items.add(row.clone());
        let items = vec![ItemWrite { record: row, body: Some(body) }];
        let dropped = self.record.kept.trim(self.item_cap).into_iter().collect();
        Writes { thread: true, items, dropped, ..Writes::default() }
    }

    /// Replaces the item of a row; `before` is its ordinal and the length of its item until now.
    pub(super) fn change_row(
        &mut self,
        (ordinal, bytes): (u64, u64),
        mut row: ItemRecord,
        body: Bytes,
    ) -> Writes {
        // A row that was dropped while its item was open comes anew at the end.
        if ordinal < self.record.kept.first_row() {
            row.ordinal = self.next_row();
            let (id, turn_id, ordinal) = (&row.id, &row.turn_id, row.ordinal);
            self.items.change(
                |known| known.id == *id && known.turn_id == *turn_id,
                |known| known.ordinal = ordinal,
            );
            self.record.kept.count(row.ordinal, 0, row.bytes + ROW_OVERHEAD, self.item_cap);
        } else {
            let (before, after) = (bytes + ROW_OVERHEAD, row.bytes + ROW_OVERHEAD);
            self.record.kept.count(ordinal, before, after, self.item_cap);
        }
        let items = vec![ItemWrite { record: row, body: Some(body) }];
        let dropped = self.record.kept.trim(self.item_cap).into_iter().collect();
        Writes { thread: true, items, dropped, ..Writes::default() }
    }

    /// A row that is not the runtime's is added, or written again where it is `known`; answers it
    /// as it is then.
    pub fn note(
        &mut self,
        known: Option<&NoteRecord>,
        entry: TranscriptEntry,
    ) -> (TranscriptEntry, Writes) {
        let first_row = self.record.kept.first_row();
        let known = known.filter(|known| known.ordinal >= first_row);
        let entry = match known {
            Some(known) => known.entry.written_again(&entry),
            None => entry,
        };
        let ordinal = known.map_or_else(|| self.next_row(), |known| known.ordinal);
        let before = known.map_or(0, |known| known.weight());
        let note = NoteRecord { version: NOTE_RECORD_VERSION, ordinal, entry };
        self.record.kept.count(ordinal, before, note.weight(), self.item_cap);
        let row = note.entry.clone();
        let dropped = self.record.kept.trim(self.item_cap).into_iter().collect();
        (row, Writes { thread: true, notes: vec![note], dropped, ..Writes::default() })
    }

    /// The runtime, or a client of it, named the thread.
    pub fn named(&mut self, name: Option<&str>, chosen: bool, now_ms: i64) -> Writes {
        let keeps = self.record.title.as_ref().is_some_and(|title| title.chosen) && !chosen;
        let Some(name) = name.map(str::trim).filter(|name| !name.is_empty() && !keeps) else {
            return Writes::default();
        };
        let title = Title { text: name.to_owned(), chosen };
        if self.record.title.as_ref() == Some(&title) {
            return Writes::default();
        }
        self.record.title = Some(title);
        self.touch(now_ms);
        Writes { thread: true, ..Writes::default() }
    }

    /// Takes the ordinal of the next transcript row.
    pub fn next_row(&mut self) -> u64 {
        let ordinal = self.record.next_row;
        self.record.next_row += 1;
        ordinal
    }

    pub(super) fn touch(&mut self, now_ms: i64) {
        self.record.updated_at = self.record.updated_at.max(now_ms.div_euclid(1000));
    }
}

/// Splits turns in two, in order.
fn partition(
    turns: Vec<TurnRecord>,
    which: impl Fn(&TurnRecord) -> bool,
) -> (Vec<TurnRecord>, VecDeque<TurnRecord>) {
    let (mut first, mut second) = (Vec::new(), VecDeque::new());
    for turn in turns {
        if which(&turn) {
            first.push(turn);
        } else {
            second.push_back(turn);
        }
    }
    (first, second)
}
