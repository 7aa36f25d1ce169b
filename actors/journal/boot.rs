//! What the journal starts from: its numbers, and what the log says of the life before.

use bytes::Bytes;
use cm_core::event::FrameBatch;
use cm_core::ids::{Epoch, Seq};

use super::log::LogMeta;
use super::record;
use super::uncertain::Uncertain;
use crate::store::{Scan, StoreError, StoreHandle, WriteBatch, keys};

/// How many numbers are reserved on the disk at once.
pub(super) const BLOCK: u64 = 1_000_000;

/// Staged publications that one start takes up at the most. There are as many as could be under
/// way at the moment of a crash.
const MAX_STAGED: usize = 10_000;

/// What the store says about numbers, after reserving a block.
#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) epoch: Epoch,
    /// Numbers above this one are ours.
    pub(super) above: Seq,
    /// Numbers up to this one are ours.
    pub(super) upto: Seq,
}

/// What the journal starts from.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) numbers: Reservation,
    pub(super) log: LogMeta,
    /// The last number of the lives before up to which the log is known to be complete.
    pub(super) certain: Seq,
    /// What the lives before did not keep.
    pub(super) uncertain: Uncertain,
    /// Publications that were stored with the changes that they tell of and never made it into
    /// the log.
    pub(super) staged: Vec<(Bytes, FrameBatch)>,
}

fn damaged(key: &[u8], why: impl ToString) -> StoreError {
    StoreError::Record { key: keys::readable(key), why: why.to_string() }
}

fn number(key: &[u8], bytes: &[u8]) -> Result<Seq, StoreError> {
    let bytes = <[u8; 8]>::try_from(bytes).map_err(|error| damaged(key, error))?;
    Ok(Seq(u64::from_be_bytes(bytes)))
}

/// Reads epoch and numbers, and adds the reservation of the next block to a batch.
async fn next_block(
    store: &StoreHandle,
    batch: &mut WriteBatch,
) -> Result<Reservation, StoreError> {
    let (epoch, above) =
        store.read(|store| Ok((store.get(keys::EPOCH)?, store.get(keys::SEQ_RESERVED)?))).await?;
    let epoch = match epoch {
        Some(bytes) => Epoch::parse(&String::from_utf8_lossy(&bytes))
            .map_err(|error| damaged(keys::EPOCH, error))?,
        None => {
            let epoch = Epoch::from_random(rand::random());
            batch.put(keys::EPOCH.to_vec(), epoch.as_str().as_bytes().to_vec());
            epoch
        }
    };
    let above = match above {
        Some(bytes) => number(keys::SEQ_RESERVED, &bytes)?,
        None => Seq(0),
    };
    let upto = Seq(above.0.saturating_add(BLOCK));
    batch.put(keys::SEQ_RESERVED.to_vec(), upto.0.to_be_bytes().to_vec());
    Ok(Reservation { epoch, above, upto })
}

/// Reserves the next block durably.
pub(super) async fn reserve(store: StoreHandle) -> Result<Reservation, StoreError> {
    let mut batch = WriteBatch::default();
    let reservation = next_block(&store, &mut batch).await?;
    store.commit(batch).await?;
    Ok(reservation)
}

/// Reads everything that a new life of the journal starts from, and reserves its first block.
pub(super) async fn begin(store: StoreHandle) -> Result<Origin, StoreError> {
    let (log, clean, uncertain, last, staged) = store
        .read(|store| {
            let last = store.scan(&Scan::prefix(keys::events()).reversed().limit(1))?;
            let staged = store.scan(&Scan::prefix(keys::staged_all()).limit(MAX_STAGED))?;
            let uncertain = store.get(keys::LOG_UNCERTAIN)?;
            Ok((store.get(keys::LOG)?, store.get(keys::LOG_END)?, uncertain, last, staged))
        })
        .await?;
    let log: LogMeta = match log {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| damaged(keys::LOG, error))?,
        None => LogMeta::default(),
    };
    let last = last.first().and_then(|(key, _)| keys::event_seq(key)).unwrap_or(log.from);
    let is_clean = clean.is_some();
    let certain = match clean {
        Some(bytes) => number(keys::LOG_END, &bytes)?,
        None => last,
    };
    let mut found = Vec::with_capacity(staged.len());
    let mut batch = WriteBatch::default();
    for (key, value) in staged {
        match record::decode(&value) {
            Ok((frames, _)) => found.push((Bytes::from(key), frames)),
            Err(error) => {
                tracing::error!(key = keys::readable(&key), %error, "staged events are lost");
                batch.remove(key);
            }
        }
    }
    let numbers = next_block(&store, &mut batch).await?;
    let mut uncertain: Uncertain = match uncertain {
        Some(bytes) => {
            serde_json::from_slice(&bytes).map_err(|error| damaged(keys::LOG_UNCERTAIN, error))?
        }
        None => Uncertain::default(),
    };
    uncertain.forget(log.from);
    if !is_clean {
        uncertain.add(certain, numbers.above);
    }
    // Plain numbers always encode.
    let encoded = serde_json::to_vec(&uncertain).unwrap_or_default();
    batch.put(keys::LOG_UNCERTAIN.to_vec(), encoded);
    // From now on an end without order leaves no word of a clean one.
    batch.remove(keys::LOG_END.to_vec());
    store.commit(batch).await?;
    Ok(Origin { numbers, log, certain, uncertain, staged: found })
}
