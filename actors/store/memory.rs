//! An engine in memory, for tests of everything above it: it fails where it is told to, and
//! forgets what was not durable.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::Notify;

use super::engine::{Changes, Engine, EngineError, RawEntry};
use super::layered::Layered;
use super::scan::Scan;

/// A store that forgets everything when it is dropped.
pub(crate) type MemoryStore = Layered<MemoryEngine>;

/// What an engine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Applies changes.
    Apply,
    /// Hands them to the system.
    Flush,
    /// Waits for the disk.
    Sync,
    /// Opens again.
    Reopen,
}

/// What fails, shared with the test that says so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    plan: Arc<Mutex<Plan>>,
    /// What is there after the next opening.
    durable: Arc<RwLock<Entries>>,
    /// Told of every sync.
    synced: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Plan {
    /// These fail as long as they stand here.
    failing: Vec<Operation>,
    /// Operations left until one fails, whatever it is.
    countdown: Option<usize>,
    /// Changes of keys with this prefix fail.
    refused: Option<Vec<u8>>,
    /// Whether an operation that fails has happened all the same.
    happens: bool,
    /// Whether there is no room.
    full: bool,
    /// Times that the engine was opened again.
    reopened: usize,
}

impl Faults {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an operation fail from now on, or work again.
    pub(crate) fn set(&self, operation: Operation, fails: bool) {
        let mut plan = self.plan();
        plan.failing.retain(|other| *other != operation);
        if fails {
            plan.failing.push(operation);
        }
    }

    /// Lets one operation fail: the one after so many others. With `happens` its effect is there
    /// all the same, as after an error of a disk that did its work.
    pub(crate) fn fail_after(&self, operations: usize, happens: bool) {
        let mut plan = self.plan();
        plan.countdown = Some(operations);
        plan.happens = happens;
    }

    /// Whether the failure of [`Self::fail_after`] is still to come.
    pub(crate) fn is_to_come(&self) -> bool {
        self.plan().countdown.is_some()
    }

    fn durable(&self) -> Entries {
        self.durable.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a key would be there after a crash.
    pub(crate) fn is_durable(&self, key: &[u8]) -> bool {
        self.durable.read().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// Waits until a key would be there after a crash.
    pub(crate) async fn durable_key(&self, key: &[u8]) {
        loop {
            let synced = self.synced.notified();
            if self.is_durable(key) {
                return;
            }
            synced.await;
        }
    }

    /// Says whether there is room.
    pub(crate) fn set_full(&self, full: bool) {
        self.plan().full = full;
    }

    /// Times that the engine was opened again.
    pub(crate) fn reopened(&self) -> usize {
        self.plan().reopened
    }

    /// Answers whether the operation takes place, and what is said of it.
    fn meet(&self, operation: Operation) -> (bool, Result<(), EngineError>) {
        let mut plan = self.plan();
        let error = || EngineError::System { errno: Some(5), why: "input/output error".to_owned() };
        if plan.failing.contains(&operation) {
            return (false, Err(error()));
        }
        match plan.countdown {
            Some(0) => {
                plan.countdown = None;
                (plan.happens, Err(error()))
            }
            Some(left) => {
                plan.countdown = Some(left - 1);
                (true, Ok(()))
            }
            None => (true, Ok(())),
        }
    }
}

/// Keys and values in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryEngine {
    visible: RwLock<Entries>,
    faults: Faults,
}

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

impl MemoryStore {
    /// Makes an empty store that fails each commit that writes a key with this prefix.
    pub(crate) fn refusing(prefix: &[u8]) -> Self {
        let faults = Faults::default();
        faults.plan().refused = Some(prefix.to_owned());
        Self::with_faults(faults)
    }

    /// Makes an empty store that fails as it is told.
    pub(crate) fn with_faults(faults: Faults) -> Self {
        Self::over(MemoryEngine { faults, ..MemoryEngine::default() })
    }

    /// The store as it is after the process has died: what was not durable is gone.
    pub(crate) fn crashed(self) -> Self {
        let durable = self.engine.faults.durable();
        let faults =
            Faults { durable: Arc::new(RwLock::new(durable.clone())), ..Faults::default() };
        let engine = MemoryEngine { visible: RwLock::new(durable), faults };
        Self::over(engine)
    }

    fn over(engine: MemoryEngine) -> Self {
        Self::start(engine).expect("invariant: memory can be read")
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::with_faults(Faults::default())
    }
}

impl MemoryEngine {
    fn visible(&self) -> Entries {
        self.visible.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Engine for MemoryEngine {
    fn apply(&self, changes: Changes) -> Result<(), EngineError> {
        let (happens, said) = self.faults.meet(Operation::Apply);
        let refused = self.faults.plan().refused.clone();
        if let Some(prefix) = refused
            && changes.iter().any(|(key, _)| key.starts_with(&prefix))
        {
            let why = "no space left on device".to_owned();
            return Err(EngineError::System { errno: None, why });
        }
        if happens {
            let mut visible = self.visible.write().unwrap_or_else(PoisonError::into_inner);
            for (key, value) in changes {
                match value {
                    Some(value) => visible.insert(key, value),
                    None => visible.remove(&key),
                };
            }
        }
        said
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.faults.meet(Operation::Flush).1
    }

    fn sync(&self) -> Result<(), EngineError> {
        let (happens, said) = self.faults.meet(Operation::Sync);
        if happens {
            let visible = self.visible();
            *self.faults.durable.write().unwrap_or_else(PoisonError::into_inner) = visible;
            self.faults.synced.notify_waiters();
        }
        said
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.visible.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn page(&self, scan: &Scan) -> Result<Vec<RawEntry>, EngineError> {
        let Some(range) = scan.range() else {
            return Ok(Vec::new());
        };
        let visible = self.visible.read().unwrap_or_else(PoisonError::into_inner);
        let mut range = visible.range(range);
        let mut entries: Vec<RawEntry> = Vec::new();
        let mut bytes = 0;
        while entries.len() < scan.limit && (bytes < scan.max_bytes || entries.is_empty()) {
            let next = if scan.reverse { range.next_back() } else { range.next() };
            let Some((key, value)) = next else { break };
            bytes += key.len() + value.len();
            entries.push((key.clone(), value.clone()));
        }
        Ok(entries)
    }

    fn room(&self, _bytes: usize) -> Result<(), EngineError> {
        if self.faults.plan().full {
            let why = "no space left on device".to_owned();
            return Err(EngineError::System { errno: Some(28), why });
        }
        Ok(())
    }

    fn reopen(&self, _unsynced: bool) -> Result<(), EngineError> {
        self.faults.meet(Operation::Reopen).1?;
        self.faults.plan().reopened += 1;
        let durable = self.faults.durable();
        *self.visible.write().unwrap_or_else(PoisonError::into_inner) = durable;
        Ok(())
    }

    fn note_commit(&self, _commit: u64) {}

    fn bytes_on_disk(&self) -> u64 {
        0
    }
}
