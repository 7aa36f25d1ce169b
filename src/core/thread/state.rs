//! The state of a living thread and its transitions.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::transcript::user_text;

use super::record::{ItemRecord, ItemState, ThreadRecord, Title, TurnRecord, TurnStatus};

/// Ended turns and their items that are remembered for events that come late.
///
/// Codex 0.140 commonly sends `item/completed` of a command up to 30 ms after `turn/completed`.
const REMEMBERED_TURNS: usize = 4;

/// Items that are remembered in memory; older ones live in the store only.
const REMEMBERED_ITEMS: usize = 512;

/// Prefix of the id of a message that the runtime has not shown yet.
const ACCEPTED: &str = "accepted-";

fn is_user_message(item: &Value) -> bool {
    item.get("type").and_then(Value::as_str) == Some("userMessage")
}

/// What a transition wants stored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Writes {
    /// Whether the thread's record changed.
    pub thread: bool,
    /// Turns that changed.
    pub turns: Vec<TurnRecord>,
    /// Items that changed.
    pub items: Vec<ItemRecord>,
}

impl Writes {
    /// Adds what another transition wants.
    pub fn extend(&mut self, other: Self) {
        self.thread |= other.thread;
        self.turns.extend(other.turns);
        self.items.extend(other.items);
    }

    /// Whether nothing is to be stored.
    pub fn is_empty(&self) -> bool {
        !self.thread && self.turns.is_empty() && self.items.is_empty()
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
    running: Vec<TurnRecord>,
    /// Turns that ended lately.
    ended: VecDeque<TurnRecord>,
    /// Items of running and remembered turns.
    items: VecDeque<ItemRecord>,
}

impl ThreadState {
    /// A thread as it was stored, with the turns that were running when it was.
    pub fn new(record: ThreadRecord, running: Vec<TurnRecord>, items: Vec<ItemRecord>) -> Self {
        Self { record, running, ended: VecDeque::new(), items: items.into() }
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
        self.running.iter().any(|turn| turn.id == turn_id)
    }

    /// A turn began: our `turn/start` was answered, or the runtime said so.
    pub fn turn_began(&mut self, turn_id: &str, now_ms: i64) -> Writes {
        let known = self.running.iter().chain(&self.ended).any(|turn| turn.id == turn_id);
        if known || turn_id.is_empty() {
            return Writes::default();
        }
        let turn = TurnRecord {
            ordinal: self.record.next_turn,
            id: turn_id.to_owned(),
            status: TurnStatus::InProgress,
            error: None,
            started_ms: now_ms,
            ended_ms: None,
        };
        self.record.next_turn += 1;
        self.record.materialized = true;
        self.touch(now_ms);
        self.running.push(turn.clone());
        Writes { thread: true, turns: vec![turn], items: Vec::new() }
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
                };
                return Ended { turn, news: false, writes: began };
            }
        };
        turn.status = status;
        turn.error = error.filter(|error| !error.is_null());
        turn.ended_ms = Some(now_ms.max(turn.started_ms));
        self.touch(now_ms);
        let mut writes = Writes { thread: true, turns: vec![turn.clone()], items: Vec::new() };
        for item in &mut self.items {
            if item.turn_id == turn_id && item.state == ItemState::Open {
                item.state = ItemState::Discarded;
                item.ended_ms = Some(now_ms);
                writes.items.push(item.clone());
            }
        }
        self.ended.push_back(turn.clone());
        while self.ended.len() > REMEMBERED_TURNS {
            if let Some(oldest) = self.ended.pop_front() {
                self.items.retain(|item| item.turn_id != oldest.id);
            }
        }
        Ended { turn, news: true, writes }
    }

    /// The process that ran the turns is gone: every running turn ends `interrupted`.
    pub fn runtime_down(&mut self, why: &str, now_ms: i64) -> Vec<Ended> {
        let ids: Vec<String> = self.running.iter().map(|turn| turn.id.clone()).collect();
        ids.iter()
            .map(|id| {
                let error = json!({ "message": why, "codexErrorInfo": null });
                self.turn_ended(id, TurnStatus::Interrupted, Some(error), now_ms)
            })
            .collect()
    }

    /// A message was accepted: its words are kept until the runtime shows them as an item of its
    /// own, which takes this row over. A runtime that ends before that never does.
    pub fn message_accepted(&mut self, turn_id: &str, text: &str, now_ms: i64) -> Writes {
        let ordinal = self.next_row();
        let id = format!("{ACCEPTED}{ordinal}");
        let content = json!([{ "type": "text", "text": text }]);
        let row = ItemRecord {
            ordinal,
            turn_id: turn_id.to_owned(),
            item: json!({ "type": "userMessage", "id": id, "content": content }),
            id,
            state: ItemState::Open,
            started_ms: Some(now_ms),
            ended_ms: None,
        };
        self.record.keep_preview(text);
        self.items.push_back(row.clone());
        Writes { thread: true, items: vec![row], ..Writes::default() }
    }

    /// An item was started or completed. Items of ended turns are taken too.
    pub fn item(
        &mut self,
        turn_id: Option<&str>,
        item: &Value,
        completed: bool,
        now_ms: i64,
    ) -> Writes {
        let Some(id) = item.get("id").and_then(Value::as_str) else {
            return Writes::default();
        };
        let turn_id = turn_id
            .or_else(|| self.active_turn().map(|turn| turn.id.as_str()))
            .unwrap_or("turn")
            .to_owned();
        if is_user_message(item) {
            let text = user_text(item);
            let accepted = self.items.iter_mut().find(|row| {
                row.turn_id == turn_id
                    && row.id.starts_with(ACCEPTED)
                    && user_text(&row.item) == text
            });
            if let Some(row) = accepted {
                row.id = id.to_owned();
            }
        }
        let known = self.items.iter_mut().find(|row| row.id == id && row.turn_id == turn_id);
        if let Some(row) = known {
            row.item = item.clone();
            if completed {
                row.state = ItemState::Completed;
                row.ended_ms = Some(now_ms);
            }
            return Writes { items: vec![row.clone()], ..Writes::default() };
        }
        let row = ItemRecord {
            ordinal: self.next_row(),
            turn_id,
            id: id.to_owned(),
            state: if completed { ItemState::Completed } else { ItemState::Open },
            started_ms: Some(now_ms),
            ended_ms: completed.then_some(now_ms),
            item: item.clone(),
        };
        if is_user_message(item) {
            self.record.keep_preview(&user_text(item));
        }
        self.items.push_back(row.clone());
        if self.items.len() > REMEMBERED_ITEMS {
            // A completed item is only kept for a late repetition; an open one is still needed.
            let oldest = self.items.iter().position(|item| item.state != ItemState::Open);
            self.items.remove(oldest.unwrap_or(0));
        }
        Writes { thread: true, items: vec![row], ..Writes::default() }
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

    fn touch(&mut self, now_ms: i64) {
        self.record.updated_at = self.record.updated_at.max(now_ms.div_euclid(1000));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::Controls;
    use crate::ids::ThreadId;
    use proptest::prelude::*;

    fn state() -> ThreadState {
        let record = ThreadRecord {
            version: super::super::THREAD_RECORD_VERSION,
            id: ThreadId::parse("t").unwrap(),
            title: None,
            cwd: "/".to_owned(),
            controls: Controls::default(),
            dynamic_tools: None,
            materialized: false,
            archived: false,
            created_at: 0,
            updated_at: 0,
            project_id: None,
            thread: json!({}),
            next_turn: 0,
            next_row: 0,
        };
        ThreadState::new(record, Vec::new(), Vec::new())
    }

    #[test]
    fn a_turn_runs_from_its_answer_to_its_end() {
        let mut thread = state();
        assert_eq!(thread.turn_began("u1", 5).turns.len(), 1);
        assert!(thread.turn_began("u1", 6).is_empty(), "turn/started repeats the answer");
        assert_eq!(thread.active_turn().map(|turn| turn.id.as_str()), Some("u1"));
        assert!(thread.record.materialized);
        let ended = thread.turn_ended("u1", TurnStatus::Completed, Some(Value::Null), 9);
        assert!(ended.news);
        assert_eq!((ended.turn.error, ended.turn.ended_ms), (None, Some(9)));
        assert!(thread.active_turn().is_none());
        assert!(!thread.turn_ended("u1", TurnStatus::Failed, None, 10).news);
        assert!(thread.turn_began("u1", 11).is_empty(), "an ended turn does not start again");
    }

    #[test]
    fn when_the_process_is_gone_every_turn_ends_interrupted() {
        let mut thread = state();
        thread.turn_began("u1", 1);
        thread.item(Some("u1"), &json!({"id": "i1", "type": "agentMessage"}), false, 2);
        let ended = thread.runtime_down("gone", 3);
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].turn.status, TurnStatus::Interrupted);
        assert_eq!(ended[0].writes.items[0].state, ItemState::Discarded);
        assert!(thread.running().is_empty());
        assert!(thread.runtime_down("gone", 4).is_empty());
    }

    #[test]
    fn an_item_that_completes_after_its_turn_is_still_taken() {
        let mut thread = state();
        thread.turn_began("u1", 1);
        thread.item(Some("u1"), &json!({"id": "c", "type": "commandExecution"}), false, 2);
        thread.turn_ended("u1", TurnStatus::Completed, None, 3);
        let late = thread.item(Some("u1"), &json!({"id": "c", "exitCode": 0}), true, 4);
        assert_eq!(late.items[0].ordinal, 0);
        assert_eq!(late.items[0].state, ItemState::Completed);
    }

    #[test]
    fn an_item_id_that_a_later_turn_uses_again_is_another_item() {
        let mut thread = state();
        thread.item(Some("u1"), &json!({"id": "msg_1"}), true, 1);
        let second = thread.item(Some("u2"), &json!({"id": "msg_1"}), true, 2);
        assert_eq!(second.items[0].ordinal, 1);
    }

    #[test]
    fn the_words_of_an_accepted_message_are_kept_until_the_runtime_shows_them() {
        let mut thread = state();
        thread.turn_began("u1", 1);
        let first = thread.message_accepted("u1", "hello", 2).items.remove(0);
        let joined = thread.message_accepted("u1", "and this", 3).items.remove(0);
        let shown = json!({"type": "userMessage", "id": "m", "content": [{"type": "text", "text": "hello"}]});
        let taken_over = thread.item(Some("u1"), &shown, false, 4).items.remove(0);
        assert_eq!((taken_over.ordinal, taken_over.id.as_str()), (first.ordinal, "m"));
        assert_eq!(thread.item(Some("u1"), &shown, true, 5).items[0].state, ItemState::Completed);
        let ended = thread.turn_ended("u1", TurnStatus::Interrupted, None, 6);
        assert_eq!(ended.writes.items.len(), 1);
        assert_eq!(ended.writes.items[0].ordinal, joined.ordinal);
        assert_eq!(ended.writes.items[0].state, ItemState::Discarded);
    }

    #[test]
    fn a_chosen_title_is_not_overwritten_by_the_runtime() {
        let mut thread = state();
        assert!(thread.named(Some("from the runtime"), false, 1).thread);
        assert!(thread.named(Some(" mine "), true, 2).thread);
        assert!(thread.named(Some("from the runtime"), false, 3).is_empty());
        assert_eq!(thread.record.shown_title(), "mine");
    }

    proptest! {
        /// Memory is bounded and ordinals are unique, whatever the runtime sends.
        #[test]
        fn any_order_of_events_is_survived(
            steps in prop::collection::vec((0u8..5, 0u8..6, 0u16..700), 0..300)
        ) {
            let mut thread = state();
            for (index, (step, turn, item)) in steps.into_iter().enumerate() {
                let now = index as i64;
                let turn = format!("u{turn}");
                let item = json!({"id": format!("i{item}")});
                match step {
                    0 => { thread.turn_began(&turn, now); }
                    1 => { thread.turn_ended(&turn, TurnStatus::Completed, None, now); }
                    2 => { thread.item(Some(&turn), &item, false, now); }
                    3 => { thread.item(None, &item, true, now); }
                    _ => { thread.runtime_down("gone", now); }
                }
                prop_assert!(thread.items.len() <= REMEMBERED_ITEMS);
                prop_assert!(thread.ended.len() <= REMEMBERED_TURNS);
                for turn in thread.running() {
                    prop_assert_eq!(turn.status, TurnStatus::InProgress);
                }
            }
        }
    }
}
