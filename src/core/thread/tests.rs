//! Transitions of a thread.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::state::REMEMBERED_TURNS;
use super::*;
use crate::controls::Controls;
use crate::ids::ThreadId;

mod history;

const CAP: u64 = 1 << 20;

fn state() -> ThreadState {
    let record = ThreadRecord {
        version: THREAD_RECORD_VERSION,
        id: ThreadId::parse("t").unwrap(),
        runtime_id: None,
        replaced: Vec::new(),
        title: None,
        cwd: "/".to_owned(),
        controls: Controls::default(),
        dynamic_tools: None,
        materialized: false,
        archived: false,
        created_at: 0,
        updated_at: 0,
        project_id: None,
        compared_at: None,
        thread: json!({}),
        next_turn: 0,
        next_row: 0,
        kept: Kept::default(),
        problem: None,
        parent: None,
        subagents: Vec::new(),
    };
    ThreadState::new(record, Vec::new(), Vec::new(), CAP)
}

/// The item is started or completed.
fn item(
    thread: &mut ThreadState,
    turn: Option<&str>,
    item: &Value,
    completed: bool,
    now_ms: i64,
) -> Vec<ItemRecord> {
    let json = item.to_string();
    let raw = RawItem::of_json(&json).unwrap();
    let writes = thread.item(turn, &raw, Bytes::from(json.clone()), completed, now_ms);
    writes.items.into_iter().map(|write| write.record).collect()
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
    item(&mut thread, Some("u1"), &json!({"id": "i1", "type": "agentMessage"}), false, 2);
    let ended = thread.runtime_down("gone", 3);
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].turn.status, TurnStatus::Interrupted);
    assert_eq!(ended[0].writes.items[0].record.state, ItemState::Discarded);
    assert!(thread.running().is_empty());
    assert!(thread.runtime_down("gone", 4).is_empty());
}

#[test]
fn an_item_that_completes_after_its_turn_is_still_taken() {
    let mut thread = state();
    thread.turn_began("u1", 1);
    item(&mut thread, Some("u1"), &json!({"id": "c", "type": "commandExecution"}), false, 2);
    thread.turn_ended("u1", TurnStatus::Completed, None, 3);
    let late = item(&mut thread, Some("u1"), &json!({"id": "c", "exitCode": 0}), true, 4);
    assert_eq!(late[0].ordinal, 0);
    assert_eq!(late[0].state, ItemState::Completed);
}

#[test]
fn an_item_id_that_a_later_turn_uses_again_is_another_item() {
    let mut thread = state();
    item(&mut thread, Some("u1"), &json!({"id": "msg_1"}), true, 1);
    let second = item(&mut thread, Some("u2"), &json!({"id": "msg_1"}), true, 2);
    assert_eq!(second[0].ordinal, 1);
}

#[test]
fn the_words_of_an_accepted_message_are_kept_until_the_runtime_shows_them() {
    let mut thread = state();
    thread.turn_began("u1", 1);
    let first = thread.message_accepted("u1", "hello", 2).items.remove(0).record;
    let joined = thread.message_accepted("u1", "and this", 3).items.remove(0).record;
    let shown =
        json!({"type": "userMessage", "id": "m", "content": [{"type": "text", "text": "hello"}]});
    let taken_over = item(&mut thread, Some("u1"), &shown, false, 4).remove(0);
    assert_eq!((taken_over.ordinal, taken_over.id.as_str()), (first.ordinal, "m"));
    assert_eq!(item(&mut thread, Some("u1"), &shown, true, 5)[0].state, ItemState::Completed);
    let ended = thread.turn_ended("u1", TurnStatus::Interrupted, None, 6);
    assert_eq!(ended.writes.items.len(), 1);
    assert_eq!(ended.writes.items[0].record.ordinal, joined.ordinal);
    assert_eq!(ended.writes.items[0].record.state, ItemState::Discarded);
}

#[test]
fn two_messages_that_say_the_same_have_a_row_each() {
    let mut thread = state();
    thread.turn_began("u", 1);
    thread.message_accepted("u", "go", 1);
    thread.message_accepted("u", "go", 2);
    let content = json!([{ "type": "text", "text": "go" }]);
    let mut ordinals = Vec::new();
    for id in ["m1", "m2"] {
        let message = json!({ "id": id, "type": "userMessage", "content": content });
        for completed in [false, true] {
            let rows = item(&mut thread, Some("u"), &message, completed, 3);
            ordinals.push((rows[0].ordinal, rows[0].id.clone()));
        }
    }
    let row = |ordinal: u64, id: &str| (ordinal, id.to_owned());
    assert_eq!(ordinals, [row(0, "m1"), row(0, "m1"), row(1, "m2"), row(1, "m2")]);
}

#[test]
fn a_chosen_title_is_not_overwritten_by_the_runtime() {
    let mut thread = state();
    assert!(thread.named(Some("from the runtime"), false, 1).thread);
    assert!(thread.named(Some(" mine "), true, 2).thread);
    assert!(thread.named(Some("from the runtime"), false, 3).is_empty());
    assert_eq!(thread.record.shown_title(), "mine");
}

#[test]
fn long_items_are_not_remembered_and_the_oldest_go_from_the_store() {
    let mut thread = state();
    thread.turn_began("u1", 1);
    let text = "x".repeat(100_000);
    let mut dropped = Vec::new();
    for number in 0..100 {
        let said = json!({"id": format!("i{number}"), "type": "agentMessage", "text": text});
        let json = said.to_string();
        let raw = RawItem::of_json(&json).unwrap();
        let body = Bytes::from(json.clone());
        let writes = thread.item(Some("u1"), &raw, body, true, 2);
        assert_eq!(writes.items[0].body.as_deref(), Some(json.as_bytes()));
        dropped.extend(writes.dropped);
    }
    let kept = &thread.record.kept;
    assert!(kept.bytes() <= CAP, "{kept:?}");
    assert_eq!(dropped.first().map(|range| range.start), Some(0));
    assert_eq!(dropped.last().map(|range| range.end), Some(kept.first_row()));
    assert!(kept.first_row() >= 89, "{kept:?}");
    assert!(thread.items.is_bounded());
    let memory = format!("{thread:?}").len();
    assert!(memory < 100_000, "items are not kept in memory: {memory}");
}

#[test]
fn an_open_item_whose_row_was_dropped_comes_anew_at_the_end() {
    let mut thread = state();
    thread.turn_began("u1", 1);
    let first = item(&mut thread, Some("u1"), &json!({"id": "first"}), false, 1);
    let text = "x".repeat(100_000);
    for number in 0..20 {
        let said = json!({"id": format!("i{number}"), "type": "agentMessage", "text": text});
        item(&mut thread, Some("u1"), &said, true, 2);
    }
    assert!(thread.record.kept.first_row() > first[0].ordinal);
    let completed = item(&mut thread, Some("u1"), &json!({"id": "first"}), true, 3);
    assert_eq!(completed[0].ordinal, 21);
    assert_eq!(completed[0].state, ItemState::Completed);
    let again = item(&mut thread, Some("u1"), &json!({"id": "first"}), true, 4);
    assert_eq!(again[0].ordinal, 21, "from then on it has its place");
}

/// A thread whose turn `u1` was cut: a message was accepted and shown, a command completed, an
/// answer had begun.
fn cut() -> (ThreadState, Vec<TurnRecord>, Vec<ItemRecord>) {
    let mut thread = state();
    let mut turns = thread.turn_began("u1", 1_000).turns;
    let mut writes = thread.message_accepted("u1", "go", 1_000);
    let command = json!({"id": "c", "type": "commandExecution", "command": "ls"});
    let mut items = item(&mut thread, Some("u1"), &command, true, 1_001);
    let answer = json!({"id": "live", "type": "agentMessage", "text": ""});
    items.extend(item(&mut thread, Some("u1"), &answer, false, 1_002));
    for ended in thread.runtime_down("gone", 1_003) {
        turns = ended.writes.turns;
        writes.extend(Writes { items: ended.writes.items, ..Writes::default() });
    }
    for write in writes.items {
        items.retain(|known| known.ordinal != write.record.ordinal);
        items.push(write.record);
    }
    items.sort_by_key(|item| item.ordinal);
    (thread, turns, items)
}

fn stored(turns: &[TurnRecord], items: &[ItemRecord]) -> StoredHistory {
    StoredHistory { turns: turns.to_vec(), items: items.to_vec(), ..StoredHistory::default() }
}

fn page(turns: &Value) -> String {
    json!({ "data": turns, "nextCursor": null }).to_string()
}

#[test]
fn a_turn_that_ended_before_the_crash_is_corrected_and_its_items_are_completed() {
    let (mut thread, turns, items) = cut();
    let content = json!([{ "type": "text", "text": "go", "text_elements": [] }]);
    let text = page(&json!([{
        "id": "u1", "status": "completed", "error": null, "startedAt": 1, "completedAt": 2,
        "items": [
            { "type": "userMessage", "id": "item-1", "content": content },
            { "type": "agentMessage", "id": "item-2", "text": "done" },
            { "type": "agentMessage", "id": "item-3", "text": "and more" },
        ],
    }]));
    let history = read_turns_page(&text).unwrap().turns;
    let reconciled = thread.reconcile(&stored(&turns, &items), &history, 9);
    assert_eq!((reconciled.corrected, reconciled.items), (vec!["u1".to_owned()], 3));
    assert!(reconciled.added.is_empty());
    let turn = &reconciled.writes.turns[0];
    assert_eq!(
        (turn.status, &turn.error, turn.ended_ms),
        (TurnStatus::Completed, &None, Some(2_000))
    );
    let rows: Vec<(u64, &str)> = reconciled
        .writes
        .items
        .iter()
        .map(|write| (write.record.ordinal, write.record.id.as_str()))
        .collect();
    // The message keeps its row, the answer that had begun is the first one, the other is new.
    assert_eq!(rows, [(0, "item-1"), (2, "item-2"), (3, "item-3")]);
    assert!(reconciled.writes.items.iter().all(|write| write.record.state == ItemState::Completed));
}

#[test]
fn comparing_twice_changes_nothing_the_second_time() {
    let (mut thread, turns, items) = cut();
    let text = page(&json!([{
        "id": "u1", "status": "completed",
        "items": [
            { "type": "agentMessage", "id": "item-2", "text": "done" },
            { "type": "commandExecution", "id": "item-9", "command": "ls" },
        ],
    }]));
    let history = read_turns_page(&text).unwrap().turns;
    let first = thread.reconcile(&stored(&turns, &items), &history, 9);
    assert_eq!(first.items, 1, "the command is known by what it says");
    let again = thread.reconcile(&stored(&first.writes.turns, &items), &history, 10);
    assert_eq!(again, Reconciled::default());
}

#[test]
fn a_cut_turn_stays_interrupted_when_the_runtime_says_no_better() {
    for status in ["interrupted", "inProgress", ""] {
        let (mut thread, turns, items) = cut();
        let text = page(&json!([{ "id": "u1", "status": status, "items": [] }]));
        let history = read_turns_page(&text).unwrap().turns;
        assert_eq!(thread.reconcile(&stored(&turns, &items), &history, 9), Reconciled::default());
    }
}

#[test]
fn turns_that_nobody_saw_are_added_in_order() {
    let (mut thread, turns, items) = cut();
    let unseen = |id: &str, item: &str| {
        json!({
            "id": id, "status": "completed", "startedAt": 5,
            "items": [{ "type": "agentMessage", "id": item, "text": "by itself" }],
        })
    };
    let running = json!({ "id": "u4", "status": "inProgress", "items": [{ "id": "x" }] });
    let text = page(&json!([running, unseen("u3", "b"), unseen("u2", "a")]));
    let history = read_turns_page(&text).unwrap().turns;
    let reconciled = thread.reconcile(&stored(&turns, &items), &history, 9);
    assert_eq!(reconciled.added, ["u2", "u3"]);
    assert_eq!(reconciled.writes.turns[0].ordinal, 1);
    let rows: Vec<&str> =
        reconciled.writes.items.iter().map(|write| write.record.turn_id.as_str()).collect();
    assert_eq!(rows, ["u2", "u3"]);
}

#[test]
fn a_history_of_thread_read_is_taken_newest_first() {
    let text = json!({ "thread": { "id": "t", "turns": [
        { "id": "u1", "status": "completed", "items": [] },
        { "id": "u2", "status": "failed", "error": { "message": "no" }, "items": [{ "id": 7 }] },
    ] } })
    .to_string();
    let turns = read_thread_turns(&text).unwrap().turns;
    assert_eq!(turns.iter().map(|turn| turn.id.as_str()).collect::<Vec<_>>(), ["u2", "u1"]);
    assert!(turns[0].items.is_empty(), "what is no item is left out");
    assert_eq!(read_turns_page(&text), None);
    assert_eq!(read_thread_turns("null"), None);
}

#[test]
fn a_review_is_one_turn_under_two_names() {
    let mut thread = state();
    thread.review_began("r", 1_000);
    assert!(thread.is_review_awaited());
    let named = thread.turn_began("b", 1_001);
    assert!(!thread.is_review_awaited() && thread.running().len() == 1);
    assert_eq!(named.turns[0].begun_as.as_deref(), Some("b"));
    assert!(thread.is_running("r") && thread.is_running("b"));
    assert_eq!((thread.id_of("b"), thread.first_name_of("r")), ("r", "b"));
    let said = json!({ "id": "m", "type": "agentMessage", "text": "seen" });
    let rows = item(&mut thread, Some("b"), &said, true, 1_002);
    assert_eq!(rows[0].turn_id, "r");
    // It is cut, and the runtime has both names in its history.
    let ended = thread.runtime_down("gone", 1_003).remove(0);
    let text = page(&json!([
        { "id": "r", "status": "interrupted", "items": [] },
        { "id": "b", "status": "interrupted", "items": [
            { "type": "agentMessage", "id": "item-1", "text": "seen" },
            { "type": "commandExecution", "id": "item-2", "command": "ls" },
        ] },
    ]));
    let history = read_turns_page(&text).unwrap().turns;
    let first = thread.reconcile(&stored(&ended.writes.turns, &rows), &history, 9);
    assert_eq!((first.added.len(), first.items), (0, 1));
    let taken = &first.writes.items[0].record;
    assert_eq!((taken.id.as_str(), taken.turn_id.as_str()), ("item-2", "r"));
    let rows = [rows, vec![taken.clone()]].concat();
    let again = thread.reconcile(&stored(&ended.writes.turns, &rows), &history, 10);
    assert_eq!(again, Reconciled::default());
    // What comes behind its end is of it as well.
    assert!(!thread.turn_ended("b", TurnStatus::Completed, None, 2_000).news);
    assert!(thread.running().is_empty());
}

#[test]
fn turns_that_the_runtime_took_back_are_those_behind_what_it_has() {
    let turn = |ordinal: u32, change: &dyn Fn(&mut TurnRecord)| {
        let mut turn = TurnRecord {
            ordinal,
            id: format!("u{ordinal}"),
            status: TurnStatus::Completed,
            error: None,
            started_ms: 1,
            ended_ms: Some(2),
            ended_by_manager: false,
            rolled_back: false,
            begun_as: None,
        };
        change(&mut turn);
        turn
    };
    let turns = [
        turn(0, &|_| {}),
        turn(1, &|_| {}),
        turn(2, &|_| {}),
        turn(3, &|turn| turn.ended_by_manager = true),
        turn(4, &|turn| turn.rolled_back = true),
        turn(5, &|_| {}),
        turn(6, &|turn| turn.status = TurnStatus::InProgress),
    ];
    let gone = |has: &[&str]| -> Vec<u32> {
        let turns_of_page: Vec<Value> =
            has.iter().map(|id| json!({ "id": id, "status": "completed", "items": [] })).collect();
        let text = page(&json!(turns_of_page));
        let history = read_turns_page(&text).unwrap().turns;
        let gone = stored(&turns, &[]).taken_back(&history, 2);
        gone.iter().map(|turn| turn.ordinal).collect()
    };
    assert_eq!(gone(&["u1", "u0"]), [2, 5]);
    assert_eq!(gone(&["u2"]), [5], "what is older than the page is not known to be gone");
    assert_eq!(gone(&["new", "u1"]), [2, 5]);
    assert_eq!(gone(&["u5", "u2"]), Vec::<u32>::new());
    assert_eq!(gone(&["x", "y"]), Vec::<u32>::new(), "another history says nothing of this one");
    assert_eq!(gone(&[]), [0, 1, 2, 5]);
}

#[test]
fn the_threads_that_were_replaced_are_remembered_up_to_a_number() {
    let id = |id: &str| ThreadId::parse(id).unwrap();
    let mut record = state().record;
    let session = record.id.clone();
    record.take_runtime(id("lost"), false);
    assert_eq!((record.runtime_id(), record.replaced.len()), (&id("lost"), 0));
    record.take_runtime(id("first"), true);
    assert_eq!(record.replaced, [id("lost")]);
    let mut record = state().record;
    record.take_runtime(id("first"), true);
    assert_eq!(record.replaced.as_slice(), std::slice::from_ref(&session));
    assert_eq!(record.aliases().collect::<Vec<_>>(), [&id("first")], "its own id is no alias");
    for number in 0..200 {
        record.take_runtime(id(&format!("f{number}")), true);
    }
    assert_eq!((record.replaced.len(), record.runtime_id()), (100, &id("f199")));
    assert_eq!(record.replaced.first(), Some(&session));
    assert_eq!(record.replaced.last(), Some(&id("f198")));
}

proptest! {
    /// Memory is bounded and ordinals are unique, whatever the runtime sends.
    #[test]
    fn any_order_of_events_is_survived(
        steps in prop::collection::vec((0u8..5, 0u8..6, 0u16..700), 0..300)
    ) {
        let mut thread = state();
        for (index, (step, turn, number)) in steps.into_iter().enumerate() {
            let now = index as i64;
            let turn = format!("u{turn}");
            let said = json!({"id": format!("i{number}")});
            match step {
                0 => { thread.turn_began(&turn, now); }
                1 => { thread.turn_ended(&turn, TurnStatus::Completed, None, now); }
                2 => { item(&mut thread, Some(&turn), &said, false, now); }
                3 => { item(&mut thread, None, &said, true, now); }
                _ => { thread.runtime_down("gone", now); }
            }
            prop_assert!(thread.items.is_bounded());
            prop_assert!(thread.ended.len() <= REMEMBERED_TURNS);
            for turn in thread.running() {
                prop_assert_eq!(turn.status, TurnStatus::InProgress);
            }
        }
    }
}

#[test]
fn a_turn_that_began_within_another_one_ends_with_it() {
    let mut thread = state();
    thread.turn_began("review", 1);
    thread.turn_began("another-name", 2);
    assert_eq!(thread.begun_within("another-name"), Vec::<String>::new());
    assert_eq!(thread.begun_within("unknown"), Vec::<String>::new());
    let within = thread.begun_within("review");
    assert_eq!(within, ["another-name"]);
    thread.turn_ended("review", TurnStatus::Failed, None, 3);
    let ended = thread.turn_ended_as(&within[0], "review", 3);
    assert_eq!((ended.turn.status, ended.news), (TurnStatus::Failed, true));
    assert_eq!(thread.active_turn(), None);
}
