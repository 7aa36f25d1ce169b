//! The actor of one thread: its state, and how changes become durable and visible.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::WeakRecipient;
use actix::prelude::*;
use cm_core::controls::Controls;
use cm_core::error::Failure;
use cm_core::event::{Audience, Event, FrameBatch, Method, SessionPieces};
use cm_core::ids::{Incarnation, ProjectId, RequestId, ThreadId};
use cm_core::request::{ExpiryReason, RequestRecord};
use cm_core::rpc::{RawJson, RpcId};
use cm_core::thread::{Ended, ThreadRecord, ThreadState, Writes};
use cm_core::wire::{MessageAccepted, SendMessage, SessionSummary};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::actions::Awaited;
use super::answers::Answers;
use super::calls::Pending;
use super::config::ThreadConfig;
use super::messages::{Deleted, Reply, RequestNews};
use super::paths::Paths;
use super::recovery::{HISTORY_DEADLINE, Recovery};
use super::registry::ThreadRegistry;
use super::view;
use crate::app_server::{AppServerHandle, Call, CallFailure, Owner, RuntimeUp};
use crate::clock;
use crate::handle::Handle;
use crate::index::SessionIndex;
use crate::journal::JournalHandle;
use crate::metrics::Counted;
use crate::request::Request;
use crate::store::{OpenMark, StoreHandle, StoredThread, WriteBatch};

/// Messages that may wait for one thread. Overflow rule: commands are refused with `overloaded`;
/// batches of the child wait in the registry, which holds the pipe back.
pub(super) const MAILBOX: usize = 256;

/// How long a new session waits for the child to take its name: it is worth having, not waiting
/// for.
const FIRST_NAME_DEADLINE: Duration = Duration::from_secs(5);

/// What all threads share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) config: Arc<ThreadConfig>,
    /// What lists show.
    pub(super) index: SessionIndex,
    pub(super) store: StoreHandle,
    pub(super) journal: JournalHandle,
    pub(super) app_server: AppServerHandle,
    pub(super) registry: Handle<ThreadRegistry>,
    /// Identity of this life of the manager: what was open in another one is over.
    pub(super) boot: Arc<str>,
    /// Numbers of calls, never used twice: an answer to a call of an earlier life of a thread must
    /// not settle another one's.
    pub(super) tokens: Arc<AtomicU64>,
    /// Looks at files and folders.
    pub(super) paths: Paths,
    /// Answers to reads, while they hold.
    pub(super) answers: Answers,
}

impl Shared {
    /// A number for a call.
    pub(super) fn next_token(&self) -> u64 {
        self.tokens.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts the actor of a request, which tells its owner what becomes of it.
    pub(super) fn start_request(
        &self,
        record: RequestRecord,
        owner: WeakRecipient<RequestNews>,
    ) -> LiveRequest {
        let request = Request::new(
            record.clone(),
            self.store.clone(),
            self.journal.clone(),
            self.app_server.clone(),
            owner,
            Arc::clone(&self.config.policy),
        );
        let waits = record.status() == "pending";
        let counted = waits.then(|| self.config.stats.requests_pending.count());
        LiveRequest { address: request.start(), record, counted }
    }
}

/// Called when a durable change is on the disk, or could not be put there.
pub(super) type Done = Box<dyn FnOnce(&mut Thread, &mut Context<Thread>, Result<(), Failure>)>;

/// A change that must be on the disk before it is shown or answered.
#[derive(Default)]
pub(super) struct Durable {
    pub(super) frames: FrameBatch,
    pub(super) done: Vec<Done>,
}

/// What became of the child in which a stored thread's turns ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoredChild {
    /// It still lives: the thread is being rebuilt.
    Alive,
    /// It is gone; this manager saw it.
    Gone,
    /// It was the child of a manager that is gone, and went with it.
    OfAnotherManager,
}

pub(super) struct LiveRequest {
    pub(super) address: Addr<Request>,
    pub(super) record: RequestRecord,
    /// Counts it among those that wait, while it does.
    pub(super) counted: Option<Counted>,
}

/// One Codex thread.
pub(super) struct Thread {
    pub(super) shared: Shared,
    pub(super) id: ThreadId,
    pub(super) state: ThreadState,
    pub(super) requests: HashMap<RequestId, LiveRequest>,
    /// The child, while it is up.
    pub(super) runtime: Option<RuntimeUp>,
    /// The life of the child in which the thread is loaded.
    pub(super) loaded: Option<Incarnation>,
    /// The controls with which the child has it loaded, as far as is known.
    pub(super) in_force: Option<Controls>,
    /// Calls of the child that were not answered yet, by their number.
    pub(super) pending: HashMap<u64, Pending>,
    /// Changes that are not queued for the store yet.
    pub(super) writes: WriteBatch,
    /// Whether the thread's record changed: it is written once, with the rest.
    pub(super) record_changed: bool,
    /// Frames that are not published yet.
    pub(super) frames: FrameBatch,
    /// What the frames of this session have in common.
    pub(super) pieces: SessionPieces,
    /// What waits for everything noted so far to be on the disk.
    pub(super) durable: Option<Durable>,
    /// What the store has as the mark of what is unfinished.
    pub(super) marked: Option<OpenMark>,
    /// What lists show that it is doing.
    pub(super) activity: &'static str,
    /// Whether lists show it as it was before a change.
    pub(super) row_due: bool,
    /// What became of the child in which the stored thread's turns ran.
    child: StoredChild,
    /// Messages that wait until it is known whether a turn is about to run that they join.
    pub(super) waiting: VecDeque<(SendMessage, Reply<MessageAccepted>)>,
    /// Whether it is being looked up which turns are to be taken back.
    pub(super) rolling_back: bool,
    /// Whether another thread is being started in the place of the one behind the session.
    pub(super) replacing: bool,
    /// Set while the child is about to begin a turn that it has not told of.
    pub(super) awaited: Option<Awaited>,
    /// A turn of which the child says that it no longer runs, before it has said how it ended.
    pub(super) ending: Option<String>,
    /// Whether it is being removed: what else the child said in the same batch is passed over.
    pub(super) removing: bool,
    /// Set when the session was deleted: nothing of it is stored or shown any more.
    pub(super) deleted: Option<Deleted>,
    /// Told when no turn runs any more, because the manager is about to stop.
    pub(super) parked: Option<oneshot::Sender<()>>,
    /// Requests of this life of the child that are to be taken up again after a panic.
    adopted: Vec<RequestRecord>,
    /// Requests that are being stored: they have no actor yet.
    pub(super) asked: HashMap<RequestId, (Incarnation, RpcId)>,
    /// Loading and comparing after the thread was cut.
    pub(super) recovery: Recovery,
    /// Whether a message waits for a look at the session's folder.
    pub(super) checking: bool,
    /// Work that goes on beside the mailbox.
    pub(super) busy: usize,
    /// Messages of the registry that were handled.
    pub(super) handled: u64,
    /// The state that answers to reads show; never the same number twice.
    pub(super) revision: u64,
    /// The number of the last change of what lists show; 0 when there was none in this life.
    pub(super) touched: u64,
    /// The revision since which what was read of the store's rows holds.
    pub(super) index_life: u64,
    _counted: Counted,
}

impl Thread {
    /// A thread as it was stored; `loaded` is the life of the child in which it was loaded when it
    /// was let go.
    pub(super) fn rebuild(
        shared: Shared,
        stored: StoredThread,
        runtime: Option<RuntimeUp>,
        child: StoredChild,
        loaded: Option<Incarnation>,
    ) -> Self {
        let marked = stored.mark;
        let works = marked.as_ref().is_some_and(|mark| {
            mark.turns.as_ref().is_none_or(|turns| !turns.is_empty()) || !mark.requests.is_empty()
        });
        // What runs in the child is loaded in it.
        let alive = works && child == StoredChild::Alive;
        let now = runtime.as_ref().map(|up| up.incarnation);
        let loaded = now.filter(|now| alive || loaded == Some(*now));
        let recovery = Recovery::of(marked.as_ref().is_some_and(|mark| mark.recover));
        let cap = shared.config.item_cap;
        let state = ThreadState::new(stored.record, stored.turns, stored.open_items, cap);
        let revision = shared.next_token();
        Self {
            id: state.record.id.clone(),
            revision,
            touched: 0,
            index_life: revision,
            _counted: shared.config.stats.threads_alive.count(),
            shared,
            state,
            requests: HashMap::new(),
            runtime,
            loaded,
            in_force: None,
            pending: HashMap::new(),
            writes: WriteBatch::default(),
            record_changed: false,
            frames: FrameBatch::default(),
            pieces: SessionPieces::none(),
            durable: None,
            marked,
            activity: view::IDLE,
            row_due: true,
            child,
            waiting: VecDeque::new(),
            awaited: None,
            ending: None,
            rolling_back: false,
            replacing: false,
            removing: false,
            deleted: None,
            parked: None,
            adopted: stored.pending,
            asked: HashMap::new(),
            recovery,
            checking: false,
            busy: 0,
            handled: 0,
        }
    }

    /// A thread that the store does not know yet; the child speaks of it, so it has it loaded.
    pub(super) fn fresh(shared: Shared, record: ThreadRecord, runtime: Option<RuntimeUp>) -> Self {
        let loaded = runtime.as_ref().map(|up| up.incarnation);
        let stored = StoredThread::of(record);
        let mut thread = Self::rebuild(shared, stored, runtime, StoredChild::Alive, loaded);
        thread.note(Writes { thread: true, ..Writes::default() });
        // From now on lists show it: the word of it is stored with the record that they are read
        // from.
        thread.session_updated("appeared");
        thread
    }

    /// Whether the child has the thread loaded.
    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.is_some() && self.loaded == self.runtime.as_ref().map(|up| up.incarnation)
    }

    /// Whether this version of the child has a method.
    pub(super) fn child_has(&self, method: &str) -> bool {
        self.runtime.as_ref().is_some_and(|up| up.profile.has(method))
    }

    pub(super) fn summary(&self) -> SessionSummary {
        view::summary(&self.state.record, self.current_activity())
    }

    pub(super) fn current_activity(&self) -> &'static str {
        if self.requests.values().any(|request| request.record.is_pending()) {
            "waiting"
        } else if self.state.active_turn().is_some() {
            "running"
        } else {
            view::IDLE
        }
    }

    /// Demands that everything noted so far is on the disk before `done` runs.
    pub(super) fn when_durable(&mut self, done: Done) {
        self.durable.get_or_insert_default().done.push(done);
    }

    /// Calls a method of the child for this thread, which is named in `params` here; the answer
    /// comes back in its stdout order. A call that cannot be made is answered at once.
    pub(super) fn call(
        &mut self,
        method: &'static str,
        mut params: Value,
        pending: Pending,
        ctx: &mut Context<Self>,
    ) {
        let token = self.shared.next_token();
        let owner = Owner::Thread { thread_id: self.id.clone(), token };
        let background = pending.is_background();
        let deadline = match pending {
            Pending::FirstName { .. } => Some(FIRST_NAME_DEADLINE),
            Pending::History(_) => Some(HISTORY_DEADLINE),
            _ => None,
        };
        params["threadId"] = json!(self.state.record.runtime_id());
        let call = Call { owner, method, params, deadline, background };
        match self.shared.app_server.start_call(call) {
            Ok(()) => {
                self.pending.insert(token, pending);
            }
            Err(error) => self.answered(pending, Err(error), ctx),
        }
    }

    /// Brings what the frames of this session have in common up to date.
    pub(super) fn refresh_pieces(&mut self) {
        let record = &self.state.record;
        let title = record.title.as_ref().map(|title| title.text.as_str());
        let project_id = record.project_id.as_ref().map(ProjectId::as_str);
        let known = self.pieces.audience() != &Audience::Unfiltered;
        if !known || !self.pieces.is_current(title, project_id) {
            self.pieces = SessionPieces::new(&self.id, title, project_id);
        }
    }

    /// Every running turn ends `interrupted`, every request expires, every call fails.
    pub(super) fn settle_down(&mut self, why: &str, reason: ExpiryReason) {
        // What was cut is loaded again and compared with the runtime's history.
        let waiting = self.requests.values().any(|live| !live.record.is_closed());
        self.recovery.wanted |= waiting || !self.state.running().is_empty();
        let received_at = clock::now_iso();
        for ended in self.state.runtime_down(why, clock::now_ms()) {
            self.show_untold_end(ended, &received_at);
        }
        self.expire_requests(reason, |_| true);
    }

    /// A turn is over, and the child does not say how it ended. Its history may.
    pub(super) fn lose_turn(&mut self, turn_id: &str, why: &str) {
        self.recovery.wanted = true;
        let ended = self.state.turn_lost(turn_id, why, clock::now_ms());
        self.show_untold_end(ended, &clock::now_iso());
        self.expire_requests(ExpiryReason::TurnEnded, |request| {
            request.turn_id.as_deref() == Some(turn_id)
        });
    }

    /// Shows the end of a turn that the child does not tell of.
    pub(super) fn show_untold_end(&mut self, ended: Ended, received_at: &str) {
        self.note(ended.writes);
        let params = view::interrupted_params(&self.id, &ended.turn);
        let Ok(params) = RawJson::encode(&params) else { return };
        self.refresh_pieces();
        self.frames.plain(&Event {
            session: &self.pieces,
            turn_id: Some(&ended.turn.id),
            received_at,
            method: &Method::new("turn/completed"),
            params: Some(&params),
        });
    }

    /// Expires the requests that `which` picks.
    pub(super) fn expire_requests(
        &mut self,
        reason: ExpiryReason,
        which: impl Fn(&RequestRecord) -> bool,
    ) {
        let live = self.requests.values().filter(|live| which(&live.record));
        let alone: Vec<RequestId> =
            live.filter(|live| !live.expire(reason)).map(|live| live.record.id.clone()).collect();
        for id in alone {
            if let Some(live) = self.requests.remove(&id) {
                self.expire_alone(live.record, reason);
            }
        }
    }

    /// Expires the requests of a life that is over. They get no actor: nothing of them may ever
    /// reach another child, whose ids begin at 0 again.
    fn expire_adopted(&mut self, reason: ExpiryReason) {
        for record in std::mem::take(&mut self.adopted) {
            self.recovery.wanted = true;
            self.expire_alone(record, reason);
        }
    }

    /// Expires a request that has no actor.
    fn expire_alone(&mut self, mut record: RequestRecord, reason: ExpiryReason) {
        let now = clock::now_ms();
        let was_pending = record.status() == "pending";
        record.expire(reason, now, &clock::iso(now));
        self.note_request(&record);
        if was_pending {
            self.show_end(&record);
        }
    }

    /// Starts the actor of a request.
    pub(super) fn start_request(&mut self, record: RequestRecord, ctx: &mut Context<Self>) {
        let owner = ctx.address().downgrade().recipient();
        let live = self.shared.start_request(record, owner);
        self.requests.insert(live.record.id.clone(), live);
    }

    /// Does work beside the mailbox, then goes on with what came of it.
    pub(super) fn spawn_busy<T: 'static>(
        &mut self,
        work: impl Future<Output = T> + 'static,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, T, &mut Context<Self>) + 'static,
    ) {
        self.busy += 1;
        ctx.spawn(work.into_actor(self).map(|done, thread: &mut Self, ctx| {
            thread.busy -= 1;
            then(thread, done, ctx);
            let flush = thread.flush();
            ctx.spawn(flush);
        }));
    }

    /// The failure of a command that needs the child while it is not there.
    pub(super) fn no_runtime() -> Failure {
        CallFailure::Unavailable.failure("")
    }
}

impl Actor for Thread {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        match self.child {
            StoredChild::Alive => {
                for record in std::mem::take(&mut self.adopted) {
                    self.start_request(record, ctx);
                }
            }
            StoredChild::Gone => {
                let why = "The Codex process that ran this turn is gone.";
                self.expire_adopted(ExpiryReason::RuntimeDown);
                self.settle_down(why, ExpiryReason::RuntimeDown);
            }
            StoredChild::OfAnotherManager => {
                let why = "The manager was restarted while this turn ran.";
                self.expire_adopted(ExpiryReason::ManagerRestarted);
                self.settle_down(why, ExpiryReason::ManagerRestarted);
            }
        }
        let flush = self.flush();
        ctx.wait(flush);
    }
}

impl Handler<RequestNews> for Thread {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, news: RequestNews, ctx: &mut Self::Context) -> Self::Result {
        match news {
            RequestNews::Changed(record) => self.request_changed(*record, ctx),
            RequestNews::Kept(record) => {
                let id = record.id.clone();
                // The word of it may not have come through.
                self.request_changed(*record, ctx);
                self.requests.remove(&id);
            }
        }
        AtomicResponse::new(self.flush())
    }
}
