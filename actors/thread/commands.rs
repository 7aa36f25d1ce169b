//! What people and programs ask of a session: messages and turns. Where commands and the answers
//! to their calls arrive.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use cm_core::controls::{Controls, SandboxMode};
use cm_core::error::{ErrorCode, Failure};
use cm_core::rpc::RawJson;
use cm_core::thread::Writes;
use cm_core::wire::{DynamicTool, MessageAccepted, SendMessage};
use serde_json::{Value, json};

use super::actor::Thread;
use super::calls::{AfterResume, Echo, Pending, answer, steer_failure, tool_specs};
use super::config::{Cage, CageError};
use super::error::SessionError;
use super::messages::{Command, Reply, SteerFailure};
use crate::app_server::CallFailure;
use crate::clock;

/// Messages that may wait until it is known whether a turn runs. Overflow rule: the message is
/// refused with `overloaded`.
const MAX_WAITING: usize = 64;

/// How long the end of a turn may be on its way once the child has said that the turn is over.
const END_ON_ITS_WAY: Duration = Duration::from_secs(5);

impl Handler<Command> for Thread {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, command: Command, ctx: &mut Self::Context) -> Self::Result {
        self.handled += 1;
        if let Some(deleted) = &self.deleted {
            command.refuse(SessionError::Deleted(deleted.clone()));
            return AtomicResponse::new(self.flush());
        }
        if command.names_thread() && self.is_rolling_back() {
            let message = "Turns of this session are being taken back, or another thread is being \
                           started for it; try again shortly.";
            command.refuse(SessionError::failed(ErrorCode::InvalidState, message));
            return AtomicResponse::new(self.flush());
        }
        match command {
            Command::Created { record, result, remarks, reply } => {
                self.created(*record, result, remarks, reply, ctx)
            }
            Command::ForkSource(reply) => self.fork_source(reply, ctx),
            Command::Forked { source, result, reply } => self.forked(&source, result, reply, ctx),
            Command::Act { action, reply } => self.act(action, reply, ctx),
            Command::Read { question, reply } => self.read(question, reply, ctx),
            Command::Send { body, reply } => self.send(body, reply, ctx),
            Command::Interrupt { turn_id, reply } => self.interrupt(turn_id, reply, ctx),
            Command::Steer { turn_id, input, reply } => self.steer(&turn_id, &input, reply, ctx),
            Command::Rename { title, reply } => self.rename(title, reply, ctx),
            Command::Archive(reply) => self.archive(reply, ctx),
            Command::Unarchive(reply) => self.unarchive(reply, ctx),
            Command::Resume { dynamic_tools, reply } => {
                self.resume_asked(dynamic_tools.as_deref(), reply, ctx)
            }
            Command::Delete(reply) => self.delete(reply, ctx),
            Command::Assign { to, reply } => self.assign(to, reply),
            Command::AsMember { project, command } => self.as_member(&project, command, ctx),
            Command::Requests { families, all, reply } => {
                self.list_requests(families, all, reply, ctx);
            }
            Command::Decide { record, input, by, reply } => {
                self.decide(*record, input, by, reply, ctx)
            }
            Command::RuntimeId(reply) => answer(reply, Ok(self.state.record.runtime_id().clone())),
            Command::Controls(reply) => answer(reply, Ok(self.state.record.controls.clone())),
            Command::ChangeControls { change, by, reply } => {
                self.change_controls(change, by, reply, ctx);
            }
            Command::AddRow { entry, reply } => self.add_row(*entry, reply, ctx),
            Command::Item { item_id, reply } => self.read_item(item_id, reply, ctx),
            Command::Park(parked) => self.park(parked, ctx),
            Command::Recover(done) => self.recover(Some(done), ctx),
            Command::Linked(link) => self.linked(link),
            Command::Listed { change, asked } => self.listed(change, asked),
            // Nobody else can have worked on what is loaded here.
            Command::Behind(_) if self.is_loaded() => {}
            Command::Behind(at) => self.fell_behind(at),
            Command::Degraded(message) => self.set_problem("degraded", message),
        }
        AtomicResponse::new(self.flush())
    }
}

impl Thread {
    /// A message: it joins the turn that runs, or starts one. Messages keep their order: one that
    /// comes while another waits for something waits behind it. Only one that was to join a turn
    /// that is over goes to the end.
    fn send(&mut self, body: SendMessage, reply: Reply<MessageAccepted>, ctx: &mut Context<Self>) {
        if self.is_starting() {
            return self.wait_to_send(body, reply);
        }
        let controls = self.state.record.controls.patched(&body.patch());
        if controls.filesystem_sandbox != SandboxMode::WorkspaceWrite {
            let warnings = Cage::warning(controls.filesystem_sandbox).into_iter().collect();
            return self.send_allowed(body, controls, warnings, reply, ctx);
        }
        let config = Arc::clone(&self.shared.config);
        let cwd = PathBuf::from(&self.state.record.cwd);
        let sandbox = controls.filesystem_sandbox;
        let look = self.shared.paths.look(move || config.cage.check(&cwd, sandbox));
        self.checking = true;
        self.spawn_busy(look, ctx, move |thread, checked, ctx| {
            thread.checking = false;
            let unsafe_workspace =
                |error: CageError| Failure::new(ErrorCode::UnsafeWorkspace, error.to_string());
            match checked.and_then(|checked| checked.map_err(unsafe_workspace)) {
                Ok(()) => thread.send_allowed(body, controls, Vec::new(), reply, ctx),
                Err(failure) => answer(reply, Err(failure.into())),
            }
            thread.send_waiting(ctx);
        });
    }

    fn wait_to_send(&mut self, body: SendMessage, reply: Reply<MessageAccepted>) {
        if self.waiting.len() >= MAX_WAITING {
            let message = "Too many messages wait for the session's turn; try again shortly.";
            return answer(reply, Err(SessionError::failed(ErrorCode::Overloaded, message)));
        }
        self.waiting.push_back((body, reply));
    }

    /// A message whose sandbox may be used here.
    fn send_allowed(
        &mut self,
        body: SendMessage,
        controls: Controls,
        warnings: Vec<String>,
        reply: Reply<MessageAccepted>,
        ctx: &mut Context<Self>,
    ) {
        if let Some(deleted) = &self.deleted {
            return answer(reply, Err(SessionError::Deleted(deleted.clone())));
        }
        if self.state.record.archived {
            let failure = Failure::new(
                ErrorCode::InvalidState,
                "The session is archived; unarchive it before you send a message.",
            );
            return answer(reply, Err(failure.into()));
        }
        if self.runtime.is_none() {
            return answer(reply, Err(Self::no_runtime().into()));
        }
        // A thread that was cut is compared with the runtime's history first, so that what it did
        // is known before it does more.
        if self.must_compare() {
            self.wait_to_send(body, reply);
            return self.recover(None, ctx);
        }
        // Starting a turn while one runs means different things to different versions: some join
        // it, some name a turn that never ends. Joining is asked for by its own name.
        if let Some(turn) = self.state.active_turn() {
            let turn_id = turn.id.clone();
            return self.join_turn(turn_id, body, controls, warnings, reply, ctx);
        }
        let new_tools = self.take_tools(body.dynamic_tools.as_deref());
        if self.is_loaded() && !new_tools {
            self.start_turn(body, controls, warnings, reply, ctx);
        } else {
            self.resume(controls, AfterResume::Send { body, warnings, reply }, ctx);
        }
    }

    /// A message whose thread is loaded now. The runtime may have started a turn by itself since it
    /// was asked to load it, and whoever sent the message may have given up.
    pub(super) fn send_loaded(
        &mut self,
        body: SendMessage,
        controls: Controls,
        warnings: Vec<String>,
        reply: Reply<MessageAccepted>,
        ctx: &mut Context<Self>,
    ) {
        if reply.is_closed() {
            return;
        }
        // Another client has worked on it: what it did comes before what is sent now.
        if self.recovery.behind.is_some() {
            self.wait_to_send(body, reply);
            return self.recover(None, ctx);
        }
        match self.state.active_turn().map(|turn| turn.id.clone()) {
            Some(turn_id) => self.join_turn(turn_id, body, controls, warnings, reply, ctx),
            None => self.start_turn(body, controls, warnings, reply, ctx),
        }
    }

    fn join_turn(
        &mut self,
        turn_id: String,
        body: SendMessage,
        controls: Controls,
        warnings: Vec<String>,
        reply: Reply<MessageAccepted>,
        ctx: &mut Context<Self>,
    ) {
        let params = self.steer_params(&turn_id, &body.text);
        let pending = Pending::Join { turn_id, body, controls, warnings, reply };
        self.call("turn/steer", params, pending, ctx);
    }

    /// Whether it is not known yet if a turn is about to run. A second one must not be started
    /// meanwhile: some versions then name a turn that never ends.
    pub(super) fn is_starting(&self) -> bool {
        // A message waits for any comparison; only that of a thread that was cut may find a turn.
        self.checking
            || (self.recovery.running && self.recovery.wanted)
            || self.ending.is_some()
            || self.awaited.is_some()
            || self.is_rolling_back()
            || self.pending.values().any(|pending| {
                matches!(
                    pending,
                    Pending::TurnStart { .. }
                        | Pending::Act { turns: Some(_), .. }
                        | Pending::Settings { .. }
                        | Pending::Unload { .. }
                        | Pending::Resume { then: AfterResume::Send { .. }, .. }
                        | Pending::Resume { echo: Echo::Told, .. }
                )
            })
    }

    /// A message was to join a turn that is over. The word of its end comes right behind the
    /// refusal, and the message starts the next turn then. A turn whose end does not come (its line
    /// may have been too long) ends without it.
    fn join_after(
        &mut self,
        turn_id: String,
        body: SendMessage,
        reply: Reply<MessageAccepted>,
        ctx: &mut Context<Self>,
    ) {
        self.wait_to_send(body, reply);
        if self.ending.as_ref() == Some(&turn_id) {
            return;
        }
        self.ending = Some(turn_id.clone());
        ctx.run_later(END_ON_ITS_WAY, move |thread, ctx| {
            if thread.ending.as_ref() != Some(&turn_id) {
                return;
            }
            tracing::warn!(thread = %thread.id, turn = turn_id, "the end of a turn was not told");
            thread.lose_turn(&turn_id, "The Codex runtime did not say how the turn ended.");
            thread.turn_over(ctx);
            let flush = thread.flush();
            ctx.spawn(flush);
        });
    }

    /// Goes on with what waited for the end of a turn, if that has come.
    pub(super) fn turn_over(&mut self, ctx: &mut Context<Self>) {
        let state = &self.state;
        if self.ending.take_if(|turn_id| !state.is_running(turn_id)).is_some() {
            self.send_waiting(ctx);
        }
    }

    /// Sends what waited until it was known whether a turn runs.
    pub(super) fn send_waiting(&mut self, ctx: &mut Context<Self>) {
        if self.is_starting() {
            return;
        }
        for (body, reply) in std::mem::take(&mut self.waiting) {
            // Nothing is sent for somebody who was told that it was not.
            if !reply.is_closed() {
                self.send(body, reply, ctx);
            }
        }
    }

    /// Takes over the tools that a client offers from now on; answers whether they are others.
    pub(super) fn take_tools(&mut self, tools: Option<&[DynamicTool]>) -> bool {
        let Some(tools) = tools else { return false };
        let version = self.runtime.as_ref().and_then(|up| up.profile.version);
        let tools = Some(tool_specs(tools, version));
        let news = self.state.record.dynamic_tools != tools;
        if news {
            self.state.record.dynamic_tools = tools;
            self.note(Writes { thread: true, ..Writes::default() });
        }
        news
    }

    fn start_turn(
        &mut self,
        body: SendMessage,
        controls: Controls,
        warnings: Vec<String>,
        reply: Reply<MessageAccepted>,
        ctx: &mut Context<Self>,
    ) {
        let version = self.runtime.as_ref().and_then(|up| up.profile.version);
        let mut params = json!({
            "input": [{ "type": "text", "text": body.text, "text_elements": [] }],
            "approvalPolicy": controls.approval_policy_param(version),
            "sandboxPolicy": controls.sandbox_policy_param(),
        });
        if let Some(model) = &controls.model {
            params["model"] = json!(model);
        }
        if let Some(effort) = body.effort {
            params["effort"] = json!(effort);
        }
        let text = body.text;
        let pending = Pending::TurnStart { text, controls, warnings, reply };
        self.call("turn/start", params, pending, ctx);
    }

    fn steer_params(&self, turn_id: &str, text: &str) -> Value {
        json!({
            "expectedTurnId": turn_id,
            "input": [{ "type": "text", "text": text, "text_elements": [] }],
        })
    }

    fn steer(
        &mut self,
        turn_id: &str,
        input: &str,
        reply: Reply<Result<(), SteerFailure>>,
        ctx: &mut Context<Self>,
    ) {
        if self.state.active_turn().is_none() {
            let failure = steer_failure("no active turn to steer".to_owned());
            return answer(reply, Ok(Err(failure)));
        }
        let params = self.steer_params(self.state.id_of(turn_id), input);
        self.call("turn/steer", params, Pending::Steer { reply }, ctx);
    }

    /// The answer to one of our calls, at its place in the child's output.
    pub(super) fn answered(
        &mut self,
        pending: Pending,
        outcome: Result<Value, CallFailure>,
        ctx: &mut Context<Self>,
    ) {
        self.settle(pending, outcome, ctx);
        self.send_waiting(ctx);
    }

    fn settle(
        &mut self,
        pending: Pending,
        outcome: Result<Value, CallFailure>,
        ctx: &mut Context<Self>,
    ) {
        match pending {
            Pending::TurnStart { text, controls, warnings, reply } => match outcome {
                Ok(result) => self.turn_started(&result, &text, controls, warnings, reply),
                Err(error) => {
                    self.claim_turn(None);
                    self.explain(error.failure("turn/start"), ctx, |_, failure, _| {
                        answer(reply, Err(failure.into()));
                    });
                }
            },
            Pending::Join { turn_id, body, controls, warnings, reply } => match outcome {
                Ok(_) => {
                    self.accept(turn_id, &body.text, controls, warnings, reply);
                }
                // The turn ended before the message reached it: then it starts the next one.
                Err(CallFailure::Rpc(_)) if self.state.active_turn().is_none() => {
                    self.send(body, reply, ctx);
                }
                Err(error) if error.is_turn_over() => match self.state.is_running(&turn_id) {
                    true => self.join_after(turn_id, body, reply, ctx),
                    // Another one may have begun meanwhile.
                    false => self.send(body, reply, ctx),
                },
                Err(error) => answer(reply, Err(error.failure("turn/steer").into())),
            },
            Pending::Steer { reply } => match outcome {
                Ok(_) => answer(reply, Ok(Ok(()))),
                Err(CallFailure::Rpc(error)) => {
                    answer(reply, Ok(Err(steer_failure(error.message))));
                }
                Err(error) => answer(reply, Err(error.failure("turn/steer").into())),
            },
            Pending::Interrupt { turn_id, tries, reply } => {
                self.interrupted(turn_id, outcome, tries, reply, ctx);
            }
            Pending::Resume { then, controls, echo } => {
                self.resumed(outcome, controls, echo, then, ctx);
            }
            Pending::FirstName { remarks, result, reply } => {
                if let Err(error) = outcome {
                    tracing::debug!(thread = %self.id, %error, "the runtime took no name");
                }
                self.answer_created(result, remarks, reply);
            }
            Pending::Rename { title, reply } => self.renamed(title, outcome, reply),
            Pending::Archive { reply } => self.archived(outcome, reply),
            Pending::Unarchive { reply } => self.unarchived(outcome, reply, ctx),
            Pending::History(comparison) => {
                let encoded = |result| RawJson::encode(&result).unwrap_or_else(|_| RawJson::null());
                self.history_answered(*comparison, outcome.map(encoded), ctx);
            }
            Pending::Act { method, turns, reply } => self.acted(method, turns, outcome, reply, ctx),
            Pending::Settings { controls, action, reply } => {
                self.settings_taken(outcome, controls, action, reply, ctx);
            }
            Pending::Unload { action, reply } => self.unloaded(outcome, action, reply, ctx),
            Pending::RollBack { rolling, reply } => self.rolled_back(outcome, rolling, reply, ctx),
            Pending::Delete { file, former, reply } => {
                self.deleted(outcome, file, former, reply, ctx);
            }
            Pending::CleanTerminals => {
                if let Err(error) = outcome {
                    tracing::debug!(thread = %self.id, %error, "no terminals were cleaned");
                }
            }
        }
    }

    fn turn_started(
        &mut self,
        result: &Value,
        text: &str,
        controls: Controls,
        warnings: Vec<String>,
        reply: Reply<MessageAccepted>,
    ) {
        let turn_id = result.pointer("/turn/id").and_then(Value::as_str);
        self.claim_turn(turn_id);
        let Some(turn_id) = turn_id.map(str::to_owned) else {
            let message = "The Codex runtime started a turn without naming it.";
            return answer(reply, Err(SessionError::failed(ErrorCode::CodexError, message)));
        };
        if self.takes_settings() {
            self.in_force = Some(controls.clone());
        }
        let writes = self.state.turn_began(&turn_id, clock::now_ms());
        self.note(writes);
        self.accept(turn_id, text, controls, warnings, reply);
    }

    /// Answers 202 when what was accepted is on the disk.
    fn accept(
        &mut self,
        turn_id: String,
        text: &str,
        controls: Controls,
        warnings: Vec<String>,
        reply: Reply<MessageAccepted>,
    ) {
        let writes = self.state.message_accepted(&turn_id, text, clock::now_ms());
        self.note(writes);
        self.state.record.controls = controls;
        self.note(Writes { thread: true, ..Writes::default() });
        let accepted = MessageAccepted {
            status: "accepted".to_owned(),
            session_id: self.id.clone(),
            turn_id,
            warnings,
        };
        self.when_durable(Box::new(move |_, _, stored| {
            answer(reply, stored.map(|()| accepted).map_err(SessionError::from));
        }));
    }
}
