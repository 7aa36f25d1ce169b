//! The registry: it knows which threads live, starts them on first use, and routes to them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::prelude::*;
use cm_core::controls::DefaultsRecord;
use cm_core::event::FrameBatch;
use cm_core::ids::{Incarnation, ThreadId};
use cm_core::restart::{Policy, Restart};
use cm_core::thread::ThreadRecord;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::actor::{Shared, StoredChild, Thread};
use super::answers::Answers;
use super::calls::answer;
use super::config::ThreadConfig;
use super::error::SessionError;
use super::messages::{
    Command, DecideRequest, Deleted, ParkAll, ReadRequestParams, ThreadDeleted, ToThread,
};
use super::paths::Paths;
use super::registry_create::PendingCreate;
use super::registry_recovery::Recovering;
use super::registry_requests::Own;
use super::registry_sync::Syncing;
use super::replace::PendingReplace;
use crate::app_server::{AppServerHandle, RuntimeUp};
use crate::handle::Handle;
use crate::index::SessionIndex;
use crate::journal::JournalHandle;
use crate::store::{
    Store, StoreError, StoreHandle, StoredThread, keys, read_request, read_request_params,
    read_thread,
};
use crate::supervisor::{ChildSpec, ExitGuard, Observe, Started, StateCell};

/// Messages that may wait. Overflow rule: commands are refused with `overloaded`; batches of the
/// child are offered again.
const MAILBOX: usize = 1024;

/// Deleted sessions that are remembered to be answered with 410.
const MAX_TOMBSTONES: usize = 10_000;

/// Living threads that the observed state names.
const SHOWN_THREADS: usize = 100;

pub(super) struct Entry {
    pub(super) address: Addr<Thread>,
    /// Batches of the child that it has not finished.
    pub(super) unfinished: usize,
    /// Messages that were sent to it and that it will have to have handled before it is let go.
    pub(super) sent: u64,
    /// When the last of them was, or when it last said that it has something to do.
    pub(super) last_sent: Instant,
}

impl Entry {
    /// Sends a message that is not to be lost.
    ///
    /// # Errors
    ///
    /// The message, when the thread has too much to do or is gone.
    pub(super) fn send<M>(&mut self, message: M) -> Result<(), SendError<M>>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        Thread: Handler<M>,
    {
        self.address.try_send(message)?;
        self.note_sent();
        Ok(())
    }

    /// Notes that a message was sent, or waits for room and will be.
    pub(super) fn note_sent(&mut self) {
        self.sent += 1;
        self.last_sent = Instant::now();
    }
}

/// The registry of threads.
pub struct ThreadRegistry {
    pub(super) shared: Shared,
    /// Reports the registry's end to its supervisor.
    _guard: ExitGuard,
    pub(super) threads: HashMap<ThreadId, Entry>,
    /// The child, while it is up.
    pub(super) runtime: Option<RuntimeUp>,
    /// The newest life of the child that was heard of: what an older one still says is over.
    pub(super) newest: Incarnation,
    /// `thread/start` calls that wait.
    pub(super) creating: HashMap<u64, PendingCreate>,
    /// Sessions for which another thread is being started.
    pub(super) replacing: HashMap<u64, PendingReplace>,
    /// Sessions by the id of the runtime's thread, where that is or was another one. One entry for
    /// each thread that was started so; they stay, because the runtime may still speak of it.
    pub(super) aliases: HashMap<ThreadId, ThreadId>,
    /// Sessions deleted in this life of the manager.
    pub(super) tombstones: HashMap<ThreadId, Deleted>,
    /// Sessions in which something was unfinished when the manager ended last.
    pub(super) settled: HashSet<ThreadId>,
    /// Panics of threads since the start.
    pub(super) panics: u64,
    /// Threads whose actor panicked, with how often and when last.
    pub(super) degraded: HashMap<ThreadId, (u64, String)>,
    /// The life of the child in which threads are loaded that were let go.
    pub(super) loaded: HashMap<ThreadId, Incarnation>,
    /// Threads that were cut and are to be loaded again.
    pub(super) recovering: Recovering,
    /// What clients changed for new sessions.
    pub(super) changed_defaults: DefaultsRecord,
    /// Requests that belong to no thread.
    pub(super) own: Own,
    /// Whose subagents threads are, as far as was heard in this life.
    pub(super) parents: HashMap<ThreadId, ThreadId>,
    /// What other clients of the runtime do.
    pub(super) syncing: Syncing,
}

/// The spec of the registry. `state` is kept current with its supervision.
pub fn registry_spec(
    handle: Handle<ThreadRegistry>,
    policy: Policy,
    config: ThreadConfig,
    store: StoreHandle,
    journal: JournalHandle,
    app_server: AppServerHandle,
    state: &StateCell,
) -> ChildSpec {
    let index = SessionIndex::new(config.list_version.clone(), Arc::clone(&config.stats));
    let shared = Shared {
        config: Arc::new(config),
        index,
        store,
        journal,
        app_server,
        registry: handle.clone(),
        boot: uuid::Uuid::new_v4().to_string().into(),
        tokens: Arc::default(),
        paths: Paths::default(),
        answers: Answers::default(),
    };
    ChildSpec {
        name: "threads",
        restart: Restart::Permanent,
        policy,
        shutdown: Duration::from_millis(500),
        watch: Some(state.watcher()),
        start: Box::new(move |guard| {
            let registry = ThreadRegistry {
                shared: shared.clone(),
                _guard: guard,
                threads: HashMap::new(),
                runtime: None,
                newest: Incarnation::default(),
                creating: HashMap::new(),
                replacing: HashMap::new(),
                aliases: HashMap::new(),
                tombstones: HashMap::new(),
                settled: HashSet::new(),
                panics: 0,
                degraded: HashMap::new(),
                loaded: HashMap::new(),
                recovering: Recovering::default(),
                changed_defaults: DefaultsRecord::default(),
                own: Own::default(),
                parents: HashMap::new(),
                syncing: Syncing::default(),
            };
            let address = ThreadRegistry::create(|ctx| {
                ctx.set_mailbox_capacity(MAILBOX);
                registry
            });
            handle.fill(address.clone());
            let clear = handle.clone();
            Started::of(address, || Stop, move || clear.clear())
        }),
    }
}

/// What the store says of a thread that is not alive.
pub(super) struct Loaded {
    pub(super) stored: Option<StoredThread>,
    /// What became of the child in which its turns ran.
    pub(super) child: StoredChild,
    /// Whether it was deleted.
    pub(super) deleted: bool,
}

/// Reads a thread and whether what is open in it belongs to this life of manager and child.
pub(super) fn load(
    store: &dyn Store,
    id: &ThreadId,
    boot: &str,
    incarnation: Option<Incarnation>,
) -> Result<Loaded, StoreError> {
    let stored = read_thread(store, id)?;
    let mark = stored.as_ref().and_then(|stored| stored.mark.as_ref());
    let same_boot = mark.is_some_and(|mark| mark.boot == boot);
    let same_child = mark.is_some_and(|mark| mark.incarnation == incarnation);
    let child = match (same_boot, same_child && incarnation.is_some()) {
        (true, true) => StoredChild::Alive,
        (true, false) => StoredChild::Gone,
        (false, _) => StoredChild::OfAnotherManager,
    };
    let deleted = store.get(&keys::tombstone(id))?.is_some();
    Ok(Loaded { stored, child, deleted })
}

impl ThreadRegistry {
    /// The life of the child that runs now, whether it said so here or not.
    pub(super) fn living_incarnation(&self) -> Option<Incarnation> {
        let known = self.runtime.as_ref().map(|up| up.incarnation);
        known.or_else(|| {
            let status = self.shared.app_server.status();
            status.pid.is_some().then_some(status.incarnation)
        })
    }

    /// Starts the actor of a thread as it was stored.
    pub(super) fn start_stored(
        &mut self,
        stored: StoredThread,
        child: StoredChild,
    ) -> Addr<Thread> {
        let id = stored.record.id.clone();
        if let Some(parent) = &stored.record.parent {
            self.remember_parent(&id, parent);
        }
        for alias in stored.record.aliases() {
            self.aliases.insert(alias.clone(), id.clone());
        }
        let loaded = self.loaded.remove(&id);
        let (shared, runtime) = (self.shared.clone(), self.runtime.clone());
        let mut thread = Thread::rebuild(shared, stored, runtime, child, loaded);
        if let Some(at) = self.syncing.behind.get(&id).filter(|_| !thread.is_loaded()) {
            thread.fell_behind(*at);
        }
        self.enter(id, thread)
    }

    /// Starts the actor of a thread that the store does not know.
    pub(super) fn start_fresh(&mut self, record: ThreadRecord) -> Addr<Thread> {
        let id = record.id.clone();
        let thread = Thread::fresh(self.shared.clone(), record, self.runtime.clone());
        self.enter(id, thread)
    }

    fn enter(&mut self, id: ThreadId, thread: Thread) -> Addr<Thread> {
        let address = thread.start();
        let entry =
            Entry { address: address.clone(), unfinished: 0, sent: 0, last_sent: Instant::now() };
        self.threads.insert(id, entry);
        address
    }

    /// The address of a thread that lives.
    pub(super) fn living(&mut self, id: &ThreadId) -> Option<Addr<Thread>> {
        let entry = self.threads.get(id)?;
        if entry.address.connected() {
            return Some(entry.address.clone());
        }
        self.threads.remove(id);
        None
    }

    /// Hands a command to a thread that lives.
    pub(super) fn hand_on(&mut self, id: &ThreadId, command: Command) {
        let overloaded = "The session has more to do than it can queue; try again shortly.";
        let rebuilt = "The session is being rebuilt; try again shortly.";
        let (command, message) = match self.threads.get_mut(id).map(|entry| entry.send(command)) {
            Some(Ok(())) => return,
            Some(Err(SendError::Full(command))) => (command, overloaded),
            Some(Err(SendError::Closed(command))) => (command, rebuilt),
            // It was looked for just now.
            None => return,
        };
        command.refuse(SessionError::failed(cm_core::error::ErrorCode::Overloaded, message));
    }

    /// Publishes frames that belong to no thread's actor.
    pub(super) fn publish(&self, frames: FrameBatch) {
        self.shared.journal.publish(frames);
    }
}

impl Actor for ThreadRegistry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.read_defaults(ctx);
        self.read_lists(ctx);
        self.settle_open(ctx);
        self.settle_own(ctx);
        self.watch_idle(ctx);
        self.sync_now_and_then(ctx);
        self.shared.app_server.announce();
    }
}

impl Handler<ToThread> for ThreadRegistry {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, message: ToThread, _: &mut Self::Context) -> Self::Result {
        let ToThread { thread_id, command } = message;
        if let Some(deleted) = self.tombstones.get(&thread_id) {
            command.refuse(SessionError::Deleted(deleted.clone()));
            return Box::pin(actix::fut::ready(()));
        }
        if self.living(&thread_id).is_some() {
            self.hand_on(&thread_id, command);
            return Box::pin(actix::fut::ready(()));
        }
        let store = self.shared.store.clone();
        let boot = Arc::clone(&self.shared.boot);
        let incarnation = self.living_incarnation();
        let id = thread_id.clone();
        let work =
            async move { store.read(move |store| load(store, &id, &boot, incarnation)).await };
        Box::pin(work.into_actor(self).map(move |loaded, registry, _| {
            // Another message may have started it in the meantime.
            if registry.living(&thread_id).is_some() {
                return registry.hand_on(&thread_id, command);
            }
            // It may also have been deleted.
            if let Some(deleted) = registry.tombstones.get(&thread_id) {
                return command.refuse(SessionError::Deleted(deleted.clone()));
            }
            match loaded {
                Ok(Loaded { stored: Some(stored), child, deleted: false }) => {
                    registry.start_stored(stored, child);
                    registry.hand_on(&thread_id, command);
                }
                Ok(_) => {
                    // One that was made and could not be stored is shown no longer.
                    registry.shared.index.remove(&thread_id);
                    command.refuse(SessionError::NotFound(thread_id));
                }
                Err(error) => command.refuse(error.into()),
            }
        }))
    }
}

impl Handler<DecideRequest> for ThreadRegistry {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, message: DecideRequest, _: &mut Self::Context) -> Self::Result {
        let DecideRequest { id, input, by, reply } = message;
        let store = self.shared.store.clone();
        let wanted = id.clone();
        let work = async move { store.read(move |store| read_request(store, &wanted)).await };
        Box::pin(work.into_actor(self).map(move |record, registry, ctx| match record {
            Ok(Some(record)) if input.decides(record.kind) => {
                let Some(thread_id) = record.thread_id.clone() else {
                    return registry.decide_own(record, input, by, reply);
                };
                let command = Command::Decide { record: Box::new(record), input, by, reply };
                ctx.notify(ToThread { thread_id, command });
            }
            Ok(_) => {
                reply.send(Err(SessionError::NoRequest(id))).ok();
            }
            Err(error) => {
                reply.send(Err(error.into())).ok();
            }
        }))
    }
}

impl Handler<ReadRequestParams> for ThreadRegistry {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: ReadRequestParams, _: &mut Self::Context) -> Self::Result {
        let ReadRequestParams { id, reply } = message;
        let store = self.shared.store.clone();
        let wanted = id.clone();
        Box::pin(async move {
            let params = store.read(move |store| read_request_params(store, &wanted)).await;
            let params = params.map_err(SessionError::from);
            answer(reply, params.and_then(|params| params.ok_or(SessionError::NoRequest(id))));
        })
    }
}

impl Handler<ThreadDeleted> for ThreadRegistry {
    type Result = ();

    fn handle(&mut self, ThreadDeleted(deleted): ThreadDeleted, _: &mut Self::Context) {
        self.threads.remove(&deleted.session_id);
        self.settled.remove(&deleted.session_id);
        self.degraded.remove(&deleted.session_id);
        self.loaded.remove(&deleted.session_id);
        if self.tombstones.len() >= MAX_TOMBSTONES
            && let Some(oldest) = self
                .tombstones
                .values()
                .min_by(|a, b| a.deleted_at.cmp(&b.deleted_at))
                .map(|deleted| deleted.session_id.clone())
        {
            self.tombstones.remove(&oldest);
        }
        self.tombstones.insert(deleted.session_id.clone(), deleted);
    }
}

impl Handler<ParkAll> for ThreadRegistry {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: ParkAll, _: &mut Self::Context) -> Self::Result {
        let mut parked = Vec::new();
        for entry in self.threads.values_mut() {
            let (told, waiting) = oneshot::channel();
            entry.note_sent();
            let asked = entry.address.send(Command::Park(told));
            parked.push(async move {
                // A thread that is gone has nothing running.
                if asked.await.is_ok() {
                    waiting.await.ok();
                }
            });
        }
        Box::pin(async move {
            futures_util::future::join_all(parked).await;
        })
    }
}

impl Handler<Observe> for ThreadRegistry {
    type Result = ResponseFuture<Value>;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        let alive = self.threads.len();
        let panics = self.panics;
        let creating = self.creating.len();
        let stats = &self.shared.config.stats;
        let requests = stats.requests_pending.get();
        let passivated = stats.passivated.load(Ordering::Relaxed);
        let (recovering, syncing) = (self.recovering.observed(), self.syncing.observed());
        let degraded: serde_json::Map<String, Value> = self
            .degraded
            .iter()
            .take(SHOWN_THREADS)
            .map(|(id, (panics, at))| (id.to_string(), json!({ "panics": panics, "at": at })))
            .collect();
        let looks: Vec<_> = self
            .threads
            .iter()
            .take(SHOWN_THREADS)
            .map(|(id, entry)| {
                let look = entry.address.send(Observe).timeout(Duration::from_millis(300));
                let id = id.to_string();
                async move { (id, look.await.unwrap_or(Value::Null)) }
            })
            .collect();
        Box::pin(async move {
            let threads: serde_json::Map<String, Value> =
                futures_util::future::join_all(looks).await.into_iter().collect();
            json!({
                "alive": alive, "panics": panics, "creating": creating, "requests": requests,
                "passivated": passivated, "recovering": recovering, "syncing": syncing,
                "degraded": degraded, "threads": threads,
            })
        })
    }
}

/// Ends the registry. Sent by the supervisor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for ThreadRegistry {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        // Threads end with the addresses that the registry holds.
        self.threads.clear();
        ctx.stop();
    }
}
