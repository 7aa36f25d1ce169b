//! Copying a thread's history to another thread.

use std::ops::Range;

use bytes::Bytes;
use cm_core::ids::ThreadId;
use cm_core::thread::{ItemRecord, ItemState, ItemWrite, TurnRecord, TurnStatus};

use super::backend::{Store, StoreError};
use super::batch::WriteBatch;
use super::keys;
use super::records::{PAGE_BYTES, decode, put_item, put_turn};
use super::scan::Scan;
use super::transcript::read_turns;

/// A history that is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedHistory {
    /// Whose.
    pub source: ThreadId,
    /// To whom.
    pub copy: ThreadId,
    /// Turns before this ordinal.
    pub turns: u32,
    /// Rows.
    pub rows: Range<u64>,
}

/// A page of a copy.
#[derive(Debug)]
pub struct CopiedPage {
    /// What is to be written.
    pub batch: WriteBatch,
    /// Where the next page begins; `None` at the end.
    pub after: Option<Vec<u8>>,
}

/// Reads a page of a history as it is to be written for the copy; the first one has the turns. What
/// runs in the source ends in the copy, and turns that were taken back are left out.
///
/// # Errors
///
/// [`StoreError`].
pub fn copy_history(
    store: &dyn Store,
    history: &CopiedHistory,
    after: Option<Vec<u8>>,
) -> Result<CopiedPage, StoreError> {
    let CopiedHistory { source, copy, turns: end, rows } = history;
    let turns: Vec<TurnRecord> = read_turns(store, source)?;
    let is_copied = |turn: &&TurnRecord| turn.ordinal < *end && !turn.rolled_back;
    let mut batch = WriteBatch::default();
    if after.is_none() {
        for turn in turns.iter().filter(is_copied) {
            let mut turn = turn.clone();
            if turn.status == TurnStatus::InProgress {
                turn.status = TurnStatus::Interrupted;
                turn.ended_ms = Some(turn.started_ms);
            }
            put_turn(&mut batch, copy, &turn)?;
        }
    }
    let mut scan = Scan::prefix(keys::items(source)).max_bytes(PAGE_BYTES);
    scan.after = after;
    let page = store.scan(&scan)?;
    let mut last = None;
    for (key, value) in page {
        let mut record: ItemRecord = decode(&key, &value)?;
        if record.ordinal >= rows.end {
            return Ok(CopiedPage { batch, after: None });
        }
        let is_gone = turns.iter().any(|turn| turn.rolled_back && turn.id == record.turn_id);
        last = Some(key);
        if record.ordinal < rows.start || is_gone {
            continue;
        }
        if record.state == ItemState::Open {
            record.state = ItemState::Discarded;
        }
        let body = store.get(&keys::body(source, record.ordinal))?.map(Bytes::from);
        put_item(&mut batch, copy, ItemWrite { record, body })?;
        if batch.bytes() >= PAGE_BYTES {
            break;
        }
    }
    Ok(CopiedPage { batch, after: last })
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryStore, read_item, read_latest_items};
    use super::*;

    fn turn(ordinal: u32, status: TurnStatus, rolled_back: bool) -> TurnRecord {
        TurnRecord {
            ordinal,
            id: format!("u{ordinal}"),
            status,
            error: None,
            started_ms: 1,
            ended_ms: None,
            ended_by_manager: false,
            rolled_back,
            begun_as: None,
        }
    }

    fn item(ordinal: u64, turn: u32, state: ItemState) -> ItemRecord {
        ItemRecord {
            ordinal,
            turn_id: format!("u{turn}"),
            id: format!("i{ordinal}"),
            kind: "plan".to_owned(),
            state,
            started_ms: None,
            ended_ms: None,
            bytes: 1,
            digest: None,
        }
    }

    #[test]
    fn a_history_is_copied_page_by_page_as_far_as_it_is_there() {
        let (source, copy) = (ThreadId::parse("s").unwrap(), ThreadId::parse("c").unwrap());
        let store = MemoryStore::default();
        let mut batch = WriteBatch::default();
        let turns = [
            turn(0, TurnStatus::Completed, false),
            turn(1, TurnStatus::Completed, true),
            turn(2, TurnStatus::InProgress, false),
            turn(3, TurnStatus::Completed, false),
        ];
        for turn in &turns {
            put_turn(&mut batch, &source, turn).unwrap();
        }
        let long = Bytes::from(vec![b'7'; PAGE_BYTES]);
        for (ordinal, of_turn) in [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 2), (6, 3)] {
            let state = if ordinal == 5 { ItemState::Open } else { ItemState::Completed };
            let body = Some(if ordinal == 2 { long.clone() } else { Bytes::from_static(b"1") });
            let record = item(ordinal, of_turn, state);
            put_item(&mut batch, &source, ItemWrite { record, body }).unwrap();
        }
        store.commit(&[batch]).unwrap();
        let history = CopiedHistory { source, copy: copy.clone(), turns: 3, rows: 1..6 };
        let (mut after, mut pages) = (None, 0);
        loop {
            let page = copy_history(&store, &history, after).unwrap();
            store.commit(&[page.batch]).unwrap();
            pages += 1;
            after = page.after;
            if after.is_none() {
                break;
            }
        }
        assert!(pages > 1, "a long history is copied in pieces");
        let copied: Vec<_> =
            read_turns(&store, &copy).unwrap().into_iter().map(|t| (t.ordinal, t.status)).collect();
        assert_eq!(copied, [(0, TurnStatus::Completed), (2, TurnStatus::Interrupted)]);
        let seen = read_latest_items(&store, &copy, usize::MAX).unwrap();
        let seen: Vec<_> = seen.iter().map(|record| (record.ordinal, record.state)).collect();
        let done = ItemState::Completed;
        assert_eq!(seen, [(1, done), (2, done), (4, done), (5, ItemState::Discarded)]);
        assert_eq!(read_item(&store, &copy, "i2").unwrap().as_deref(), Some(&long[..]));
    }
}
