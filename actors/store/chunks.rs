//! Long values in chunks.
//!
//! The chunks of a value are written before its root, in batches of bounded size, and marked as
//! loose until the batch with the root takes the mark away. A value that is replaced or removed has
//! its chunks marked in that same batch, and they are removed later. So whenever the process ends,
//! every chunk belongs to a root or to a mark, and the next start goes on where this one ended.

use super::batch::StoreValue;
use super::engine::{Changes, Engine, EngineError};
use super::envelope::{self, Damage, MAX_PAYLOAD, MAX_STORED, Opened, Root};
use super::keys;
use super::scan::Scan;
use super::writing::{Writing, loose_mark};

/// Chunks that are written or removed in one go: 256 KiB, so that neither the memory for them nor
/// the time for which reads wait grows with the value.
const SLICE: usize = (256 << 10) / MAX_STORED;

/// Writes the chunks of a value. They are visible and durable with the batch that follows, in which
/// the caller puts the root and removes the mark.
pub(super) fn write<E: Engine>(
    engine: &E,
    writing: &mut Writing,
    value: &StoreValue,
) -> Result<Root, EngineError> {
    let generation = writing.new_generation();
    let root = Root { generation, bytes: value.len() as u64 };
    let mut slice: Changes = vec![(keys::loose(generation), Some(loose_mark(generation)))];
    for (index, pieces) in (0_u64..).zip(cut(value)) {
        let key = keys::chunk(generation, index);
        let stored = envelope::chunk(&key, pieces.iter().copied());
        slice.push((key, Some(stored)));
        if slice.len() >= SLICE {
            engine.apply(std::mem::take(&mut slice))?;
            // What is not flushed stays in memory.
            engine.flush()?;
        }
    }
    engine.apply(slice)?;
    engine.flush()?;
    Ok(root)
}

/// Reads the chunks of a value and puts them together.
pub(super) fn read<E: Engine>(
    engine: &E,
    root: Root,
) -> Result<Result<Vec<u8>, Damage>, EngineError> {
    let mut value = Vec::with_capacity(usize::try_from(root.bytes).unwrap_or_default());
    let mut wanted = 0;
    let mut scan = Scan::prefix(keys::chunks_of(root.generation)).limit(SLICE);
    while wanted < root.chunks() {
        let page = engine.page(&scan)?;
        let Some((last, _)) = page.last() else {
            return Ok(Err(Damage::Missing(wanted)));
        };
        scan.after = Some(last.clone());
        for (key, stored) in page {
            if key != keys::chunk(root.generation, wanted) {
                return Ok(Err(Damage::Missing(wanted)));
            }
            match envelope::open(&key, &stored) {
                Ok(Opened::Chunk(payload)) => value.extend_from_slice(payload),
                Ok(_) => return Ok(Err(Damage::Missing(wanted))),
                Err(damage) => return Ok(Err(damage)),
            }
            wanted += 1;
        }
    }
    if value.len() as u64 != root.bytes {
        return Ok(Err(Damage::Missing(wanted)));
    }
    Ok(Ok(value))
}

/// Removes some chunks of a generation, and its mark when none is left; says whether that is so.
///
/// Nothing is flushed: what is lost with the process is removed by the next one.
pub(super) fn remove_some<E: Engine>(engine: &E, generation: u64) -> Result<bool, EngineError> {
    let chunks = engine.page(&Scan::prefix(keys::chunks_of(generation)).limit(SLICE))?;
    let done = chunks.len() < SLICE;
    let mut changes: Changes = chunks.into_iter().map(|(key, _)| (key, None)).collect();
    if done {
        changes.push((keys::loose(generation), None));
    }
    engine.apply(changes)?;
    Ok(done)
}

/// A value in pieces as slices, cut to what one chunk takes.
fn cut(value: &StoreValue) -> impl Iterator<Item = Vec<&[u8]>> {
    let mut pieces = value.pieces().iter().map(|piece| &piece[..]).filter(|p| !p.is_empty());
    let mut rest: &[u8] = &[];
    std::iter::from_fn(move || {
        let mut chunk = Vec::new();
        let mut room = MAX_PAYLOAD;
        while room > 0 {
            if rest.is_empty() {
                match pieces.next() {
                    Some(next) => rest = next,
                    None => break,
                }
            }
            let (taken, left) = rest.split_at(rest.len().min(room));
            room -= taken.len();
            rest = left;
            chunk.push(taken);
        }
        (!chunk.is_empty()).then_some(chunk)
    })
}
