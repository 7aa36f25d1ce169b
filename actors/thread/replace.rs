//! Another thread of the runtime takes the place of the one behind a session.
//!
//! The session keeps its id, and `runtimeThreadId` names the thread behind it. The registry makes
//! the call that starts the new thread, so that it knows whose that is before the runtime says
//! anything else of it. What is still said of a thread that was replaced is not the session's.

use actix::prelude::*;
use cm_core::controls::Controls;
use cm_core::error::ErrorCode;
use cm_core::event::Event;
use cm_core::ids::{Incarnation, ThreadId};
use cm_core::rpc::{RpcError, code};
use cm_core::thread::Writes;
use cm_core::wire::{Role, RowStatus, TranscriptEntry};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::actions::turn_runs;
use super::actor::Thread;
use super::error::SessionError;
use super::inbound::read_outcome;
use super::registry::ThreadRegistry;
use crate::app_server::{
    AppServerHandle, Batch, Call, CallFailure, CallOutcome, Inbound, InboundKind, Owner,
};
use crate::clock;

/// Starts another thread for a session. Sent by the session's actor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Replace {
    id: ThreadId,
    method: &'static str,
    params: Value,
    told: oneshot::Sender<Result<Value, CallFailure>>,
}

/// A session whose new thread is being started.
#[derive(Debug)]
pub(super) struct PendingReplace {
    id: ThreadId,
    told: oneshot::Sender<Result<Value, CallFailure>>,
}

impl PendingReplace {
    /// The child is gone.
    pub(super) fn fail(self) {
        // The session's actor may be gone as well.
        self.told.send(Err(CallFailure::Unavailable)).ok();
    }
}

impl Handler<Replace> for ThreadRegistry {
    type Result = ();

    fn handle(&mut self, message: Replace, _: &mut Self::Context) {
        let Replace { id, method, params, told } = message;
        let token = self.shared.next_token();
        let owner = Owner::Registry { token };
        let call = Call { owner, method, params, deadline: None, background: false };
        match self.shared.app_server.start_call(call) {
            Ok(()) => {
                self.replacing.insert(token, PendingReplace { id, told });
            }
            Err(error) => {
                told.send(Err(error)).ok();
            }
        }
    }
}

impl ThreadRegistry {
    /// Takes the answer to a call that was made for a session; answers whether it was one.
    pub(super) fn replaced(&mut self, token: u64, outcome: &CallOutcome) -> bool {
        let Some(PendingReplace { id, told }) = self.replacing.remove(&token) else {
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

/// What else changes with the thread; it is stored in the same batch.
type Taken = Box<dyn FnOnce(&mut Thread, &ThreadId)>;

/// How a session gets another thread.
pub(super) struct Replacement {
    /// The runtime's method that starts it: it answers with the thread and its controls.
    pub(super) method: &'static str,
    pub(super) params: Value,
    /// What the thread is to be run with.
    pub(super) controls: Controls,
    /// Whether the runtime still has the former thread.
    pub(super) keeps: bool,
    pub(super) taken: Taken,
}

/// What follows when the new thread is behind the session, on the disk as well, or is not.
type Replaced = Box<dyn FnOnce(&mut Thread, Result<Value, SessionError>, &mut Context<Thread>)>;

impl Thread {
    /// Lets another thread take the place of the one behind the session.
    pub(super) fn replace(
        &mut self,
        replacement: Replacement,
        done: Replaced,
        ctx: &mut Context<Self>,
    ) {
        let Some(incarnation) = self.runtime.as_ref().map(|up| up.incarnation) else {
            return done(self, Err(Self::no_runtime().into()), ctx);
        };
        let Replacement { method, params, controls, keeps, taken } = replacement;
        let (told, outcome) = oneshot::channel();
        let message = Replace { id: self.id.clone(), method, params, told };
        if let Err(error) = self.shared.registry.tell(message) {
            return done(self, Err(error.failure("session registry").into()), ctx);
        }
        self.replacing = true;
        // The call has a deadline, and the registry answers when the child is gone.
        self.spawn_busy(outcome, ctx, move |thread, outcome, ctx| {
            let outcome = outcome.unwrap_or(Err(CallFailure::Unavailable));
            let started = outcome.as_ref().ok().and_then(thread_id);
            match thread.take_place(method, outcome, controls, incarnation) {
                Ok((result, runtime_id)) => {
                    thread.state.record.take_runtime(runtime_id.clone(), keeps);
                    taken(thread, &runtime_id);
                    thread.note(Writes { thread: true, ..Writes::default() });
                    thread.when_durable(Box::new(move |thread, ctx, stored| {
                        thread.replacing = false;
                        done(thread, stored.map(|()| result).map_err(SessionError::from), ctx);
                    }));
                }
                Err(error) => {
                    thread.replacing = false;
                    thread.discard(started, ctx);
                    done(thread, Err(error), ctx);
                }
            }
        });
    }

    /// Looks whether the new thread may take the place; answers what the runtime said of it, and
    /// its id.
    fn take_place(
        &mut self,
        method: &'static str,
        outcome: Result<Value, CallFailure>,
        controls: Controls,
        incarnation: Incarnation,
    ) -> Result<(Value, ThreadId), SessionError> {
        let result = outcome.map_err(|error| error.failure(method))?;
        if let Some(deleted) = &self.deleted {
            return Err(SessionError::Deleted(deleted.clone()));
        }
        let up = self.runtime.as_ref().filter(|up| up.incarnation == incarnation);
        let Some(up) = up else { return Err(Self::no_runtime().into()) };
        if self.state.active_turn().is_some() {
            // The runtime began one by itself, in the thread that was to be replaced.
            return Err(turn_runs().into());
        }
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
        self.in_force = Some(controls);
        if let Some(thread) = result.get("thread") {
            self.adopt(thread);
        }
        Ok((result, runtime_id))
    }

    /// A thread that did not take the place is nobody's: it is not to become a session.
    fn discard(&mut self, started: Option<ThreadId>, ctx: &mut Context<Self>) {
        let (Some(started), true) = (started, self.child_has("thread/delete")) else { return };
        let app_server = self.shared.app_server.clone();
        self.spawn_busy(tell(app_server, "thread/delete", started, json!({})), ctx, |_, (), _| {});
    }

    /// Lets the runtime name the new thread as the session is named, and put the former one into its
    /// archive: other clients then see one of them. Nobody waits for it.
    pub(super) fn tidy_after_replacing(&mut self, former: ThreadId, ctx: &mut Context<Self>) {
        let app_server = self.shared.app_server.clone();
        let current = self.state.record.runtime_id().clone();
        let name = self.state.record.title.as_ref().map(|title| title.text.clone());
        let work = async move {
            if let Some(name) = name {
                let name = json!({ "name": name });
                tell(app_server.clone(), "thread/name/set", current, name).await;
            }
            tell(app_server, "thread/archive", former, json!({})).await;
        };
        self.spawn_busy(work, ctx, |_, (), _| {});
    }

    /// A row that says that the session has another thread behind it.
    pub(super) fn write_replacement(&mut self, kind: &str, content: String, runtime_id: &ThreadId) {
        let now = clock::now_ms();
        let row = TranscriptEntry {
            message_id: format!("session-thread-{runtime_id}"),
            turn_id: "session-thread".to_owned(),
            role: Role::System,
            kind: kind.to_owned(),
            content,
            status: RowStatus::Complete,
            details: Some(json!({ "runtimeThreadId": runtime_id }).to_string()),
            started_at: Some(now),
            completed_at: Some(now),
        };
        // Its id is new, so there is none to be read.
        self.write_row(None, row);
    }

    /// Whether the child speaks of a thread that is not, or no longer, the one behind the session.
    pub(super) fn is_of_another_thread(&self, item: &Inbound) -> bool {
        matches!(item.kind, InboundKind::Notification { .. } | InboundKind::Request { .. })
            && item.thread_id.as_ref().is_some_and(|id| id != self.state.record.runtime_id())
    }

    /// What the child says of such a thread changes nothing here. While another one is being started,
    /// what is said of that one is shown.
    pub(super) fn take_foreign(&mut self, batch: &Batch, item: &Inbound) {
        match &item.kind {
            InboundKind::Notification { method, params } if self.replacing => {
                self.refresh_pieces();
                let (turn_id, params) = (item.turn_id.as_deref(), params.as_ref());
                let received_at = batch.received_at.as_str();
                let session = &self.pieces;
                self.frames.plain(&Event { session, turn_id, received_at, method, params });
            }
            InboundKind::Request { id, .. } => {
                let thread = item.thread_id.as_ref().map_or("", ThreadId::as_str);
                let error = RpcError {
                    code: code::INVALID_REQUEST,
                    message: format!("thread {thread} is in use no longer"),
                    data: None,
                };
                self.shared.app_server.respond_later(batch.incarnation, id.clone(), Err(error));
            }
            _ => {}
        }
    }
}

/// Calls a method for a thread that is not the one behind the session, or not only; what does not
/// come of it is logged.
pub(super) async fn tell(
    app_server: AppServerHandle,
    method: &'static str,
    thread_id: ThreadId,
    mut params: Value,
) {
    params["threadId"] = json!(thread_id);
    if let Err(error) = app_server.call(method, params, None, true).await {
        tracing::info!(thread = %thread_id, method, %error, "a replaced thread was not tidied");
    }
}

fn thread_id(result: &Value) -> Option<ThreadId> {
    let id = result.pointer("/thread/id").and_then(Value::as_str)?;
    ThreadId::parse(id).ok()
}
