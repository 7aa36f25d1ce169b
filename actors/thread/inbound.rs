//! What the child says of a thread.

use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use cm_core::error::ErrorCode;
use cm_core::event::{Audience, Durability, Event, FrameBatch, Method};
use cm_core::request::{ExpiryReason, RequestFamily, RequestKind, shown_params};
use cm_core::rpc::{RawJson, RpcError, RpcId, ThreadRef, code};
use cm_core::thread::{RawItem, TurnStatus, Writes, started_subagents};
use cm_core::transcript::login_failure;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::actor::Thread;
use super::calls::Pending;
use super::frames;
use super::messages::{Deliver, RuntimeChanged};
use super::requests::{Asking, new_request, pending_event, set_deadline};
use crate::app_server::{Batch, CallFailure, CallOutcome, Inbound, InboundKind};
use crate::clock;

impl Handler<Deliver> for Thread {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, deliver: Deliver, ctx: &mut Self::Context) -> Self::Result {
        let Deliver { batch, items, done } = deliver;
        self.handled += 1;
        let taken = self.take_from(batch, items, 0, ctx);
        AtomicResponse::new(Box::pin(taken.map(|(), _, _| {
            // A registry that is gone is told by nobody.
            done.send(()).ok();
        })))
    }
}

impl Handler<RuntimeChanged> for Thread {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, changed: RuntimeChanged, ctx: &mut Self::Context) -> Self::Result {
        self.handled += 1;
        match changed {
            RuntimeChanged::Up(up) => self.runtime = Some(up),
            RuntimeChanged::Down(down) => {
                self.runtime = None;
                (self.loaded, self.in_force, self.awaited) = (None, None, None);
                (self.recovery.mistrusted, self.recovery.reverts) = (false, false);
                let pending: Vec<Pending> = self.pending.drain().map(|(_, call)| call).collect();
                for call in pending {
                    self.answered(call, Err(CallFailure::Unavailable), ctx);
                }
                self.settle_down(&down.why, ExpiryReason::RuntimeDown);
                self.turn_over(ctx);
            }
        }
        AtomicResponse::new(self.flush())
    }
}

impl Thread {
    /// Takes items of a batch from a position on. A durable one is on the disk before the next is
    /// looked at: only this thread waits for it.
    fn take_from(
        &mut self,
        batch: Arc<Batch>,
        items: Arc<Vec<usize>>,
        from: usize,
        ctx: &mut Context<Self>,
    ) -> ResponseActFuture<Self, ()> {
        for position in from..items.len() {
            let Some(item) = items.get(position).and_then(|index| batch.items.get(*index)) else {
                continue;
            };
            self.take(&batch, item, ctx);
            if self.durable.is_some() {
                let rest = self.flush().then(move |(), thread: &mut Self, ctx| {
                    thread.take_from(batch, items, position + 1, ctx)
                });
                return Box::pin(rest);
            }
        }
        self.flush()
    }

    fn take(&mut self, batch: &Batch, item: &Inbound, ctx: &mut Context<Self>) {
        if self.removing || self.deleted.is_some() {
            return;
        }
        if self.is_of_another_thread(item) {
            return self.take_foreign(batch, item);
        }
        match &item.kind {
            #[cfg(test)]
            InboundKind::Notification { method, .. } if method.name() == "test/panic" => {
                panic!("as the test asked")
            }
            InboundKind::Notification { method, params } => {
                self.notification(batch, item, method, params.as_ref());
                self.awaited_turn_began(ctx);
                self.turn_over(ctx);
                self.interrupt_mistrusted(ctx);
                self.look_for_reverted(ctx);
            }
            InboundKind::Request { id, method, params } => {
                self.request(batch, item, id, method, params.as_ref());
            }
            InboundKind::Answer { token, outcome } => {
                match self.pending.remove(token) {
                    // A history may be long, so it stays as it came.
                    Some(Pending::History(comparison)) => {
                        self.history_answered(*comparison, outcome.clone(), ctx);
                    }
                    Some(pending) => self.answered(pending, read_outcome(outcome), ctx),
                    None => {}
                }
            }
            InboundKind::Unreadable { .. } | InboundKind::Nothing => {}
        }
    }

    fn notification(
        &mut self,
        batch: &Batch,
        item: &Inbound,
        method: &Method,
        params: Option<&RawJson>,
    ) {
        let turn_id = item.turn_id.as_deref();
        // A turn's first event is already its own.
        let mut begun = None;
        if method.name() == "turn/started"
            && let Some(turn_id) = turn_id
        {
            let writes = self.state.turn_began(turn_id, clock::now_ms());
            // Not another name of a turn that ran already.
            let alone = matches!(self.state.running(), [turn] if turn.id == turn_id);
            begun = (alone && !writes.is_empty()).then_some(turn_id);
            self.note(writes);
        }
        self.refresh_pieces();
        let received_at = batch.received_at.as_str();
        if !is_followed(method.name()) {
            let active = self.state.active_turn().map(|turn| turn.id.as_str());
            let (session, shown_turn) = (&self.pieces, turn_id.or(active));
            let event = Event { session, turn_id: shown_turn, received_at, method, params };
            self.frames.plain(&event);
        } else {
            // What is followed may change the session's title or end its turn; both of its frames
            // show what held before.
            let session = self.pieces.clone();
            let shown_turn = turn_id.map(str::to_owned).or_else(|| self.active_turn_id());
            let turn = shown_turn.as_deref();
            let event = Event { session: &session, turn_id: turn, received_at, method, params };
            let ending = turn_id.filter(|_| ends_turn(method.name()));
            let within = ending.map(|turn_id| self.state.begun_within(turn_id));
            self.frames.first(&event);
            self.apply(method.name(), turn_id, params, clock::now_ms());
            self.frames.last(&event);
            for name in within.into_iter().flatten() {
                let outer = ending.unwrap_or_default();
                let ended = self.state.turn_ended_as(&name, outer, clock::now_ms());
                self.show_untold_end(ended, received_at);
                self.expire_requests(ExpiryReason::TurnEnded, |request| {
                    request.turn_id.as_ref() == Some(&name)
                });
            }
        }
        if let Some(turn_id) = begun {
            self.turn_seen(turn_id);
        }
    }

    fn active_turn_id(&self) -> Option<String> {
        self.state.active_turn().map(|turn| turn.id.clone())
    }

    /// Follows a notification.
    fn apply(
        &mut self,
        method: &str,
        turn_id: Option<&str>,
        params: Option<&RawJson>,
        now_ms: i64,
    ) {
        let body = || -> Value { params.map_or(Value::Null, RawJson::value) };
        match method {
            _ if ends_turn(method) => {
                let body = body();
                let turn = body.get("turn").unwrap_or(&Value::Null);
                let word = turn.get("status").and_then(Value::as_str);
                let word = if method == "turn/failed" { Some("failed") } else { word };
                let error = turn.get("error").or_else(|| body.get("error")).cloned();
                let Some(turn_id) = turn_id else { return };
                let status = TurnStatus::of_ended(word);
                let login = error.as_ref().and_then(login_failure);
                let ended = self.state.turn_ended(turn_id, status, error, now_ms);
                let turn_id = self.state.id_of(turn_id).to_owned();
                self.note(ended.writes);
                self.clear_problem(&["degraded"]);
                match login {
                    Some(login) if ended.news => {
                        self.set_problem(ErrorCode::LoginUsedUp.as_str(), login.message());
                    }
                    None if status == TurnStatus::Completed => {
                        self.clear_problem(&[ErrorCode::LoginUsedUp.as_str()]);
                    }
                    _ => {}
                }
                let idle = self.state.active_turn().is_none();
                self.expire_requests(ExpiryReason::TurnEnded, |request| {
                    match request.turn_id.as_deref() {
                        Some(turn) => turn == turn_id,
                        // Nothing can wait for a turn when none runs; but an MCP server may ask
                        // outside of turns, and versions that let it say when it no longer waits.
                        None => idle && request.kind.family() != RequestFamily::Extended,
                    }
                });
            }
            "item/started" | "item/completed" => {
                let Some(params) = params else { return };
                let Some(item) = RawItem::of_params(params.get()) else { return };
                // The line's own memory: a long item is not copied.
                let body = params.part(item.json).bytes();
                let completed = method == "item/completed";
                let writes = self.state.item(turn_id, &item, body, completed, now_ms);
                self.note(writes);
                for child in started_subagents(&item.kind, item.json) {
                    self.link(self.id.clone(), child);
                }
            }
            "thread/name/updated" => {
                let body = body();
                let name = body.get("threadName").or_else(|| body.get("name"));
                let name = name.and_then(Value::as_str);
                if let Some(name) = name {
                    self.state.record.know_name(name);
                }
                let writes = self.state.named(name, false, now_ms);
                self.note(Writes { thread: true, ..writes });
            }
            "thread/started" => {
                if let Some(thread) = body().get("thread") {
                    self.adopt(thread);
                    self.note(Writes { thread: true, ..Writes::default() });
                }
            }
            "thread/archived" | "thread/unarchived" => {
                let archived = method == "thread/archived";
                if self.state.record.archived != archived {
                    self.state.record.archived = archived;
                    self.note(Writes { thread: true, ..Writes::default() });
                    self.session_updated(if archived { "archived" } else { "unarchived" });
                }
            }
            "thread/closed" => self.loaded = None,
            "thread/reverted" if std::mem::take(&mut self.recovery.reverts) => {}
            // Somebody else asked for it, or it was done after all.
            "thread/reverted" => self.may_be_reverted(),
            "serverRequest/resolved" => {
                let body = body();
                let rpc_id = body.get("requestId").cloned();
                let rpc_id = rpc_id.and_then(|id| serde_json::from_value::<RpcId>(id).ok());
                let life = self.runtime.as_ref().map(|up| up.incarnation);
                self.expire_requests(ExpiryReason::ResolvedByRuntime, |request| {
                    life.is_none_or(|life| life == request.incarnation)
                        && Some(&request.rpc_id) == rpc_id.as_ref()
                });
            }
            _ => {}
        }
    }

    /// The child asks: the question is on the disk before anybody sees it.
    fn request(
        &mut self,
        batch: &Batch,
        item: &Inbound,
        rpc_id: &RpcId,
        method: &Method,
        params: Option<&RawJson>,
    ) {
        if self.is_asked(batch.incarnation, rpc_id) {
            return;
        }
        let (value, params_bytes) = shown_params(params.map(RawJson::get));
        let named_turn = item.turn_id.as_deref().map(|name| self.state.id_of(name).to_owned());
        let turn_id = named_turn.clone().or_else(|| self.active_turn_id());
        self.refresh_pieces();
        let mut shown = FrameBatch::default();
        let event = Event {
            session: &self.pieces,
            turn_id: turn_id.as_deref(),
            received_at: &batch.received_at,
            method,
            params,
        };
        shown.request(&event, rpc_id);
        let method = method.name();
        let kind = RequestKind::of_request(method, &value);
        let Some(kind) = kind else {
            let payload = json!({ "method": method, "id": rpc_id, "params": value });
            let audience = Audience::Thread(self.id.clone());
            let durability = Durability::Recorded;
            frames::push(&mut shown, "server_request", &audience, None, durability, &payload);
            self.frames.append(&shown);
            self.shared.app_server.respond_later(
                batch.incarnation,
                rpc_id.clone(),
                Err(unknown_request(method)),
            );
            return;
        };
        let call_id = value.get("callId").and_then(Value::as_str).map(str::to_owned);
        let mut record = new_request(kind, method, rpc_id, batch);
        record.thread_id = Some(self.id.clone());
        record.turn_id = if kind == RequestKind::ToolCall { turn_id } else { named_turn };
        record.item_id = item_of(params);
        record.call_id = call_id;
        record.params = value;
        record.params_bytes = params_bytes;
        record.ordinal = self.state.next_row();
        set_deadline(&*self.shared.config.policy, &mut record);
        let (event, payload) = pending_event(&record);
        let audience = self.audience_of_requests();
        frames::push(&mut shown, event, &audience, None, Durability::DurableFirst, &payload);
        let params = params.filter(|_| record.params_bytes.is_some()).map(RawJson::bytes);
        self.ask(Asking { record, params, shown, audience, since: Instant::now() });
    }
}

/// The answer to a server request that this build cannot answer. Silence would leave the child
/// waiting for ever.
pub(super) fn unknown_request(method: &str) -> RpcError {
    RpcError {
        code: code::METHOD_NOT_FOUND,
        message: format!("client does not support server-initiated method: {method}"),
        data: None,
    }
}

/// Whether the manager follows a method; all others, deltas above all, are passed on unread.
fn is_followed(method: &str) -> bool {
    let others = matches!(
        method,
        "item/started"
            | "item/completed"
            | "thread/name/updated"
            | "thread/started"
            | "thread/archived"
            | "thread/unarchived"
            | "thread/closed"
            | "thread/reverted"
            | "serverRequest/resolved"
    );
    others || ends_turn(method)
}

/// Whether a method says that a turn is over.
pub(super) fn ends_turn(method: &str) -> bool {
    matches!(method, "turn/completed" | "turn/failed")
}

/// The item that params name.
fn item_of(params: Option<&RawJson>) -> Option<String> {
    let raw: Option<&RawValue> = params.and_then(|raw| serde_json::from_slice(raw.as_bytes()).ok());
    ThreadRef::of(raw).item_id.map(std::borrow::Cow::into_owned)
}

/// Outcomes travel in a shared batch, so their owner reads the one that is theirs.
pub(super) fn read_outcome(outcome: &CallOutcome) -> Result<Value, CallFailure> {
    match outcome {
        Ok(raw) => Ok(raw.value()),
        Err(error) => Err(error.clone()),
    }
}
