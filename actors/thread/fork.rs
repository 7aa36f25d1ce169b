//! A session that begins with the history of another one.
//!
//! The runtime forks its thread; what the manager stored of the history is copied, because the
//! runtime's own history is incomplete for older versions. The registry makes the call, as for a
//! new session: the fork's actor is there before anything else of the fork is looked at.

use actix::prelude::*;
use cm_core::compat::Version;
use cm_core::ids::ThreadId;
use cm_core::thread::{ThreadRecord, Writes};
use cm_core::wire::{RuntimeControls, SessionCreated};
use serde_json::{Value, json};

use super::actor::Thread;
use super::calls::answer;
use super::error::SessionError;
use super::messages::{Command, Reply, ToThread};
use super::registry::ThreadRegistry;
use super::registry_create::{PendingCreate, Remarks};
use crate::app_server::{Call, CallFailure, Owner};
use crate::store::{CopiedHistory, StoreError, StoreHandle, copy_history};

/// Forks a session. Sent by routes; answered through `reply`, when the fork is on the disk.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct ForkSession {
    pub(super) id: ThreadId,
    pub(super) reply: Reply<SessionCreated>,
}

impl Handler<ForkSession> for ThreadRegistry {
    type Result = ();

    fn handle(&mut self, ForkSession { id, reply }: ForkSession, ctx: &mut Self::Context) {
        let (told, source) = tokio::sync::oneshot::channel();
        ctx.notify(ToThread { thread_id: id, command: Command::ForkSource(told) });
        ctx.spawn(source.into_actor(self).map(|source, registry, _| match source {
            Ok(Ok(source)) => registry.fork(source, reply),
            Ok(Err(error)) => answer(reply, Err(error)),
            // The thread ended before it answered; whoever asked is told by the closed reply.
            Err(_) => {}
        }));
    }
}

impl ThreadRegistry {
    fn fork(&mut self, source: Box<ThreadRecord>, reply: Reply<SessionCreated>) {
        const METHOD: &str = "thread/fork";
        let Some(up) = &self.runtime else {
            let failure = CallFailure::Unavailable.failure(METHOD);
            return answer(reply, Err(failure.into()));
        };
        if !up.profile.has(METHOD) {
            return answer(reply, Err(CallFailure::unknown_method(METHOD).into()));
        }
        let controls = source.controls.clone();
        let params = fork_params(&source, up.profile.version);
        let token = self.shared.next_token();
        let owner = Owner::Registry { token };
        let call = Call { owner, method: METHOD, params, deadline: None, background: false };
        if let Err(error) = self.shared.app_server.start_call(call) {
            return answer(reply, Err(error.failure(METHOD).into()));
        }
        let pending = PendingCreate {
            controls,
            cwd: source.cwd.clone(),
            dynamic_tools: source.dynamic_tools.clone(),
            remarks: Remarks::default(),
            source: Some(source),
            reply,
        };
        self.creating.insert(token, pending);
    }
}

/// Params of `thread/fork`, for all of a session.
pub(super) fn fork_params(source: &ThreadRecord, version: Option<Version>) -> Value {
    let controls = &source.controls;
    let mut params = json!({
        "threadId": source.runtime_id(),
        "sandbox": controls.filesystem_sandbox.as_str(),
        "approvalPolicy": controls.approval_policy_param(version),
        "config": controls.config_param(),
        "excludeTurns": true,
    });
    if let Some(model) = &controls.model {
        params["model"] = json!(model);
    }
    params
}

impl Thread {
    /// What a fork takes over. What is noted is queued for the store first, so that the copy has
    /// it.
    pub(super) fn fork_source(&mut self, reply: Reply<Box<ThreadRecord>>, ctx: &mut Context<Self>) {
        let record = Box::new(self.state.record.clone());
        let flushed = self.flush();
        ctx.spawn(flushed.map(|(), _, _| answer(reply, Ok(record))));
    }

    /// The child answered `thread/fork`: this is the fork. Its history is copied, then it is
    /// answered.
    pub(super) fn forked(
        &mut self,
        source: &ThreadRecord,
        result: Value,
        reply: Reply<SessionCreated>,
        ctx: &mut Context<Self>,
    ) {
        self.loaded = self.runtime.as_ref().map(|up| up.incarnation);
        // The actor may have been started before, by something else that the child said of it.
        let known = &mut self.state.record;
        known.cwd.clone_from(&source.cwd);
        known.controls.clone_from(&source.controls);
        known.dynamic_tools.clone_from(&source.dynamic_tools);
        let mut end = (source.next_turn, source.next_row);
        if (known.next_turn, known.next_row) == (0, 0) {
            known.materialized = source.materialized;
            (known.next_turn, known.next_row) = end;
            known.kept.clone_from(&source.kept);
        } else {
            // What began in the fork already has the places of what would be copied: the history
            // is read from the runtime instead.
            end = (0, 0);
        }
        // A crash before the copy is complete leaves a thread that is compared with the runtime's
        // history.
        self.recovery.wanted = true;
        self.note(Writes { thread: true, ..Writes::default() });
        let flushed = self.flush();
        ctx.spawn(flushed);
        let history = CopiedHistory {
            source: source.id.clone(),
            copy: self.id.clone(),
            turns: end.0,
            rows: source.kept.first_row()..end.1,
        };
        let source_id = source.id.clone();
        let work = copy(self.shared.store.clone(), history);
        self.spawn_busy(work, ctx, move |thread, copied, ctx| {
            thread.forget_rows();
            if let Err(error) = copied {
                return answer(reply, Err(error.into()));
            }
            thread.recovery.wanted = end == (0, 0);
            thread.note(Writes { thread: true, ..Writes::default() });
            let session = thread.summary();
            let told = result.get("thread").cloned();
            let told = told.unwrap_or_else(|| thread.state.record.thread.clone());
            let runtime_controls = RuntimeControls::of(&result);
            thread.tell_with_change("forked");
            thread.when_durable(Box::new(move |_, _, stored| {
                let forked = SessionCreated {
                    status: Some("ok".to_owned()),
                    source_session_id: Some(source_id),
                    session,
                    thread: told,
                    warnings: Vec::new(),
                    runtime_controls,
                    trusts_project: false,
                };
                answer(reply, stored.map(|()| forked).map_err(SessionError::from));
            }));
            let flushed = thread.flush();
            ctx.spawn(flushed);
        });
    }
}

/// Copies a history, page by page: one page is in memory at a time.
async fn copy(store: StoreHandle, history: CopiedHistory) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let (history, from) = (history.clone(), after.take());
        let page = store.read(move |store| copy_history(store, &history, from)).await?;
        store.commit(page.batch).await?;
        match page.after {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}
