//! What people and programs ask of a session: its life, from creation to deletion, and a look at it.

use std::path::PathBuf;

use actix::prelude::*;
use cm_core::controls::Controls;
use cm_core::error::ErrorCode;
use cm_core::request::ExpiryReason;
use cm_core::thread::{ThreadRecord, Writes};
use cm_core::wire::{DynamicTool, SessionCreated, SessionDetail, SessionSummary, UNTITLED};
use serde_json::{Value, json};

use super::actor::Thread;
use super::calls::{AfterResume, Pending, answer};
use super::error::SessionError;
use super::messages::{Deleted, Reply, ThreadDeleted};
use super::view;
use crate::app_server::CallFailure;
use crate::clock;
use crate::store::{read_transcript, remove_thread};

/// Text of a deleted session's answer.
const DELETED_MESSAGE: &str = "This chat was permanently deleted and is no longer available.";

impl Deleted {
    /// A session that was deleted now.
    pub(super) fn now(session_id: cm_core::ids::ThreadId, title: Option<String>) -> Self {
        let deleted_at = clock::now_iso();
        Self {
            status: "deleted",
            session_id,
            title,
            message: DELETED_MESSAGE,
            deleted_at,
            deleted_files: 0,
        }
    }
}

impl Thread {
    /// The child answered `thread/start`.
    pub(super) fn created(
        &mut self,
        record: ThreadRecord,
        result: Value,
        warnings: Vec<String>,
        reply: Reply<SessionCreated>,
        ctx: &mut Context<Self>,
    ) {
        // The actor may have been started before, by something else that the child said of it.
        let ThreadRecord { cwd, controls, dynamic_tools, .. } = record;
        let known = &mut self.state.record;
        known.materialized = known.next_turn > 0;
        (known.cwd, known.controls, known.dynamic_tools) = (cwd, controls, dynamic_tools);
        self.loaded = self.runtime.as_ref().map(|up| up.incarnation);
        // A name makes the runtime write the thread to its disk, so that it can be resumed before
        // its first turn.
        let params = json!({ "threadId": self.id, "name": UNTITLED });
        let pending = Pending::FirstName { warnings, result, reply };
        self.call("thread/name/set", params, pending, ctx);
    }

    /// Answers with the session when it is on the disk.
    pub(super) fn answer_created(
        &mut self,
        result: Value,
        warnings: Vec<String>,
        reply: Reply<SessionCreated>,
    ) {
        let writes = self.state.named(Some(UNTITLED), false, clock::now_ms());
        self.note(writes);
        self.note(Writes { thread: true, ..Writes::default() });
        let session = self.summary();
        let thread =
            result.get("thread").cloned().unwrap_or_else(|| self.state.record.thread.clone());
        self.when_durable(Box::new(move |actor, _, stored| {
            if stored.is_ok() {
                actor.session_updated("created");
            }
            let created = SessionCreated { status: None, session, thread, warnings };
            answer(reply, stored.map(|()| created).map_err(SessionError::from));
        }));
    }

    pub(super) fn detail(&mut self, reply: Reply<SessionDetail>, ctx: &mut Context<Self>) {
        let record = self.state.record.clone();
        let activity = self.current_activity();
        let store = self.shared.store.clone();
        let id = self.id.clone();
        // Reads come behind every write that is queued, so the transcript is current.
        let pending = self.flush();
        ctx.spawn(pending);
        let work = async move {
            let transcript = store.read(move |store| read_transcript(store, &id)).await;
            let detail = transcript.map(|transcript| view::detail(&record, activity, &transcript));
            answer(reply, detail.map_err(SessionError::from));
        };
        ctx.spawn(work.into_actor(self));
    }

    /// Loads the thread in the child with explicit controls, and checks the echo: some versions
    /// fall back to their configuration without a word.
    pub(super) fn resume(
        &mut self,
        controls: Controls,
        then: AfterResume,
        ctx: &mut Context<Self>,
    ) {
        let version = self.runtime.as_ref().and_then(|up| up.profile.version);
        let mut params = json!({
            "threadId": self.id,
            "approvalPolicy": controls.approval_policy_param(version),
            "sandbox": controls.filesystem_sandbox.as_str(),
            "excludeTurns": true,
        });
        if let Some(tools) = &self.state.record.dynamic_tools {
            params["dynamicTools"] = tools.clone();
        }
        let pending = Pending::Resume { then, controls, loads: !self.is_loaded() };
        self.call("thread/resume", params, pending, ctx);
    }

    pub(super) fn resumed(
        &mut self,
        outcome: Result<Value, CallFailure>,
        controls: Controls,
        loads: bool,
        then: AfterResume,
        ctx: &mut Context<Self>,
    ) {
        let result = match outcome {
            Ok(result) => result,
            // A loaded thread without a first turn cannot be resumed, and need not be.
            Err(error) if error.is_unknown_thread() && !loads && then.is_send() => Value::Null,
            Err(error) if error.is_unknown_thread() && !self.state.record.materialized => {
                return then.refuse(SessionError::NotMaterialized(self.id.clone()));
            }
            Err(error) => return then.refuse(Self::describe(&error, "thread/resume").into()),
        };
        let version = self.runtime.as_ref().and_then(|up| up.profile.version);
        // A thread that was loaded already keeps its settings until a turn names others.
        if loads && let Err(difference) = controls.check_echo(version, &result) {
            let message = format!(
                "The Codex runtime did not resume the session with its controls: {difference}."
            );
            return then.refuse(SessionError::failed(ErrorCode::CodexError, message));
        }
        self.loaded = self.runtime.as_ref().map(|up| up.incarnation);
        if let Some(thread) = result.get("thread") {
            self.state.record.adopt(thread);
            self.note(Writes { thread: true, ..Writes::default() });
        }
        match then {
            AfterResume::Send { body, warnings, reply } => {
                self.start_turn(body, controls, warnings, reply, ctx);
            }
            AfterResume::Answer { reply } => {
                let session = self.summary();
                let thread = result.get("thread").cloned().unwrap_or(Value::Null);
                let created =
                    SessionCreated { status: None, session, thread, warnings: Vec::new() };
                answer(reply, Ok(created));
            }
        }
    }

    pub(super) fn resume_asked(
        &mut self,
        dynamic_tools: Option<&[DynamicTool]>,
        reply: Reply<SessionCreated>,
        ctx: &mut Context<Self>,
    ) {
        if self.runtime.is_none() {
            return answer(reply, Err(Self::no_runtime().into()));
        }
        self.take_tools(dynamic_tools);
        let controls = self.state.record.controls.clone();
        self.resume(controls, AfterResume::Answer { reply }, ctx);
    }

    pub(super) fn rename(
        &mut self,
        title: String,
        reply: Reply<SessionSummary>,
        ctx: &mut Context<Self>,
    ) {
        let params = json!({ "threadId": self.id, "name": title });
        self.call("thread/name/set", params, Pending::Rename { title, reply }, ctx);
    }

    /// The title is the manager's own: it is kept whether the runtime took it or not.
    pub(super) fn renamed(
        &mut self,
        title: String,
        outcome: Result<Value, CallFailure>,
        reply: Reply<SessionSummary>,
    ) {
        if let Err(error) = outcome {
            tracing::debug!(thread = %self.id, %error, "the runtime took no name");
        }
        let writes = self.state.named(Some(&title), true, clock::now_ms());
        self.note(writes);
        let session = self.summary();
        self.when_durable(Box::new(move |thread, _, stored| {
            if stored.is_ok() {
                thread.session_updated("renamed");
            }
            answer(reply, stored.map(|()| session).map_err(SessionError::from));
        }));
    }

    pub(super) fn archive(&mut self, reply: Reply<()>, ctx: &mut Context<Self>) {
        if self.state.record.archived {
            return answer(reply, Ok(()));
        }
        let params = json!({ "threadId": self.id });
        self.call("thread/archive", params, Pending::Archive { reply }, ctx);
    }

    pub(super) fn archived(&mut self, outcome: Result<Value, CallFailure>, reply: Reply<()>) {
        if let Err(error) = outcome {
            let refusal = if error.is_unknown_thread() {
                SessionError::NotMaterialized(self.id.clone())
            } else {
                error.failure("thread/archive").into()
            };
            return answer(reply, Err(refusal));
        }
        self.loaded = None;
        let news = !self.state.record.archived;
        self.state.record.archived = true;
        self.note(Writes { thread: true, ..Writes::default() });
        self.when_durable(Box::new(move |thread, _, stored| {
            if stored.is_ok() && news {
                thread.session_updated("archived");
            }
            answer(reply, stored.map_err(SessionError::from));
        }));
    }

    pub(super) fn unarchive(&mut self, reply: Reply<SessionCreated>, ctx: &mut Context<Self>) {
        if !self.state.record.archived {
            let created = SessionCreated {
                status: Some("ok".to_owned()),
                session: self.summary(),
                thread: self.state.record.thread.clone(),
                warnings: Vec::new(),
            };
            return answer(reply, Ok(created));
        }
        let params = json!({ "threadId": self.id });
        self.call("thread/unarchive", params, Pending::Unarchive { reply }, ctx);
    }

    pub(super) fn unarchived(
        &mut self,
        outcome: Result<Value, CallFailure>,
        reply: Reply<SessionCreated>,
    ) {
        let result = match outcome {
            Ok(result) => result,
            Err(error) => {
                return answer(reply, Err(Self::describe(&error, "thread/unarchive").into()));
            }
        };
        let news = self.state.record.archived;
        self.state.record.archived = false;
        if let Some(thread) = result.get("thread") {
            self.state.record.adopt(thread);
        }
        self.note(Writes { thread: true, ..Writes::default() });
        let created = SessionCreated {
            status: Some("ok".to_owned()),
            session: self.summary(),
            thread: self.state.record.thread.clone(),
            warnings: Vec::new(),
        };
        self.when_durable(Box::new(move |thread, _, stored| {
            if stored.is_ok() && news {
                thread.session_updated("unarchived");
            }
            answer(reply, stored.map(|()| created).map_err(SessionError::from));
        }));
    }

    pub(super) fn delete(&mut self, reply: Reply<Deleted>, ctx: &mut Context<Self>) {
        // Versions without a delete keep the thread in their archive; the manager forgets it.
        let method =
            if self.child_has("thread/delete") { "thread/delete" } else { "thread/archive" };
        // An archived file only moves; the stat is of the manager's own data directory.
        let path = self.state.record.thread.get("path").and_then(Value::as_str).map(PathBuf::from);
        let file = path.filter(|path| method == "thread/delete" && path.is_file());
        let params = json!({ "threadId": self.id });
        self.call(method, params, Pending::Delete { file, reply }, ctx);
    }

    pub(super) fn deleted(
        &mut self,
        outcome: Result<Value, CallFailure>,
        file: Option<PathBuf>,
        reply: Reply<Deleted>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(error) = outcome
            && !error.is_unknown_thread()
        {
            return answer(reply, Err(Self::describe(&error, "thread/delete").into()));
        }
        self.let_go_of_requests();
        let title = Some(self.state.record.shown_title().to_owned());
        let mut body = Deleted::now(self.id.clone(), title);
        body.deleted_files = u32::from(file.is_some_and(|file| !file.exists()));
        let store = self.shared.store.clone();
        let id = self.id.clone();
        let pending = self.flush();
        let work = async move {
            let batch = store.read(move |store| remove_thread(store, &id)).await?;
            store.commit(batch).await
        };
        let work = pending.then(|(), thread, _| work.into_actor(thread));
        ctx.wait(work.map(move |result, thread: &mut Self, _| match result {
            Ok(()) => {
                thread.shared.index.remove(&thread.id);
                thread.event("session_deleted", true, &body);
                thread.shared.journal.publish(std::mem::take(&mut thread.frames));
                thread.deleted = Some(body.clone());
                let gone = SessionError::Deleted(body.clone());
                for (_, pending) in std::mem::take(&mut thread.pending) {
                    pending.refuse(gone.clone());
                }
                for (_, reply) in std::mem::take(&mut thread.waiting) {
                    answer(reply, Err(gone.clone()));
                }
                // The registry lets go of this actor, which ends it when its mailbox is empty.
                let told = thread.shared.registry.tell(ThreadDeleted(body.clone()));
                if let Err(error) = told {
                    tracing::error!(thread = %thread.id, %error, "the registry was not told");
                }
                answer(reply, Ok(body));
            }
            Err(error) => answer(reply, Err(error.into())),
        }));
    }

    /// Shows every request as expired and lets its actor go: nothing of a deleted session is
    /// stored any more.
    fn let_go_of_requests(&mut self) {
        let now = clock::now_ms();
        for (_, live) in std::mem::take(&mut self.requests) {
            let mut record = live.record;
            record.expire(ExpiryReason::SessionDeleted, now, &clock::iso(now));
            self.show_end(&record);
        }
    }
}
