//! Requests of a thread: their lists, decisions on them, and what became of them.

use std::time::Instant;

use actix::prelude::*;
use bytes::Bytes;
use cm_core::error::{ErrorCode, Failure};
use cm_core::event::FrameBatch;
use cm_core::ids::{Incarnation, ThreadId};
use cm_core::request::{AtDeadline, Refusal, RequestFamily, RequestRecord, RequestState};
use cm_core::rpc::RpcId;
use cm_core::thread::Writes;
use serde_json::json;

use super::actor::Thread;
use super::calls::{Pending, answer};
use super::error::SessionError;
use super::messages::{DecisionInput, Reply};
use crate::clock;
use crate::request::{Decide, POLICY};
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

    /// Says until when the request waits.
    pub(super) fn set_deadline(&self, record: &mut RequestRecord) {
        let Some(patience) = self.shared.config.policy.patience(record) else { return };
        let patience = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
        let deadline = record.created_ms.saturating_add(patience);
        record.deadline_ms = Some(deadline);
        record.deadline_at = Some(clock::iso(deadline));
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
            Ok(record.kind.refusal_result()),
        );
        let payload = json!({
            "code": "store_unavailable",
            "message": format!("A request of the agent was declined because it could not be stored: {why}"),
            "method": record.method,
            "details": record.params,
        });
        self.event("request_declined", false, &payload);
    }

    /// A policy that stops the turn has decided on something that has no word for it.
    fn stop_for_policy(&mut self, record: &RequestRecord, ctx: &mut Context<Self>) {
        let by_policy = record.decision().is_some_and(|decision| decision.by == POLICY);
        let stops = self.shared.config.policy.at_deadline(record) == AtDeadline::Cancel;
        let says_so = record.kind.family() == RequestFamily::Approval;
        let turn_id = record.turn_id.clone().filter(|turn| self.state.is_running(turn));
        let Some(turn_id) = turn_id.filter(|_| by_policy && stops && !says_so) else { return };
        let params = json!({ "threadId": self.id, "turnId": turn_id });
        self.call(
            "turn/interrupt",
            params,
            Pending::Interrupt { turn_id, tries: 0, reply: None },
            ctx,
        );
    }

    /// A request changed. One that has ended stays, and is marked as unfinished, until its record
    /// says so on the disk: a mark that went first would leave it pending after a crash, with
    /// nobody to end it.
    pub(super) fn request_changed(&mut self, record: RequestRecord, ctx: &mut Context<Self>) {
        let was_pending =
            self.requests.get(&record.id).is_some_and(|live| live.record.status() == "pending");
        if was_pending && record.status() != "pending" {
            self.show_end(&record);
            self.stop_for_policy(&record, ctx);
        }
        if let Some(live) = self.requests.get_mut(&record.id) {
            if record.status() != "pending" {
                live.counted = None;
            }
            live.record = record;
        }
    }

    /// Shows what became of a request.
    pub(super) fn show_end(&mut self, record: &RequestRecord) {
        let status = record.status();
        let family = record.kind.family();
        let decision = record.decision().filter(|_| status == "resolved");
        let mut payload = json!({ "status": status });
        let id_name = if family == RequestFamily::Approval { "approvalId" } else { "requestId" };
        payload[id_name] = json!(record.id);
        match (family, decision) {
            (RequestFamily::ToolCall, decision) => {
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
        let kind = match family {
            RequestFamily::Approval => "approval_resolved",
            RequestFamily::ToolInput => "tool_user_input_resolved",
            RequestFamily::ToolCall => "tool_call_resolved",
        };
        self.event(kind, false, &payload);
    }

    pub(super) fn list_requests(
        &mut self,
        family: RequestFamily,
        all: bool,
        reply: Reply<Vec<RequestRecord>>,
        ctx: &mut Context<Self>,
    ) {
        let of_family = move |record: &RequestRecord| record.kind.family() == family;
        if !all {
            let mut pending: Vec<RequestRecord> = self
                .requests
                .values()
                .map(|live| live.record.clone())
                .filter(|record| record.is_pending() && of_family(record))
                .collect();
            pending.sort_by_key(|record| record.ordinal);
            return answer(reply, Ok(pending));
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
        reply: Reply<ThreadId>,
        ctx: &mut Context<Self>,
    ) {
        let id = record.id.clone();
        if let Some(live) = self.requests.get(&id) {
            if let Err(error) = live.address.try_send(Decide { input, by, reply }) {
                let (SendError::Full(Decide { reply, .. })
                | SendError::Closed(Decide { reply, .. })) = error;
                let message = "Too many decisions on this request wait; look at what became of it.";
                answer(reply, Err(SessionError::failed(ErrorCode::Overloaded, message)));
            }
            return;
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

/// What a decision is told about a request that no actor waits for any more.
fn refused(record: RequestRecord) -> SessionError {
    let refusal = match record.state {
        RequestState::Deciding { decision }
        | RequestState::Delivered { decision }
        | RequestState::Resolved { decision } => Refusal::Decided(Box::new(decision)),
        RequestState::Expired { reason, at, decision } => {
            Refusal::Expired { reason, at, decision: decision.map(Box::new) }
        }
        RequestState::Pending => {
            let message = "The request is being prepared; try again shortly.";
            return SessionError::failed(ErrorCode::Overloaded, message);
        }
    };
    SessionError::Refused { id: record.id, thread_id: record.thread_id, refusal }
}
