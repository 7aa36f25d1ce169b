//! The child's place in the supervision tree.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use cm_core::restart::{Policy, Restart};
use cm_process::OrphanLedger;

use super::actor::AppServer;
use super::calls::CallTable;
use super::config::AppServerConfig;
use super::handle::AppServerHandle;
use super::handlers::Stop;
use super::messages::RuntimeEvent;
use crate::handle::Handle;
use crate::journal::Flow;
use crate::supervisor::{ChildSpec, ChildState, Started, observer};
use crate::thread::{ParkAll, ThreadRegistry};

/// Calls and answers that may wait. Overflow rule: the call fails with `overloaded`.
const MAILBOX: usize = 1024;

/// How long running turns have to end after they were interrupted.
const PARKING: Duration = Duration::from_millis(500);

/// What a stop may take beyond its own steps before the actor is given up on.
const STOP_MARGIN: Duration = Duration::from_millis(500);

/// The spec of the child's actor.
///
/// `flow` holds back its output for the readers of the ring. `on_state` is told of every change of its supervision, for subscribers.
pub fn app_server_spec(
    handle: AppServerHandle,
    registry: Handle<ThreadRegistry>,
    policy: Policy,
    config: AppServerConfig,
    flow: Flow,
    on_state: impl Fn(&ChildState) + 'static,
) -> ChildSpec {
    let ledger = Arc::new(OrphanLedger::new(config.ledger.clone()));
    let shutdown =
        PARKING + config.stop.after_stdin_close + config.stop.after_sigterm + STOP_MARGIN;
    let for_parking = registry.clone();
    let config = Arc::new(config);
    let status = handle.status.clone();
    ChildSpec {
        name: "app_server",
        restart: Restart::Permanent,
        policy,
        shutdown,
        watch: Some(Box::new(move |state: &ChildState| {
            status.change(|status| {
                status.state = state.state.to_owned();
                status.incarnation = state.incarnation;
                status.restarts = state.restarts;
            });
            on_state(state);
        })),
        start: Box::new(move |guard| {
            let registry = registry.clone();
            let listener = Box::new(move || {
                registry.address().map(|address| address.recipient::<RuntimeEvent>())
            });
            let actor = AppServer::new(
                Arc::clone(&config),
                handle.status.clone(),
                CallTable::new(Arc::clone(&handle.calls)),
                listener,
                Arc::clone(&ledger),
                guard,
                flow.clone(),
            );
            let address = AppServer::create(|ctx| {
                ctx.set_mailbox_capacity(MAILBOX);
                actor
            });
            handle.actor.fill(address.clone());
            let stop = address.clone();
            let clear = handle.actor.clone();
            let parking = for_parking.clone();
            Started {
                stop: Box::new(move || {
                    let stop = stop.clone();
                    let parking = parking.clone();
                    actix::spawn(async move {
                        // A child ends without draining: what runs is interrupted first.
                        if let Err(error) = parking.ask(ParkAll, PARKING).await {
                            tracing::debug!(%error, "turns still ran when the child was stopped");
                        }
                        // An actor that is gone has stopped.
                        stop.send(Stop).await.ok();
                    });
                }),
                observe: observer(address),
                clear: Box::new(move || clear.clear()),
            }
        }),
    }
}
