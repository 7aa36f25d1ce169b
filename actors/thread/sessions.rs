//! What people and programs ask of a session: its life, from creation to deletion, and a look at it.

use std::path::PathBuf;

use actix::prelude::*;
use cm_core::controls::Controls;
use cm_core::error::{ErrorCode, Failure};
use cm_core::thread::{ThreadRecord, Writes};
use cm_core::wire::{DynamicTool, RuntimeControls, SessionCreated, SessionSummary, UNTITLED};
use serde_json::{Value, json};

use super::actor::Thread;
use super::calls::{AfterResume, Echo, Pending, answer};
use super::error::SessionError;
use super::messages::Reply;
use super::registry_create::Remarks;
use crate::app_server::CallFailure;
use crate::clock;

impl Thread {
    /// The child answered `thread/start`.
    pub(super) fn created(
        &mut self,
        record: ThreadRecord,
        result: Value,
        remarks: Remarks,
        reply: Reply<SessionCreated>,
        ctx: &mut Context<Self>,
    ) {
        // The actor may have been started before, by something else that the child said of it.
        let ThreadRecord { cwd, controls, dynamic_tools, .. } = record;
        let known = &mut self.state.record;
        known.materialized = known.next_turn > 0;
        self.in_force = Some(controls.clone());
        (known.cwd, known.controls, known.dynamic_tools) = (cwd, controls, dynamic_tools);
        self.loaded = self.runtime.as_ref().map(|up| up.incarnation);
        // A name makes the runtime write the thread to its disk, so that it can be resumed before
        // its first turn.
        let params = json!({ "name": UNTITLED });
        let pending = Pending::FirstName { remarks, result, reply };
        self.call("thread/name/set", params, pending, ctx);
    }

    /// Answers with the session when it is on the disk.
    pub(super) fn answer_created(
        &mut self,
        result: Value,
        remarks: Remarks,
        reply: Reply<SessionCreated>,
    ) {
        let writes = self.state.named(Some(UNTITLED), false, clock::now_ms());
        self.note(writes);
        self.note(Writes { thread: true, ..Writes::default() });
        let session = self.summary();
        let thread =
            result.get("thread").cloned().unwrap_or_else(|| self.state.record.thread.clone());
        self.tell_with_change("created");
        self.when_durable(Box::new(move |_, _, stored| {
            let created = SessionCreated {
                status: None,
                source_session_id: None,
                session,
                thread,
                warnings: remarks.warnings,
                runtime_controls: RuntimeControls::of(&result),
                trusts_project: remarks.trusts_project,
            };
            answer(reply, stored.map(|()| created).map_err(SessionError::from));
        }));
    }

    /// Loads the thread in the child with explicit controls, and checks the echo: some versions
    /// fall back to their configuration without a word.
    pub(super) fn resume(
        &mut self,
        controls: Controls,
        then: AfterResume,
        ctx: &mut Context<Self>,
    ) {
        let echo = if self.is_loaded() { Echo::Kept } else { Echo::Loaded };
        self.resume_as(controls, then, echo, ctx);
    }

    /// The same, where it is known what the echo stands for.
    pub(super) fn resume_as(
        &mut self,
        controls: Controls,
        then: AfterResume,
        echo: Echo,
        ctx: &mut Context<Self>,
    ) {
        let version = self.runtime.as_ref().and_then(|up| up.profile.version);
        let mut params = json!({
            "approvalPolicy": controls.approval_policy_param(version),
            "sandbox": controls.filesystem_sandbox.as_str(),
            "config": controls.config_param(),
            "excludeTurns": true,
        });
        if let Some(tools) = &self.state.record.dynamic_tools {
            params["dynamicTools"] = tools.clone();
        }
        self.call("thread/resume", params, Pending::Resume { then, controls, echo }, ctx);
    }

    pub(super) fn resumed(
        &mut self,
        outcome: Result<Value, CallFailure>,
        controls: Controls,
        echo: Echo,
        then: AfterResume,
        ctx: &mut Context<Self>,
    ) {
        let result = match outcome {
            Ok(result) => result,
            // A loaded thread without a first turn cannot be resumed, and need not be.
            Err(error)
                if error.is_unknown_thread()
                    && match echo {
                        Echo::Loaded => false,
                        Echo::Told => !self.state.record.materialized,
                        Echo::Kept => then.is_send(),
                    } =>
            {
                Value::Null
            }
            // Nothing was said in it, so nothing is lost. No other thread that is not found is begun
            // anew.
            Err(error) if error.is_unknown_thread() && !self.state.record.materialized => {
                return self.recreate(controls, then, ctx);
            }
            Err(error) => return self.resume_failed(error, then, ctx),
        };
        let version = self.runtime.as_ref().and_then(|up| up.profile.version);
        let checked = controls.check_echo(version, &result).map_err(|difference| {
            format!("The Codex runtime did not take the session's controls: {difference}.")
        });
        if let (Echo::Told, Err(message)) = (echo, &checked) {
            // Nothing was begun with other ones.
            return then.refuse(SessionError::failed(ErrorCode::CodexError, message.clone()));
        }
        let counts = echo != Echo::Kept;
        if counts && let Err(message) = checked {
            self.recovery.wanted = false;
            self.set_problem("controls_not_taken", message.clone());
            then.refuse(SessionError::failed(ErrorCode::CodexError, message));
            self.mistrust(ctx);
            return self.finish_recovery(ctx);
        }
        self.recovery.mistrusted = false;
        if counts {
            self.in_force = Some(controls.clone());
        }
        self.loaded = self.runtime.as_ref().map(|up| up.incarnation);
        if let Some(thread) = result.get("thread") {
            // Nobody else can have worked on what is loaded here.
            let loads = echo == Echo::Loaded;
            if let Some(at) = thread.get("updatedAt").and_then(Value::as_i64).filter(|_| loads) {
                self.fell_behind(at);
            }
            self.adopt(thread);
            self.note(Writes { thread: true, ..Writes::default() });
        }
        if counts {
            self.clear_problem(&["thread_in_use", "resume_failed", "controls_not_taken"]);
            if let Some(loaded) = self.loaded.filter(|_| self.must_compare()) {
                self.compare(loaded, ctx);
            }
        }
        self.after_resume(then, controls, &result, ctx);
    }

    /// Goes on with what the thread was loaded for; `result` is what the runtime said of it.
    pub(super) fn after_resume(
        &mut self,
        then: AfterResume,
        controls: Controls,
        result: &Value,
        ctx: &mut Context<Self>,
    ) {
        match then {
            AfterResume::Send { body, warnings, reply } => {
                self.send_loaded(body, controls, warnings, reply, ctx);
            }
            AfterResume::Answer { reply } => {
                let session = self.summary();
                let thread = result.get("thread").cloned().unwrap_or(Value::Null);
                let created = SessionCreated {
                    status: None,
                    source_session_id: None,
                    session,
                    thread,
                    warnings: Vec::new(),
                    runtime_controls: RuntimeControls::of(result),
                    trusts_project: false,
                };
                answer(reply, Ok(created));
            }
            AfterResume::Act { action, reply } => self.act_loaded(action, reply, ctx),
            AfterResume::Compare => {}
        }
    }

    /// The failure of a session that another process holds says which process that is. Others are
    /// passed on.
    pub(super) fn explain(
        &mut self,
        failure: Failure,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Failure, &mut Context<Self>) + 'static,
    ) {
        if failure.code != ErrorCode::ThreadInUse {
            return then(self, failure, ctx);
        }
        let path = self.state.record.thread.get("path").and_then(Value::as_str).map(PathBuf::from);
        let own = self.shared.app_server.status().pid;
        let look = self.shared.paths.look(move || {
            let holders = path.map(|path| cm_process::holders_of(&path)).unwrap_or_default();
            holders.into_iter().filter(|holder| Some(holder.pid) != own).collect::<Vec<_>>()
        });
        self.spawn_busy(look, ctx, move |thread, holders, ctx| {
            let holders: Vec<String> =
                holders.unwrap_or_default().iter().map(ToString::to_string).collect();
            let who = match holders.as_slice() {
                [] => "Another Codex process".to_owned(),
                known => known.join(" and "),
            };
            let message = format!("{who} holds this session; close it there first. ({failure})");
            then(thread, Failure::new(failure.code, message), ctx);
        });
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
        // 0.106 would say that there is no such thread.
        if self.state.record.archived {
            let message = "The session is archived; unarchive it first.";
            return answer(reply, Err(SessionError::failed(ErrorCode::InvalidState, message)));
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
        let params = json!({ "name": title });
        self.call("thread/name/set", params, Pending::Rename { title, reply }, ctx);
    }

    /// The title is the manager's own: it is kept whether the runtime took it or not.
    pub(super) fn renamed(
        &mut self,
        title: String,
        outcome: Result<Value, CallFailure>,
        reply: Reply<SessionSummary>,
    ) {
        match outcome {
            Ok(_) => self.state.record.know_name(&title),
            Err(error) => {
                tracing::debug!(thread = %self.id, %error, "the runtime took no name");
            }
        }
        let writes = self.state.named(Some(&title), true, clock::now_ms());
        self.note(Writes { thread: true, ..writes });
        let session = self.summary();
        self.tell_with_change("renamed");
        self.when_durable(Box::new(move |_, _, stored| {
            answer(reply, stored.map(|()| session).map_err(SessionError::from));
        }));
    }

    /// Tells everyone that what lists show of the session has changed. It is stored in one batch
    /// with the change and shown when that is on the disk: a crash in between loses neither.
    pub(super) fn tell_with_change(&mut self, reason: &str) {
        let payload = json!({ "reason": reason, "session": self.summary() });
        self.tell_when_durable("session_updated", true, &payload);
    }

    pub(super) fn archive(&mut self, reply: Reply<()>, ctx: &mut Context<Self>) {
        if self.state.record.archived {
            return answer(reply, Ok(()));
        }
        self.call("thread/archive", json!({}), Pending::Archive { reply }, ctx);
    }

    pub(super) fn archived(&mut self, outcome: Result<Value, CallFailure>, reply: Reply<()>) {
        // Two that ask at the same moment have both asked the child.
        if let Err(error) = outcome.map(|_| ()).or_else(|error| self.is_done(error, true)) {
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
        if news {
            self.tell_with_change("archived");
        }
        self.when_durable(Box::new(move |_, _, stored| {
            answer(reply, stored.map_err(SessionError::from));
        }));
    }

    /// Whether a call that the child refused has nothing left to do: somebody else's did it.
    fn is_done(&self, error: CallFailure, archived: bool) -> Result<(), CallFailure> {
        match error {
            CallFailure::Rpc(_) if self.state.record.archived == archived => Ok(()),
            error => Err(error),
        }
    }

    pub(super) fn unarchive(&mut self, reply: Reply<SessionCreated>, ctx: &mut Context<Self>) {
        if !self.state.record.archived {
            let created = SessionCreated {
                status: Some("ok".to_owned()),
                source_session_id: None,
                session: self.summary(),
                thread: self.state.record.thread.clone(),
                warnings: Vec::new(),
                runtime_controls: None,
                trusts_project: false,
            };
            return answer(reply, Ok(created));
        }
        self.call("thread/unarchive", json!({}), Pending::Unarchive { reply }, ctx);
    }

    pub(super) fn unarchived(
        &mut self,
        outcome: Result<Value, CallFailure>,
        reply: Reply<SessionCreated>,
        ctx: &mut Context<Self>,
    ) {
        let result = match outcome.or_else(|error| self.is_done(error, false).map(|()| Value::Null))
        {
            Ok(result) => result,
            Err(error) => {
                let failure = error.failure("thread/unarchive");
                return self.explain(failure, ctx, |_, failure, _| {
                    answer(reply, Err(failure.into()));
                });
            }
        };
        let news = self.state.record.archived;
        self.state.record.archived = false;
        if let Some(thread) = result.get("thread") {
            self.adopt(thread);
        }
        self.note(Writes { thread: true, ..Writes::default() });
        let created = SessionCreated {
            status: Some("ok".to_owned()),
            source_session_id: None,
            session: self.summary(),
            thread: self.state.record.thread.clone(),
            warnings: Vec::new(),
            runtime_controls: None,
            trusts_project: false,
        };
        if news {
            self.tell_with_change("unarchived");
        }
        self.when_durable(Box::new(move |_, _, stored| {
            answer(reply, stored.map(|()| created).map_err(SessionError::from));
        }));
    }
}
