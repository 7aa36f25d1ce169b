//! Requests beyond one session: those that the runtime makes for itself, and the list of all.

use std::collections::{HashMap, HashSet};

use actix::prelude::*;
use cm_core::event::{Audience, Durability, Event, FrameBatch, SessionPieces};
use cm_core::ids::{Incarnation, RequestId, ThreadId};
use cm_core::request::{ExpiryReason, RequestKind, RequestRecord, shown_params};
use cm_core::rpc::RpcId;
use futures_util::future::join_all;
use serde_json::Value;

use super::actor::{LiveRequest, Thread};
use super::calls::answer;
use super::frames;
use super::messages::{DecisionInput, Families, Reply, RequestNews};
use super::registry::ThreadRegistry;
use super::requests::{end_event, new_request, pending_event, refused, set_deadline};
use super::snapshot::{DEADLINE, SlowSession};
use super::subagents::is_under;
use crate::app_server::{Batch, Inbound, InboundKind};
use crate::clock;
use crate::request::Decide;
use crate::store::{OwnRequests, StoreError, WriteBatch, put_request};

/// Requests of the runtime itself that may wait at once. Overflow rule: one more is refused.
const MAX_PENDING: usize = 16;

/// What the runtime asks for itself. Such a request lives as any other; the registry is its owner.
#[derive(Default)]
pub(super) struct Own {
    /// What the store knows of.
    stored: OwnRequests,
    live: HashMap<RequestId, LiveRequest>,
    /// Those that are being stored: a batch may be handed out again.
    asked: HashSet<(Incarnation, RpcId)>,
}

impl ThreadRegistry {
    /// Takes a request that the runtime makes for itself; answers whether it is one.
    ///
    /// It is tried once to store it, unlike a session's: the runtime asks again by itself with the
    /// next turn.
    pub(super) fn own_request(
        &mut self,
        batch: &Batch,
        item: &Inbound,
        ctx: &mut Context<Self>,
    ) -> bool {
        let InboundKind::Request { id: rpc_id, method, params } = &item.kind else { return false };
        let (value, _) = shown_params(params.as_ref().map(|params| params.get()));
        let kind = RequestKind::of_request(method.name(), &value);
        let Some(kind @ RequestKind::AuthRefresh) = kind else { return false };
        let asked = (batch.incarnation, rpc_id.clone());
        let mut live = self.own.live.values().map(|live| &live.record);
        let is_known = live.any(|live| live.incarnation == asked.0 && live.rpc_id == asked.1);
        if is_known || self.own.asked.contains(&asked) {
            return true;
        }
        let mut record = new_request(kind, method.name(), rpc_id, batch);
        record.params = value;
        set_deadline(&*self.shared.config.policy, &mut record);
        if self.own.live.len() + self.own.asked.len() >= MAX_PENDING {
            tracing::warn!(method = method.name(), "too many requests of the runtime wait");
            self.refuse_own(&record);
            return true;
        }
        let mut shown = FrameBatch::default();
        let event = Event {
            session: &SessionPieces::none(),
            turn_id: None,
            received_at: &batch.received_at,
            method,
            params: params.as_ref(),
        };
        shown.request(&event, rpc_id);
        let (event, payload) = pending_event(&record);
        push(&mut shown, event, &payload);
        self.own.asked.insert(asked);
        self.ask_own(record, shown, ctx);
        true
    }

    /// Stores a request, then shows it and starts its actor.
    fn ask_own(&mut self, record: RequestRecord, shown: FrameBatch, ctx: &mut Context<Self>) {
        let mut batch = WriteBatch::default();
        self.own.stored.boot = self.shared.boot.to_string();
        let put = self.own.stored.put(&mut batch, &record);
        let staged = self.shared.journal.stage(shown, &mut batch);
        let store = self.shared.store.clone();
        let work = async move {
            put?;
            store.commit(batch).await
        };
        let work = work.into_actor(self);
        ctx.spawn(work.map(move |stored: Result<(), StoreError>, registry, ctx| {
            registry.own.asked.remove(&(record.incarnation, record.rpc_id.clone()));
            if let Err(error) = stored {
                tracing::error!(%error, "a request of the runtime was refused: it is not stored");
                return registry.refuse_own(&record);
            }
            registry.shared.journal.publish_staged(staged);
            let is_over = registry.living_incarnation() != Some(record.incarnation);
            let live = registry.shared.start_request(record, ctx.address().downgrade().recipient());
            if is_over {
                live.expire(ExpiryReason::RuntimeDown);
            }
            registry.own.live.insert(live.record.id.clone(), live);
        }));
    }

    fn refuse_own(&self, record: &RequestRecord) {
        let (incarnation, rpc_id) = (record.incarnation, record.rpc_id.clone());
        self.shared.app_server.respond_later(incarnation, rpc_id, record.refusal());
    }

    /// Ends what the runtime asked for itself.
    pub(super) fn expire_own(&self, reason: ExpiryReason) {
        for live in self.own.live.values() {
            live.expire(reason);
        }
    }

    /// Ends what an earlier life of the registry left open. A child that still waits is told.
    pub(super) fn settle_own(&self, ctx: &mut Context<Self>) {
        let store = self.shared.store.clone();
        let work = async move { store.read(OwnRequests::read).await };
        ctx.wait(work.into_actor(self).map(|read, registry, ctx| match read {
            Ok((stored, open)) => {
                // The numbers of lives and requests begin anew with the manager.
                if *stored.boot == *registry.shared.boot {
                    open.iter().for_each(|record| registry.refuse_own(record));
                }
                registry.own.stored = stored;
                registry.end_left(open, ctx);
            }
            Err(error) => tracing::error!(%error, "requests of the runtime cannot be read"),
        }));
    }

    fn end_left(&self, open: Vec<RequestRecord>, ctx: &mut Context<Self>) {
        if open.is_empty() {
            return;
        }
        let (mut batch, mut frames) = (WriteBatch::default(), FrameBatch::default());
        for mut record in open {
            let (now, was_pending) = (clock::now_ms(), record.status() == "pending");
            record.expire(ExpiryReason::ManagerRestarted, now, &clock::iso(now));
            if let Err(error) = put_request(&mut batch, &record) {
                tracing::error!(%error, "the end of a request cannot be stored");
            }
            if was_pending {
                let (event, payload) = end_event(&record);
                push(&mut frames, event, &payload);
            }
        }
        let (journal, store) = (self.shared.journal.clone(), self.shared.store.clone());
        let work = async move {
            let staged = journal.stage(frames, &mut batch);
            match store.record(batch).await {
                Ok(()) => journal.publish_staged(staged),
                Err(error) => tracing::error!(%error, "the end of requests is not stored"),
            }
        };
        ctx.spawn(work.into_actor(self));
    }

    /// Hands a decision to a request of the runtime itself, or says what became of it.
    pub(super) fn decide_own(
        &self,
        record: RequestRecord,
        input: DecisionInput,
        by: String,
        reply: Reply<Option<ThreadId>>,
    ) {
        match self.own.live.get(&record.id) {
            Some(live) => live.decide(Decide { input, by, reply }),
            None => answer(reply, Err(refused(record))),
        }
    }
}

/// Adds an event that belongs to no session.
fn push(frames: &mut FrameBatch, event: &str, payload: &Value) {
    frames::push(frames, event, &Audience::Everyone, None, Durability::DurableFirst, payload);
}

impl Handler<RequestNews> for ThreadRegistry {
    type Result = ();

    fn handle(&mut self, news: RequestNews, _: &mut Self::Context) {
        match news {
            RequestNews::Changed(record) => {
                let Some(live) = self.own.live.get_mut(&record.id) else { return };
                let ends = live.record.status() == "pending" && record.status() != "pending";
                live.record = *record;
                if ends {
                    live.counted = None;
                    let mut frames = FrameBatch::default();
                    let (event, payload) = end_event(&live.record);
                    push(&mut frames, event, &payload);
                    self.publish(frames);
                }
            }
            RequestNews::Kept(record) => {
                let id = record.id;
                self.own.live.remove(&id);
            }
        }
    }
}

/// Asks for pending requests beyond one session, oldest first. Sent by routes. Every session with
/// one lives.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<RequestRecord>, SlowSession>")]
pub(super) struct GetRequests {
    pub(super) families: Families,
    /// Only those of the subagents of this session; without, all.
    pub(super) under: Option<ThreadId>,
}

/// Asks a thread for its pending requests. Sent by the registry.
#[derive(Debug, Message)]
#[rtype(result = "Vec<RequestRecord>")]
pub(super) struct GetPending {
    pub(super) families: Families,
}

impl Handler<GetRequests> for ThreadRegistry {
    type Result = ResponseFuture<Result<Vec<RequestRecord>, SlowSession>>;

    fn handle(&mut self, message: GetRequests, _: &mut Self::Context) -> Self::Result {
        let GetRequests { families, under } = message;
        let wanted = |id: &ThreadId| {
            under.as_ref().is_none_or(|session| is_under(&self.parents, id, session))
        };
        let looks: Vec<_> = self
            .threads
            .iter()
            .filter(|(id, _)| wanted(id))
            .map(|(id, entry)| {
                let look = entry.address.send(GetPending { families }).timeout(DEADLINE);
                let id = id.clone();
                async move {
                    match look.await {
                        Ok(pending) => Ok(pending),
                        // It was let go, or is being rebuilt.
                        Err(MailboxError::Closed) => Ok(Vec::new()),
                        Err(MailboxError::Timeout) => Err(SlowSession(id)),
                    }
                }
            })
            .collect();
        let own = self.own.live.values().filter(|_| under.is_none()).map(|live| &live.record);
        let mut pending: Vec<RequestRecord> = own
            .filter(|record| record.is_pending() && families.contains(&record.kind.family()))
            .cloned()
            .collect();
        Box::pin(async move {
            for look in join_all(looks).await {
                pending.extend(look?);
            }
            // Stable: those of one session stay in their order.
            pending.sort_by_key(|record| record.created_ms);
            Ok(pending)
        })
    }
}

impl Handler<GetPending> for Thread {
    type Result = MessageResult<GetPending>;

    fn handle(
        &mut self,
        GetPending { families }: GetPending,
        _: &mut Self::Context,
    ) -> Self::Result {
        MessageResult(self.pending_requests(families))
    }
}
