//! A running turn: everything it says, in codex's order.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use uuid::Uuid;

use super::inbox::{Inbox, UserInput};
use super::item;
use crate::server::Server;
use crate::thread::{self, LoadedThread, Record, Settings, Status, ThreadLog};
use crate::tools::TurnDiff;
use crate::wire::{Answer, lock, now_s};

/// Why a turn ends before its work is done.
#[derive(Debug)]
pub(crate) enum Stop {
    /// By `turn/interrupt`, or by an approval answered with `cancel`.
    Interrupted,
    /// With this error.
    Failed(String),
}

/// The turn, as its own OS thread sees it.
pub(crate) struct Turn {
    pub(crate) server: Arc<Server>,
    pub(crate) thread: Arc<LoadedThread>,
    pub(crate) id: Uuid,
    pub(crate) inbox: Arc<Inbox>,
    /// Files changed so far.
    pub(crate) diff: TurnDiff,
    /// `None` for an ephemeral thread.
    log: Option<ThreadLog>,
    /// Seconds since the Unix epoch.
    started_at: u64,
    clock: Instant,
    /// Repeated in `turn/completed`.
    last_message: Option<Value>,
    /// A request whose answer the turn did not wait for.
    abandoned: Option<i64>,
    /// Characters read and written since usage was last reported.
    unreported: (usize, usize),
}

impl Turn {
    pub(super) fn new(
        server: Arc<Server>,
        thread: Arc<LoadedThread>,
        id: Uuid,
        inbox: Arc<Inbox>,
        log: Option<ThreadLog>,
    ) -> Self {
        Self {
            server,
            thread,
            id,
            inbox,
            diff: TurnDiff::default(),
            log,
            started_at: now_s(),
            clock: Instant::now(),
            last_message: None,
            abandoned: None,
            unreported: (0, 0),
        }
    }

    /// What the turn runs under.
    pub(crate) fn settings(&self) -> Settings {
        lock(&self.thread.state).meta.settings.clone()
    }

    pub(super) fn begin(&mut self, input: &UserInput) -> Result<(), Stop> {
        // A first turn puts the thread on disk.
        let failed = |error| Stop::Failed(format!("failed to record the turn: {error}"));
        {
            let mut state = lock(&self.thread.state);
            state.meta.preview_once(&input.text);
            if let Some(log) = &mut self.log {
                self.server.store.save(log, &state.meta).map_err(failed)?;
                state.persisted = true;
            }
        }
        self.record(&Record::TurnStarted { turn: self.id, at: self.started_at }).map_err(failed)?;
        self.status(&[]);
        let turn = thread::turn(self.id, Some(self.started_at));
        self.server
            .outbox
            .notify("turn/started", json!({ "threadId": self.thread.id, "turn": turn }));
        self.user_message(input);
        Ok(())
    }

    /// Shows a user message: the first one, or steering.
    pub(crate) fn user_message(&mut self, input: &UserInput) {
        self.unreported.0 += input.text.chars().count();
        let mut message = item::user_message(input);
        self.item_started(&message);
        item::complete(&mut message, json!({}));
        self.item_completed(&message);
    }

    /// Sends a notification with the ids of thread and turn added to `params`.
    pub(crate) fn notify(&self, method: &str, params: Value) {
        self.server.outbox.notify(method, self.with_ids(params));
    }

    fn with_ids(&self, mut params: Value) -> Value {
        params["threadId"] = json!(self.thread.id);
        params["turnId"] = json!(self.id);
        params
    }

    pub(crate) fn item_started(&self, item: &Value) {
        self.notify("item/started", json!({ "item": item, "startedAtMs": item["startedAtMs"] }));
    }

    /// Sends and records a completed item.
    pub(crate) fn item_completed(&mut self, item: &Value) {
        let completed_at = &item["completedAtMs"];
        let params =
            json!({ "item": item, "contentTokenCount": null, "completedAtMs": completed_at });
        let recorded = self.record(&Record::Item { turn: self.id, item: item.clone() });
        if let Err(error) = recorded {
            tracing::error!(turn = %self.id, %error, "item cannot be recorded");
        }
        self.notify("item/completed", params);
        if item["type"] == "agentMessage" {
            self.last_message = Some(item.clone());
        }
    }

    /// Counts text that a model would have written.
    pub(crate) fn count_output(&mut self, text: &str) {
        self.unreported.1 += text.chars().count();
    }

    /// Changes the thread's status to active with these flags.
    pub(crate) fn status(&self, active_flags: &[&'static str]) {
        self.set_status(Status::Active { active_flags: active_flags.to_vec() });
    }

    fn set_status(&self, status: Status) {
        let mut state = lock(&self.thread.state);
        state.status = status;
        let params = json!({ "threadId": self.thread.id, "status": state.status });
        self.server.outbox.notify("thread/status/changed", params);
    }

    /// Asks the client and waits. codex follows every answer with `serverRequest/resolved`,
    /// except that of a tool call.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Result<Answer, Stop> {
        let id = self.server.requests.open(&self.inbox);
        self.server.outbox.request(id, method, self.with_ids(params));
        let Some(answer) = self.inbox.wait_for_answer() else {
            self.server.requests.abandon(id);
            self.abandoned = Some(id);
            return Err(Stop::Interrupted);
        };
        if method != "item/tool/call" {
            self.resolved(id);
        }
        Ok(answer)
    }

    fn resolved(&self, id: i64) {
        let params = json!({ "threadId": self.thread.id, "requestId": id });
        self.server.outbox.notify("serverRequest/resolved", params);
    }

    /// Reports usage after a step, and the turn's diff again if there is one, as codex does.
    ///
    /// The figures are an estimate, not a measurement: there is no tokenizer, so a token counts
    /// as four characters of the text read and written.
    pub(crate) fn usage(&mut self) {
        let (read, written) = std::mem::take(&mut self.unreported);
        let last = (read.div_ceil(4) as u64, written.div_ceil(4) as u64);
        let total = {
            let tokens = &mut lock(&self.thread.state).meta.tokens;
            tokens.0 += last.0;
            tokens.1 += last.1;
            *tokens
        };
        let usage = |(input, output): (u64, u64)| {
            json!({
                "totalTokens": input + output, "inputTokens": input, "cachedInputTokens": 0,
                "cacheWriteInputTokens": 0, "outputTokens": output, "reasoningOutputTokens": 0,
            })
        };
        let usage =
            json!({ "total": usage(total), "last": usage(last), "modelContextWindow": null });
        self.notify("thread/tokenUsage/updated", json!({ "tokenUsage": usage }));
        if !self.diff.is_empty() {
            self.diff_updated();
        }
    }

    /// Sends the cumulative diff of the turn.
    pub(crate) fn diff_updated(&self) {
        self.notify("turn/diff/updated", json!({ "diff": self.diff.unified() }));
    }

    /// Ends the turn as completed, unless steering arrived in the meantime.
    pub(crate) fn try_complete(&mut self) -> Result<bool, Stop> {
        let thread = Arc::clone(&self.thread);
        let state = lock(&thread.state);
        if self.inbox.is_interrupted() {
            return Err(Stop::Interrupted);
        }
        if self.inbox.queued_inputs() > 0 {
            return Ok(false);
        }
        self.end(state, "completed", Value::Null);
        Ok(true)
    }

    /// Ends the turn as interrupted or failed.
    pub(super) fn end_early(&mut self, stop: Stop) {
        let thread = Arc::clone(&self.thread);
        self.last_message = None;
        match stop {
            Stop::Interrupted => {
                self.usage();
                self.end(lock(&thread.state), "interrupted", Value::Null);
            }
            Stop::Failed(message) => {
                let error = json!({
                    "message": message, "codexErrorInfo": "other", "additionalDetails": null,
                    "misalignment": null,
                });
                self.end(lock(&thread.state), "failed", error);
            }
        }
        // After the end, as codex has it.
        if let Some(id) = self.abandoned.take() {
            self.resolved(id);
        }
    }

    /// Everything here happens under the thread's lock, so that no other call on the thread falls
    /// between the end and its announcement.
    fn end(
        &mut self,
        mut state: std::sync::MutexGuard<'_, crate::thread::ThreadState>,
        status: &str,
        error: Value,
    ) {
        let at = now_s();
        let duration_ms = u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        state.meta.updated_at = at;
        let ended = Record::TurnEnded {
            turn: self.id,
            status: status.to_owned(),
            error: error.clone(),
            at,
            duration_ms,
        };
        let recorded = self.record(&ended).and_then(|()| match &mut self.log {
            Some(log) => self.server.store.save(log, &state.meta),
            None => Ok(()),
        });
        if let Err(error) = recorded {
            tracing::error!(turn = %self.id, %error, "end of turn cannot be recorded");
        }
        // Released before the end is announced: the next turn may follow at once.
        self.log = None;
        let failed = status == "failed";
        state.status = if failed { Status::SystemError } else { Status::Idle };
        state.active = None;
        let outbox = &self.server.outbox;
        let thread_id = self.thread.id;
        outbox.notify(
            "thread/status/changed",
            json!({ "threadId": thread_id, "status": state.status }),
        );
        if failed {
            self.notify("error", json!({ "error": error, "willRetry": false }));
        }
        let mut turn = thread::turn(self.id, Some(self.started_at));
        turn.status = status.to_owned();
        turn.error = error;
        turn.completed_at = Some(at);
        turn.duration_ms = Some(duration_ms);
        if let Some(message) = self.last_message.take() {
            turn.items.push(message);
            turn.items_view = "summary";
        }
        outbox.notify("turn/completed", json!({ "threadId": thread_id, "turn": turn }));
        self.thread.turn_ended();
    }

    fn record(&mut self, record: &Record) -> std::io::Result<()> {
        match &mut self.log {
            Some(log) => log.append(record),
            None => Ok(()),
        }
    }
}
