//! A session that never had a turn, and that the runtime no longer has.
//!
//! The runtime writes a thread to its disk with the first turn, some versions with a name. What was
//! not written ends with its process. Nothing was said in it, so a new thread takes its place: the
//! session keeps its id, and `runtimeThreadId` names the thread behind it.

use actix::prelude::*;
use cm_core::controls::{Controls, SandboxMode};
use cm_core::error::{ErrorCode, Failure};
use cm_core::ids::{Incarnation, ThreadId};
use cm_core::thread::Writes;
use cm_core::wire::{Role, RowStatus, TranscriptEntry};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::actor::Thread;
use super::calls::AfterResume;
use super::error::SessionError;
use super::inbound::read_outcome;
use super::registry::ThreadRegistry;
use super::registry_create::start_params;
use crate::app_server::{Call, CallFailure, CallOutcome, Owner};
use crate::clock;

const METHOD: &str = "thread/start";

/// Starts another thread for a session. Sent by the session's actor; the registry makes the call,
/// so that it knows whose the thread is before the runtime says anything else of it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Recreate {
    pub(super) id: ThreadId,
    pub(super) params: Value,
    pub(super) told: oneshot::Sender<Result<Value, CallFailure>>,
}

/// A session whose `thread/start` waits.
#[derive(Debug)]
pub(super) struct PendingRecreate {
    id: ThreadId,
    told: oneshot::Sender<Result<Value, CallFailure>>,
}

impl PendingRecreate {
    /// The child is gone.
    pub(super) fn fail(self) {
        // The session's actor may be gone as well.
        self.told.send(Err(CallFailure::Unavailable)).ok();
    }
}

impl Handler<Recreate> for ThreadRegistry {
    type Result = ();

    fn handle(&mut self, Recreate { id, params, told }: Recreate, _: &mut Self::Context) {
        let token = self.shared.next_token();
        let owner = Owner::Registry { token };
        let call = Call { owner, method: METHOD, params, deadline: None, background: false };
        match self.shared.app_server.start_call(call) {
            Ok(()) => {
                self.recreating.insert(token, PendingRecreate { id, told });
            }
            Err(error) => {
                told.send(Err(error)).ok();
            }
        }
    }
}

impl ThreadRegistry {
    /// Takes the answer to a call that was made for a session; anything else is handed back.
    pub(super) fn recreated(&mut self, token: u64, outcome: &CallOutcome) -> bool {
        let Some(PendingRecreate { id, told }) = self.recreating.remove(&token) else {
            return false;
        };
        let outcome = read_outcome(outcome);
        if let Some(runtime_id) = outcome.as_ref().ok().and_then(thread_id) {
            self.aliases.insert(runtime_id, id);
        }
        told.send(outcome).ok();
        true
    }

    /// The session whose thread the runtime speaks of.
    pub(super) fn session_of<'a>(&'a self, thread_id: &'a ThreadId) -> &'a ThreadId {
        self.aliases.get(thread_id).unwrap_or(thread_id)
    }
}

impl Thread {
    /// Starts another thread in the place of one that never had a turn.
    pub(super) fn recreate(
        &mut self,
        controls: Controls,
        then: AfterResume,
        ctx: &mut Context<Self>,
    ) {
        let Some(up) = &self.runtime else {
            then.refuse(Self::no_runtime().into());
            return self.finish_recovery(ctx);
        };
        let incarnation = up.incarnation;
        let record = &self.state.record;
        let tools = record.dynamic_tools.as_ref();
        let params = start_params(&record.cwd, &controls, tools, up.profile.version);
        let (told, outcome) = oneshot::channel();
        let id = self.id.clone();
        if let Err(error) = self.shared.registry.tell(Recreate { id, params, told }) {
            then.refuse(error.failure("session registry").into());
            return self.finish_recovery(ctx);
        }
        self.recreating = true;
        // The call has a deadline, and the registry answers when the child is gone.
        self.spawn_busy(outcome, ctx, move |thread, outcome, ctx| {
            let outcome = outcome.unwrap_or(Err(CallFailure::Unavailable));
            match thread.take_place(outcome, &controls, incarnation) {
                Ok(result) => thread.when_durable(Box::new(move |thread, ctx, stored| {
                    thread.place_taken(then, stored.map(|()| (controls, result)), ctx);
                })),
                Err(error) => thread.place_not_taken(then, error, ctx),
            }
        });
    }

    /// Goes on with the new thread when it is on the disk whose it is.
    fn place_taken(
        &mut self,
        then: AfterResume,
        stored: Result<(Controls, Value), Failure>,
        ctx: &mut Context<Self>,
    ) {
        match stored {
            // The child may be gone meanwhile, and the thread with it.
            Ok(_) if !self.is_loaded() => {
                self.place_not_taken(then, Self::no_runtime().into(), ctx);
            }
            Ok((controls, result)) => {
                self.recreating = false;
                self.after_resume(then, controls, &result, ctx);
                self.finish_recovery(ctx);
            }
            Err(error) => self.place_not_taken(then, error.into(), ctx),
        }
    }

    fn place_not_taken(&mut self, then: AfterResume, error: SessionError, ctx: &mut Context<Self>) {
        self.recreating = false;
        then.refuse(error);
        self.finish_recovery(ctx);
    }

    /// Takes over the thread that was started; answers what the runtime said of it.
    fn take_place(
        &mut self,
        outcome: Result<Value, CallFailure>,
        controls: &Controls,
        incarnation: Incarnation,
    ) -> Result<Value, SessionError> {
        if let Some(deleted) = &self.deleted {
            return Err(SessionError::Deleted(deleted.clone()));
        }
        let result = outcome.map_err(|error| error.failure(METHOD))?;
        let up = self.runtime.as_ref().filter(|up| up.incarnation == incarnation);
        let Some(up) = up else { return Err(Self::no_runtime().into()) };
        if let Err(difference) = controls.check_echo(up.profile.version, &result) {
            let message =
                format!("The Codex runtime did not take the session's controls: {difference}.");
            return Err(SessionError::failed(ErrorCode::CodexError, message));
        }
        let Some(runtime_id) = thread_id(&result) else {
            let message = "The Codex runtime started a thread without a usable id.";
            return Err(SessionError::failed(ErrorCode::CodexError, message));
        };
        self.loaded = Some(incarnation);
        self.in_force = Some(controls.clone());
        tracing::info!(thread = %self.id, runtime_thread = %runtime_id, "another thread was started \
            for a session that never had a turn");
        let now = clock::now_ms();
        let mut content = format!(
            "The Codex runtime no longer had this session, in which nothing was said yet. \
             Thread {runtime_id} was started in its place."
        );
        if controls.filesystem_sandbox != SandboxMode::ReadOnly {
            content.push_str(" It may write, so Codex may trust its folder from now on.");
        }
        let row = TranscriptEntry {
            message_id: format!("session-thread-{runtime_id}"),
            turn_id: "session-thread".to_owned(),
            role: Role::System,
            kind: "session.thread.recreated".to_owned(),
            content,
            status: RowStatus::Complete,
            details: Some(json!({ "runtimeThreadId": runtime_id }).to_string()),
            started_at: Some(now),
            completed_at: Some(now),
        };
        self.state.record.runtime_id = Some(runtime_id);
        if let Some(thread) = result.get("thread") {
            self.adopt(thread);
        }
        self.note(Writes { thread: true, ..Writes::default() });
        // Its id is new, so there is none to be read.
        self.write_row(None, row);
        self.tell_with_change("recreated");
        Ok(result)
    }
}

fn thread_id(result: &Value) -> Option<ThreadId> {
    let id = result.pointer("/thread/id").and_then(Value::as_str)?;
    ThreadId::parse(id).ok()
}
