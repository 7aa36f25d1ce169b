//! Registry, threads, journal and store together, fed with what a child would say.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, Context, Handler};
use cm_core::compat::Profile;
use cm_core::controls::Controls;
use cm_core::event::Method;
use cm_core::ids::{Incarnation, ThreadId};
use cm_core::request::RequestFamily;
use cm_core::restart::Policy;
use cm_core::rpc::{RawJson, RpcId};
use cm_core::wire::SessionList;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

use super::*;
use crate::app_server::{
    AppServerHandle, Batch, Inbound, InboundKind, RuntimeDown, RuntimeEvent, RuntimeUp,
};
use crate::handle::Handle;
use crate::index::{ListQuery, ListVersion};
use crate::journal::{FramesPublished, JournalConfig, JournalHandle, journal_spec};
use crate::metrics::SessionStats;
use crate::store::{MemoryStore, StoreHandle, store_spec};
use crate::supervisor::{StateCell, Strategy, Supervisor, SupervisorHandle};

const DEADLINE: Duration = Duration::from_secs(5);
const LIFE: Incarnation = Incarnation(1);

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

struct Bench {
    registry: Handle<ThreadRegistry>,
    threads: ThreadsHandle,
    supervisor: SupervisorHandle,
    frames: Receiver<Value>,
    stats: Arc<SessionStats>,
    _ear: actix::Addr<Ear>,
}

impl Bench {
    async fn new(store: MemoryStore) -> Self {
        let policy = Policy { backoff_start: Duration::from_millis(1), ..Policy::default() };
        let handle = StoreHandle::default();
        let journal = JournalHandle::default();
        let registry = Handle::new();
        let store = Mutex::new(Some(store));
        let opener = Box::new(move || {
            let store = store.lock().unwrap().take().unwrap_or_default();
            Ok(Box::new(store) as Box<dyn crate::store::Store>)
        });
        let stats = Arc::<SessionStats>::default();
        let config = ThreadConfig {
            defaults: Controls::default(),
            default_cwd: PathBuf::from("/"),
            cage: Cage::new(&[]),
            list_version: ListVersion::default(),
            stats: Arc::clone(&stats),
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
                handle,
                journal.clone(),
                AppServerHandle::new(),
                &StateCell::default(),
            ),
        ];
        let supervisor = Supervisor::start_tree("test", Strategy::RestForOne, specs);
        // Answered behind the start of every child.
        supervisor.tree().await.unwrap();
        let (tell, frames) = channel(1024);
        let ear = Ear(tell).start();
        journal.attach(ear.clone().recipient()).await.unwrap().expect("a journal");
        let threads = ThreadsHandle::new(registry.clone(), DEADLINE);
        let mut bench = Self { registry, threads, supervisor, frames, stats, _ear: ear };
        bench.up().await;
        bench
    }

    async fn up(&mut self) {
        let up = RuntimeUp { incarnation: LIFE, profile: Arc::new(Profile::default()) };
        self.registry.ask(RuntimeEvent::Up(up), DEADLINE).await.unwrap();
        self.frame("runtime_state").await;
    }

    /// The child says something; returns when the registry has taken it.
    async fn says(&self, items: Vec<Inbound>) {
        let received_at = "2026-11-21T00:00:00.000Z".to_owned();
        let batch = Batch { incarnation: LIFE, received_at, items };
        self.registry.ask(RuntimeEvent::Batch(Arc::new(batch)), DEADLINE).await.unwrap();
    }

    async fn goes_down(&self) {
        let down = RuntimeDown { incarnation: LIFE, why: "gone".to_owned() };
        self.registry.ask(RuntimeEvent::Down(down), DEADLINE).await.unwrap();
    }

    /// The next frame of a type; those before it are passed over.
    async fn frame(&mut self, kind: &str) -> Value {
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

fn notification(method: &str, params: &Value) -> Inbound {
    let method = Arc::new(Method::new(method));
    let raw = Some(RawJson::encode(params).unwrap());
    inbound(InboundKind::Notification { method, params: raw }, params)
}

fn approval_request(rpc_id: i64) -> Inbound {
    let params = json!({"threadId": "t", "turnId": "u", "itemId": "i", "command": "touch x"});
    let raw = Some(RawJson::encode(&params).unwrap());
    let method = Arc::new(Method::new("item/commandExecution/requestApproval"));
    inbound(InboundKind::Request { id: RpcId::Number(rpc_id), method, params: raw }, &params)
}

fn turn_started() -> Inbound {
    notification("turn/started", &json!({"threadId": "t", "turn": {"id": "u"}}))
}

fn thread() -> ThreadId {
    ThreadId::parse("t").unwrap()
}

fn on_system(test: impl Future<Output = ()>) {
    actix::System::new().block_on(test);
}

#[test]
fn a_thread_that_panics_over_a_batch_loses_nothing_and_is_rebuilt() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        let item = json!({"threadId": "t", "turnId": "u", "item": {"id": "i", "type": "plan"}});
        bench.says(vec![turn_started(), notification("item/started", &item)]).await;
        bench.frame("app_server.item.started").await;
        let poison = notification("test/panic", &json!({"threadId": "t"}));
        let after = notification("item/after", &json!({"threadId": "t"}));
        bench.says(vec![poison, after]).await;
        assert_eq!(bench.frame("app_server.test.panic").await["threadId"], "t");
        bench.frame("app_server.item.after").await;
        // Rebuilt from the store, in the same life of the child: its turn still runs.
        let detail = bench.threads.detail(&thread()).await.unwrap();
        assert_eq!(detail.thread["turns"][0]["status"], "inProgress");
        assert_eq!(detail.transcript[0].message_id, "i");
        let tree = bench.supervisor.tree().await.unwrap();
        assert_eq!(tree.children[2].observed["panics"], 1);
    });
}

#[test]
fn the_end_of_a_turn_survives_a_panic_over_the_same_batch() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        bench.says(vec![turn_started()]).await;
        let ended = json!({"threadId": "t", "turn": {"id": "u", "status": "completed"}});
        let poison = notification("test/panic", &json!({"threadId": "t"}));
        bench.says(vec![poison, notification("turn/completed", &ended)]).await;
        bench.frame("app_server.turn.completed").await;
        let detail = bench.threads.detail(&thread()).await.unwrap();
        assert_eq!(detail.thread["turns"][0]["status"], "completed");
    });
}

#[test]
fn a_request_is_on_the_disk_before_it_is_shown() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        bench.says(vec![turn_started(), approval_request(0)]).await;
        let shown = bench.frame("approval").await;
        let id = shown["payload"]["approvalId"].as_str().unwrap().to_owned();
        let family = RequestFamily::Approval;
        let stored = bench.threads.requests(&thread(), family, true).await.unwrap();
        assert_eq!(stored[0].id.as_str(), id);
        assert_eq!(bench.threads.requests(&thread(), family, false).await.unwrap().len(), 1);
    });
}

#[test]
fn a_request_that_cannot_be_stored_is_declined_and_the_stream_says_so() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::refusing(b"r\0")).await;
        bench.says(vec![turn_started()]).await;
        bench.frame("notification").await;
        bench.says(vec![approval_request(0)]).await;
        let declined = bench.frame("request_declined").await;
        assert_eq!(declined["payload"]["code"], "store_unavailable");
        let family = RequestFamily::Approval;
        assert!(bench.threads.requests(&thread(), family, false).await.unwrap().is_empty());
    });
}

#[test]
fn when_the_child_is_gone_its_turns_and_requests_end() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        bench.says(vec![turn_started(), approval_request(0)]).await;
        bench.frame("approval").await;
        bench.goes_down().await;
        let ended = bench.frame("app_server.turn.completed").await;
        assert_eq!(ended["payload"]["params"]["turn"]["status"], "interrupted");
        assert_eq!(bench.frame("approval_resolved").await["payload"]["status"], "expired");
        let detail = bench.threads.detail(&thread()).await.unwrap();
        assert_eq!(detail.thread["turns"][0]["status"], "interrupted");
        assert_eq!(detail.session.activity, "idle");
    });
}

#[test]
fn the_end_of_a_turn_expires_its_requests_only() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        let other = json!({"threadId": "t", "turn": {"id": "v"}});
        bench.says(vec![turn_started(), approval_request(0)]).await;
        bench.frame("approval").await;
        bench.says(vec![notification("turn/started", &other)]).await;
        let ended = json!({"threadId": "t", "turn": {"id": "v", "status": "completed"}});
        bench.says(vec![notification("turn/completed", &ended)]).await;
        bench.frame("app_server.turn.completed").await;
        let family = RequestFamily::Approval;
        assert_eq!(bench.threads.requests(&thread(), family, false).await.unwrap().len(), 1);
        let ended = json!({"threadId": "t", "turn": {"id": "u", "status": "completed"}});
        bench.says(vec![notification("turn/completed", &ended)]).await;
        assert_eq!(bench.frame("approval_resolved").await["payload"]["status"], "expired");
    });
}

#[test]
fn a_session_that_does_not_exist_is_not_found() {
    on_system(async {
        let bench = Bench::new(MemoryStore::default()).await;
        let missing = ThreadId::parse("__proto__").unwrap();
        let answer = bench.threads.detail(&missing).await;
        assert_eq!(answer.unwrap_err(), SessionError::NotFound(missing));
    });
}

/// The titles of a list, newest first.
async fn titles(bench: &Bench, archived: bool) -> Vec<String> {
    let query = ListQuery { archived, limit: 100, cursor: None };
    let page = bench.threads.list(query).await.unwrap();
    let page: SessionList = serde_json::from_slice(&page).unwrap();
    page.data.into_iter().map(|session| format!("{} {}", session.title, session.activity)).collect()
}

#[test]
fn lists_follow_what_the_child_says_and_are_read_anew_with_the_registry() {
    on_system(async {
        let mut bench = Bench::new(MemoryStore::default()).await;
        let name = |name: &str| {
            notification("thread/name/updated", &json!({"threadId": "t", "threadName": name}))
        };
        bench.says(vec![name("One"), turn_started()]).await;
        assert_eq!(titles(&bench, false).await, ["One running"]);
        bench.says(vec![approval_request(0)]).await;
        // Whoever was shown the request finds it in the list.
        bench.frame("approval").await;
        assert_eq!(titles(&bench, false).await, ["One waiting"]);
        bench.goes_down().await;
        bench.frame("approval_resolved").await;
        assert_eq!(titles(&bench, false).await, ["One idle"]);
        bench.says(vec![notification("thread/archived", &json!({"threadId": "t"}))]).await;
        assert!(titles(&bench, false).await.is_empty());
        assert_eq!(titles(&bench, true).await, ["One idle"]);
        // The next registry knows what was stored.
        bench.supervisor.restart("threads").await.unwrap();
        bench.supervisor.tree().await.unwrap();
        assert_eq!(titles(&bench, true).await, ["One idle"]);
    });
}

#[test]
fn a_thread_that_panicked_is_listed_as_idle_until_it_is_rebuilt() {
    on_system(async {
        let bench = Bench::new(MemoryStore::default()).await;
        bench.says(vec![turn_started()]).await;
        assert_eq!(titles(&bench, false).await, ["New chat running"]);
        assert_eq!(bench.stats.threads_alive.get(), 1);
        bench.says(vec![notification("test/panic", &json!({"threadId": "t"}))]).await;
        assert_eq!(titles(&bench, false).await, ["New chat idle"]);
        let panics = bench.stats.panics.load(Ordering::Relaxed);
        assert_eq!((panics, bench.stats.threads_alive.get()), (1, 0));
        bench.threads.detail(&thread()).await.unwrap();
        assert_eq!(titles(&bench, false).await, ["New chat running"]);
    });
}
