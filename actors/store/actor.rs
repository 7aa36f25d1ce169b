//! The store's thread and the actor that supervises it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::prelude::*;
use cm_core::restart::{ExitKind, Policy, Restart};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::backend::{Store, StoreError};
use super::handle::{Job, QUEUE, StoreHandle};
use super::writer;
use crate::supervisor::{ChildSpec, ExitGuard, Observe, Started, StateCell};

/// How often a store that cannot be written is tried again, and the time of the next export is
/// looked at.
const TICK: Duration = Duration::from_secs(1);

/// Opens the store; called on the store's own thread at each start.
pub type StoreOpener = Box<dyn FnMut() -> Result<Box<dyn Store>, StoreError> + Send>;

/// Supervises the store's thread.
pub struct StoreActor {
    handle: StoreHandle,
    guard: ExitGuard,
    /// Told when the thread has ended, with the reason.
    ended: Option<oneshot::Receiver<String>>,
    /// When the last export was asked for.
    exported: Instant,
}

/// The spec of the store's actor.
///
/// `opener` runs on the store's thread. A store that was opened beforehand, to fail early, can be
/// handed out by it the first time. `state` is kept current with its supervision.
pub fn store_spec(
    handle: StoreHandle,
    policy: Policy,
    opener: StoreOpener,
    state: &StateCell,
) -> ChildSpec {
    let shared = std::sync::Arc::new(std::sync::Mutex::new(opener));
    ChildSpec {
        name: "store",
        restart: Restart::Permanent,
        policy,
        shutdown: Duration::from_secs(2),
        watch: Some(state.watcher()),
        start: Box::new(move |guard| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let (told, ended) = oneshot::channel();
            let opener = std::sync::Arc::clone(&shared);
            let for_thread = handle.clone();
            let spawned = std::thread::Builder::new().name("store".to_owned()).spawn(move || {
                let opened = match opener.lock() {
                    Ok(mut opener) => opener(),
                    Err(poisoned) => poisoned.into_inner()(),
                };
                let why = match opened {
                    Ok(store) => writer::run(store.into(), receiver, &for_thread),
                    Err(error) => error.to_string(),
                };
                // The actor may be gone already.
                told.send(why).ok();
            });
            if let Err(error) = spawned {
                tracing::error!(%error, "cannot start the store's thread");
            }
            handle.fill(sender);
            let actor = StoreActor {
                handle: handle.clone(),
                guard,
                ended: Some(ended),
                exported: Instant::now(),
            };
            let address = actor.start();
            let clear = handle.clone();
            Started::of(address, || Stop, move || clear.clear())
        }),
    }
}

impl StoreActor {
    fn tick(&mut self) {
        if self.handle.failing().load(Ordering::Relaxed) {
            self.handle.nudge(Job::Retry);
        }
        if let Some(plan) = self.handle.exports()
            && self.exported.elapsed() >= plan.every
        {
            self.exported = Instant::now();
            self.handle.nudge(Job::Export(plan));
        }
    }
}

impl Actor for StoreActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |actor, _| actor.tick());
        let Some(ended) = self.ended.take() else {
            return;
        };
        ctx.spawn(ended.into_actor(self).map(|why, actor, ctx| {
            let (kind, why) = match why {
                Ok(why) if why.is_empty() => (ExitKind::Normal, "stopped".to_owned()),
                Ok(why) => (ExitKind::Failed, why),
                Err(_) => (ExitKind::Panicked, "the store's thread panicked".to_owned()),
            };
            actor.handle.clear();
            actor.guard.will_end(kind, why);
            ctx.stop();
        }));
    }
}

impl Handler<Observe> for StoreActor {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        let stats = self.handle.stats().read();
        let observed: Value = json!({
            "waiting": self.handle.waiting(),
            "commits": stats.commit_batches.count,
            "failures": stats.failures,
            "backlog": stats.backlog,
            "lost": stats.lost,
        });
        MessageResult(observed)
    }
}

/// Ends the store's thread when everything queued is durable. Sent by the supervisor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for StoreActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, _: &mut Self::Context) -> Self::Result {
        let handle = self.handle.clone();
        Box::pin(async move { handle.stop().await })
    }
}
