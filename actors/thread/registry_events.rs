//! What the child says, on its way to the threads.

use std::collections::HashMap;
use std::sync::Arc;

use actix::prelude::*;
use cm_core::event::{Audience, Durability, Signal};
use cm_core::ids::ThreadId;
use cm_core::rpc::{RpcError, code};
use futures_util::future::join_all;
use serde_json::json;

use super::actor::Thread;
use super::frames::{self, EventContext};
use super::inbound::unknown_request;
use super::messages::{Deliver, RuntimeChanged};
use super::registry::{ThreadRegistry, load};
use crate::app_server::{Batch, Inbound, InboundKind, RuntimeEvent};

/// Batches that one thread may have unfinished before the pipe is held back for it.
const WINDOW: usize = 32;

impl Handler<RuntimeEvent> for ThreadRegistry {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, event: RuntimeEvent, _: &mut Self::Context) -> Self::Result {
        match event {
            RuntimeEvent::Up(up) if up.incarnation >= self.newest => {
                self.newest = up.incarnation;
                self.runtime = Some(up.clone());
                let version = up.profile.version.map(|version| version.to_string());
                let incarnation = up.incarnation;
                let payload =
                    json!({ "state": "ready", "incarnation": incarnation, "version": version });
                self.announce_runtime(&payload);
                self.tell_all(&RuntimeChanged::Up(up))
            }
            RuntimeEvent::Down(down) if down.incarnation >= self.newest => {
                self.newest = down.incarnation;
                self.runtime = None;
                self.fail_creating();
                let incarnation = down.incarnation;
                let payload =
                    json!({ "state": "down", "incarnation": incarnation, "reason": down.why });
                self.announce_runtime(&payload);
                self.tell_all(&RuntimeChanged::Down(down))
            }
            RuntimeEvent::Batch(batch) if batch.incarnation >= self.newest => {
                self.newest = batch.incarnation;
                self.batch(batch)
            }
            // A life that was given up on and still ends: what it says concerns nobody any more.
            RuntimeEvent::Up(_) | RuntimeEvent::Down(_) | RuntimeEvent::Batch(_) => {
                tracing::warn!("an app-server that was given up on still spoke");
                Box::pin(actix::fut::ready(()))
            }
        }
    }
}

impl ThreadRegistry {
    /// Tells every subscriber how the child is.
    fn announce_runtime(&self, payload: &serde_json::Value) {
        let mut bodies = Vec::new();
        let (audience, durability) = (Audience::Everyone, Durability::Recorded);
        frames::push(&mut bodies, "runtime_state", audience, None, durability, payload);
        self.publish(bodies);
    }

    /// Tells every living thread, and waits until each has settled it.
    fn tell_all(&mut self, changed: &RuntimeChanged) -> ResponseActFuture<Self, ()> {
        let told: Vec<_> =
            self.threads.values().map(|entry| entry.address.send(changed.clone())).collect();
        let work = async move {
            // A thread that panics over it is rebuilt from the store, where it settles.
            join_all(told).await;
        };
        Box::pin(work.into_actor(self))
    }

    fn batch(&mut self, batch: Arc<Batch>) -> ResponseActFuture<Self, ()> {
        let mut shares: Vec<(ThreadId, Vec<usize>)> = Vec::new();
        let mut places: HashMap<ThreadId, usize> = HashMap::new();
        for (index, item) in batch.items.iter().enumerate() {
            match (&item.kind, &item.thread_id) {
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
                (_, None) => self.threadless(&batch, item),
            }
        }
        let unknown: Vec<ThreadId> = shares
            .iter()
            .map(|(id, _)| id.clone())
            .filter(|id| self.living(id).is_none())
            .collect();
        if unknown.is_empty() {
            return self.deliver(&batch, shares);
        }
        let store = self.shared.store.clone();
        let boot = Arc::clone(&self.shared.boot);
        let incarnation = self.living_incarnation();
        let work = async move {
            store
                .read(move |store| {
                    let load = |id| load(store, &id, &boot, incarnation).map(|loaded| (id, loaded));
                    unknown.into_iter().map(load).collect::<Result<Vec<_>, _>>()
                })
                .await
        };
        Box::pin(work.into_actor(self).then(move |loaded, registry: &mut Self, _| {
            match loaded {
                Ok(loaded) => {
                    for (id, loaded) in loaded {
                        if registry.living(&id).is_some() {
                            continue;
                        }
                        match loaded.stored {
                            // Deleted before the manager was restarted.
                            _ if loaded.deleted => continue,
                            Some(stored) => registry.start_stored(stored, loaded.child),
                            None => {
                                let record = registry.unknown_record(&id);
                                registry.start_fresh(record)
                            }
                        };
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "threads cannot be read from the store")
                }
            }
            registry.deliver(&batch, shares)
        }))
    }

    /// Hands each thread its share. Only a thread that is far behind is waited for: nobody else
    /// waits while one thread's change becomes durable.
    fn deliver(
        &mut self,
        batch: &Arc<Batch>,
        shares: Vec<(ThreadId, Vec<usize>)>,
    ) -> ResponseActFuture<Self, ()> {
        let mut waits = Vec::new();
        for (id, items) in shares {
            let Some(entry) = self.threads.get_mut(&id) else {
                // Deleted, or unknown while the store cannot be read.
                for item in items.iter().filter_map(|index| batch.items.get(*index)) {
                    self.of_deleted(batch, item);
                }
                continue;
            };
            entry.unfinished += 1;
            let behind = entry.unfinished >= WINDOW;
            let deliver = Deliver { batch: Arc::clone(batch), items: items.clone() };
            let delivered = entry.address.send(deliver);
            let address = entry.address.clone();
            let batch = Arc::clone(batch);
            let finish = delivered.into_actor(self).map(move |result, registry: &mut Self, _| {
                registry.finished(&id, &address, result.is_ok(), &batch, &items);
            });
            waits.push((behind, finish));
        }
        let (held, free): (Vec<_>, Vec<_>) = waits.into_iter().partition(|(behind, _)| *behind);
        let free = free.into_iter().map(|(_, finish)| finish).collect();
        let held = held.into_iter().map(|(_, finish)| finish).collect();
        self.run(free, held)
    }

    fn run<F>(&mut self, free: Vec<F>, held: Vec<F>) -> ResponseActFuture<Self, ()>
    where
        F: ActorFuture<Self, Output = ()> + 'static,
    {
        let start = actix::fut::ready(()).then(move |(), _: &mut Self, ctx: &mut Context<Self>| {
            for finish in free {
                ctx.spawn(finish);
            }
            let mut all: ResponseActFuture<Self, ()> = Box::pin(actix::fut::ready(()));
            for finish in held {
                all = Box::pin(all.then(move |(), _, _| finish));
            }
            all
        });
        Box::pin(start)
    }

    fn finished(
        &mut self,
        id: &ThreadId,
        address: &Addr<Thread>,
        taken: bool,
        batch: &Batch,
        items: &[usize],
    ) {
        if let Some(entry) = self.threads.get_mut(id) {
            entry.unfinished = entry.unfinished.saturating_sub(1);
        }
        if taken || self.tombstones.contains_key(id) {
            return;
        }
        // The thread panicked over this batch. What it said still reaches subscribers; the next
        // message rebuilds the thread from the store.
        self.panics += 1;
        tracing::error!(thread = %id, items = items.len(), "a thread's actor panicked; rebuilding");
        if self.threads.get(id).is_some_and(|entry| entry.address == *address) {
            self.threads.remove(id);
        }
        self.publish_raw(batch, items);
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
        let context = EventContext {
            thread_id: item.thread_id.as_ref(),
            turn_id: item.turn_id.as_deref(),
            title: None,
            project_id: None,
            received_at: &batch.received_at,
        };
        let mut bodies = Vec::new();
        match &item.kind {
            InboundKind::Notification { method, params } => {
                frames::plain(&mut bodies, context, method, params.as_deref());
            }
            InboundKind::Request { id, method, params } => {
                let params = params.as_deref();
                frames::first(&mut bodies, context, Signal::Request, method, params, Some(id));
                let payload = json!({ "method": method, "id": id, "params": params });
                let audience = match &item.thread_id {
                    Some(thread_id) => Audience::Thread(thread_id.clone()),
                    None => Audience::Unfiltered,
                };
                let durability = Durability::Recorded;
                frames::push(&mut bodies, "server_request", audience, None, durability, &payload);
                let error = unknown_request(method);
                let id = id.clone();
                self.shared.app_server.respond_later(batch.incarnation, id, Err(error));
            }
            InboundKind::Unreadable { what } => {
                let payload = json!({ "what": what, "receivedAt": batch.received_at });
                let (audience, durability) = (Audience::Unfiltered, Durability::Recorded);
                let kind = "runtime_output_unreadable";
                frames::push(&mut bodies, kind, audience, None, durability, &payload);
            }
            InboundKind::Answer { .. } => {}
        }
        self.publish(bodies);
    }
}
