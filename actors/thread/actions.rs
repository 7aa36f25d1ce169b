//! What the runtime does with a thread beside turns: compaction and review.

use std::time::Duration;

use actix::prelude::*;
use cm_core::compat::Version;
use cm_core::controls::Controls;
use cm_core::error::{ErrorCode, Failure};
use serde_json::{Value, json};

use super::actor::Thread;
use super::calls::{AfterResume, Echo, Pending, answer};
use super::error::SessionError;
use super::messages::Reply;
use crate::app_server::CallFailure;
use crate::clock;

/// How long the beginning of a turn may be on its way once the child has said that it will begin.
const TURN_ON_ITS_WAY: Duration = Duration::from_secs(5);

/// The first version that is known to review with the settings that it was told last.
const TAKES_SETTINGS: Version = Version::new(0, 155, 0);

/// A turn that the runtime is about to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Awaited {
    /// Tells one from the other.
    token: u64,
    /// How many turns there were before it.
    turns: u32,
    /// Whether it is a review, which is known already.
    reviews: bool,
}

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
        // The runtime would end the turn that runs.
        if action.runs_turn() && self.is_busy_with_turns() {
            return answer(reply, Err(turn_runs().into()));
        }
        if action.runs_turn() && self.in_force.as_ref() != Some(&self.state.record.controls) {
            return self.bring_into_force(action, reply, ctx);
        }
        let turns = action.runs_turn().then_some(self.state.record.next_turn);
        let mut params = json!({});
        match action {
            ThreadAction::RollBack { turns } => return self.roll_back(turns, reply, ctx),
            ThreadAction::Review { target } => {
                params["delivery"] = json!("inline");
                params["target"] = target;
            }
            ThreadAction::Compact | ThreadAction::CleanTerminals => {}
        }
        self.call(method, params, Pending::Act { method, turns, reply }, ctx);
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
            // Whatever becomes of it: only what is echoed afterwards is known to be in force.
            self.in_force = None;
            return self.call(METHOD, params, Pending::Settings { controls, action, reply }, ctx);
        }
        // The controls of a resume are ignored while the thread is loaded.
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
            return self.acted("thread/settings/update", None, Err(error), reply, ctx);
        }
        // The answer is empty: whether it took them shows in what a resume echoes.
        self.resume_as(controls, AfterResume::Act { action, reply }, Echo::Told, ctx);
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
            return self.acted("thread/unsubscribe", None, Err(error), reply, ctx);
        }
        self.loaded = None;
        let controls = self.state.record.controls.clone();
        self.resume(controls, AfterResume::Act { action, reply }, ctx);
    }

    /// The runtime did something, or did not.
    pub(super) fn acted(
        &mut self,
        method: &'static str,
        turns: Option<u32>,
        outcome: Result<Value, CallFailure>,
        reply: Reply<Value>,
        ctx: &mut Context<Self>,
    ) {
        match outcome {
            Ok(result) => {
                // Only a review's answer names its turn.
                if let Some(turn_id) = result.pointer("/turn/id").and_then(Value::as_str) {
                    let writes = self.state.review_began(turn_id, clock::now_ms());
                    self.note(writes);
                    // Until then it takes neither a message nor an interrupt.
                    self.await_turn(true, ctx);
                } else if turns == Some(self.state.record.next_turn) {
                    self.await_turn(false, ctx);
                }
                answer(reply, Ok(result));
            }
            Err(error) => self.explain(error.failure(method), ctx, |_, failure, _| {
                answer(reply, Err(failure.into()));
            }),
        }
    }

    /// The runtime is about to begin a turn, and says so.
    fn await_turn(&mut self, reviews: bool, ctx: &mut Context<Self>) {
        let (token, turns) = (self.shared.next_token(), self.state.record.next_turn);
        let awaited = Awaited { token, turns, reviews };
        self.awaited = Some(awaited);
        ctx.run_later(TURN_ON_ITS_WAY, move |thread, ctx| {
            if thread.awaited == Some(awaited) {
                tracing::warn!(thread = %thread.id, "a turn that was to begin did not");
                thread.awaited = None;
                thread.send_waiting(ctx);
                let flush = thread.flush();
                ctx.spawn(flush);
            }
        });
    }

    /// Goes on with what waited for the beginning of a turn, if that has come.
    pub(super) fn awaited_turn_began(&mut self, ctx: &mut Context<Self>) {
        let has_begun = |awaited: Awaited| match awaited.reviews {
            true => !self.state.is_review_awaited(),
            // Codex 0.106 tells only of the end of a compaction.
            false => self.state.record.next_turn > awaited.turns,
        };
        if self.awaited.is_some_and(has_begun) {
            self.awaited = None;
            self.send_waiting(ctx);
        }
    }

    /// Whether a turn runs or is about to, or turns are being taken back.
    pub(super) fn is_busy_with_turns(&self) -> bool {
        self.state.active_turn().is_some() || self.is_starting()
    }
}

pub(super) fn turn_runs() -> Failure {
    let message = "A turn runs in this session; interrupt it or wait for its end.";
    Failure::new(ErrorCode::InvalidState, message)
}
