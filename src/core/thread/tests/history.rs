//! Comparisons of long histories: nothing is ever there twice.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::*;
use super::{CAP, state};

/// A turn as it is stored: whether the manager ended it, how many of its items are stored, and how
/// many the runtime has.
type Turn = (bool, usize, usize);

/// A thread of which all this is stored.
fn thread(turns: &[Turn]) -> (ThreadState, Vec<TurnRecord>, Vec<ItemRecord>) {
    let mut record = state().record;
    let (mut stored, mut items) = (Vec::new(), Vec::new());
    for (number, (by_manager, kept, _)) in turns.iter().enumerate() {
        stored.push(TurnRecord {
            ordinal: record.next_turn,
            id: format!("u{number}"),
            status: if *by_manager { TurnStatus::Interrupted } else { TurnStatus::Completed },
            error: None,
            started_ms: 1,
            ended_ms: Some(2),
            ended_by_manager: *by_manager,
            rolled_back: false,
            begun_as: None,
        });
        record.next_turn += 1;
        for item in 0..*kept {
            items.push(ItemRecord {
                ordinal: record.next_row,
                turn_id: format!("u{number}"),
                id: format!("i{item}"),
                kind: "agentMessage".to_owned(),
                state: ItemState::Completed,
                started_ms: Some(1),
                ended_ms: Some(2),
                bytes: 10,
                digest: None,
            });
            record.next_row += 1;
        }
    }
    (ThreadState::new(record, stored.clone(), Vec::new(), CAP), stored, items)
}

/// What the runtime has: the same turns, and new ones behind them.
fn history(turns: &[Turn], new: usize) -> Vec<Value> {
    let said = |count: usize| -> Vec<Value> {
        (0..count).map(|item| json!({ "id": format!("i{item}"), "type": "agentMessage" })).collect()
    };
    let known = turns.iter().enumerate().map(|(number, (_, _, has))| {
        json!({ "id": format!("u{number}"), "status": "completed", "items": said(*has) })
    });
    let new = (0..new).map(
        |number| json!({ "id": format!("n{number}"), "status": "completed", "items": said(2) }),
    );
    let mut all: Vec<Value> = known.chain(new).collect();
    all.reverse();
    all
}

/// What is read of the store where there is a bound to turns and items.
fn read(
    turns: &[TurnRecord],
    items: &[ItemRecord],
    most_turns: usize,
    most_items: usize,
) -> StoredHistory {
    let turns = &turns[turns.len().saturating_sub(most_turns)..];
    let from = items.len().saturating_sub(most_items);
    let wanted = |item: &&ItemRecord| {
        turns.iter().any(|turn| turn.id == item.turn_id && turn.ended_by_manager)
    };
    StoredHistory {
        turns: turns.to_vec(),
        more_turns: turns.len() == most_turns,
        items: items[from..].iter().filter(wanted).cloned().collect(),
        oldest_item_of: items.get(from).map(|item| item.turn_id.clone()),
        more_items: from > 0,
    }
}

fn compare(thread: &mut ThreadState, stored: &StoredHistory, history: &[Value]) -> Reconciled {
    let page = json!({ "data": history, "nextCursor": null }).to_string();
    let turns = read_turns_page(&page).unwrap().turns;
    thread.reconcile(stored, &turns, 9)
}

proptest! {
    /// However much is stored and however little of it is read, no stored turn counts as new and no
    /// row is there twice; what is new is added once, also where a turn is on two pages.
    #[test]
    fn nothing_is_ever_there_twice(
        turns in prop::collection::vec((any::<bool>(), 0usize..4, 0usize..5), 1..60),
        new in 0usize..6,
        most_turns in 1usize..80,
        most_items in 0usize..160,
        twice in any::<bool>(),
    ) {
        let (mut thread, stored, mut items) = thread(&turns);
        let mut told = history(&turns, new);
        if twice {
            told.extend(told.clone());
        }
        let known = read(&stored, &items, most_turns, most_items);
        let reconciled = compare(&mut thread, &known, &told);
        let expected: Vec<String> = (0..new).map(|number| format!("n{number}")).collect();
        prop_assert_eq!(&reconciled.added, &expected);
        for write in &reconciled.writes.items {
            items.retain(|item| item.ordinal != write.record.ordinal);
            items.push(write.record.clone());
        }
        let rows: BTreeSet<(&str, &str)> =
            items.iter().map(|item| (item.turn_id.as_str(), item.id.as_str())).collect();
        prop_assert_eq!(rows.len(), items.len(), "a row is there twice");
        // Where everything is read, everything that was missing is there.
        if most_turns > turns.len() && most_items >= items.len() {
            for (number, (by_manager, kept, has)) in turns.iter().enumerate() {
                let of_turn = items.iter().filter(|item| item.turn_id == format!("u{number}"));
                let most = if *by_manager { *kept.max(has) } else { *kept };
                prop_assert_eq!(of_turn.count(), most);
            }
        }
    }
}

#[test]
fn items_that_are_no_longer_kept_do_not_come_back() {
    let turns: Vec<Turn> = vec![(true, 3, 3); 8];
    let (mut thread, stored, items) = thread(&turns);
    // Of the first turns nothing is kept, of the fourth one the end only.
    for item in &items {
        thread.record.kept.count(item.ordinal, 0, 100, 1_300);
    }
    thread.record.kept.trim(1_300);
    let first = usize::try_from(thread.record.kept.first_row()).unwrap();
    assert!(first > 0, "{:?}", thread.record.kept);
    let known = read(&stored, &items[first..], usize::MAX, usize::MAX);
    let reconciled = compare(&mut thread, &known, &history(&turns, 1));
    assert_eq!((reconciled.added, reconciled.items), (vec!["n0".to_owned()], 2));
}

#[test]
fn a_turn_that_was_known_to_be_over_is_not_corrected_and_is_compared_once() {
    let (mut thread, mut stored, items) = thread(&[(true, 1, 2)]);
    stored[0].status = TurnStatus::Completed;
    let told = history(&[(true, 1, 2)], 0);
    let first = compare(&mut thread, &read(&stored, &items, 9, 9), &told);
    assert_eq!((first.corrected.len(), first.items), (0, 1));
    let again = compare(&mut thread, &read(&first.writes.turns, &items, 9, 9), &told);
    assert_eq!(again, Reconciled::default());
}
