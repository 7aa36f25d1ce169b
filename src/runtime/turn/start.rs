//! How a turn starts, and that it always ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use uuid::Uuid;

use super::inbox::{Inbox, UserInput};
use super::run::{Stop, Turn};
use crate::agent;
use crate::server::Server;
use crate::thread::{ActiveTurn, LoadedThread, ThreadState};
use crate::wire::Fault;

/// Starts a turn on its own OS thread. The caller holds the thread's lock and sends the answer
/// under it; the turn's first notification needs that lock, so the answer always comes first.
pub(crate) fn start(
    server: &Arc<Server>,
    thread: &Arc<LoadedThread>,
    state: &mut ThreadState,
    input: UserInput,
) -> Result<Uuid, Fault> {
    if !server.turns.take() {
        return Err(Fault::overloaded());
    }
    let started = spawn(server, thread, state, input);
    if started.is_err() {
        server.turns.give_back();
    }
    started
}

fn spawn(
    server: &Arc<Server>,
    thread: &Arc<LoadedThread>,
    state: &mut ThreadState,
    input: UserInput,
) -> Result<Uuid, Fault> {
    // The lock on the log is taken here, so that a second process is refused in the answer.
    let log = match state.meta.ephemeral {
        true => None,
        false => Some(server.store.log(state.meta.id)?),
    };
    let id = Uuid::now_v7();
    let inbox = Arc::new(Inbox::default());
    let turn = Turn::new(Arc::clone(server), Arc::clone(thread), id, Arc::clone(&inbox), log);
    thread::Builder::new()
        .name(format!("turn-{id}"))
        .spawn(move || drive(turn, input))
        .map_err(|error| Fault::internal(format!("failed to start a turn: {error}")))?;
    state.active = Some(ActiveTurn { id, inbox });
    Ok(id)
}

fn drive(mut turn: Turn, input: UserInput) {
    let server = Arc::clone(&turn.server);
    // A turn that stays running for ever would be worse than one that failed.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        turn.begin(&input)?;
        agent::work(&mut turn, &input)
    }));
    let outcome = outcome.unwrap_or_else(|_| Err(Stop::Failed("the turn panicked".to_owned())));
    if let Err(stop) = outcome {
        turn.end_early(stop);
    }
    drop(turn);
    server.turns.give_back();
}
