//! The actor of one child process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use cm_core::ids::Incarnation;
use cm_core::restart::ExitKind;
use cm_core::rpc::encode_notification;
use cm_core::wire::ExitView;
use cm_process::{Child, ChildExit, OrphanLedger, StdinError};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::boot::{Boot, OwnCall, Step, drift, initialize_params, say};
use super::calls::{CallTable, Caller, Settled};
use super::classify::{classify, settle};
use super::config::AppServerConfig;
use super::failure::CallFailure;
use super::messages::{
    Batch, CallOutcome, Inbound, InboundKind, RuntimeDown, RuntimeEvent, RuntimeUp,
};
use super::parse::Parsed;
use super::pipe::{self, FromChild, describe};
use super::status::{AppServerStatus, StatusCell};
use crate::clock;
use crate::journal::Flow;
use crate::supervisor::ExitGuard;

/// How often deadlines and retries are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How long a batch waits before it is offered again to a registry that is being restarted.
const OFFER_AGAIN: Duration = Duration::from_millis(50);

/// How long the child may take to name its account or to sign in.
const ACCOUNT_TIMEOUT: Duration = Duration::from_secs(10);

/// Who hears of the child: the registry.
pub(super) type Listener = Box<dyn Fn() -> Option<Recipient<RuntimeEvent>>>;

/// How far a life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The process is started and introduced.
    Starting,
    /// Calls are taken.
    Ready,
    /// It was asked to end.
    Stopping,
    /// It is gone; the registry is still to be told.
    Gone,
}

/// One life of the child.
pub(super) struct AppServer {
    pub(super) config: Arc<AppServerConfig>,
    pub(super) status: StatusCell,
    listener: Listener,
    ledger: Arc<OrphanLedger>,
    pub(super) guard: ExitGuard,
    /// What the readers of the ring say about reading on.
    flow: Flow,
    pub(super) incarnation: Incarnation,
    pub(super) phase: Phase,
    pub(super) child: Option<Child>,
    boot: Boot,
    pub(super) calls: CallTable,
    /// Output of the child; `None` while it is being waited for.
    output: Option<mpsc::Receiver<FromChild>>,
    /// What the registry is still to be told, in order. Output is only read while this is empty.
    pub(super) outbox: VecDeque<RuntimeEvent>,
    /// Whether an event is on its way to the registry.
    sending: bool,
    /// Why the process is being ended, when that is known before it ends.
    verdict: Option<String>,
}

impl AppServer {
    pub(super) fn new(
        config: Arc<AppServerConfig>,
        status: StatusCell,
        calls: CallTable,
        listener: Listener,
        ledger: Arc<OrphanLedger>,
        guard: ExitGuard,
        flow: Flow,
    ) -> Self {
        let incarnation = guard.incarnation();
        Self {
            config,
            status,
            listener,
            ledger,
            guard,
            flow,
            incarnation,
            phase: Phase::Starting,
            child: None,
            boot: Boot::default(),
            calls,
            output: None,
            outbox: VecDeque::new(),
            sending: false,
            verdict: None,
        }
    }

    /// Changes what everyone may see, unless a later life has taken over.
    fn update(&self, change: impl FnOnce(&mut AppServerStatus)) {
        if self.status.read().incarnation <= self.incarnation {
            self.status.change(change);
        }
    }

    /// Starts the process on another thread: a file system may hang.
    fn spawn_child(&mut self, ctx: &mut Context<Self>) {
        let (work, output) = pipe::spawn(&self.config, &self.ledger);
        self.output = Some(output);
        ctx.spawn(work.into_actor(self).map(|result, actor, ctx| match result {
            Ok(child) => actor.spawned(child, ctx),
            Err(why) => actor.give_up(&why, ctx),
        }));
    }

    fn spawned(&mut self, child: Child, ctx: &mut Context<Self>) {
        let pid = child.pid();
        tracing::info!(pid, incarnation = self.incarnation.0, "app-server started");
        self.update(|status| status.pid = Some(pid));
        if self.phase == Phase::Stopping {
            child.stop(self.config.stop);
        }
        self.child = Some(child);
        self.own_call(OwnCall::Initialize, initialize_params(&self.config.version), ctx);
        self.pump(ctx);
        ctx.run_interval(TICK, |actor, ctx| actor.tick(ctx));
    }

    /// Ends without a process.
    fn give_up(&mut self, why: &str, ctx: &mut Context<Self>) {
        tracing::error!(why, "the app-server cannot be started");
        let view = ExitView {
            code: None,
            signal: None,
            at: clock::now_iso(),
            reason: Some(format!("The app-server could not be started: {why}.")),
            stderr: Vec::new(),
        };
        self.update(|status| status.last_exit = Some(view));
        self.guard.will_end(ExitKind::Failed, format!("could not be started: {why}"));
        self.phase = Phase::Gone;
        // What callers are still to be told goes out before the end.
        self.pump(ctx);
    }

    fn own_call(&mut self, call: OwnCall, params: Value, ctx: &mut Context<Self>) {
        let timeout = match call {
            OwnCall::Initialize | OwnCall::Probe => self.config.initialize_timeout,
            OwnCall::Account | OwnCall::Login => ACCOUNT_TIMEOUT,
        };
        if self.calls.add(Caller::Own(call), call.method(), params, timeout, false).is_err() {
            tracing::error!(?call, "too many calls wait");
        }
        self.write_calls(ctx);
    }

    /// Writes calls while there are places.
    pub(super) fn write_calls(&mut self, ctx: &mut Context<Self>) {
        let Some(child) = &self.child else { return };
        let stdin = child.stdin();
        let now = Instant::now();
        let mut unsent = Vec::new();
        while let Some((id, line)) = self.calls.next_line(now) {
            if let Err(error) = stdin.write(line) {
                tracing::warn!(%error, "a call could not be written");
                let failure = match error {
                    StdinError::Full | StdinError::TooLarge { .. } => CallFailure::Overloaded,
                    StdinError::Closed => CallFailure::Unavailable,
                };
                unsent.push(self.calls.failed(id, failure));
            }
        }
        let in_flight = self.calls.in_flight();
        if self.status.read().in_flight != in_flight {
            self.update(|status| status.in_flight = in_flight);
        }
        self.settle_all(unsent, ctx);
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let settled = self.calls.expired(Instant::now());
        self.settle_all(settled, ctx);
        self.write_calls(ctx);
        if let Some(child) = &self.child {
            let stderr = child.stderr_tail();
            if self.status.read().stderr != stderr {
                self.update(|status| status.stderr = stderr);
            }
        }
    }

    /// Hands outcomes to their owners; those that travel in batches become one.
    pub(super) fn settle_all(&mut self, settled: Vec<Settled>, ctx: &mut Context<Self>) {
        let mut items: Vec<Inbound> = Vec::new();
        for settled in settled {
            match settled {
                Settled::Own(call, outcome) => self.own_answer(call, &outcome, ctx),
                Settled::Owner(owner, outcome) => items.extend(settle(owner, outcome)),
                Settled::Again | Settled::Unknown => {}
            }
        }
        if !items.is_empty() {
            let batch =
                Batch { incarnation: self.incarnation, received_at: clock::now_iso(), items };
            self.outbox.push_back(RuntimeEvent::Batch(Arc::new(batch)));
            self.pump(ctx);
        }
    }

    fn own_answer(&mut self, call: OwnCall, outcome: &CallOutcome, ctx: &mut Context<Self>) {
        let has_key = self.config.api_key.is_some();
        match self.boot.apply(call, outcome, has_key) {
            Step::Introduced => {
                let line = encode_notification::<()>("initialized", None);
                if let (Some(child), Ok(line)) = (&self.child, line)
                    && let Err(error) = child.stdin().write(line)
                {
                    tracing::warn!(%error, "`initialized` could not be written");
                }
                self.own_call(OwnCall::Probe, json!({}), ctx);
                self.own_call(OwnCall::Account, json!({}), ctx);
            }
            Step::LogIn => {
                tracing::info!("the app-server has no account; signing in with OPENAI_API_KEY");
                let key = self.config.api_key.clone().unwrap_or_default();
                self.own_call(OwnCall::Login, json!({ "type": "apiKey", "apiKey": key }), ctx);
            }
            Step::ReadAccount => self.own_call(OwnCall::Account, json!({}), ctx),
            Step::Ready => self.ready(ctx),
            Step::Unusable(why) => self.kill(why),
            Step::Wait => {}
        }
        let account = self.boot.account.clone();
        self.update(|status| status.account = account);
    }

    fn ready(&mut self, ctx: &mut Context<Self>) {
        let profile = Arc::new(self.boot.profile.clone());
        let before = Arc::clone(&self.status.read().drift);
        let drift = Arc::new(drift(&profile, &before));
        // Once, not at every restart; what our own runtime lacks is no news.
        let is_news = (&drift.missing, &drift.new) != (&before.missing, &before.new);
        if is_news && self.config.program.runtime != "embedded" {
            say(&drift, profile.version);
        }
        tracing::info!(
            incarnation = self.incarnation.0,
            version = profile.version.map(|version| version.to_string()),
            methods = profile.methods.len(),
            "app-server ready"
        );
        if self.boot.account.required && self.boot.account.account.is_none() {
            tracing::warn!("the app-server needs a login: turns will fail until there is one");
        }
        if self.phase == Phase::Starting {
            self.phase = Phase::Ready;
        }
        let published = Arc::clone(&profile);
        self.update(|status| {
            status.profile = published;
            status.drift = drift;
            status.profiled_at = Some(clock::now_iso());
        });
        let up = RuntimeUp { incarnation: self.incarnation, profile };
        self.outbox.push_back(RuntimeEvent::Up(up));
        self.pump(ctx);
    }

    /// Ends a process that cannot be used.
    fn kill(&mut self, why: String) {
        tracing::warn!(why, "app-server cannot be used; ending it");
        self.verdict = Some(why);
        if let Some(child) = &self.child {
            child.kill_group();
        }
    }

    /// Tells the registry what it is still to be told, then reads on.
    pub(super) fn pump(&mut self, ctx: &mut Context<Self>) {
        if self.sending {
            return;
        }
        if let Some(event) = self.outbox.front() {
            self.sending = true;
            let event = event.clone();
            // Asked anew each time: the registry may be in another life.
            let request = (self.listener)().map(|listener| listener.send(event));
            let work = async move {
                let taken = match request {
                    Some(request) => request.await.is_ok(),
                    None => false,
                };
                if !taken {
                    // The registry is being restarted; the event is kept until it is taken.
                    tokio::time::sleep(OFFER_AGAIN).await;
                }
                taken
            };
            ctx.spawn(work.into_actor(self).map(|taken, actor, ctx| {
                actor.sending = false;
                if taken {
                    let told = actor.outbox.pop_front();
                    // Whoever reads that it is ready may create a session at once, which fails
                    // while the registry does not know it.
                    if matches!(told, Some(RuntimeEvent::Up(_))) && actor.phase == Phase::Ready {
                        actor.update(|status| status.initialized = true);
                    }
                }
                actor.pump(ctx);
            }));
            return;
        }
        if self.phase == Phase::Gone {
            ctx.stop();
            return;
        }
        let Some(mut output) = self.output.take() else {
            return;
        };
        let flow = self.flow.clone();
        let read = async move {
            if !flow.is_open() {
                flow.opened().await;
            }
            let read = output.recv().await;
            (output, read)
        };
        ctx.spawn(read.into_actor(self).map(|(output, read), actor, ctx| {
            actor.output = Some(output);
            match read {
                Some(FromChild::Lines(lines)) => actor.read(lines, ctx),
                Some(FromChild::Ended(exit)) => actor.ended(exit, ctx),
                None => actor.ended(ChildExit::default(), ctx),
            }
            actor.pump(ctx);
        }));
    }

    fn read(&mut self, lines: Parsed, ctx: &mut Context<Self>) {
        if !lines.unknown.is_empty() {
            self.update(|status| {
                let drift = Arc::make_mut(&mut status.drift);
                lines.unknown.iter().for_each(|method| drift.count(method.name()));
            });
        }
        self.follow_login(&lines);
        let classified = classify(lines, self.incarnation, &mut self.calls);
        if !classified.batch.items.is_empty() {
            self.outbox.push_back(RuntimeEvent::Batch(Arc::new(classified.batch)));
        }
        for (call, outcome) in classified.own {
            self.own_answer(call, &outcome, ctx);
        }
        if classified.account_changed && self.phase == Phase::Ready {
            self.own_call(OwnCall::Account, json!({}), ctx);
        }
        self.write_calls(ctx);
    }

    /// Notes whether the child's login can be renewed: it says when it cannot, and when it has
    /// another account; and a turn that ends well shows that it can.
    fn follow_login(&mut self, lines: &Parsed) {
        let before = self.boot.account.used_up;
        if before.is_some() && (lines.account_changed || lines.items.iter().any(is_turn_well_ended))
        {
            self.boot.account.used_up = None;
        }
        if lines.used_up.is_some() {
            self.boot.account.used_up = lines.used_up;
        }
        let now = self.boot.account.used_up;
        if now != before {
            if let Some(failure) = now {
                tracing::warn!(why = failure.sentence(), "turns will fail until there is a login");
            }
            self.update(|status| status.account.used_up = now);
        }
    }

    fn ended(&mut self, exit: ChildExit, ctx: &mut Context<Self>) {
        if self.phase == Phase::Gone {
            return;
        }
        let stopping = self.phase == Phase::Stopping;
        self.phase = Phase::Gone;
        let (why, view) = describe(exit, self.verdict.take());
        if stopping {
            tracing::info!(why, incarnation = self.incarnation.0, "app-server stopped");
        } else {
            let stderr: Vec<&String> = view.stderr.iter().rev().take(5).rev().collect();
            tracing::warn!(why, incarnation = self.incarnation.0, ?stderr, "app-server is gone");
        }
        self.update(|status| {
            status.last_exit = Some(view);
            status.pid = None;
            status.initialized = false;
            status.in_flight = 0;
            status.stderr = Vec::new();
        });
        if let Some(child) = self.child.take() {
            let ledger = Arc::clone(&self.ledger);
            let pid = child.pid();
            // Dropping the child ends what is left of its group.
            drop(child);
            tokio::task::spawn_blocking(move || {
                if let Err(error) = ledger.forget(pid) {
                    tracing::warn!(%error, pid, "the child could not be unlisted");
                }
            });
        }
        // Nobody who waits is left waiting.
        let abandoned = self.calls.abandon();
        self.settle_all(abandoned, ctx);
        let why = format!("The Codex runtime {why}.");
        self.guard.will_end(
            if stopping { ExitKind::Normal } else { ExitKind::Failed },
            why.trim_end_matches('.').to_owned(),
        );
        let down = RuntimeDown { incarnation: self.incarnation, why };
        self.outbox.push_back(RuntimeEvent::Down(down));
    }
}

impl Actor for AppServer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let incarnation = self.incarnation;
        self.update(|status| {
            status.incarnation = incarnation;
            status.pid = None;
            status.initialized = false;
            status.in_flight = 0;
        });
        self.spawn_child(ctx);
        // A hung introduction is bounded as a whole, not only call by call.
        let limit = self.config.initialize_timeout;
        ctx.run_later(limit, move |actor, _| {
            if actor.phase == Phase::Starting && actor.child.is_some() {
                actor.kill(format!("it was not ready within {} s", limit.as_secs_f64()));
            }
        });
    }
}

/// Whether a turn ended well; only asked while the login is thought to be used up.
fn is_turn_well_ended(inbound: &Inbound) -> bool {
    let InboundKind::Notification { method, params: Some(params) } = &inbound.kind else {
        return false;
    };
    method.name() == "turn/completed" && params.get().contains(r#""status":"completed""#)
}
