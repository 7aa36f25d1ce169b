//! The log of events: durable frames beyond the ring, for cursors of before a restart.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use cm_core::event::FrameBatch;
use cm_core::ids::{Epoch, Seq};
use serde::{Deserialize, Serialize};

use super::messages::{History, ResetReason};
use super::record;
use super::segment::Segment;
use crate::store::{Scan, Store, StoreError, WriteBatch, keys};

/// Bytes of records that may wait for the store. Overflow rule: they are not kept, and cursors
/// from before them are told `reset`.
const MAX_WAITING: usize = 8 * 1024 * 1024;

/// Bytes of records that may be on their way. Beyond that they wait, see [`MAX_WAITING`].
const MAX_GOING: usize = 32 * 1024 * 1024;

/// Part of the log that is removed at once when it is full.
const TRIMMED_PART: u64 = 8;

/// What is stored about the log as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogMeta {
    /// Bytes of all records.
    pub(super) bytes: u64,
    /// Everything durable behind this number is in the log.
    pub(super) from: Seq,
}

/// The log, as the journal sees it.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) meta: LogMeta,
    /// Bytes that the log may have.
    capacity: u64,
    waiting: WriteBatch,
    waiting_bytes: usize,
    /// Staged publications that go with the next write, because they were shown.
    shown: Vec<Bytes>,
    /// The writes that are on their way, oldest first.
    going: VecDeque<Going>,
    going_bytes: usize,
    /// The number of the last frame whose record waits.
    waiting_upto: Option<Seq>,
    /// The number of the last frame whose record was given to the store.
    given_upto: Seq,
    /// Whether the oldest records are being looked for.
    pub(super) trimming: bool,
    /// Whether the last write failed.
    failing: bool,
    /// Records behind this number may not be on the disk yet.
    pub(super) written_upto: Seq,
}

/// A write that is on its way.
#[derive(Debug, Default)]
struct Going {
    /// Staged publications that it removes.
    shown: Vec<Bytes>,
    bytes: usize,
}

impl Log {
    /// An empty log that may have so many bytes.
    pub(super) fn new(capacity: u64) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Adds the durable frames of a publication. `staged` is the key under which they were stored
    /// with the change that they tell of; it goes when they are in the log.
    pub(super) fn add(&mut self, batch: &FrameBatch, first: Seq, staged: Option<Bytes>) {
        let mut next = first.0;
        let mut numbers = || {
            next += 1;
            Seq(next - 1)
        };
        if batch.is_durable() {
            let record = record::encode(batch, &mut numbers);
            let last = Seq((first.0 + batch.len() as u64).saturating_sub(1));
            if self.waiting_bytes + record.len() > MAX_WAITING {
                tracing::error!("events are not kept: the store does not keep up");
                self.lose(last);
            } else {
                self.waiting_bytes += record.len();
                let key = keys::event(last);
                self.meta.bytes += (key.len() + record.len()) as u64;
                self.waiting_upto = Some(last);
                self.waiting.put(key, record);
            }
        }
        // Whether it is kept or not: it was shown, and is not to be shown again at a start.
        if let Some(staged) = staged {
            self.shown.push(staged.clone());
            self.waiting.remove(staged.to_vec());
        }
    }

    /// Frames up to a number are not in the log and never will be.
    pub(super) fn lose(&mut self, upto: Seq) {
        self.meta.from = self.meta.from.max(upto);
    }

    /// What is still to be written at the end.
    pub(super) fn last_write(&mut self) -> Option<WriteBatch> {
        self.take_write().map(|(batch, _)| batch)
    }

    /// What is to be written now, with the number up to which the log is written with it.
    pub(super) fn next_write(&mut self) -> Option<(WriteBatch, Seq)> {
        if self.going_bytes > MAX_GOING {
            return None;
        }
        self.take_write()
    }

    fn take_write(&mut self) -> Option<(WriteBatch, Seq)> {
        if self.waiting.is_empty() {
            return None;
        }
        let upto = self.waiting_upto.take().unwrap_or(self.given_upto);
        self.given_upto = self.given_upto.max(upto);
        let mut batch = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        // Numbers always encode.
        batch.put(keys::LOG.to_vec(), serde_json::to_vec(&self.meta).unwrap_or_default());
        let going = Going { shown: std::mem::take(&mut self.shown), bytes: batch.bytes() };
        self.going_bytes += going.bytes;
        self.going.push_back(going);
        Some((batch, upto))
    }

    /// The store had no room for a write.
    pub(super) fn put_back(&mut self, mut batch: WriteBatch, upto: Seq) {
        let Going { shown, bytes } = self.going.pop_back().unwrap_or_default();
        self.going_bytes -= bytes;
        self.shown.extend(shown);
        batch.extend(std::mem::take(&mut self.waiting));
        self.waiting_bytes = batch.bytes();
        self.waiting = batch;
        self.waiting_upto = Some(self.waiting_upto.unwrap_or(upto));
    }

    /// A write ended.
    pub(super) fn wrote(&mut self, upto: Seq, result: &Result<(), StoreError>) {
        let Going { shown, bytes } = self.going.pop_front().unwrap_or_default();
        self.going_bytes -= bytes;
        match result {
            Ok(()) => self.failing = false,
            Err(error) => {
                // Once per failure, not per write: a full disk stays full for a while.
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "events are not kept until the store works again");
                }
                self.lose(upto);
                for staged in shown {
                    self.waiting.remove(staged.to_vec());
                    self.shown.push(staged);
                }
            }
        }
        self.written_upto = self.written_upto.max(upto);
    }

    /// Whether nothing waits and nothing is on its way.
    pub(super) fn is_written(&self) -> bool {
        self.going.is_empty() && self.waiting.is_empty()
    }

    /// How many bytes of the oldest records are to go.
    pub(super) fn surplus(&self) -> Option<u64> {
        let full = self.meta.bytes > self.capacity && !self.trimming;
        full.then(|| self.meta.bytes - self.capacity + self.capacity / TRIMMED_PART)
    }

    /// Removes the oldest records.
    pub(super) fn trim(&mut self, oldest: Vec<(Vec<u8>, usize)>) {
        for (key, bytes) in oldest {
            if let Some(seq) = keys::event_seq(&key) {
                self.lose(seq);
            }
            self.meta.bytes = self.meta.bytes.saturating_sub(bytes as u64);
            self.waiting.remove(key);
        }
    }
}

/// The keys of the oldest records, and how many bytes each has.
pub(super) fn oldest(store: &dyn Store, bytes: u64) -> Result<Vec<(Vec<u8>, usize)>, StoreError> {
    let max_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let rows = store.scan(&Scan::prefix(keys::events()).max_bytes(max_bytes))?;
    Ok(rows
        .into_iter()
        .map(|(key, value)| {
            let bytes = key.len() + value.len();
            (key, bytes)
        })
        .collect())
}

/// Reads what the log has behind a number, up to another one or to about `max_bytes`.
pub(super) fn read(
    store: &dyn Store,
    epoch: &Epoch,
    after: Seq,
    upto: Seq,
    max_bytes: usize,
) -> Result<History, StoreError> {
    let scan = Scan::prefix(keys::events()).after(keys::event(after)).max_bytes(max_bytes);
    let rows = store.scan(&scan)?;
    let bytes: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
    let mut segments = Vec::with_capacity(rows.len());
    let mut reached = after;
    for (key, value) in &rows {
        let Some(last) = keys::event_seq(key).filter(|last| *last <= upto) else { continue };
        let Ok((batch, numbers)) = record::decode(value) else {
            tracing::error!(key = keys::readable(key), "a record of the log is damaged");
            return Ok(History::Reset { reason: ResetReason::Damaged });
        };
        let mut numbers = numbers.into_iter();
        let next = || numbers.next().unwrap_or(last);
        // What came before the first restart has no place in the ring's count of bytes.
        segments.push(Arc::new(Segment::encode(&batch, epoch, reached, 0, next)));
        reached = last;
    }
    // A page that was not cut off by its size holds everything up to the end.
    let upto = if bytes < max_bytes { upto } else { reached };
    Ok(History::Frames { segments, upto })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use cm_core::event::{Audience, Durability};

    fn batch(durability: Durability) -> FrameBatch {
        let mut batch = FrameBatch::default();
        batch.push("x", &Audience::Everyone, None, durability, &"payload").unwrap();
        batch
    }

    fn epoch() -> Epoch {
        Epoch::parse("e").unwrap()
    }

    fn frames(history: &History) -> usize {
        let History::Frames { segments, .. } = history else { panic!("{history:?}") };
        segments.iter().map(|segment| segment.len()).sum()
    }

    #[test]
    fn what_was_added_is_read_in_pages() {
        let store = MemoryStore::default();
        let mut log = Log::new(1 << 20);
        for seq in 1..=20 {
            let durability =
                if seq % 2 == 0 { Durability::Recorded } else { Durability::Ephemeral };
            log.add(&batch(durability), Seq(seq), None);
        }
        let (write, upto) = log.next_write().unwrap();
        assert_eq!(upto, Seq(20));
        assert!(log.next_write().is_none() && !log.is_written());
        store.commit(&[write]).unwrap();
        log.wrote(upto, &Ok(()));
        assert!(log.is_written());
        let all = read(&store, &epoch(), Seq(0), Seq(20), usize::MAX).unwrap();
        assert_eq!(frames(&all), 10);
        let mut reached = Seq(3);
        let mut found = 0;
        while reached < Seq(20) {
            let page = read(&store, &epoch(), reached, Seq(20), 100).unwrap();
            found += frames(&page);
            let History::Frames { upto, .. } = page else { panic!() };
            assert!(upto > reached);
            reached = upto;
        }
        assert_eq!(found, 9, "frame 4 is the first behind 3");
    }

    #[test]
    fn what_cannot_be_kept_is_remembered_as_lost() {
        let mut log = Log::new(1 << 20);
        log.add(&batch(Durability::Recorded), Seq(5), None);
        let (_, upto) = log.next_write().unwrap();
        log.wrote(upto, &Err(StoreError::Unavailable));
        assert_eq!(log.meta.from, Seq(5));
        log.add(&batch(Durability::Recorded), Seq(6), None);
        let (write, _) = log.next_write().unwrap();
        let meta = write.entries.iter().find(|(key, _)| key == keys::LOG).unwrap();
        let meta: LogMeta = serde_json::from_slice(&meta.1.as_ref().unwrap().to_vec()).unwrap();
        assert_eq!(meta.from, Seq(5), "the next write says so durably");
    }

    #[test]
    fn the_oldest_go_when_the_log_is_full() {
        let store = MemoryStore::default();
        let mut log = Log::new(500);
        for seq in 1..=20 {
            log.add(&batch(Durability::Recorded), Seq(seq), None);
        }
        let (write, upto) = log.next_write().unwrap();
        store.commit(&[write]).unwrap();
        log.wrote(upto, &Ok(()));
        let surplus = log.surplus().unwrap();
        log.trim(oldest(&store, surplus).unwrap());
        assert!(log.meta.bytes <= 500 && log.meta.from > Seq(1), "{:?}", log.meta);
        let (write, upto) = log.next_write().unwrap();
        store.commit(&[write]).unwrap();
        log.wrote(upto, &Ok(()));
        let left = read(&store, &epoch(), log.meta.from, Seq(20), usize::MAX).unwrap();
        assert_eq!(frames(&left) as u64, 20 - log.meta.from.0);
    }
}
