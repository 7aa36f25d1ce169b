//! Letting go of threads in which nothing happens. Memory is a cache: the next use starts them from
//! the store.
//!
//! No message is lost on the way: the registry counts what it sends to a thread, the thread counts
//! what it handled, and the registry lets go only if a thread that has nothing to do has handled
//! everything that was ever sent to it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::prelude::*;
use cm_core::ids::ThreadId;

use super::actor::Thread;
use super::messages::{AskIdle, Idle};
use super::registry::ThreadRegistry;

/// Threads that are asked in one round. Overflow rule: the others are asked in the next one.
const ASKED_AT_ONCE: usize = 1024;

/// How long a thread may take to say whether it has nothing to do.
const ASK_DEADLINE: Duration = Duration::from_secs(5);

/// Threads of which it is remembered that the child has them loaded. Overflow rule: the thread is
/// loaded again with its next message, which a loaded one does not mind.
const REMEMBERED_LOADED: usize = 100_000;

/// Rounds per idle time: how much later than that a thread may be let go.
const ROUNDS: u32 = 4;

impl Thread {
    /// Whether nothing is left to do but to compare it with the runtime's history.
    fn is_only_behind(&self) -> bool {
        self.is_quiet() && self.recovery.behind.is_some() && self.runtime.is_some()
    }

    /// Whether it has nothing to do and keeps nothing that the store does not have.
    fn is_idle(&self) -> bool {
        self.is_quiet() && !self.is_only_behind()
    }

    fn is_quiet(&self) -> bool {
        self.deleted.is_none()
            && self.parked.is_none()
            && self.state.running().is_empty()
            && self.requests.is_empty()
            && self.asked.is_empty()
            && self.pending.is_empty()
            && self.waiting.is_empty()
            && self.recovery.actions.is_empty()
            && self.busy == 0
            && !self.checking
            && !self.recovery.running
            // Nobody else knows that the child has it loaded with other controls.
            && !self.recovery.mistrusted
            && !self.record_changed
            && self.is_flushed()
    }
}

impl Handler<AskIdle> for Thread {
    type Result = MessageResult<AskIdle>;

    fn handle(&mut self, _: AskIdle, ctx: &mut Self::Context) -> Self::Result {
        if self.is_only_behind() {
            self.recover(None, ctx);
        }
        let idle = Idle { handled: self.handled, loaded: self.loaded };
        MessageResult(self.is_idle().then_some(idle))
    }
}

impl ThreadRegistry {
    /// Looks from time to time for threads that can be let go.
    pub(super) fn watch_idle(&self, ctx: &mut Context<Self>) {
        let round = (self.shared.config.idle / ROUNDS).max(Duration::from_millis(5));
        let idle = self.shared.config.idle;
        ctx.run_interval(round, move |registry, ctx| registry.ask_idle(idle, ctx));
    }

    /// Asks the threads to which nothing was sent for so long.
    fn ask_idle(&mut self, idle: Duration, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let quiet = self.threads.iter().filter(|(_, entry)| {
            entry.unfinished == 0 && now.duration_since(entry.last_sent) >= idle
        });
        let asked: Vec<_> = quiet
            .take(ASKED_AT_ONCE)
            .map(|(id, entry)| {
                (
                    id.clone(),
                    entry.address.clone(),
                    entry.address.send(AskIdle).timeout(ASK_DEADLINE),
                )
            })
            .collect();
        for (id, address, asked) in asked {
            ctx.spawn(asked.into_actor(self).map(move |answer, registry, _| {
                match answer {
                    Ok(Some(idle)) => registry.let_go(&id, &address, idle),
                    // Others have their turn before it is asked again.
                    _ => {
                        if let Some(entry) = registry.threads.get_mut(&id) {
                            entry.last_sent = Instant::now();
                        }
                    }
                }
            }));
        }
    }

    /// Lets a thread go that has nothing to do, unless something was sent to it since it said so.
    fn let_go(&mut self, id: &ThreadId, address: &Addr<Thread>, idle: Idle) {
        let same = |entry: &&super::registry::Entry| {
            entry.address == *address && entry.sent == idle.handled && entry.unfinished == 0
        };
        if self.threads.get(id).filter(same).is_none() {
            return;
        }
        self.threads.remove(id);
        self.shared.config.stats.passivated.fetch_add(1, Ordering::Relaxed);
        let loaded = idle.loaded.filter(|loaded| Some(*loaded) == self.living_incarnation());
        if let Some(loaded) = loaded
            && self.loaded.len() < REMEMBERED_LOADED
        {
            self.loaded.insert(id.clone(), loaded);
        }
    }
}

/// Looks for threads that can be let go, at once. Sent by tests.
#[cfg(test)]
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct LookForIdle;

#[cfg(test)]
impl Handler<LookForIdle> for ThreadRegistry {
    type Result = ();

    fn handle(&mut self, _: LookForIdle, ctx: &mut Self::Context) {
        self.ask_idle(Duration::ZERO, ctx);
    }
}
