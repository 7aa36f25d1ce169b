//! A child's state between two decisions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use actix::prelude::*;
use cm_core::ids::Incarnation;
use cm_core::restart::History;
use cm_core::wire::TreeNode;
use futures_util::future::LocalBoxFuture;
use serde_json::Value;
use tokio::sync::oneshot;

use super::guard::ExitGuard;
use super::spec::{ChildSpec, ChildState, Started};

/// Where a child is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Never started, or ended for good.
    Stopped,
    /// Alive.
    Running,
    /// Asked to end: by hand, by a sibling's end, or by the shutdown.
    Stopping,
    /// Waits for its restart.
    Backoff,
    /// Waits for its probe.
    Failed,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Backoff => "backoff",
            Self::Failed => "failed",
        }
    }
}

/// A child, and what is to be done about it.
pub(super) struct Child {
    pub(super) spec: ChildSpec,
    pub(super) state: State,
    /// The life that runs, or ran last: what an earlier one still reports is ignored.
    pub(super) incarnation: Incarnation,
    /// Starts and ends so far, by which the next restart is decided.
    pub(super) history: History,
    /// The living incarnation.
    pub(super) started: Option<Started>,
    /// The restart or probe that is due; dropped when something else overtakes it.
    pub(super) timer: Option<SpawnHandle>,
    /// How the last life ended, for the tree.
    pub(super) last_exit: Option<String>,
    /// Told when the current life has ended.
    pub(super) waiting: Vec<oneshot::Sender<()>>,
    /// Whether it is to be started without backoff when it has ended, because a person or a
    /// sibling asked for it.
    pub(super) restart_at_once: bool,
}

impl Child {
    pub(super) fn new(spec: ChildSpec) -> Self {
        Self {
            spec,
            state: State::Stopped,
            incarnation: Incarnation::default(),
            history: History::default(),
            started: None,
            timer: None,
            last_exit: None,
            waiting: Vec::new(),
            restart_at_once: false,
        }
    }

    /// Begins the next life.
    pub(super) fn start(&mut self, guard: ExitGuard, now: Duration) {
        self.restart_at_once = false;
        self.history.started(now);
        let start = AssertUnwindSafe(|| (self.spec.start)(guard));
        // The guard of a factory that panicked reports it like the end of any other life.
        self.started = Some(catch_unwind(start).unwrap_or_else(|_| Started::nothing()));
        self.set(State::Running);
    }

    /// The child in the tree, and a look at what its actor shows of itself.
    pub(super) fn look(&self) -> (TreeNode, Option<LocalBoxFuture<'static, Option<Value>>>) {
        let node = TreeNode {
            name: self.spec.name.to_owned(),
            state: self.state.as_str().to_owned(),
            incarnation: self.incarnation,
            restarts: self.history.total(),
            last_exit: self.last_exit.clone(),
            observed: Value::Null,
            children: Vec::new(),
        };
        (node, self.started.as_ref().map(|started| (started.observe)()))
    }

    /// Changes the state and tells whoever watches.
    pub(super) fn set(&mut self, state: State) {
        self.state = state;
        if let Some(watch) = &self.spec.watch {
            watch(&ChildState {
                state: state.as_str(),
                incarnation: self.incarnation,
                restarts: self.history.total(),
                last_exit: self.last_exit.clone(),
            });
        }
    }
}
