//! What only the writer of a store knows.

use std::collections::{BTreeSet, VecDeque};

use super::engine::{Engine, EngineError};
use super::envelope::{self, Opened};
use super::keys;
use super::layered::PAGE_KEYS;
use super::scan::Scan;

/// What only the writer knows.
#[derive(Default)]
pub(super) struct Writing {
    /// Number that the chunks of the next long value get.
    pub(super) next_generation: u64,
    /// Chunks that belong to nothing and can be removed, oldest first.
    pub(super) loose: VecDeque<u64>,
    /// Number of the last group.
    pub(super) commits: u64,
    /// Whether the last sync failed.
    pub(super) unsynced: bool,
    /// Keys written since an export began; `None` when none runs.
    pub(super) touched: Option<BTreeSet<Vec<u8>>>,
}

impl Writing {
    pub(super) fn read<E: Engine>(engine: &E) -> Result<Self, EngineError> {
        let last = engine.page(&Scan::prefix(keys::CHUNKS).reversed().limit(1))?;
        let last = last.first().and_then(|(key, _)| keys::generation(key));
        let mut loose = VecDeque::new();
        let mut scan = Scan::prefix(keys::LOOSE).limit(PAGE_KEYS);
        loop {
            let page = engine.page(&scan)?;
            let Some((key, _)) = page.last() else { break };
            scan.after = Some(key.clone());
            loose.extend(page.iter().filter_map(|(key, _)| keys::generation(key)));
        }
        let marked = loose.iter().copied().max();
        let commits = match engine.get(keys::COMMIT)? {
            None => 0,
            Some(stored) => match envelope::open(keys::COMMIT, &stored) {
                Ok(Opened::Inline(payload)) => payload
                    .first_chunk::<8>()
                    .map(|bytes| u64::from_be_bytes(*bytes))
                    .ok_or_else(|| EngineError::Damaged("its counter is too short".to_owned()))?,
                Ok(_) => return Err(EngineError::Damaged("its counter is no number".to_owned())),
                Err(damage) => return Err(EngineError::Damaged(damage.to_string())),
            },
        };
        Ok(Self {
            next_generation: last.max(marked).map_or(0, |last| last.saturating_add(1)),
            loose,
            commits,
            ..Self::default()
        })
    }

    /// The number for the chunks of a new value.
    pub(super) fn new_generation(&mut self) -> u64 {
        let generation = self.next_generation;
        self.next_generation += 1;
        generation
    }
}

/// The stored form of a mark of [`keys::loose`].
pub(super) fn loose_mark(generation: u64) -> Vec<u8> {
    envelope::inline(&keys::loose(generation), std::iter::empty())
}
