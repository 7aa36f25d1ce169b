//! Registry, threads, journal and store, and a child that says what the test wants.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use actix::{Actor, Context, Handler};
use cm_core::compat::Profile;
use cm_core::controls::Controls;
use cm_core::event::Method;
use cm_core::ids::{Incarnation, ThreadId};
use cm_core::request::{RequestFamily, RequestRecord};
use cm_core::restart::Policy;
use cm_core::rpc::{RawJson, RpcId};
use cm_core::wire::SessionDetail;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

use super::super::*;
use crate::app_server::{
    AppServerHandle, Batch, Inbound, InboundKind, RuntimeDown, RuntimeEvent, RuntimeUp,
};
use crate::handle::Handle;
use crate::index::ListVersion;
use crate::journal::{FramesPublished, JournalConfig, JournalHandle, journal_spec};
use crate::metrics::SessionStats;
use crate::project::{ProjectsHandle, projects_spec};
use crate::request::{FixedPolicy, RequestPolicy};
use crate::store::{
    Entry, MemoryStore, Scan, Store, StoreError, StoreHandle, Upkeep, Visitor, WriteBatch, keys,
    read_thread, read_thread_requests, store_spec,
};
use crate::supervisor::{StateCell, Strategy, Supervisor, SupervisorHandle};

pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// How long it is tried to store a request.
pub(super) const STORE_PATIENCE_HERE: Duration = Duration::from_millis(200);
pub(super) const LIFE: Incarnation = Incarnation(1);

/// A subscriber that keeps every frame.
struct Ear(Sender<Value>);

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<FramesPublished> for Ear {
    type Result = ();

    fn handle(&mut self, FramesPublished(segments): FramesPublished, _: &mut Self::Context) {
        for frame in segments.iter().flat_map(|segment| segment.all_json()) {
            self.0.try_send(serde_json::from_slice(frame).unwrap()).unwrap();
        }
    }
}

/// Whether writes wait.
#[derive(Default)]
struct Held {
    /// How many groups of them may still pass; as many as there are when it is not set.
    passing: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Held {
    fn pass(&self) {
        let passing = self.passing.lock().unwrap();
        let mut passing = self.changed.wait_while(passing, |left| *left == Some(0)).unwrap();
        *passing = passing.map(|left| left - 1);
    }
}

/// A disk that outlives the manager, may be full, and counts what is read of sessions.
#[derive(Clone, Default)]
pub(super) struct Disk {
    store: Arc<MemoryStore>,
    pub(super) full: Arc<AtomicBool>,
    /// Whether it writes and says that it did not, as one does that fails at the last step.
    pub(super) doubtful: Arc<AtomicBool>,
    /// Whether the turns of sessions cannot be read.
    pub(super) unreadable: Arc<AtomicBool>,
    /// Groups with a request's record that were refused.
    pub(super) requests_refused: Arc<AtomicUsize>,
    pub(super) read: Arc<AtomicUsize>,
    /// Told of every group that was committed.
    pub(super) committed: Arc<Notify>,
    held: Arc<Held>,
    /// Where it is set, batches after which a request was unfinished and its thread not marked: a
    /// crash there would have left it to nobody.
    unmarked: Option<Arc<AtomicUsize>>,
}

impl Disk {
    /// One that counts the batches after which a request was unfinished and its thread not marked.
    pub(super) fn watched(unmarked: &Arc<AtomicUsize>) -> Self {
        Self { unmarked: Some(Arc::clone(unmarked)), ..Self::default() }
    }

    /// Lets so many groups of writes pass and others wait; all pass when no number is given.
    pub(super) fn pass(&self, groups: Option<usize>) {
        *self.held.passing.lock().unwrap() = groups;
        self.held.changed.notify_all();
    }

    /// Bytes of the values whose keys begin so.
    pub(super) fn bytes_of(&self, prefix: &[u8]) -> usize {
        let entries = self.store.scan(&Scan::prefix(prefix)).unwrap();
        entries.iter().map(|(_, value)| value.len()).sum()
    }

    fn is_marked(&self) -> bool {
        let requests = read_thread_requests(&*self.store, &thread()).unwrap();
        let stored = read_thread(&*self.store, &thread()).unwrap();
        let marked = stored.and_then(|stored| stored.mark).unwrap_or_default().requests;
        let mut open = requests.iter().filter(|request| !request.is_closed());
        open.all(|request| marked.contains(&request.id))
    }
}

impl Store for Disk {
    fn commit(&self, batches: &[WriteBatch]) -> Result<(), StoreError> {
        self.held.pass();
        if self.full.load(Ordering::Relaxed) {
            let mut entries = batches.iter().flat_map(|batch| &batch.entries);
            if entries.any(|(key, _)| keys::is_request(key)) {
                self.requests_refused.fetch_add(1, Ordering::Relaxed);
            }
            return Err(StoreError::Write("no space left on device".to_owned()));
        }
        if self.doubtful.load(Ordering::Relaxed) {
            self.store.commit(batches)?;
            return Err(StoreError::Write("input/output error".to_owned()));
        }
        match &self.unmarked {
            None => self.store.commit(batches)?,
            // One by one: a crash may keep the first of a group only.
            Some(unmarked) => {
                for batch in batches {
                    self.store.commit(std::slice::from_ref(batch))?;
                    unmarked.fetch_add(usize::from(!self.is_marked()), Ordering::Relaxed);
                }
            }
        }
        self.committed.notify_waiters();
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read.fetch_add(1, Ordering::Relaxed);
        self.store.get(key)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Entry>, StoreError> {
        if self.unreadable.load(Ordering::Relaxed) && scan.prefix.starts_with(b"u\0") {
            return Err(StoreError::Read("input/output error".to_owned()));
        }
        let entries = self.store.scan(scan)?;
        // The log of events looks after itself whenever it likes.
        let of_log = |(key, _): &&Entry| keys::event_seq(key).is_some();
        let read = entries.len() - entries.iter().filter(of_log).count();
        self.read.fetch_add(read, Ordering::Relaxed);
        Ok(entries)
    }

    fn keys(&self, scan: &Scan) -> Result<Vec<Vec<u8>>, StoreError> {
        self.store.keys(scan)
    }
}

impl Upkeep for Disk {
    fn heal(&self) -> Result<(), StoreError> {
        self.store.heal()
    }

    fn tidy(&self) -> Result<bool, StoreError> {
        self.store.tidy()
    }

    fn damaged_records(&self) -> Arc<AtomicUsize> {
        self.store.damaged_records()
    }

    fn last_commit(&self) -> u64 {
        self.store.last_commit()
    }

    fn bytes_on_disk(&self) -> u64 {
        self.store.bytes_on_disk()
    }

    fn walk(
        &self,
        after: Option<&[u8]>,
        bytes: usize,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.walk(after, bytes, visit)
    }

    fn watch(&self, on: bool) {
        self.store.watch(on);
    }

    fn settle(&self, most: usize, visit: &mut Visitor<'_>) -> Result<Option<u64>, StoreError> {
        self.store.settle(most, visit)
    }

    fn catch_up(&self, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        self.store.catch_up(visit)
    }
}

/// What differs from one test to the other.
pub(super) struct Options {
    pub(super) idle: Duration,
    pub(super) item_cap: u64,
    pub(super) policy: Arc<dyn RequestPolicy>,
    pub(super) stats: Arc<SessionStats>,
}

impl Default for Options {
    fn default() -> Self {
        let policy = Arc::new(FixedPolicy::default());
        Self { idle: DEADLINE, item_cap: 1 << 30, policy, stats: Arc::default() }
    }
}

pub(super) struct Bench {
    pub(super) registry: Handle<ThreadRegistry>,
    pub(super) threads: ThreadsHandle,
    pub(super) projects: ProjectsHandle,
    pub(super) supervisor: SupervisorHandle,
    pub(super) frames: Receiver<Value>,
    _ear: actix::Addr<Ear>,
}

impl Bench {
    pub(super) async fn new(store: impl Store + 'static) -> Self {
        Self::with(store, Options::default()).await
    }

    pub(super) async fn with(store: impl Store + 'static, options: Options) -> Self {
        let policy = Policy { backoff_start: Duration::from_millis(1), ..Policy::default() };
        let handle = StoreHandle::default();
        let journal = JournalHandle::default();
        let registry = Handle::new();
        let threads = ThreadsHandle::new(registry.clone(), DEADLINE);
        let projects = Handle::new();
        let store = Mutex::new(Some(store));
        let opener = Box::new(move || {
            let store = store.lock().unwrap().take().expect("a store that is opened once");
            Ok(Box::new(store) as Box<dyn Store>)
        });
        let config = ThreadConfig {
            defaults: Controls::default(),
            defaults_locked: false,
            default_cwd: PathBuf::from("/"),
            cage: Cage::new(&[]),
            idle: options.idle,
            sync: Duration::ZERO,
            item_cap: options.item_cap,
            policy: options.policy,
            store_patience: STORE_PATIENCE_HERE,
            list_version: ListVersion::default(),
            stats: Arc::clone(&options.stats),
        };
        let specs = vec![
            store_spec(handle.clone(), policy, opener, &StateCell::default()),
            journal_spec(
                journal.clone(),
                handle.clone(),
                policy,
                JournalConfig { ring_bytes: 1 << 20, log_bytes: 1 << 20 },
                &StateCell::default(),
            ),
            registry_spec(
                registry.clone(),
                policy,
                config,
                handle.clone(),
                journal.clone(),
                AppServerHandle::new(),
                &StateCell::default(),
            ),
            projects_spec(projects.clone(), policy, handle, journal.clone(), threads.clone()),
        ];
        let supervisor = Supervisor::start_tree("test", Strategy::RestForOne, specs);
        // Answered behind the start of every child.
        supervisor.tree().await.unwrap();
        let (tell, frames) = channel(1 << 18);
        let ear = Ear(tell).start();
        journal.attach(ear.clone().recipient()).await.unwrap().expect("a journal");
        let projects = ProjectsHandle::new(projects, DEADLINE);
        let mut bench = Self { registry, threads, projects, supervisor, frames, _ear: ear };
        bench.up().await;
        bench
    }

    async fn up(&mut self) {
        self.up_as(LIFE).await;
    }

    pub(super) async fn up_as(&mut self, incarnation: Incarnation) {
        let up = RuntimeUp { incarnation, profile: Arc::new(Profile::default()) };
        self.registry.ask(RuntimeEvent::Up(up), DEADLINE).await.unwrap();
        self.frame("runtime_state").await;
    }

    /// The child says something; returns when the registry has taken it.
    pub(super) async fn says(&self, items: Vec<Inbound>) {
        let received_at = "2026-11-21T00:00:00.000Z".to_owned();
        let batch = Batch { incarnation: LIFE, received_at, items };
        self.registry.ask(RuntimeEvent::Batch(Arc::new(batch)), DEADLINE).await.unwrap();
    }

    pub(super) async fn goes_down(&self) {
        let down = RuntimeDown { incarnation: LIFE, why: "gone".to_owned() };
        self.registry.ask(RuntimeEvent::Down(down), DEADLINE).await.unwrap();
    }

    /// Approvals that wait.
    pub(super) async fn pending(&self) -> Vec<RequestRecord> {
        self.threads.requests(&thread(), &[RequestFamily::Approval], false).await.unwrap()
    }

    /// What the registry shows of itself.
    pub(super) async fn observed(&self) -> Value {
        self.supervisor.tree().await.unwrap().children[2].observed.clone()
    }

    /// The session with its transcript.
    pub(super) async fn detail(&self) -> SessionDetail {
        let detail = self.threads.detail(&thread()).await.unwrap();
        serde_json::from_slice(&detail).unwrap()
    }

    /// The next frame of a type; those before it are passed over.
    pub(super) async fn frame(&mut self, kind: &str) -> Value {
        loop {
            let frame = timeout(DEADLINE, self.frames.recv()).await.expect(kind).expect(kind);
            if frame["type"] == kind {
                return frame;
            }
        }
    }
}

fn inbound(kind: InboundKind, params: &Value) -> Inbound {
    let text = |pointer: &str| params.pointer(pointer).and_then(Value::as_str);
    let thread_id = text("/threadId").map(|id| ThreadId::parse(id).unwrap());
    let turn_id = text("/turnId").or_else(|| text("/turn/id")).map(Arc::from);
    Inbound { thread_id, turn_id, kind }
}

pub(super) fn notification(method: &str, params: &Value) -> Inbound {
    let method = Arc::new(Method::new(method));
    let raw = Some(RawJson::encode(params).unwrap());
    inbound(InboundKind::Notification { method, params: raw }, params)
}

/// The child asks something.
pub(super) fn request(rpc_id: i64, method: &str, params: &Value) -> Inbound {
    let method = Arc::new(Method::new(method));
    let raw = Some(RawJson::encode(params).unwrap());
    inbound(InboundKind::Request { id: RpcId::Number(rpc_id), method, params: raw }, params)
}

pub(super) fn approval_request(rpc_id: i64) -> Inbound {
    let params = json!({"threadId": "t", "turnId": "u", "itemId": "i", "command": "touch x"});
    request(rpc_id, "item/commandExecution/requestApproval", &params)
}

/// What a counter says.
pub(super) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

pub(super) fn turn_started() -> Inbound {
    notification("turn/started", &json!({"threadId": "t", "turn": {"id": "u"}}))
}

pub(super) fn thread() -> ThreadId {
    ThreadId::parse("t").unwrap()
}

pub(super) fn on_system(test: impl Future<Output = ()>) {
    actix::System::new().block_on(test);
}

/// Waits until so many threads are alive.
pub(super) async fn alive(stats: &SessionStats, threads: u64) {
    let reached = timeout(DEADLINE, stats.threads_alive.reaches(threads)).await;
    reached.unwrap_or_else(|_| panic!("{} threads are alive", stats.threads_alive.get()));
}

pub(super) fn item(method: &str, turn: &str, item: &Value) -> Inbound {
    notification(method, &json!({ "threadId": "t", "turnId": turn, "item": item }))
}

pub(super) fn turn_ended() -> Inbound {
    let turn = json!({ "id": "u", "status": "completed" });
    notification("turn/completed", &json!({ "threadId": "t", "turn": turn }))
}
