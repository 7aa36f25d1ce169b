//! Turns that are taken back.
//!
//! Versions differ in how: by number (`thread/rollback`), or by the first turn that goes
//! (`thread/revert`), which needs a history in pages. A session that an older version began has none:
//! where the version has nothing else for it, a fork without the turns takes the thread's place.

use std::time::Duration;

use actix::prelude::*;
use cm_core::error::{ErrorCode, Failure};
use cm_core::ids::ThreadId;
use cm_core::request::ExpiryReason;
use cm_core::thread::{ItemRecord, TurnRecord, TurnStatus};
use serde_json::{Value, json};

use super::actions::turn_runs;
use super::actor::Thread;
use super::calls::{Pending, answer};
use super::error::SessionError;
use super::fork::fork_params;
use super::messages::Reply;
use super::replace::Replacement;
use crate::app_server::CallFailure;
use crate::store::{Store, read_latest_items, read_latest_turns};

/// Turns among which those to be taken back are looked for: the most that can be at once.
const MOST_TURNS: usize = 10_000;

/// Items among which their messages are looked for.
const MOST_ITEMS: usize = 20_000;

/// How often, and after what time, a history that could not be read is asked for again.
const MOST_UNREAD: u32 = 5;
const READ_AGAIN: Duration = Duration::from_secs(5);

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

impl RollingBack {
    /// The id of the first turn that goes.
    fn first(&self) -> &str {
        self.turns.first().map(TurnRecord::first_name).unwrap_or_default()
    }
}

impl Thread {
    /// Takes the latest turns back.
    pub(super) fn roll_back(&mut self, turns: u32, reply: Reply<Value>, ctx: &mut Context<Self>) {
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

    /// Whether turns are being taken back, or another thread is being started: what is asked of the
    /// thread meanwhile might reach the former one.
    pub(super) fn is_rolling_back(&self) -> bool {
        let asked = |pending: &Pending| matches!(pending, Pending::RollBack { .. });
        self.rolling_back || self.replacing || self.pending.values().any(asked)
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

    fn ask_roll_back(
        &mut self,
        rolling: RollingBack,
        reply: Reply<Value>,
        ctx: &mut Context<Self>,
    ) {
        let (method, params) = match rolling.reverts {
            true => ("thread/revert", json!({ "beforeTurnId": rolling.first() })),
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
        match outcome {
            Ok(result) => {
                self.recovery.reverts = rolling.reverts;
                if rolling.reverts {
                    // The thread was loaded anew, and not with what was said to be in force.
                    self.in_force = None;
                }
                if let Some(thread) = result.get("thread") {
                    self.adopt(thread);
                }
                self.forget_turns(rolling.turns);
                self.when_durable(Box::new(move |_, _, stored| {
                    answer(reply, stored.map(|()| result).map_err(SessionError::from));
                }));
            }
            // A history that is not in pages was begun by an older version, or asked for so.
            Err(CallFailure::Rpc(error))
                if error.message.contains("only supports paginated threads") =>
            {
                if self.child_has("thread/rollback") {
                    rolling.reverts = false;
                    self.ask_roll_back(rolling, reply, ctx);
                } else {
                    self.fork_without(rolling, reply, ctx);
                }
            }
            Err(error) => {
                if matches!(error, CallFailure::Timeout | CallFailure::Unavailable) {
                    // It may be done all the same.
                    self.may_be_reverted();
                }
                self.acted("thread/rollback", None, Err(error), reply, ctx);
                self.look_for_reverted(ctx);
            }
        }
    }

    /// Lets a fork without the turns take the thread's place.
    fn fork_without(&mut self, rolling: RollingBack, reply: Reply<Value>, ctx: &mut Context<Self>) {
        const METHOD: &str = "thread/fork";
        if !self.child_has(METHOD) {
            let message = "An older version of Codex began this session, and this version cannot \
                           take its turns back. Send what should be different.";
            let failure = Failure::new(ErrorCode::MethodNotSupported, message);
            return answer(reply, Err(failure.into()));
        }
        let record = &self.state.record;
        let version = self.runtime.as_ref().and_then(|up| up.profile.version);
        let mut params = fork_params(record, version);
        params["beforeTurnId"] = json!(rolling.first());
        let former = record.runtime_id().clone();
        let replacement = Replacement {
            method: METHOD,
            params,
            controls: record.controls.clone(),
            keeps: true,
            taken: Box::new(move |thread, runtime_id| thread.forked_without(rolling, runtime_id)),
        };
        let done = move |thread: &mut Self, result: Result<Value, SessionError>, ctx: &mut _| {
            if result.is_ok() {
                thread.tidy_after_replacing(former, ctx);
            }
            answer(reply, result);
            thread.send_waiting(ctx);
        };
        self.replace(replacement, Box::new(done), ctx);
    }

    fn forked_without(&mut self, rolling: RollingBack, runtime_id: &ThreadId) {
        tracing::info!(thread = %self.id, runtime_thread = %runtime_id, turns = rolling.turns.len(),
            "a fork without the turns that were taken back took the thread's place");
        let turns = match rolling.turns.len() {
            1 => "The latest turn was".to_owned(),
            several => format!("The latest {several} turns were"),
        };
        let content = format!(
            "{turns} taken back. An older version of Codex began this session, and this version \
             cannot change its history: thread {runtime_id}, a copy without them, took its place. \
             The former thread goes to Codex's archive."
        );
        // Nobody can answer them any more.
        self.expire_requests(ExpiryReason::ResolvedByRuntime, |_| true);
        self.write_replacement("session.thread.forked", content, runtime_id);
        self.forget_turns(rolling.turns);
    }

    /// Turns were taken back: nobody is shown them any more.
    pub(super) fn forget_turns(&mut self, turns: Vec<TurnRecord>) {
        if turns.is_empty() {
            return;
        }
        let ids: Vec<String> = turns.iter().map(|turn| turn.id.clone()).collect();
        let writes = self.state.rolled_back(turns);
        self.note(writes);
        let payload = json!({ "threadId": self.id, "turnIds": ids });
        self.tell_when_durable("session_rolled_back", false, &payload);
        self.tell_with_change("rolled_back");
    }

    /// The runtime may have taken turns back that are still shown: its history says which.
    pub(super) fn may_be_reverted(&mut self) {
        self.recovery.reverted = true;
        self.recovery.wanted = true;
        self.recovery.unread = 0;
        // A revert loads the thread anew.
        self.in_force = None;
    }

    /// Compares with the runtime's history, if it may have taken turns back.
    pub(super) fn look_for_reverted(&mut self, ctx: &mut Context<Self>) {
        if self.recovery.reverted && self.recovery.wanted && !self.recovery.running {
            self.recover(None, ctx);
        }
    }

    /// The history could not be read, and turns may be gone from it: it is asked for again.
    pub(super) fn look_again_for_reverted(&mut self, ctx: &mut Context<Self>) {
        if !self.recovery.reverted {
            return;
        }
        if self.recovery.unread >= MOST_UNREAD {
            tracing::warn!(thread = %self.id, "turns may be shown that the runtime has taken back");
            self.recovery.reverted = false;
            return;
        }
        self.recovery.unread += 1;
        self.busy += 1;
        ctx.run_later(READ_AGAIN, |thread, ctx| {
            thread.busy -= 1;
            // Without a child it is looked for when the next one is there.
            thread.recovery.wanted |= thread.recovery.reverted;
            thread.look_for_reverted(ctx);
            let flush = thread.flush();
            ctx.spawn(flush);
        });
    }
}
