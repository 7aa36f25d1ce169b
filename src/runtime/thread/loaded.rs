//! Threads that this process follows.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use super::meta::Meta;
use crate::turn::Inbox;
use crate::wire::lock;

/// How long an interrupted turn may take to end; killing a command takes most of it.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// A thread's status, in codex's form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Status {
    NotLoaded,
    Idle,
    /// The last turn failed.
    SystemError,
    Active {
        /// `waitingOnApproval`, `waitingOnUserInput` or nothing.
        active_flags: Vec<&'static str>,
    },
}

/// A loaded thread. Its lock also orders what the client sees: the answer to a call on the thread
/// and the end of a turn are sent while it is held.
pub(crate) struct LoadedThread {
    pub(crate) id: Uuid,
    pub(crate) state: Mutex<ThreadState>,
    /// Signalled when a turn has ended.
    idle: Condvar,
}

pub(crate) struct ThreadState {
    pub(crate) meta: Meta,
    /// Whether the thread is on disk: after its first turn or its name.
    pub(crate) persisted: bool,
    pub(crate) status: Status,
    pub(crate) active: Option<ActiveTurn>,
    /// Commands accepted for the session, with their directory.
    pub(crate) accepted_commands: HashSet<(String, String)>,
    /// Files whose changes are accepted for the session.
    pub(crate) accepted_files: HashSet<PathBuf>,
}

/// The turn that runs.
#[derive(Clone)]
pub(crate) struct ActiveTurn {
    pub(crate) id: Uuid,
    pub(crate) inbox: Arc<Inbox>,
}

impl LoadedThread {
    pub(crate) fn new(meta: Meta, persisted: bool) -> Self {
        let state = ThreadState {
            persisted,
            status: Status::Idle,
            active: None,
            accepted_commands: HashSet::new(),
            accepted_files: HashSet::new(),
            meta,
        };
        Self { id: state.meta.id, state: Mutex::new(state), idle: Condvar::new() }
    }

    /// Interrupts the running turn, if any, without an answer to anybody.
    pub(crate) fn interrupt_silently(&self) {
        if let Some(active) = &lock(&self.state).active {
            active.inbox.interrupt();
        }
    }

    /// Says that the turn has ended. To be called under the lock, after its last notification.
    pub(crate) fn turn_ended(&self) {
        self.idle.notify_all();
    }

    /// Waits until no turn runs; `false` when that takes too long.
    pub(crate) fn wait_until_idle(&self) -> bool {
        let state = lock(&self.state);
        let waited =
            self.idle.wait_timeout_while(state, END_PATIENCE, |state| state.active.is_some());
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// The loaded threads, oldest use first.
pub(crate) struct Loaded {
    limit: usize,
    by_id: HashMap<Uuid, Entry>,
    /// Orders uses.
    clock: u64,
}

struct Entry {
    thread: Arc<LoadedThread>,
    used: u64,
}

impl Loaded {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, by_id: HashMap::new(), clock: 0 }
    }

    /// A loaded thread; asking for it counts as a use.
    pub(crate) fn get(&mut self, id: Uuid) -> Option<Arc<LoadedThread>> {
        self.clock += 1;
        let entry = self.by_id.get_mut(&id)?;
        entry.used = self.clock;
        Some(Arc::clone(&entry.thread))
    }

    pub(crate) fn all(&self) -> Vec<Arc<LoadedThread>> {
        self.by_id.values().map(|entry| Arc::clone(&entry.thread)).collect()
    }

    pub(crate) fn remove(&mut self, id: Uuid) {
        self.by_id.remove(&id);
    }

    /// Adds a thread. At the bound the thread on disk that is idle for longest makes room and is
    /// handed back; `Err` when there is none.
    pub(crate) fn insert(
        &mut self,
        thread: Arc<LoadedThread>,
    ) -> Result<Option<Arc<LoadedThread>>, ()> {
        let mut evicted = None;
        if self.by_id.len() >= self.limit {
            let idle = self.by_id.iter().filter(|(_, entry)| {
                let state = lock(&entry.thread.state);
                state.persisted && state.active.is_none()
            });
            let oldest = idle.min_by_key(|(_, entry)| entry.used).map(|(id, _)| *id).ok_or(())?;
            evicted = self.by_id.remove(&oldest).map(|entry| entry.thread);
        }
        self.clock += 1;
        self.by_id.insert(thread.id, Entry { thread, used: self.clock });
        Ok(evicted)
    }
}
