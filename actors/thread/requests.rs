//! Requests of a thread: their lists, decisions on them, and what became of them.

use actix::prelude::*;
use cm_core::error::ErrorCode;
use cm_core::ids::ThreadId;
use cm_core::request::{Refusal, RequestFamily, RequestRecord, RequestState};
use serde_json::json;

use super::actor::Thread;
use super::calls::answer;
use super::error::SessionError;
use super::messages::{DecisionInput, Reply};
use crate::request::Decide;
use crate::store::{read_request, read_thread_requests};

impl Thread {
    /// A request changed, and the change is on the disk.
    pub(super) fn request_changed(&mut self, record: RequestRecord) {
        let was_pending =
            self.requests.get(&record.id).is_some_and(|live| live.record.status() == "pending");
        if was_pending && record.status() != "pending" {
            self.show_end(&record);
        }
        if record.is_closed() {
            self.requests.remove(&record.id);
        } else if let Some(live) = self.requests.get_mut(&record.id) {
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
        let work = async move {
            let all = store.read(move |store| read_thread_requests(store, &id)).await;
            let all = all.map(|all| all.into_iter().filter(of_family).collect());
            answer(reply, all.map_err(SessionError::from));
        };
        ctx.spawn(work.into_actor(self));
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
        let work = async move {
            let again = store.read(move |store| read_request(store, &id)).await;
            let error = match again {
                Ok(Some(record)) => refused(record),
                Ok(None) => SessionError::NoRequest(record.id),
                Err(error) => error.into(),
            };
            answer(reply, Err(error));
        };
        ctx.spawn(work.into_actor(self));
    }
}

/// What a decision is told about a request that no actor waits for any more.
fn refused(record: RequestRecord) -> SessionError {
    let refusal = match record.state {
        RequestState::Deciding { decision }
        | RequestState::Delivered { decision }
        | RequestState::Resolved { decision } => Refusal::Decided(Box::new(decision)),
        RequestState::Expired { reason, at, .. } => Refusal::Expired { reason, at },
        RequestState::Pending => {
            let message = "The request is being prepared; try again shortly.";
            return SessionError::failed(ErrorCode::Overloaded, message);
        }
    };
    SessionError::Refused { id: record.id, thread_id: record.thread_id, refusal }
}
