//! What a supervisor needs to know of a child.

use std::sync::Arc;
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::prelude::*;
use arc_swap::ArcSwap;
use cm_core::ids::Incarnation;
use cm_core::restart::{Policy, Restart};
use futures_util::future::LocalBoxFuture;
use serde_json::Value;

use super::guard::ExitGuard;

/// Asks an actor what it shows of itself. Sent by the supervisor when an operator looks; answered
/// with a small JSON object.
#[derive(Debug, Message)]
#[rtype(result = "Value")]
pub struct Observe;

/// A started incarnation.
pub struct Started {
    /// Asks it to end in order; its guard reports when it has.
    pub stop: Box<dyn Fn()>,
    /// Asks what it shows of itself.
    pub observe: Box<dyn Fn() -> LocalBoxFuture<'static, Option<Value>>>,
    /// Empties the handle through which callers reach it; called when it has ended.
    pub clear: Box<dyn Fn()>,
}

impl Started {
    /// What stands for an incarnation whose factory panicked.
    pub(super) fn nothing() -> Self {
        Self {
            stop: Box::new(|| {}),
            observe: Box::new(|| Box::pin(async { None })),
            clear: Box::new(|| {}),
        }
    }

    /// An incarnation that ends when it is told, and shows itself when it is asked.
    ///
    /// `clear` empties the handle through which callers reach it.
    pub fn of<A, M>(
        address: Addr<A>,
        stop: impl Fn() -> M + 'static,
        clear: impl Fn() + 'static,
    ) -> Self
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Actor + Handler<M> + Handler<Observe>,
        A::Context: ToEnvelope<A, M> + ToEnvelope<A, Observe>,
    {
        let stopped = address.clone();
        Self {
            stop: Box::new(move || {
                let request = stopped.send(stop());
                // An actor that is gone has stopped.
                actix::spawn(async move { drop(request.await) });
            }),
            observe: observer(address),
            clear: Box::new(clear),
        }
    }
}

/// Makes the `observe` part of [`Started`] for an actor that handles [`Observe`].
pub fn observer<A>(address: Addr<A>) -> Box<dyn Fn() -> LocalBoxFuture<'static, Option<Value>>>
where
    A: Actor + Handler<Observe>,
    A::Context: ToEnvelope<A, Observe>,
{
    Box::new(move || {
        let request = address.send(Observe).timeout(Duration::from_millis(500));
        Box::pin(async move { request.await.ok() })
    })
}

/// A child's supervision at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChildState {
    /// `running`, `backoff`, `failed`, `stopping` or `stopped`.
    pub state: &'static str,
    /// Which life.
    pub incarnation: Incarnation,
    /// Restarts so far.
    pub restarts: u64,
    /// How the last life ended.
    pub last_exit: Option<String>,
}

/// Told of every change of a child's supervision.
pub type Watcher = Box<dyn Fn(&ChildState)>;

/// A child's supervision as everyone may read it, without asking the supervisor.
#[derive(Debug, Clone, Default)]
pub struct StateCell(Arc<ArcSwap<ChildState>>);

impl StateCell {
    /// The last state.
    pub fn read(&self) -> Arc<ChildState> {
        self.0.load_full()
    }

    /// A watcher that keeps the cell current.
    pub fn watcher(&self) -> Watcher {
        let cell = self.clone();
        Box::new(move |state| cell.0.store(Arc::new(state.clone())))
    }
}

/// A child and how it is to be treated.
pub struct ChildSpec {
    /// Name, unique within its supervisor.
    pub name: &'static str,
    /// When it is started again.
    pub restart: Restart,
    /// The numbers of backoff and intensity.
    pub policy: Policy,
    /// How long it may take to end in order before it is given up on.
    pub shutdown: Duration,
    /// Told of every change of the child's supervision.
    pub watch: Option<Watcher>,
    /// Makes a new incarnation. Called on the supervisor's arbiter; must not block.
    pub start: Box<dyn FnMut(ExitGuard) -> Started>,
}
