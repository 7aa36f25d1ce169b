//! Threads that were cut when the child or the manager was gone: they are loaded again by
//! themselves, a few at a time, behind everything that somebody waits for.

use std::collections::VecDeque;
use std::sync::Arc;

use actix::prelude::*;
use cm_core::ids::{Incarnation, ThreadId};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::messages::{Command, ToThread};
use super::registry::{ThreadRegistry, load};
use crate::store::{OpenMark, Scan, Store, StoreError, keys};

/// Threads that are loaded again at the same time.
const AT_ONCE: usize = 4;

/// What is still to be loaded again. The store knows it too, in the marks of what is unfinished.
#[derive(Debug, Default)]
pub(super) struct Recovering {
    /// Threads that wait for their turn. Bounded by the threads that had something unfinished.
    waiting: VecDeque<ThreadId>,
    running: usize,
    /// The life of the child that they are loaded in.
    incarnation: Incarnation,
}

impl Recovering {
    /// What waits is loaded in this life of the child.
    fn begin(&mut self, incarnation: Incarnation) {
        if self.incarnation != incarnation {
            self.waiting.clear();
            self.incarnation = incarnation;
        }
    }

    /// The child is gone: the next one begins anew.
    pub(super) fn stop(&mut self) {
        self.waiting.clear();
    }

    pub(super) fn observed(&self) -> Value {
        json!({ "running": self.running, "waiting": self.waiting.len() })
    }
}

/// Threads with something unfinished that was not begun in this life of manager and child.
fn cut_threads(
    store: &dyn Store,
    boot: &str,
    incarnation: Incarnation,
) -> Result<VecDeque<ThreadId>, StoreError> {
    let prefix = keys::opens();
    let mut cut = VecDeque::new();
    for (key, value) in store.scan(&Scan::prefix(prefix.as_slice()))? {
        let id = key.strip_prefix(prefix.as_slice()).and_then(|id| std::str::from_utf8(id).ok());
        let Some(id) = id.and_then(|id| ThreadId::parse(id).ok()) else { continue };
        // A mark that cannot be read is looked into by its thread.
        let mark: OpenMark = serde_json::from_slice(&value).unwrap_or_default();
        if mark.recover || mark.boot != boot || mark.incarnation != Some(incarnation) {
            cut.push_back(id);
        }
    }
    Ok(cut)
}

impl ThreadRegistry {
    /// Starts the threads in which something was unfinished when the manager ended, so that they
    /// settle it.
    pub(super) fn settle_open(&mut self, ctx: &mut Context<Self>) {
        let store = self.shared.store.clone();
        let boot = Arc::clone(&self.shared.boot);
        let incarnation = self.living_incarnation();
        let work = async move {
            store
                .read(move |store| {
                    let marks = store.scan(&Scan::prefix(keys::opens()))?;
                    let ids = marks.into_iter().filter_map(|(key, _)| {
                        let id = key.strip_prefix(keys::opens().as_slice())?;
                        ThreadId::parse(std::str::from_utf8(id).ok()?).ok()
                    });
                    let load = |id| (load(store, &id, &boot, incarnation), id);
                    Ok(ids.map(load).collect::<Vec<_>>())
                })
                .await
        };
        ctx.wait(work.into_actor(self).map(|open, registry, _| match open {
            Ok(open) => {
                for (loaded, thread) in open {
                    // A damaged session keeps no other one from being settled.
                    let loaded = match loaded {
                        Ok(loaded) => loaded,
                        Err(error) => {
                            tracing::error!(%thread, %error, "an unfinished session cannot be read");
                            continue;
                        }
                    };
                    if let Some(stored) = loaded.stored {
                        tracing::info!(%thread, "settling an unfinished session");
                        registry.settled.insert(thread);
                        registry.start_stored(stored, loaded.child);
                    }
                }
            }
            Err(error) => tracing::error!(%error, "unfinished sessions cannot be read"),
        }));
    }

    /// The child is up: threads that were cut are loaded again.
    pub(super) fn recover_all(&mut self, incarnation: Incarnation, ctx: &mut Context<Self>) {
        let store = self.shared.store.clone();
        let boot = Arc::clone(&self.shared.boot);
        let work =
            async move { store.read(move |store| cut_threads(store, &boot, incarnation)).await };
        ctx.spawn(work.into_actor(self).map(move |cut, registry, ctx| match cut {
            Ok(cut) => {
                if !cut.is_empty() {
                    tracing::info!(sessions = cut.len(), "sessions that were cut are loaded again");
                }
                registry.recovering.begin(incarnation);
                registry.recovering.waiting.extend(cut);
                registry.recover_next(ctx);
            }
            // Each is still compared when it is used.
            Err(error) => tracing::error!(%error, "sessions that were cut cannot be read"),
        }));
    }

    /// The histories of further threads are read: other clients have worked on them.
    pub(super) fn recover_also(&mut self, threads: Vec<ThreadId>, ctx: &mut Context<Self>) {
        let Some(up) = &self.runtime else { return };
        self.recovering.begin(up.incarnation);
        for thread in threads {
            if !self.recovering.waiting.contains(&thread) {
                self.recovering.waiting.push_back(thread);
            }
        }
        self.recover_next(ctx);
    }

    fn recover_next(&mut self, ctx: &mut Context<Self>) {
        while self.recovering.running < AT_ONCE {
            let same_child =
                self.runtime.as_ref().map(|up| up.incarnation) == Some(self.recovering.incarnation);
            let Some(thread_id) = self.recovering.waiting.pop_front().filter(|_| same_child) else {
                return;
            };
            self.recovering.running += 1;
            let (told, over) = oneshot::channel();
            ctx.notify(ToThread { thread_id, command: Command::Recover(told) });
            // Dropped when it is over, whatever happened to the thread: the calls that it makes
            // have deadlines.
            let over = async move {
                over.await.ok();
            };
            ctx.spawn(over.into_actor(self).map(|(), registry, ctx| {
                registry.recovering.running -= 1;
                registry.recover_next(ctx);
            }));
        }
    }
}
