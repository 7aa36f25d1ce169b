//! What the child says, on its way to the threads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::prelude::*;
use cm_core::event::{Audience, Durability, Event, FrameBatch, SessionPieces};
use cm_core::ids::ThreadId;
use cm_core::request::ExpiryReason;
use cm_core::rpc::{RpcError, code};
use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::oneshot;

use super::actor::Thread;
use super::frames;
use super::inbound::{ends_turn, unknown_request};
use super::messages::{Command, Deliver, RuntimeChanged, ToThread};
use super::registry::{ThreadRegistry, load};
use crate::app_server::{Batch, Inbound, InboundKind, RuntimeEvent};
use crate::clock;

/// Batches that one thread may have unfinished before the pipe is held back for it.
const WINDOW: usize = 32;

/// Threads whose panics are remembered. Overflow rule: the one that panicked longest ago is
/// forgotten.
const MAX_DEGRADED: usize = 1_000;

/// Whether a share is handed out for the first time, or again after a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    First,
    Second,
}

impl Handler<RuntimeEvent> for ThreadRegistry {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, event: RuntimeEvent, ctx: &mut Self::Context) -> Self::Result {
        match event {
            RuntimeEvent::Up(up) if up.incarnation >= self.newest => {
                self.newest = up.incarnation;
                self.runtime = Some(up.clone());
                let version = up.profile.version.map(|version| version.to_string());
                let incarnation = up.incarnation;
                let payload =
                    json!({ "state": "ready", "incarnation": incarnation, "version": version });
                self.announce_runtime(&payload);
                Box::pin(self.tell_all(&RuntimeChanged::Up(up)).map(move |(), registry, ctx| {
                    registry.recover_all(incarnation, ctx);
                    registry.sync(ctx);
                }))
            }
            RuntimeEvent::Down(down) if down.incarnation >= self.newest => {
                self.newest = down.incarnation;
                self.runtime = None;
                self.loaded.clear();
                self.recovering.stop();
                self.fail_creating();
                self.expire_own(ExpiryReason::RuntimeDown);
                let incarnation = down.incarnation;
                let payload =
                    json!({ "state": "down", "incarnation": incarnation, "reason": down.why });
                self.announce_runtime(&payload);
                self.tell_all(&RuntimeChanged::Down(down))
            }
            RuntimeEvent::Batch(batch) if batch.incarnation >= self.newest => {
                self.newest = batch.incarnation;
                self.batch(batch, ctx)
            }
            // A life that was given up on and still ends: what it says concerns nobody any more.
            RuntimeEvent::Up(_) | RuntimeEvent::Down(_) | RuntimeEvent::Batch(_) => {
                tracing::warn!("words of an app-server that was given up on are ignored");
                Box::pin(actix::fut::ready(()))
            }
        }
    }
}

impl ThreadRegistry {
    /// Tells every subscriber how the child is.
    fn announce_runtime(&self, payload: &serde_json::Value) {
        let mut bodies = FrameBatch::default();
        let (audience, durability) = (Audience::Everyone, Durability::Recorded);
        frames::push(&mut bodies, "runtime_state", &audience, None, durability, payload);
        self.publish(bodies);
    }

    /// Tells every living thread, and waits until each has settled it.
    fn tell_all(&mut self, changed: &RuntimeChanged) -> ResponseActFuture<Self, ()> {
        let mut told = Vec::with_capacity(self.threads.len());
        for entry in self.threads.values_mut() {
            entry.note_sent();
            told.push(entry.address.send(changed.clone()));
        }
        let work = async move {
            // A thread that panics over it is rebuilt from the store, where it settles.
            join_all(told).await;
        };
        Box::pin(work.into_actor(self))
    }

    fn batch(&mut self, batch: Arc<Batch>, ctx: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        let mut shares: Vec<(ThreadId, Vec<usize>)> = Vec::new();
        let mut places: HashMap<ThreadId, usize> = HashMap::new();
        for (index, item) in batch.items.iter().enumerate() {
            let session = item.thread_id.as_ref().map(|id| self.session_of(id).clone());
            match (&item.kind, &session) {
                (InboundKind::Answer { token, outcome }, None) => self.created(*token, outcome),
                (_, Some(thread_id)) if self.tombstones.contains_key(thread_id) => {
                    self.of_deleted(&batch, item);
                }
                (_, Some(thread_id)) => {
                    let place = *places.entry(thread_id.clone()).or_insert_with(|| {
                        shares.push((thread_id.clone(), Vec::new()));
                        shares.len() - 1
                    });
                    if let Some((_, share)) = shares.get_mut(place) {
                        share.push(index);
                    }
                }
                (InboundKind::Nothing, None) => {}
                (_, None) if self.own_request(&batch, item, ctx) => {}
                (_, None) => self.threadless(&batch, item),
            }
        }
        self.admit(batch, shares, Attempt::First)
    }

    /// Starts the threads that do not live, then hands out the shares.
    fn admit(
        &mut self,
        batch: Arc<Batch>,
        mut shares: Vec<(ThreadId, Vec<usize>)>,
        attempt: Attempt,
    ) -> ResponseActFuture<Self, ()> {
        let unknown: Vec<ThreadId> = shares
            .iter()
            .map(|(id, _)| id.clone())
            .filter(|id| self.living(id).is_none())
            .collect();
        if unknown.is_empty() {
            return self.deliver(&batch, shares, attempt);
        }
        let store = self.shared.store.clone();
        let boot = Arc::clone(&self.shared.boot);
        let incarnation = self.living_incarnation();
        let work = async move {
            store
                .read(move |store| {
                    let load = |id| (load(store, &id, &boot, incarnation), id);
                    Ok(unknown.into_iter().map(load).collect::<Vec<_>>())
                })
                .await
        };
        Box::pin(work.into_actor(self).then(move |loaded, registry: &mut Self, _| {
            let loaded = loaded.unwrap_or_else(|error| {
                tracing::error!(%error, "threads cannot be read from the store");
                Vec::new()
            });
            for (loaded, id) in loaded {
                if registry.living(&id).is_some() {
                    continue;
                }
                // What is said of a damaged session is published without it; the others get theirs.
                let loaded = match loaded {
                    Ok(loaded) => loaded,
                    Err(error) => {
                        tracing::error!(thread = %id, %error, "a session cannot be read");
                        continue;
                    }
                };
                match loaded.stored {
                    // Deleted before the manager was restarted.
                    _ if loaded.deleted => {
                        shares.retain(|(share, items)| {
                            if *share == id {
                                registry.refuse_deleted(&batch, items);
                            }
                            *share != id
                        });
                    }
                    Some(stored) => {
                        registry.start_stored(stored, loaded.child);
                    }
                    None if registry.tells_of_no_session(&batch, &shares, &id) => {}
                    None => {
                        let record = registry.unknown_record(&id);
                        registry.start_fresh(record);
                    }
                }
            }
            registry.deliver(&batch, shares, attempt)
        }))
    }

    /// Hands each thread its share. Only a thread that is far behind is waited for: nobody else
    /// waits while one thread's change becomes durable.
    fn deliver(
        &mut self,
        batch: &Arc<Batch>,
        shares: Vec<(ThreadId, Vec<usize>)>,
        attempt: Attempt,
    ) -> ResponseActFuture<Self, ()> {
        let mut free = Vec::new();
        let mut held: ResponseActFuture<Self, ()> = Box::pin(actix::fut::ready(()));
        for (id, items) in shares {
            let items = Arc::new(items);
            let Some(entry) = self.threads.get_mut(&id) else {
                // Its record cannot be read now; what is said of it still reaches subscribers.
                self.publish_raw(batch, &items);
                continue;
            };
            entry.unfinished += 1;
            let behind = entry.unfinished >= WINDOW;
            let (done, taken) = oneshot::channel();
            let deliver = Deliver { batch: Arc::clone(batch), items: Arc::clone(&items), done };
            // Sent now, so that batches reach a thread in the order of the child's output. A full
            // mailbox is waited for, and with it the pipe.
            let waiting = match entry.send(deliver) {
                Ok(()) | Err(SendError::Closed(_)) => None,
                Err(SendError::Full(deliver)) => {
                    entry.note_sent();
                    Some(entry.address.send(deliver))
                }
            };
            let must_wait = behind || waiting.is_some();
            let address = entry.address.clone();
            let batch = Arc::clone(batch);
            let work = async move {
                if let Some(waiting) = waiting {
                    // A thread that is gone shows in what follows.
                    waiting.await.ok();
                }
                taken.await.is_ok()
            };
            let finish = work.into_actor(self).map(move |taken, registry: &mut Self, ctx| {
                if let Some(entry) = registry.threads.get_mut(&id) {
                    entry.unfinished = entry.unfinished.saturating_sub(1);
                }
                if !taken {
                    registry.panicked(&id, &address, &batch, &items, attempt, ctx);
                }
            });
            if must_wait {
                held = Box::pin(held.then(move |(), _, _| finish));
            } else {
                free.push(finish);
            }
        }
        Box::pin(actix::fut::ready(()).then(move |(), _, ctx: &mut Context<Self>| {
            for finish in free {
                ctx.spawn(finish);
            }
            held
        }))
    }

    /// A thread panicked over its share. What it said still reaches subscribers, what ends a turn
    /// is handed to the thread that is rebuilt from the store, once: no turn runs for ever because
    /// its end was lost.
    fn panicked(
        &mut self,
        id: &ThreadId,
        address: &Addr<Thread>,
        batch: &Arc<Batch>,
        items: &[usize],
        attempt: Attempt,
        ctx: &mut Context<Self>,
    ) {
        if self.tombstones.contains_key(id) {
            return;
        }
        self.panics += 1;
        self.shared.config.stats.panics.fetch_add(1, Ordering::Relaxed);
        self.show_idle(id);
        tracing::error!(thread = %id, items = items.len(), "a thread's actor panicked; rebuilding");
        if self.threads.get(id).is_some_and(|entry| entry.address == *address) {
            self.threads.remove(id);
        }
        let is_end = |index: &usize| {
            let kind = batch.items.get(*index).map(|item| &item.kind);
            matches!(kind, Some(InboundKind::Notification { method, .. }) if ends_turn(method.name()))
        };
        let (ends, rest): (Vec<usize>, Vec<usize>) =
            items.iter().copied().partition(|index| attempt == Attempt::First && is_end(index));
        self.publish_raw(batch, &rest);
        let message = self.degrade(id);
        // The thread that is rebuilt says what happened to it, behind the end of its turn.
        let again = match ends.is_empty() {
            true => Box::pin(actix::fut::ready(())) as ResponseActFuture<Self, ()>,
            false => self.admit(Arc::clone(batch), vec![(id.clone(), ends)], Attempt::Second),
        };
        let command = ToThread { thread_id: id.clone(), command: Command::Degraded(message) };
        ctx.spawn(again.map(move |(), _, ctx: &mut Context<Self>| ctx.notify(command)));
    }

    /// Notes that a thread's actor panicked; answers what is to be said of it.
    fn degrade(&mut self, id: &ThreadId) -> String {
        let at = clock::now_iso();
        if self.degraded.len() >= MAX_DEGRADED && !self.degraded.contains_key(id) {
            let oldest = self.degraded.iter().min_by(|(_, (_, a)), (_, (_, b))| a.cmp(b));
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.degraded.remove(&oldest);
            }
        }
        let degraded = self.degraded.entry(id.clone()).or_default();
        degraded.0 += 1;
        degraded.1.clone_from(&at);
        "The session's actor failed over words of the runtime and was rebuilt from what is stored. \
         What it was told then is in the stream, but may be missing from the transcript."
            .to_owned()
    }

    /// Items of a deleted session.
    fn refuse_deleted(&self, batch: &Batch, items: &[usize]) {
        for item in items.iter().filter_map(|index| batch.items.get(*index)) {
            self.of_deleted(batch, item);
        }
    }

    /// An item of a deleted session: shown to nobody, and a question is refused.
    fn of_deleted(&self, batch: &Batch, item: &Inbound) {
        if let InboundKind::Request { id, .. } = &item.kind {
            let thread = item.thread_id.as_ref().map_or("", ThreadId::as_str);
            let error = RpcError {
                code: code::INVALID_REQUEST,
                message: format!("thread {thread} is deleted"),
                data: None,
            };
            self.shared.app_server.respond_later(batch.incarnation, id.clone(), Err(error));
        }
    }

    /// Publishes items without their thread.
    fn publish_raw(&self, batch: &Batch, items: &[usize]) {
        for item in items.iter().filter_map(|index| batch.items.get(*index)) {
            self.threadless(batch, item);
        }
    }

    /// An item that belongs to no living thread.
    fn threadless(&self, batch: &Batch, item: &Inbound) {
        let session = match &item.thread_id {
            Some(thread_id) => SessionPieces::new(self.session_of(thread_id), None, None),
            None => SessionPieces::none(),
        };
        let (turn_id, received_at) = (item.turn_id.as_deref(), batch.received_at.as_str());
        let mut bodies = FrameBatch::default();
        match &item.kind {
            InboundKind::Notification { method, params } => {
                let params = params.as_ref();
                bodies.plain(&Event { session: &session, turn_id, received_at, method, params });
            }
            InboundKind::Request { id, method, params } => {
                let params = params.as_ref();
                let event = Event { session: &session, turn_id, received_at, method, params };
                bodies.request(&event, id);
                let method = method.name();
                let payload = json!({ "method": method, "id": id, "params": params });
                let (audience, durability) = (session.audience(), Durability::Recorded);
                frames::push(&mut bodies, "server_request", audience, None, durability, &payload);
                let error = unknown_request(method);
                let id = id.clone();
                self.shared.app_server.respond_later(batch.incarnation, id, Err(error));
            }
            InboundKind::Unreadable { what } => {
                let payload = json!({ "what": what, "receivedAt": batch.received_at });
                let (audience, durability) = (Audience::Unfiltered, Durability::Recorded);
                let kind = "runtime_output_unreadable";
                frames::push(&mut bodies, kind, &audience, None, durability, &payload);
            }
            InboundKind::Answer { .. } | InboundKind::Nothing => {}
        }
        self.publish(bodies);
    }

    /// Whether only such things are told of a thread as come before the answer to what started it, when
    /// it is not known yet whose it is. Codex 0.106 says that it is idle, 0.169 warns; while a session
    /// gets another thread, no notification makes a session of that one.
    fn tells_of_no_session(
        &self,
        batch: &Batch,
        shares: &[(ThreadId, Vec<usize>)],
        id: &ThreadId,
    ) -> bool {
        let share = shares.iter().find(|(share, _)| share == id);
        let mut items = share.into_iter().flat_map(|(_, items)| items);
        let is_early = |method: &str| matches!(method, "thread/status/changed" | "warning");
        items.all(|index| {
            let kind = batch.items.get(*index).map(|item| &item.kind);
            matches!(kind, Some(InboundKind::Notification { method, .. })
                if !self.replacing.is_empty() || is_early(method.name()))
        })
    }
}
