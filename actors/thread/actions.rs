//! What the runtime does with a thread beside turns: compaction, review, turns taken back.

use actix::prelude::*;
use cm_core::compat::Version;
use cm_core::controls::Controls;
use cm_core::error::{ErrorCode, Failure};
use cm_core::thread::{ItemRecord, TurnRecord, TurnStatus, Writes};
use serde_json::{Value, json};

use super::actor::Thread;
use super::calls::{AfterResume, Pending, answer};
use super::error::SessionError;
use super::messages::Reply;
use crate::app_server::CallFailure;
use crate::clock;
use crate::store::{Store, read_latest_items, read_latest_turns};

/// Turns among which those to be taken back are looked for: the most that can be at once.
const MOST_TURNS: usize = 10_000;

/// Items among which their messages are looked for.
const MOST_ITEMS: usize = 20_000;

/// The first version that is known to review with the settings that it was told last.
const TAKES_SETTINGS: Version = Version::new(0, 155, 0);

/// Something that the runtime does with a thread.
#[derive(Debug, Clone, PartialEq)]
pub enum ThreadAction {
    /// Makes what the model sees of the history shorter.
    Compact,
    /// Ends commands that an interrupt left running.
    CleanTerminals,
    /// Reviews something; `target` as the runtime takes it.
    Review {
        /// What.
        target: Value,
    },
    /// Takes the latest turns back.
    RollBack {
        /// How many.
        turns: u32,
    },
}

impl ThreadAction {
    /// Whether the runtime runs a turn for it, in which the model may do something.
    fn runs_turn(&self) -> bool {
        matches!(self, Self::Compact | Self::Review { .. })
    }

    /// Whether it builds on the history: what the runtime did meanwhile is known first.
    fn needs_history(&self) -> bool {
        self.runs_turn() || matches!(self, Self::RollBack { .. })
    }

    /// The runtime's method, as errors name it.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Compact => "thread/compact/start",
            Self::CleanTerminals => "thread/backgroundTerminals/clean",
            Self::Review { .. } => "review/start",
            Self::RollBack { .. } => "thread/rollback",
        }
    }
}

/// Turns that are being taken back.
#[derive(Debug)]
pub(super) struct RollingBack {
    /// As they are stored, oldest first.
    turns: Vec<TurnRecord>,
    /// Messages in them: `thread/rollback` counts these, whatever its parameter is called.
    messages: usize,
    /// Whether the version was asked for it by its newer name.
    reverts: bool,
}

impl Thread {
    /// Does something with the thread; one that the runtime has not loaded is loaded first.
    pub(super) fn act(
        &mut self,
        action: ThreadAction,
        reply: Reply<Value>,
        ctx: &mut Context<Self>,
    ) {
        if self.runtime.is_none() {
            return answer(reply, Err(Self::no_runtime().into()));
        }
        if self.state.record.archived {
            let message = "The session is archived; unarchive it first.";
            return answer(reply, Err(SessionError::failed(ErrorCode::InvalidState, message)));
        }
        if self.must_wait(&action) {
            return self.wait_to_act(action, reply, ctx);
        }
        if self.is_loaded() {
            return self.act_loaded(action, reply, ctx);
        }
        let controls = self.state.record.controls.clone();
        self.resume(controls, AfterResume::Act { action, reply }, ctx);
    }

    /// Whether an action waits for a comparison of the histories.
    fn must_wait(&self, action: &ThreadAction) -> bool {
        action.needs_history() && (self.must_compare() || self.recovery.running)
    }

    /// Does something with a thread that the runtime has loaded.
    pub(super) fn act_loaded(
        &mut self,
        action: ThreadAction,
        reply: Reply<Value>,
        ctx: &mut Context<Self>,
    ) {
        // Loading it may have told of another client's work.
        if self.must_wait(&action) {
            return self.wait_to_act(action, reply, ctx);
        }
        let method = action.method();
        if !matches!(action, ThreadAction::RollBack { .. }) && !self.child_has(method) {
            return answer(reply, Err(CallFailure::unknown_method(method).into()));
        }
        if action.runs_turn() && self.in_force.as_ref() != Some(&self.state.record.controls) {
            return self.bring_into_force(action, reply, ctx);
        }
        let mut params = json!({});
        match action {
            ThreadAction::RollBack { turns } => return self.roll_back(turns, reply, ctx),
            ThreadAction::Review { target } => {
                params["delivery"] = json!("inline");
                params["target"] = target;
            }
            ThreadAction::Compact | ThreadAction::CleanTerminals => {}
        }
        self.call(method, params, Pending::Act { method, reply }, ctx);
    }

    /// Lets the session's controls count before something that runs a turn without naming any:
    /// the runtime would run it with those of the last turn.
    fn bring_into_force(
        &mut self,
        action: ThreadAction,
        reply: Reply<Value>,
        ctx: &mut Context<Self>,
    ) {
        const METHOD: &str = "thread/settings/update";
        let controls = self.state.record.controls.clone();
        if self.takes_settings() {
            let version = self.runtime.as_ref().and_then(|up| up.profile.version);
            let mut params = json!({
                "approvalPolicy": controls.approval_policy_param(version),
                "sandboxPolicy": controls.sandbox_policy_param(),
            });
            if let Some(model) = &controls.model {
                params["model"] = json!(model);
            }
            return self.call(METHOD, params, Pending::Settings { controls, action, reply }, ctx);
        }
        // The controls of a resume are ignored while the thread is loaded, and a turn would end with
        // the unloading.
        if self.is_busy_with_turns() {
            return answer(reply, Err(turn_runs().into()));
        }
        self.call("thread/unsubscribe", json!({}), Pending::Unload { action, reply }, ctx);
    }

    /// Whether the runtime runs everything with the settings that it was told last. Codex 0.106
    /// cannot be told, and 0.140 reviews with those with which it loaded the thread.
    pub(super) fn takes_settings(&self) -> bool {
        let version = self.runtime.as_ref().and_then(|up| up.profile.version);
        version.is_none_or(|version| version >= TAKES_SETTINGS)
            && self.child_has("thread/settings/update")
    }

    /// The runtime took the controls, or did not.
    pub(super) fn settings_taken(
        &mut self,
        outcome: Result<Value, CallFailure>,
        controls: Controls,
        action: ThreadAction,
        reply: Reply<Value>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(error) = outcome {
            return self.acted("thread/settings/update", Err(error), reply, ctx);
        }
        self.in_force = Some(controls);
        self.act_loaded(action, reply, ctx);
    }

    /// The runtime no longer has the thread loaded: it is loaded again, with the controls.
    pub(super) fn unloaded(
        &mut self,
        outcome: Result<Value, CallFailure>,
        action: ThreadAction,
        reply: Reply<Value>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(error) = outcome {
            return self.acted("thread/unsubscribe", Err(error), reply, ctx);
        }
        self.loaded = None;
        let controls = self.state.record.controls.clone();
        self.resume(controls, AfterResume::Act { action, reply }, ctx);
    }

    /// The runtime did something, or did not.
    pub(super) fn acted(
        &mut self,
        method: &'static str,
        outcome: Result<Value, CallFailure>,
        reply: Reply<Value>,
        ctx: &mut Context<Self>,
    ) {
        match outcome {
            Ok(result) => {
                // A review's turn is named here; what the runtime then says to have begun may be
                // another name of it.
                if let Some(turn_id) = result.pointer("/turn/id").and_then(Value::as_str) {
                    let writes = self.state.turn_began(turn_id, clock::now_ms());
                    self.note(writes);
                }
                answer(reply, Ok(result));
            }
            Err(error) => self.explain(error.failure(method), ctx, |_, failure, _| {
                answer(reply, Err(failure.into()));
            }),
        }
    }

    /// Takes the latest turns back. Versions differ in how: by number, or by the first turn that
    /// goes, which needs a history in pages.
    fn roll_back(&mut self, turns: u32, reply: Reply<Value>, ctx: &mut Context<Self>) {
        if self.is_busy_with_turns() {
            return answer(reply, Err(turn_runs().into()));
        }
        // By the first turn that goes where the version can: the other way counts messages.
        let reverts = self.child_has("thread/revert");
        if !reverts && !self.child_has("thread/rollback") {
            return answer(reply, Err(CallFailure::unknown_method("thread/rollback").into()));
        }
        let flushed = self.flush();
        ctx.spawn(flushed);
        let (store, id) = (self.shared.store.clone(), self.id.clone());
        let read = move |store: &dyn Store| {
            let turns = read_latest_turns(store, &id, MOST_TURNS)?;
            Ok((turns, read_latest_items(store, &id, MOST_ITEMS)?))
        };
        let work = async move { store.read(read).await };
        // Messages and other rollbacks wait, or are refused, until it is over.
        self.rolling_back = true;
        self.spawn_busy(work, ctx, move |thread, known, ctx| {
            thread.rolling_back = false;
            let known = known.map_err(SessionError::from);
            match known.and_then(|(known, items)| thread.what_goes(turns, known, &items, reverts)) {
                Ok(rolling) => thread.ask_roll_back(rolling, reply, ctx),
                Err(error) => answer(reply, Err(error)),
            }
            thread.send_waiting(ctx);
        });
    }

    /// Which turns are to be taken back.
    fn what_goes(
        &self,
        turns: u32,
        known: Vec<TurnRecord>,
        items: &[ItemRecord],
        reverts: bool,
    ) -> Result<RollingBack, SessionError> {
        // One may have begun meanwhile.
        if self.is_busy_with_turns() {
            return Err(turn_runs().into());
        }
        let there = known
            .into_iter()
            .filter(|turn| !turn.rolled_back && turn.status != TurnStatus::InProgress);
        let mut latest: Vec<TurnRecord> = there.collect();
        latest.drain(..latest.len().saturating_sub(turns as usize));
        if latest.is_empty() {
            let message = "The session has no turn that could be taken back.";
            return Err(SessionError::failed(ErrorCode::InvalidState, message));
        }
        let of_latest = |item: &&ItemRecord| {
            item.kind == "userMessage" && latest.iter().any(|turn| turn.id == item.turn_id)
        };
        let messages = items.iter().filter(of_latest).count();
        Ok(RollingBack { turns: latest, messages, reverts })
    }

    /// Whether a turn runs or is about to, or turns are being taken back.
    fn is_busy_with_turns(&self) -> bool {
        self.state.active_turn().is_some() || self.is_starting()
    }

    fn ask_roll_back(
        &mut self,
        rolling: RollingBack,
        reply: Reply<Value>,
        ctx: &mut Context<Self>,
    ) {
        let first = rolling.turns.first().map(|turn| turn.id.as_str()).unwrap_or_default();
        let (method, params) = match rolling.reverts {
            true => ("thread/revert", json!({ "beforeTurnId": first })),
            false => {
                let messages = rolling.messages.max(1);
                ("thread/rollback", json!({ "numTurns": messages }))
            }
        };
        self.call(method, params, Pending::RollBack { rolling, reply }, ctx);
    }

    /// The runtime took turns back, or did not.
    pub(super) fn rolled_back(
        &mut self,
        outcome: Result<Value, CallFailure>,
        mut rolling: RollingBack,
        reply: Reply<Value>,
        ctx: &mut Context<Self>,
    ) {
        let result = match outcome {
            Ok(result) => result,
            // A history that is not in pages was begun by an older version, or asked for so.
            Err(CallFailure::Rpc(error))
                if error.message.contains("only supports paginated threads")
                    && self.child_has("thread/rollback") =>
            {
                rolling.reverts = false;
                return self.ask_roll_back(rolling, reply, ctx);
            }
            Err(CallFailure::Rpc(error))
                if error.message.contains("only supports paginated threads") =>
            {
                let message = "An older version of Codex began this session, and this version \
                               cannot take its turns back. Fork it, or send what should be \
                               different.";
                let failure = Failure::new(ErrorCode::MethodNotSupported, message);
                return answer(reply, Err(failure.into()));
            }
            Err(error) => return self.acted("thread/rollback", Err(error), reply, ctx),
        };
        let ids: Vec<String> = rolling.turns.iter().map(|turn| turn.id.clone()).collect();
        let writes = self.state.rolled_back(rolling.turns);
        self.note(writes);
        if let Some(thread) = result.get("thread") {
            self.adopt(thread);
            self.note(Writes { thread: true, ..Writes::default() });
        }
        let payload = json!({ "threadId": self.id, "turnIds": ids });
        self.tell_when_durable("session_rolled_back", false, &payload);
        self.tell_with_change("rolled_back");
        self.when_durable(Box::new(move |_, _, stored| {
            answer(reply, stored.map(|()| result).map_err(SessionError::from));
        }));
    }
}

fn turn_runs() -> Failure {
    let message = "A turn runs in this session; interrupt it or wait for its end.";
    Failure::new(ErrorCode::InvalidState, message)
}
