//! The supervisor itself.

use std::time::{Duration, Instant};

use actix::prelude::*;
use cm_core::ids::Incarnation;
use cm_core::restart::{Decision, ExitKind};
use cm_core::wire::TreeNode;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::oneshot;

use super::child::{Child, State};
use super::guard::ExitGuard;
use super::handle::{ChildExited, GetTree, RestartChild, ShutDown, SupervisorHandle};
use super::spec::{ChildSpec, Started};

/// Room for exits: every child has one guard, so this is never reached by the tree we build.
const MAILBOX: usize = 1024;

/// What happens to the siblings of a child that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Nothing.
    OneForOne,
    /// Those that were started after it are stopped and started again behind it.
    RestForOne,
}

/// A restart that is due. Sent by the supervisor's timers to itself.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct RestartTick {
    index: usize,
    after: Incarnation,
}

/// Starts, watches and restarts its children.
pub struct Supervisor {
    /// Name of the root of its tree.
    name: &'static str,
    strategy: Strategy,
    handle: SupervisorHandle,
    children: Vec<Child>,
    /// Moment that the histories count from.
    began: Instant,
    /// Set by [`ShutDown`]: nothing is started any more.
    shutting_down: bool,
    /// Set when this supervisor is itself a child.
    guard: Option<ExitGuard>,
}

impl Supervisor {
    /// Starts a supervisor and, in order, its children, on the current arbiter.
    pub fn start_tree(
        name: &'static str,
        strategy: Strategy,
        specs: Vec<ChildSpec>,
    ) -> SupervisorHandle {
        Self::start_nested(name, strategy, specs, None).0
    }

    /// Starts a supervisor that is itself a child of another.
    pub fn start_nested(
        name: &'static str,
        strategy: Strategy,
        specs: Vec<ChildSpec>,
        guard: Option<ExitGuard>,
    ) -> (SupervisorHandle, Started) {
        let handle = SupervisorHandle::default();
        let children = specs.into_iter().map(Child::new).collect();
        let supervisor = Self {
            name,
            strategy,
            handle: handle.clone(),
            children,
            began: Instant::now(),
            shutting_down: false,
            guard,
        };
        let address = Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX);
            supervisor
        });
        handle.handle.fill(address.clone());
        let stop = address.clone();
        let look = address;
        let started = Started {
            stop: Box::new(move || {
                let request = stop.send(StopNested);
                actix::spawn(async move { request.await.ok() });
            }),
            observe: Box::new(move || {
                let request = look.send(GetTree).timeout(Duration::from_secs(1));
                Box::pin(async move {
                    let tree = request.await.ok()?;
                    serde_json::to_value(tree.children).ok()
                })
            }),
            clear: Box::new(|| {}),
        };
        (handle, started)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn start_child(&mut self, index: usize, ctx: &mut Context<Self>) {
        let now = self.now();
        let handle = self.handle.clone();
        let Some(child) = self.children.get_mut(index) else {
            return;
        };
        if self.shutting_down || child.started.is_some() {
            return;
        }
        if let Some(timer) = child.timer.take() {
            ctx.cancel_future(timer);
        }
        child.incarnation = child.incarnation.next();
        let guard = ExitGuard::new(handle, child.spec.name, child.incarnation);
        tracing::debug!(child = child.spec.name, incarnation = child.incarnation.0, "starting");
        child.start(guard, now);
    }

    /// Asks a child to end and arms its deadline. The guard brings it back here.
    fn stop_child(&mut self, index: usize, ctx: &mut Context<Self>) {
        let Some(child) = self.children.get_mut(index) else {
            return;
        };
        if let Some(timer) = child.timer.take() {
            ctx.cancel_future(timer);
        }
        if child.started.is_none() {
            return;
        }
        child.set(State::Stopping);
        let Some(started) = &child.started else {
            return;
        };
        (started.stop)();
        let name = child.spec.name;
        let incarnation = child.incarnation;
        let deadline = child.spec.shutdown;
        ctx.run_later(deadline, move |supervisor, ctx| {
            let late = supervisor
                .children
                .get(index)
                .is_some_and(|child| child.incarnation == incarnation && child.started.is_some());
            if late {
                tracing::error!(child = name, ?deadline, "did not end in time; given up on");
                supervisor.ended(
                    index,
                    ExitKind::Failed,
                    format!("did not end within {deadline:?}"),
                    ctx,
                );
            }
        });
    }

    fn ended(&mut self, index: usize, kind: ExitKind, why: String, ctx: &mut Context<Self>) {
        let now = self.now();
        let Some(child) = self.children.get_mut(index) else {
            return;
        };
        let Some(started) = child.started.take() else {
            return;
        };
        (started.clear)();
        let was_stopping = child.state == State::Stopping;
        child.last_exit = Some(why);
        child.set(State::Stopped);
        for waiting in child.waiting.drain(..) {
            // The one who asked may have stopped waiting.
            waiting.send(()).ok();
        }
        let name = child.spec.name;
        if kind == ExitKind::Panicked {
            tracing::error!(child = name, incarnation = child.incarnation.0, "panicked");
        }
        if self.shutting_down {
            return;
        }
        if was_stopping && child.restart_at_once {
            child.history.restarted();
            self.stop_rest(index, ctx);
            self.start_in_order(ctx);
            return;
        }
        let decision =
            child.history.ended(child.spec.restart, &child.spec.policy, kind, now, rand::random());
        let incarnation = child.incarnation;
        let why = child.last_exit.clone().unwrap_or_default();
        match decision {
            Decision::Done => tracing::info!(child = name, why, "ended and stays so"),
            Decision::Restart { after } => {
                tracing::warn!(child = name, why, ?after, "ended; will be started again");
                child.set(State::Backoff);
                self.arm(index, incarnation, after, ctx);
            }
            Decision::GiveUp { probe_after } => {
                tracing::error!(
                    child = name,
                    why,
                    ?probe_after,
                    "ended too often; marked failed, will be probed"
                );
                child.set(State::Failed);
                self.arm(index, incarnation, probe_after, ctx);
            }
        }
        if decision != Decision::Done {
            self.stop_rest(index, ctx);
        }
    }

    /// Under rest-for-one: stops what was started behind a child that ended, to be started again
    /// behind its next life.
    fn stop_rest(&mut self, index: usize, ctx: &mut Context<Self>) {
        if self.strategy != Strategy::RestForOne {
            return;
        }
        for later in (index + 1..self.children.len()).rev() {
            let Some(child) = self.children.get_mut(later) else { continue };
            child.restart_at_once = true;
            if child.state == State::Running {
                self.stop_child(later, ctx);
            }
        }
    }

    fn arm(&mut self, index: usize, after: Incarnation, delay: Duration, ctx: &mut Context<Self>) {
        let timer = ctx.notify_later(RestartTick { index, after }, delay);
        if let Some(child) = self.children.get_mut(index) {
            child.timer = Some(timer);
        }
    }

    /// Starts, in order, every child that is to be started at once and whose predecessors run.
    fn start_in_order(&mut self, ctx: &mut Context<Self>) {
        for index in 0..self.children.len() {
            let (wanted, running) = match self.children.get(index) {
                Some(child) => (child.restart_at_once, child.started.is_some()),
                None => return,
            };
            if wanted && !running {
                self.start_child(index, ctx);
            } else if !running && self.strategy == Strategy::RestForOne {
                // A predecessor waits for its backoff; those behind it start when it has.
                return;
            }
        }
    }

    fn index_of(&self, name: &str) -> Option<usize> {
        self.children.iter().position(|child| child.spec.name == name)
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for index in 0..self.children.len() {
            self.start_child(index, ctx);
        }
    }
}

impl Handler<ChildExited> for Supervisor {
    type Result = ();

    fn handle(&mut self, exited: ChildExited, ctx: &mut Self::Context) {
        let Some(index) = self.index_of(exited.child) else {
            return;
        };
        let current = self.children.get(index).map(|child| child.incarnation);
        if current == Some(exited.incarnation) {
            self.ended(index, exited.kind, exited.why, ctx);
        }
    }
}

impl Handler<RestartTick> for Supervisor {
    type Result = ();

    fn handle(&mut self, due: RestartTick, ctx: &mut Self::Context) {
        let still_due = self
            .children
            .get(due.index)
            .is_some_and(|child| child.incarnation == due.after && child.started.is_none());
        if still_due {
            if let Some(child) = self.children.get_mut(due.index) {
                child.timer = None;
            }
            self.start_child(due.index, ctx);
            self.start_in_order(ctx);
        }
    }
}

impl Handler<RestartChild> for Supervisor {
    type Result = Option<Incarnation>;

    fn handle(
        &mut self,
        RestartChild(name): RestartChild,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        if self.shutting_down {
            return None;
        }
        let index = self.index_of(&name)?;
        let child = self.children.get_mut(index)?;
        let incarnation = child.incarnation;
        child.history.forgive();
        child.restart_at_once = true;
        tracing::info!(child = child.spec.name, "restart by hand");
        if child.started.is_some() {
            self.stop_child(index, ctx);
        } else {
            self.start_child(index, ctx);
        }
        Some(incarnation)
    }
}

impl Handler<GetTree> for Supervisor {
    type Result = ResponseFuture<TreeNode>;

    fn handle(&mut self, _: GetTree, _: &mut Self::Context) -> Self::Result {
        let name = self.name;
        let nodes: Vec<_> = self.children.iter().map(Child::look).collect();
        Box::pin(async move {
            let looks = nodes.into_iter().map(|(mut node, look)| async move {
                let observed = match look {
                    Some(look) => look.await.unwrap_or(Value::Null),
                    None => Value::Null,
                };
                // A nested supervisor answers with its own children, a leaf with an object.
                match serde_json::from_value::<Vec<TreeNode>>(observed.clone()) {
                    Ok(children) if observed.is_array() => node.children = children,
                    _ => node.observed = observed,
                }
                node
            });
            TreeNode {
                name: name.to_owned(),
                state: "running".to_owned(),
                incarnation: Incarnation(1),
                restarts: 0,
                last_exit: None,
                observed: Value::Null,
                children: join_all(looks).await,
            }
        })
    }
}

impl Handler<ShutDown> for Supervisor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: ShutDown, _: &mut Self::Context) -> Self::Result {
        self.shutting_down = true;
        let last = self.children.len();
        stop_down_from(last)
    }
}

/// Stops the children below `bound`, the last one first, each after the one behind it has ended.
fn stop_down_from(bound: usize) -> ResponseActFuture<Supervisor, ()> {
    Box::pin(actix::fut::ready(()).then(move |(), supervisor: &mut Supervisor, ctx| {
        let Some(index) = bound.checked_sub(1) else {
            return Box::pin(actix::fut::ready(())) as ResponseActFuture<Supervisor, ()>;
        };
        let (told, ended) = oneshot::channel();
        let alive = match supervisor.children.get_mut(index) {
            Some(child) if child.started.is_some() => {
                child.waiting.push(told);
                true
            }
            _ => false,
        };
        supervisor.stop_child(index, ctx);
        let wait = async move {
            if alive {
                // A closed channel means the same: the child is gone.
                ended.await.ok();
            }
        };
        Box::pin(wait.into_actor(supervisor).then(move |(), _, _| stop_down_from(index)))
            as ResponseActFuture<Supervisor, ()>
    }))
}

/// Ends a nested supervisor. Sent by its parent.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct StopNested;

impl Handler<StopNested> for Supervisor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: StopNested, _: &mut Self::Context) -> Self::Result {
        self.shutting_down = true;
        let last = self.children.len();
        Box::pin(stop_down_from(last).map(|(), supervisor, ctx| {
            supervisor.handle.handle.clear();
            // Dropping the guard is the report to the parent.
            supervisor.guard.take();
            ctx.stop();
        }))
    }
}
