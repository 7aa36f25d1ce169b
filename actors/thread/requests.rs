//! Requests of a thread: their lists, decisions on them, and what became of them.

use std::time::Instant;

use actix::prelude::*;
use bytes::Bytes;
use cm_core::error::{ErrorCode, Failure};
use cm_core::event::{Audience, Durability, FrameBatch};
use cm_core::ids::{Incarnation, RequestId, ThreadId};
use cm_core::request::{
    AtDeadline, ExpiryReason, REQUEST_RECORD_VERSION, Refusal, RequestFamily, RequestKind,
    RequestRecord, RequestState,
};
use cm_core::rpc::RpcId;
use cm_core::thread::Writes;
use cm_core::transcript;
use serde_json::{Value, json};

use super::actor::{LiveRequest, Thread};
use super::calls::answer;
use super::error::SessionError;
use super::frames;
use super::messages::{DecisionInput, Families, Reply};
use crate::app_server::Batch;
use crate::clock;
use crate::request::{Decide, Expire, POLICY, RequestPolicy};
use crate::store::{keys, read_request, read_thread_requests};

/// How often it is tried again to store a request, within the time that there is.
const STORE_TRIES: u32 = 30;

/// A request on its way to the disk. Nobody sees it before it is there.
pub(super) struct Asking {
    pub(super) record: RequestRecord,
    /// Its params as they came, where they are too long for the record.
    pub(super) params: Option<Bytes>,
    /// What subscribers see of it.
    pub(super) shown: FrameBatch,
    /// Who of them is told that it is pending.
    pub(super) audience: Audience,
    /// When it came.
    pub(super) since: Instant,
}

impl Thread {
    /// Whether the child's request is known: it is said again when a thread is loaded again, or
    /// when the registry was restarted.
    pub(super) fn is_asked(&self, incarnation: Incarnation, rpc_id: &RpcId) -> bool {
        let live = self.requests.values().map(|live| &live.record);
        let mut live = live.map(|record| (record.incarnation, &record.rpc_id));
        let mut asked = self.asked.values().map(|(incarnation, rpc_id)| (*incarnation, rpc_id));
        live.any(|known| known == (incarnation, rpc_id))
            || asked.any(|known| known == (incarnation, rpc_id))
    }

    /// Stores a request, then shows it and starts its actor.
    pub(super) fn ask(&mut self, asking: Asking) {
        let record = &asking.record;
        self.asked.insert(record.id.clone(), (record.incarnation, record.rpc_id.clone()));
        self.note(Writes { thread: true, ..Writes::default() });
        if let Some(params) = &asking.params {
            self.writes.put(keys::request_params(&record.id), params.clone());
        }
        self.note_request(&asking.record);
        self.durable.get_or_insert_default().frames.append(&asking.shown);
        self.when_durable(Box::new(move |thread, ctx, stored| thread.asked(asking, stored, ctx)));
    }

    fn asked(&mut self, asking: Asking, stored: Result<(), Failure>, ctx: &mut Context<Self>) {
        let record = &asking.record;
        let error = match stored {
            Ok(()) => {
                self.asked.remove(&record.id);
                if asking.audience != self.audience_of_requests() {
                    self.show_pending(&asking.record);
                }
                return self.start_request(asking.record, ctx);
            }
            Err(error) => error,
        };
        // What is stored is not known after a failure: the mark is written anew.
        self.marked = None;
        if !self.waits_for(record) {
            self.asked.remove(&record.id);
            return;
        }
        let patience = self.shared.config.store_patience;
        if asking.since.elapsed() >= patience {
            self.asked.remove(&record.id);
            return self.request_not_stored(record, &error.message);
        }
        // Only the request waits; the thread goes on.
        self.busy += 1;
        ctx.run_later(patience / STORE_TRIES, move |thread, ctx| {
            thread.busy -= 1;
            if thread.deleted.is_some() || !thread.waits_for(&asking.record) {
                thread.asked.remove(&asking.record.id);
                return;
            }
            thread.ask(asking);
            let flush = thread.flush();
            ctx.spawn(flush);
        });
    }

    /// Whether the child still waits for the request: it lives, and so does the turn.
    fn waits_for(&self, record: &RequestRecord) -> bool {
        let lives = self.runtime.as_ref().is_none_or(|up| up.incarnation == record.incarnation);
        let runs = record.turn_id.as_ref().is_none_or(|turn| self.state.is_running(turn));
        self.asked.contains_key(&record.id) && lives && runs
    }

    /// A request that nobody would find again is declined, and the stream says so.
    fn request_not_stored(&mut self, record: &RequestRecord, why: &str) {
        tracing::error!(thread = %self.id, method = record.method, why, "a request was declined");
        self.shared.app_server.respond_later(
            record.incarnation,
            record.rpc_id.clone(),
            record.refusal(),
        );
        let payload = json!({
            "code": "store_unavailable",
            "message": format!("A request of the agent was declined because it could not be stored: {why}"),
            "method": record.method,
            "details": record.params,
        });
        self.event("request_declined", false, &payload);
    }

    /// Stops the turn after a decision that says so, where the runtime has no word for it.
    fn stop_for_decision(&mut self, record: &RequestRecord, ctx: &mut Context<Self>) {
        let Some(decision) = record.decision() else { return };
        let policy = &self.shared.config.policy;
        let stops = match record.kind {
            RequestKind::McpToolApproval | RequestKind::Permissions => decision.label == "cancel",
            kind => {
                let says_so = kind.family() == RequestFamily::Approval;
                let by_policy = decision.by == POLICY && !says_so;
                by_policy && policy.at_deadline(record) == AtDeadline::Cancel
            }
        };
        let turn_id = record.turn_id.clone().filter(|turn| self.state.is_running(turn));
        let Some(turn_id) = turn_id.filter(|_| stops) else { return };
        self.ask_interrupt(turn_id, 0, None, ctx);
    }

    /// A request changed. One that has ended stays, and is marked as unfinished, until its record
    /// says so on the disk: a mark that went first would leave it pending after a crash, with
    /// nobody to end it.
    pub(super) fn request_changed(&mut self, record: RequestRecord, ctx: &mut Context<Self>) {
        let was_pending =
            self.requests.get(&record.id).is_some_and(|live| live.record.status() == "pending");
        if was_pending && record.status() != "pending" {
            self.show_end(&record);
            self.stop_for_decision(&record, ctx);
        }
        if let Some(live) = self.requests.get_mut(&record.id) {
            if record.status() != "pending" {
                live.counted = None;
            }
            live.record = record;
        }
    }

    /// Shows a pending request once more: its session has turned out to be a subagent, and who
    /// follows the parent was not told. Others know it by its id.
    pub(super) fn show_pending(&mut self, record: &RequestRecord) {
        let (kind, payload) = pending_event(record);
        self.show_request(kind, &payload);
    }

    fn show_request(&mut self, kind: &str, payload: &Value) {
        let audience = self.audience_of_requests();
        frames::push(&mut self.frames, kind, &audience, None, Durability::DurableFirst, payload);
    }

    /// Shows what became of a request.
    pub(super) fn show_end(&mut self, record: &RequestRecord) {
        let (kind, payload) = end_event(record);
        self.show_request(kind, &payload);
    }

    /// Requests that wait for a decision, oldest first.
    pub(super) fn pending_requests(&self, families: Families) -> Vec<RequestRecord> {
        let records = self.requests.values().map(|live| &live.record);
        let mut pending: Vec<RequestRecord> = records
            .filter(|record| record.is_pending() && families.contains(&record.kind.family()))
            .cloned()
            .collect();
        pending.sort_by_key(|record| record.ordinal);
        pending
    }

    pub(super) fn list_requests(
        &mut self,
        families: Families,
        all: bool,
        reply: Reply<Vec<RequestRecord>>,
        ctx: &mut Context<Self>,
    ) {
        let of_family = move |record: &RequestRecord| families.contains(&record.kind.family());
        if !all {
            return answer(reply, Ok(self.pending_requests(families)));
        }
        let store = self.shared.store.clone();
        let id = self.id.clone();
        let work = async move { store.read(move |store| read_thread_requests(store, &id)).await };
        self.spawn_busy(work, ctx, move |_, all, _| {
            let all = all.map(|all| all.into_iter().filter(of_family).collect());
            answer(reply, all.map_err(SessionError::from));
        });
    }

    /// Hands a decision to the request's actor, or says what became of the request.
    pub(super) fn decide(
        &mut self,
        record: RequestRecord,
        input: DecisionInput,
        by: String,
        reply: Reply<Option<ThreadId>>,
        ctx: &mut Context<Self>,
    ) {
        let id = record.id.clone();
        if let Some(live) = self.requests.get(&id) {
            return live.decide(Decide { input, by, reply });
        }
        if record.is_closed() || record.decision().is_some() {
            return answer(reply, Err(refused(record)));
        }
        // It ended between the look at the store and now: the store knows how.
        let store = self.shared.store.clone();
        let work = async move { store.read(move |store| read_request(store, &id)).await };
        self.spawn_busy(work, ctx, move |_, again, _| {
            let error = match again {
                Ok(Some(record)) => refused(record),
                Ok(None) => SessionError::NoRequest(record.id),
                Err(error) => error.into(),
            };
            answer(reply, Err(error));
        });
    }
}

impl LiveRequest {
    /// Hands a decision to the request's actor.
    pub(super) fn decide(&self, decide: Decide) {
        if let Err(error) = self.address.try_send(decide) {
            let (SendError::Full(Decide { reply, .. }) | SendError::Closed(Decide { reply, .. })) =
                error;
            let message = "Too many decisions on this request wait; look at what became of it.";
            answer(reply, Err(SessionError::failed(ErrorCode::Overloaded, message)));
        }
    }

    /// Ends the request. Answers `false` when its actor panicked: nobody else will say then how it
    /// ended.
    pub(super) fn expire(&self, reason: ExpiryReason) -> bool {
        match self.address.try_send(Expire { reason }) {
            Ok(()) => true,
            Err(error @ SendError::Full(_)) => {
                tracing::error!(request = %self.record.id, %error, "a request could not be expired");
                true
            }
            Err(SendError::Closed(_)) => false,
        }
    }
}

/// A request of the child that came just now, without what it is about.
pub(super) fn new_request(
    kind: RequestKind,
    method: &str,
    rpc_id: &RpcId,
    batch: &Batch,
) -> RequestRecord {
    RequestRecord {
        version: REQUEST_RECORD_VERSION,
        id: RequestId::from_random(rand::random()),
        kind,
        method: method.to_owned(),
        thread_id: None,
        turn_id: None,
        item_id: None,
        call_id: None,
        incarnation: batch.incarnation,
        rpc_id: rpc_id.clone(),
        params: Value::Null,
        params_bytes: None,
        created_at: batch.received_at.clone(),
        created_ms: clock::now_ms(),
        ended_ms: None,
        deadline_at: None,
        deadline_ms: None,
        ordinal: 0,
        state: RequestState::Pending,
    }
}

/// Says until when a request waits.
pub(super) fn set_deadline(policy: &dyn RequestPolicy, record: &mut RequestRecord) {
    let Some(patience) = policy.patience(record) else { return };
    let patience = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
    let deadline = record.created_ms.saturating_add(patience);
    record.deadline_ms = Some(deadline);
    record.deadline_at = Some(clock::iso(deadline));
}

/// The event that shows a pending request.
pub(super) fn pending_event(record: &RequestRecord) -> (&'static str, Value) {
    match record.kind.family() {
        RequestFamily::Approval => ("approval", json!(transcript::approval(record))),
        RequestFamily::ToolInput => {
            ("tool_user_input_requested", json!(transcript::tool_input(record)))
        }
        RequestFamily::ToolCall => ("tool_call_requested", json!(transcript::tool_call(record))),
        RequestFamily::Extended => ("request_pending", json!(transcript::agent_request(record))),
    }
}

/// The event that shows what became of a request.
pub(super) fn end_event(record: &RequestRecord) -> (&'static str, Value) {
    let status = record.status();
    let decision = record.decision().filter(|_| status == "resolved");
    let mut payload = json!({ "status": status });
    let (event, id_name) = match record.kind.family() {
        RequestFamily::Approval => ("approval_resolved", "approvalId"),
        RequestFamily::ToolInput => ("tool_user_input_resolved", "requestId"),
        RequestFamily::ToolCall => ("tool_call_resolved", "requestId"),
        RequestFamily::Extended => {
            payload["kind"] = json!(record.kind);
            ("request_resolved", "requestId")
        }
    };
    payload[id_name] = json!(record.id);
    match (record.kind, decision) {
        (RequestKind::ToolCall, decision) => {
            let success = decision.is_some_and(|d| d.success.unwrap_or(true));
            payload["success"] = json!(success);
        }
        (_, Some(decision)) => {
            payload["decision"] = json!(decision.label);
            if let Some(scope) = &decision.scope {
                payload["scope"] = json!(scope);
            }
        }
        (_, None) => {}
    }
    (event, payload)
}

/// What a decision is told about a request that no actor waits for any more.
pub(super) fn refused(record: RequestRecord) -> SessionError {
    let refusal = match record.refusal_of_more() {
        // Whoever had it on its way is gone.
        Some(Refusal::InFlight(decision)) => Refusal::Decided(decision),
        Some(refusal) => refusal,
        None => {
            let message = "The request is being prepared; try again shortly.";
            return SessionError::failed(ErrorCode::Overloaded, message);
        }
    };
    SessionError::Refused { id: record.id, thread_id: record.thread_id, refusal }
}
