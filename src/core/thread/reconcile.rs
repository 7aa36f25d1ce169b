//! What the runtime's own history says of a thread after its process was gone.
//!
//! The runtime is the authority: a turn that the manager ended because the process was gone may
//! have ended well before that, and the runtime may have done more than the manager saw. Its
//! history is also incomplete, and in threads of the older form its items have other ids than they
//! had when they streamed. So nothing that is known is ever replaced by less, and items are
//! matched by id, then by what they say.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::item::RawItem;
use super::record::{ItemRecord, ItemState, TurnRecord, TurnStatus};
use super::state::{REMEMBERED_TURNS, ThreadState, Writes};

/// A turn as the runtime's history has it.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryTurn<'a> {
    /// The runtime's id.
    pub id: String,
    /// The runtime's word.
    pub status: String,
    /// The runtime's error object.
    pub error: Option<Value>,
    /// Epoch milliseconds.
    pub started_ms: Option<i64>,
    /// Epoch milliseconds.
    pub ended_ms: Option<i64>,
    /// Its items, in order.
    pub items: Vec<RawItem<'a>>,
}

/// A page of `thread/turns/list`, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryPage<'a> {
    /// The turns.
    pub turns: Vec<HistoryTurn<'a>>,
    /// Where the next page starts.
    pub next_cursor: Option<String>,
    /// Whether every turn of it could be read.
    pub whole: bool,
}

/// What the store has of a thread, to compare its history with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoredHistory {
    /// The latest turns, in order.
    pub turns: Vec<TurnRecord>,
    /// Whether there are turns before them that were not read.
    pub more_turns: bool,
    /// Items of the turns of which something may be missing, in order.
    pub items: Vec<ItemRecord>,
    /// The turn of the oldest item that was looked at, whichever turn that is of.
    pub oldest_item_of: Option<String>,
    /// Whether there are items before that one that were not looked at.
    pub more_items: bool,
}

impl StoredHistory {
    /// Whether some turn of a history is stored, or none is stored at all.
    pub fn has_one_of(&self, history: &[HistoryTurn<'_>]) -> bool {
        let ids = self.ids();
        ids.is_empty() || history.iter().any(|past| ids.contains(past.id.as_str()))
    }

    /// Turns that the runtime took back, where it may have: those that are over, are not in its
    /// history, and come after some turn of it. All are, when that has none any more. One whose end
    /// the runtime never told is not among them: it may not have been written. Nor is one that ended
    /// after the history was asked for, in epoch milliseconds.
    pub fn taken_back(&self, history: &[HistoryTurn<'_>], asked_ms: i64) -> Vec<TurnRecord> {
        let in_history = |turn: &&TurnRecord| history.iter().any(|past| turn.is(&past.id));
        let oldest = self.turns.iter().filter(in_history).map(|turn| turn.ordinal).min();
        let from = match (oldest, history.is_empty()) {
            (Some(oldest), _) => oldest,
            (None, true) => 0,
            (None, false) => return Vec::new(),
        };
        let gone = self.turns.iter().filter(|turn| {
            turn.ordinal >= from
                && !in_history(turn)
                && turn.ended_ms.is_none_or(|ended| ended <= asked_ms)
                && turn.status != TurnStatus::InProgress
                && !turn.ended_by_manager
                && !turn.rolled_back
        });
        gone.cloned().collect()
    }

    fn ids(&self) -> HashSet<&str> {
        let names = self.turns.iter().flat_map(|turn| [turn.id.as_str(), turn.first_name()]);
        names.collect()
    }

    /// How many turns of a history, newest first, can be told apart from those that were not read:
    /// what is older than all that were read may be one of these.
    fn comparable(&self, history: &[&HistoryTurn<'_>]) -> usize {
        if !self.more_turns {
            return history.len();
        }
        let ids = self.ids();
        let oldest = history.iter().rposition(|past| ids.contains(past.id.as_str()));
        oldest.map_or(0, |place| place + 1)
    }

    /// The ordinal of the first turn of which all items are here; of those before it, it cannot be
    /// said which ones are missing. `trimmed` says that the oldest items are no longer kept.
    fn complete_from(&self, trimmed: bool) -> u32 {
        if !self.more_items && !trimmed {
            return 0;
        }
        let oldest = self.oldest_item_of.as_ref();
        let oldest = oldest.and_then(|id| self.turns.iter().find(|turn| turn.id == *id));
        oldest.map_or(u32::MAX, |turn| turn.ordinal.saturating_add(1))
    }
}

/// What a comparison with the runtime's history changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reconciled {
    /// Turns that did not end as the manager thought.
    pub corrected: Vec<String>,
    /// Turns that the manager never saw.
    pub added: Vec<String>,
    /// Items that were missing or incomplete.
    pub items: usize,
    /// What is to be stored.
    pub writes: Writes,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    #[serde(default, rename = "nextCursor")]
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    thread: Turns<'a>,
}

#[derive(Deserialize)]
struct Turns<'a> {
    #[serde(borrow)]
    turns: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Turn<'a> {
    id: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    error: Option<Value>,
    /// Seconds.
    #[serde(default)]
    started_at: Option<i64>,
    /// Seconds.
    #[serde(default)]
    completed_at: Option<i64>,
    #[serde(borrow, default)]
    items: Vec<&'a RawValue>,
}

/// Reads the result of `thread/turns/list`; `None` when it is none.
pub fn read_turns_page(result: &str) -> Option<HistoryPage<'_>> {
    let page: Page<'_> = serde_json::from_str(result).ok()?;
    let told = page.data.len();
    let turns: Vec<_> = page.data.into_iter().filter_map(turn).collect();
    Some(HistoryPage { whole: turns.len() == told, turns, next_cursor: page.next_cursor })
}

/// Reads the result of `thread/read` as one page; `None` when it is none.
pub fn read_thread_turns(result: &str) -> Option<HistoryPage<'_>> {
    let read: Read<'_> = serde_json::from_str(result).ok()?;
    let told = read.thread.turns.len();
    let turns: Vec<_> = read.thread.turns.into_iter().rev().filter_map(turn).collect();
    Some(HistoryPage { whole: turns.len() == told, turns, next_cursor: None })
}

fn turn(raw: &RawValue) -> Option<HistoryTurn<'_>> {
    let turn: Turn<'_> = serde_json::from_str(raw.get()).ok()?;
    let milliseconds = |seconds: i64| seconds.saturating_mul(1000);
    Some(HistoryTurn {
        id: turn.id,
        status: turn.status.unwrap_or_default(),
        error: turn.error.filter(|error| !error.is_null()),
        started_ms: turn.started_at.map(milliseconds),
        ended_ms: turn.completed_at.map(milliseconds),
        items: turn.items.iter().filter_map(|item| RawItem::of_json(item.get())).collect(),
    })
}

impl HistoryTurn<'_> {
    /// Whether the runtime says that it is over. Codex 0.106 goes on saying `inProgress` of a turn
    /// that was cut.
    pub fn is_over(&self) -> bool {
        !matches!(self.status.as_str(), "" | "inProgress")
    }
}

impl ThreadState {
    /// Compares with the runtime's history, newest turn first.
    ///
    /// No turn that is stored counts as new, and no turn is given items unless all that are stored
    /// of it are known: nothing is ever there twice.
    pub fn reconcile(
        &mut self,
        stored: &StoredHistory,
        history: &[HistoryTurn<'_>],
        now_ms: i64,
    ) -> Reconciled {
        let mut reconciled = Reconciled::default();
        let named = |turn| [(TurnRecord::first_name(turn), turn), (turn.id.as_str(), turn)];
        let turns: HashMap<&str, &TurnRecord> = stored.turns.iter().flat_map(named).collect();
        let mut items: HashMap<&str, Vec<ItemRecord>> = HashMap::new();
        for item in &stored.items {
            items.entry(&item.turn_id).or_default().push(item.clone());
        }
        let mut matched: HashSet<u32> = HashSet::new();
        let complete_from = stored.complete_from(self.record.kept.first_row() > 0);
        // A turn that begins while pages are read may move another one onto two of them.
        let mut told: HashSet<&str> = HashSet::new();
        let mut history: Vec<&HistoryTurn<'_>> =
            history.iter().filter(|past| told.insert(&past.id)).collect();
        history.truncate(stored.comparable(&history));
        for past in history.into_iter().rev() {
            if !past.is_over() || past.id.is_empty() || self.is_running(&past.id) {
                continue;
            }
            let known = turns.get(past.id.as_str()).copied();
            let known = known.or_else(|| self.ended.iter().find(|turn| turn.is(&past.id)));
            let status = TurnStatus::of_ended(Some(&past.status));
            let Some(known) = known.cloned() else {
                let turn = TurnRecord {
                    ordinal: self.record.next_turn,
                    id: past.id.clone(),
                    status,
                    error: past.error.clone(),
                    started_ms: past.started_ms.unwrap_or(now_ms),
                    ended_ms: past.ended_ms.or(past.started_ms).or(Some(now_ms)),
                    // So is a turn shown that another process still runs: what is said of it later
                    // counts more.
                    ended_by_manager: status == TurnStatus::Interrupted,
                    rolled_back: false,
                    begun_as: None,
                };
                self.record.next_turn += 1;
                self.record.materialized = true;
                reconciled.added.push(past.id.clone());
                self.keep_ended(turn.clone(), &mut reconciled.writes);
                self.adopt_items(past, &[], &turn, &mut reconciled, now_ms);
                continue;
            };
            if !known.ended_by_manager {
                // The manager saw its end, and so its items.
                continue;
            }
            let mut turn = known;
            let before = turn.status;
            if status != TurnStatus::Interrupted {
                turn.status = status;
                turn.error = past.error.clone();
                turn.ended_ms = past.ended_ms.or(turn.ended_ms);
                turn.ended_by_manager = false;
                if turn.status != before {
                    reconciled.corrected.push(turn.id.clone());
                }
                self.keep_corrected(turn.clone(), &mut reconciled.writes);
            }
            if turn.ordinal < complete_from {
                continue;
            }
            // A review may stand there under both of its names.
            if !matched.insert(turn.ordinal) {
                continue;
            }
            let ours = items.remove(turn.id.as_str()).unwrap_or_default();
            self.adopt_items(past, &ours, &turn, &mut reconciled, now_ms);
        }
        if !reconciled.writes.is_empty() {
            reconciled.writes.thread = true;
            self.touch(now_ms);
        }
        reconciled
    }

    /// Keeps a turn that was not known and is over.
    fn keep_ended(&mut self, turn: TurnRecord, writes: &mut Writes) {
        writes.turns.push(turn.clone());
        self.ended.push_back(turn);
        while self.ended.len() > REMEMBERED_TURNS {
            if let Some(oldest) = self.ended.pop_front() {
                self.items.forget_turn(&oldest.id);
            }
        }
    }

    /// Keeps a turn of which more is known than before. One that is not remembered is none of those
    /// that ended lately.
    fn keep_corrected(&mut self, turn: TurnRecord, writes: &mut Writes) {
        if let Some(known) = self.ended.iter_mut().find(|known| known.id == turn.id) {
            *known = turn.clone();
        }
        writes.turns.push(turn);
    }

    /// Takes over the items of a turn that are not known, or not to their end.
    fn adopt_items(
        &mut self,
        past: &HistoryTurn<'_>,
        ours: &[ItemRecord],
        turn: &TurnRecord,
        reconciled: &mut Reconciled,
        now_ms: i64,
    ) {
        let matches = matched(&past.items, ours);
        for (item, place) in past.items.iter().zip(matches) {
            let ended_ms = turn.ended_ms.or(Some(now_ms));
            let body = || Bytes::copy_from_slice(item.json.as_bytes());
            let known = place.and_then(|place| ours.get(place));
            let writes = match known {
                Some(known) if known.state == ItemState::Completed => continue,
                Some(known) => {
                    let before = (known.ordinal, known.bytes);
                    let row = ItemRecord {
                        id: item.id.as_ref().to_owned(),
                        kind: item.kind.as_ref().to_owned(),
                        state: ItemState::Completed,
                        ended_ms: known.ended_ms.or(ended_ms),
                        bytes: item.json.len() as u64,
                        digest: item.digest,
                        ..known.clone()
                    };
                    let remembered = row.clone();
                    self.items
                        .change(|other| other.ordinal == row.ordinal, |other| *other = remembered);
                    self.change_row(before, row, body())
                }
                None => {
                    let row = ItemRecord {
                        ordinal: self.next_row(),
                        turn_id: turn.id.clone(),
                        id: item.id.as_ref().to_owned(),
                        kind: item.kind.as_ref().to_owned(),
                        state: ItemState::Completed,
                        started_ms: Some(turn.started_ms),
                        ended_ms,
                        bytes: item.json.len() as u64,
                        digest: item.digest,
                    };
                    if let Some(words) = &item.words {
                        self.record.keep_preview(words);
                    }
                    self.add_row(row, body())
                }
            };
            reconciled.items += 1;
            reconciled.writes.extend(writes);
        }
    }
}

/// For each of the runtime's items the place of ours that it is: the one with its id, or one that
/// says the same, or one of its kind that was cut off, or that says as little.
fn matched(theirs: &[RawItem<'_>], ours: &[ItemRecord]) -> Vec<Option<usize>> {
    let mut places: Vec<Option<usize>> = vec![None; theirs.len()];
    let mut taken = vec![false; ours.len()];
    let rules: [fn(&RawItem<'_>, &ItemRecord) -> bool; 4] = [
        |item, row| row.id == item.id,
        |item, row| row.kind == item.kind && item.digest.is_some() && row.digest == item.digest,
        |item, row| {
            row.kind == item.kind && row.state != ItemState::Completed && item.words.is_none()
        },
        |item, row| row.kind == item.kind && item.digest.is_none() && row.digest.is_none(),
    ];
    for rule in rules {
        for (place, item) in places.iter_mut().zip(theirs) {
            if place.is_some() {
                continue;
            }
            let found = ours.iter().zip(&taken).position(|(row, taken)| !taken && rule(item, row));
            if let Some(taken) = found.and_then(|found| taken.get_mut(found)) {
                *taken = true;
                *place = found;
            }
        }
    }
    places
}
