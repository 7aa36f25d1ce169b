//! What the store has of a thread, to compare the runtime's history with.

use std::collections::HashSet;

use cm_core::ids::ThreadId;
use cm_core::thread::{ItemRecord, StoredHistory, TurnRecord, TurnStatus};

use super::backend::{Store, StoreError};
use super::keys;
use super::records::{decode, read_latest_turns};
use super::scan::Scan;

/// Turns that are read of a thread: all of nearly every one. Overflow rule: what the history has
/// before them is not compared.
const MOST_TURNS: usize = 100_000;

/// Items that are looked at, from the newest on; those of turns that the manager ended are kept.
/// Overflow rule: turns of which there may be more get no items.
const MOST_ITEMS: usize = 100_000;

/// Items that are read at once.
const PAGE: usize = 1_024;

/// Reads the ids of the turns of a thread whose end was seen as it happened, or compared.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_ended_turns(store: &dyn Store, id: &ThreadId) -> Result<HashSet<String>, StoreError> {
    let turns = read_latest_turns(store, id, MOST_TURNS)?;
    let ended = turns.into_iter().filter(|turn| is_over(turn) && !turn.ended_by_manager);
    Ok(ended.map(|turn| turn.id).collect())
}

/// Reads what the runtime's history is compared with.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_history(store: &dyn Store, id: &ThreadId) -> Result<StoredHistory, StoreError> {
    read_bounded(store, id, MOST_TURNS, MOST_ITEMS)
}

fn is_over(turn: &TurnRecord) -> bool {
    turn.status != TurnStatus::InProgress
}

fn read_bounded(
    store: &dyn Store,
    id: &ThreadId,
    most_turns: usize,
    most_items: usize,
) -> Result<StoredHistory, StoreError> {
    let turns = read_latest_turns(store, id, most_turns)?;
    let wanted: HashSet<&str> =
        turns.iter().filter(|turn| turn.ended_by_manager).map(|turn| turn.id.as_str()).collect();
    let mut items: Vec<ItemRecord> = Vec::new();
    let mut oldest_item_of = None;
    let mut looked_at = 0;
    let mut more_items = false;
    let mut scan = Scan::prefix(keys::items(id)).reversed();
    while !wanted.is_empty() {
        scan.limit = PAGE.min(most_items - looked_at);
        if scan.limit == 0 {
            more_items = true;
            break;
        }
        let page = store.scan(&scan)?;
        let Some((last, _)) = page.last() else { break };
        scan.after = Some(last.clone());
        looked_at += page.len();
        for (key, value) in &page {
            let item: ItemRecord = decode(key, value)?;
            oldest_item_of = Some(item.turn_id.clone());
            if wanted.contains(item.turn_id.as_str()) {
                items.push(item);
            }
        }
    }
    items.reverse();
    let more_turns = turns.len() == most_turns;
    Ok(StoredHistory { turns, more_turns, items, oldest_item_of, more_items })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, WriteBatch};
    use cm_core::thread::{ItemState, ItemWrite};

    fn stored() -> (MemoryStore, ThreadId) {
        let id = ThreadId::parse("t").unwrap();
        let mut batch = WriteBatch::default();
        for number in 0..20_u32 {
            let turn = TurnRecord {
                ordinal: number,
                id: format!("u{number}"),
                status: TurnStatus::Interrupted,
                error: None,
                started_ms: 1,
                ended_ms: None,
                ended_by_manager: number % 2 == 0,
                rolled_back: false,
                begun_as: None,
            };
            super::super::put_turn(&mut batch, &id, &turn).unwrap();
            for item in 0..200 {
                let item = ItemRecord {
                    ordinal: u64::from(number) * 200 + item,
                    turn_id: turn.id.clone(),
                    id: format!("i{item}"),
                    kind: "plan".to_owned(),
                    state: ItemState::Completed,
                    started_ms: None,
                    ended_ms: None,
                    bytes: 0,
                    digest: None,
                };
                super::super::put_item(&mut batch, &id, ItemWrite { record: item, body: None })
                    .unwrap();
            }
        }
        let store = MemoryStore::default();
        store.commit(&[batch]).unwrap();
        (store, id)
    }

    #[test]
    fn all_items_of_turns_that_the_manager_ended_are_read() {
        let (store, id) = stored();
        let read = read_history(&store, &id).unwrap();
        assert_eq!((read.turns.len(), read.items.len()), (20, 2_000));
        assert!(read.items.is_sorted_by_key(|item| item.ordinal));
        assert!(!read.more_turns && !read.more_items);
        assert_eq!(read_ended_turns(&store, &id).unwrap().len(), 10);
    }

    #[test]
    fn what_is_not_read_is_told() {
        let (store, id) = stored();
        let read = read_bounded(&store, &id, 5, 300).unwrap();
        assert_eq!((read.turns.len(), read.more_turns), (5, true));
        assert_eq!((read.items.len(), read.more_items), (100, true));
        assert_eq!(read.oldest_item_of.as_deref(), Some("u18"));
    }
}
