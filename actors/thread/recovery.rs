//! A thread that was cut, because the child or the manager was gone: it is loaded again by itself
//! and compared with the runtime's history. Nothing is sent to the model.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::prelude::*;
use cm_core::error::ErrorCode;
use cm_core::ids::Incarnation;
use cm_core::rpc::RawJson;
use cm_core::thread::{
    HistoryPage, HistoryTurn, StoredHistory, read_thread_turns, read_turns_page,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::actions::ThreadAction;
use super::actor::Thread;
use super::calls::{AfterResume, Echo, Pending, answer};
use super::error::SessionError;
use super::messages::Reply;
use crate::app_server::{CallFailure, CallOutcome};
use crate::clock;
use crate::store::{StoreError, read_ended_turns, read_history};

/// How long the child may take for one page of its history. Nobody waits for it but the next
/// message of the session.
pub(super) const HISTORY_DEADLINE: Duration = Duration::from_secs(10);

/// Turns on one page. Pages are few and short: what was cut is among the newest turns.
const PAGE_TURNS: u32 = 5;

/// Pages that are asked for at the most. Overflow rule: what is older is not compared.
const MOST_PAGES: usize = 4;

/// The same for a thread that another client has worked on: all of it may be news.
const MOST_FOREIGN_PAGES: usize = 400;

/// Bytes of pages that are kept together. Overflow rule: no further page is asked for.
const MOST_BYTES: usize = 32 << 20;

/// Actions that may wait for a comparison. Overflow rule: the action is refused with `overloaded`.
const MOST_ACTIONS: usize = 16;

/// A comparison with the runtime's history that goes on.
#[derive(Debug)]
pub(super) struct Comparison {
    /// The life of the child that is asked.
    incarnation: Incarnation,
    /// Turns before which everything is known for certain: their end was seen as it happened.
    ended: HashSet<String>,
    /// Whether the version has pages; else there is one answer with everything.
    paged: bool,
    /// Results of the child so far, newest turns first.
    pages: Vec<RawJson>,
    /// When it was begun, in epoch milliseconds.
    asked_ms: i64,
}

/// How far the recovery of a thread is.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Whether the thread was cut and is still to be compared with the runtime's history.
    pub(super) wanted: bool,
    /// The runtime changed the thread at this time (epoch seconds), since its history was compared:
    /// another client has worked on it.
    pub(super) behind: Option<i64>,
    /// Whether the runtime may have taken turns back that are still shown.
    pub(super) reverted: bool,
    /// How often its history was asked for that in vain.
    pub(super) unread: u32,
    /// Whether it is still to say that it took turns back which it was asked to.
    pub(super) reverts: bool,
    /// Whether that goes on now: messages wait for it.
    pub(super) running: bool,
    /// Whether the runtime loaded the thread with other controls than it was asked for.
    pub(super) mistrusted: bool,
    /// Dropped when it is over.
    done: Vec<oneshot::Sender<()>>,
    /// Turns that somebody else started, or that are ours and whose answer is on its way.
    unclaimed: Vec<String>,
    /// Turns that are to be interrupted.
    pub(super) to_interrupt: Vec<String>,
    /// Actions that wait for the end of the comparison.
    pub(super) actions: VecDeque<(ThreadAction, Reply<Value>)>,
}

impl Recovery {
    /// Of a thread as it was stored.
    pub(super) fn of(wanted: bool) -> Self {
        Self { wanted, ..Self::default() }
    }
}

impl Thread {
    /// Loads the thread and compares it, if it was cut. `done` is dropped when that is over.
    pub(super) fn recover(&mut self, done: Option<oneshot::Sender<()>>, ctx: &mut Context<Self>) {
        self.recovery.done.extend(done);
        if self.recovery.running {
            return;
        }
        let record = &self.state.record;
        if !record.materialized || record.archived {
            // The runtime does not know the first kind, and refuses the second one.
            self.recovery.wanted = false;
        }
        let Some(incarnation) = self.runtime.as_ref().map(|up| up.incarnation) else {
            return self.finish_recovery(ctx);
        };
        if !self.recovery.wanted && self.recovery.behind.is_none() {
            return self.finish_recovery(ctx);
        }
        self.recovery.running = true;
        // A history can be read without loading the thread; what was cut is to be loaded, too.
        if self.is_loaded() || !self.recovery.wanted {
            return self.compare(incarnation, ctx);
        }
        // Somebody's resume is on its way: the comparison follows it.
        let resumes =
            |pending: &Pending| matches!(pending, Pending::Resume { echo: Echo::Loaded, .. });
        if self.pending.values().any(resumes) {
            return;
        }
        let controls = self.state.record.controls.clone();
        self.resume(controls, AfterResume::Compare, ctx);
    }

    /// The thread is loaded: it is looked up how far back is to be read, then the child is asked.
    pub(super) fn compare(&mut self, incarnation: Incarnation, ctx: &mut Context<Self>) {
        self.recovery.running = true;
        let store = self.shared.store.clone();
        let id = self.id.clone();
        let work = async move { store.read(move |store| read_ended_turns(store, &id)).await };
        self.spawn_busy(work, ctx, move |thread, ended, ctx| match ended {
            Ok(ended) if thread.has_child(incarnation) => {
                let paged = thread.child_has("thread/turns/list");
                let (pages, asked_ms) = (Vec::new(), clock::now_ms());
                let comparison = Comparison { incarnation, ended, paged, pages, asked_ms };
                thread.ask_history(comparison, None, ctx);
            }
            Ok(_) => thread.finish_recovery(ctx),
            Err(error) => thread.cannot_compare(error, ctx),
        });
    }

    fn has_child(&self, incarnation: Incarnation) -> bool {
        self.runtime.as_ref().is_some_and(|up| up.incarnation == incarnation)
    }

    /// The store does not say what is known. What waits for the comparison is refused: it would ask
    /// for the next one at once.
    fn cannot_compare(&mut self, error: StoreError, ctx: &mut Context<Self>) {
        tracing::error!(thread = %self.id, %error, "a session is not compared");
        self.refuse_waiting(&SessionError::from(error));
        self.finish_recovery(ctx);
    }

    fn ask_history(
        &mut self,
        comparison: Comparison,
        cursor: Option<String>,
        ctx: &mut Context<Self>,
    ) {
        let (method, params) = if comparison.paged {
            let mut params = json!({ "limit": PAGE_TURNS, "itemsView": "full" });
            if let Some(cursor) = cursor {
                params["cursor"] = json!(cursor);
            }
            ("thread/turns/list", params)
        } else {
            ("thread/read", json!({ "includeTurns": true }))
        };
        self.call(method, params, Pending::History(Box::new(comparison)), ctx);
    }

    /// A page of the runtime's history, as it came.
    pub(super) fn history_answered(
        &mut self,
        mut comparison: Comparison,
        outcome: CallOutcome,
        ctx: &mut Context<Self>,
    ) {
        match outcome {
            // The child is gone; the next one is asked.
            Err(CallFailure::Unavailable) => self.child_gone(ctx),
            Err(error) => {
                tracing::warn!(thread = %self.id, %error, "the runtime does not tell its history");
                self.look_up(comparison, false, ctx);
            }
            Ok(page) => {
                let next = if comparison.paged { read_turns_page(page.get()) } else { None };
                let next = next.and_then(|page| comparison.next_page(&page));
                comparison.pages.push(page);
                let bytes: usize = comparison.pages.iter().map(RawJson::size).sum();
                let is_foreign = self.recovery.behind.is_some();
                let most = if is_foreign { MOST_FOREIGN_PAGES } else { MOST_PAGES };
                match next {
                    Some(cursor) if comparison.pages.len() < most && bytes < MOST_BYTES => {
                        self.ask_history(comparison, Some(cursor), ctx);
                    }
                    more => self.look_up(comparison, more.is_none(), ctx),
                }
            }
        }
    }

    /// The history is there: what is stored by now is read.
    fn look_up(&mut self, comparison: Comparison, complete: bool, ctx: &mut Context<Self>) {
        // It comes behind every write that is queued.
        let flushed = self.flush();
        ctx.spawn(flushed);
        let (store, id) = (self.shared.store.clone(), self.id.clone());
        let work = async move { store.read(move |store| read_history(store, &id)).await };
        self.spawn_busy(work, ctx, move |thread, known, ctx| match known {
            Ok(known) if thread.has_child(comparison.incarnation) => {
                thread.conclude(&comparison, &known, complete, ctx);
            }
            // What ended with the child is compared with what the next one has.
            Ok(_) => thread.finish_recovery(ctx),
            Err(error) => thread.cannot_compare(error, ctx),
        });
    }

    /// Compares, stores and shows what is new.
    fn conclude(
        &mut self,
        comparison: &Comparison,
        known: &StoredHistory,
        complete: bool,
        ctx: &mut Context<Self>,
    ) {
        let mut history: Vec<HistoryTurn<'_>> = Vec::new();
        let mut is_told = !comparison.pages.is_empty();
        for page in &comparison.pages {
            let page = match comparison.paged {
                true => read_turns_page(page.get()),
                false => read_thread_turns(page.get()),
            };
            is_told &= page.as_ref().is_some_and(|page| page.whole);
            history.extend(page.map(|page| page.turns).unwrap_or_default());
        }
        if is_told && std::mem::take(&mut self.recovery.reverted) {
            self.forget_turns(known.taken_back(&history, comparison.asked_ms));
        }
        let is_foreign = self.recovery.behind.is_some() && !self.recovery.wanted;
        if is_foreign && !known.has_one_of(&history) {
            // A history that has nothing in common with what is stored is not another part of it.
            tracing::warn!(thread = %self.id, "the runtime's history is of other turns");
            history.clear();
        }
        // A turn that another client still runs is taken over when it is over.
        let goes_on = |turn: &HistoryTurn<'_>| !turn.is_over() && !self.state.is_running(&turn.id);
        let goes_on = history.iter().any(goes_on);
        let updated_at = self.state.record.updated_at;
        let reconciled = self.state.reconcile(known, &history, clock::now_ms());
        if self.recovery.behind.is_some() {
            // What others did was done when they did it.
            self.state.record.updated_at = updated_at;
        }
        self.note(reconciled.writes);
        self.caught_up(goes_on);
        // Items that were matched have the runtime's ids now.
        self.forget_rows();
        self.recovery.wanted = false;
        self.look_again_for_reverted(ctx);
        let nothing =
            reconciled.items == 0 && reconciled.added.is_empty() && reconciled.corrected.is_empty();
        if is_foreign && nothing {
            // What the runtime changed was known: most often it was done here.
            return self.finish_recovery(ctx);
        }
        self.shared.config.stats.recoveries.fetch_add(1, Ordering::Relaxed);
        let payload = json!({
            "threadId": self.id,
            "turnsCorrected": reconciled.corrected,
            "turnsAdded": reconciled.added,
            "itemsAdopted": reconciled.items,
            "complete": complete,
        });
        tracing::info!(thread = %self.id, %payload, "a session was compared with the runtime");
        self.event("session_reconciled", false, &payload);
        self.finish_recovery(ctx);
    }

    /// The child is gone in the middle of it. What waits is refused: this thread may not have been
    /// told yet, and would ask the same child at once.
    fn child_gone(&mut self, ctx: &mut Context<Self>) {
        self.refuse_waiting(&Self::no_runtime().into());
        self.finish_recovery(ctx);
    }

    /// The recovery is over, well or not.
    pub(super) fn finish_recovery(&mut self, ctx: &mut Context<Self>) {
        self.recovery.running = false;
        self.recovery.done.clear();
        for (action, reply) in std::mem::take(&mut self.recovery.actions) {
            if !reply.is_closed() {
                self.act(action, reply, ctx);
            }
        }
        self.send_waiting(ctx);
    }

    /// Whether the thread is to be compared with the runtime's history before anything builds on
    /// what is known of it.
    pub(super) fn must_compare(&self) -> bool {
        let due = self.recovery.wanted || self.recovery.behind.is_some();
        due && self.state.record.materialized
    }

    /// An action waits for the end of the comparison, which begins if it does not go on.
    pub(super) fn wait_to_act(
        &mut self,
        action: ThreadAction,
        reply: Reply<Value>,
        ctx: &mut Context<Self>,
    ) {
        if self.recovery.actions.len() >= MOST_ACTIONS {
            let message = "Too much waits until the session is compared with the runtime; try \
                           again shortly.";
            return answer(reply, Err(SessionError::failed(ErrorCode::Overloaded, message)));
        }
        self.recovery.actions.push_back((action, reply));
        self.recover(None, ctx);
    }

    /// Refuses the messages and actions that wait.
    pub(super) fn refuse_waiting(&mut self, error: &SessionError) {
        for (_, reply) in std::mem::take(&mut self.waiting) {
            answer(reply, Err(error.clone()));
        }
        for (_, reply) in std::mem::take(&mut self.recovery.actions) {
            answer(reply, Err(error.clone()));
        }
    }

    /// The runtime did not load the thread.
    pub(super) fn resume_failed(
        &mut self,
        error: CallFailure,
        then: AfterResume,
        ctx: &mut Context<Self>,
    ) {
        let failure = error.failure("thread/resume");
        if error == CallFailure::Unavailable {
            then.refuse(failure.into());
            return self.child_gone(ctx);
        }
        let by_itself = then.is_compare() || self.recovery.running;
        self.explain(failure, ctx, move |thread, failure, ctx| {
            if failure.code == ErrorCode::ThreadInUse {
                thread.set_problem("thread_in_use", failure.message.clone());
            } else if by_itself {
                thread.set_problem("resume_failed", failure.message.clone());
            }
            then.refuse(failure.into());
            // The next message tries again, and is told.
            thread.recovery.wanted = false;
            thread.finish_recovery(ctx);
        });
    }

    /// The runtime began a turn that was not known.
    pub(super) fn turn_seen(&mut self, turn_id: &str) {
        if self.starts_turn() {
            // It may be the one whose answer is on its way.
            self.recovery.unclaimed.push(turn_id.to_owned());
        } else {
            self.adopt_turn(turn_id);
        }
    }

    /// A call that starts a turn was answered: what else has begun is not ours.
    pub(super) fn claim_turn(&mut self, ours: Option<&str>) {
        self.recovery.unclaimed.retain(|turn| Some(turn.as_str()) != ours);
        if self.starts_turn() {
            return;
        }
        for turn in std::mem::take(&mut self.recovery.unclaimed) {
            self.adopt_turn(&turn);
        }
    }

    fn starts_turn(&self) -> bool {
        self.pending.values().any(|pending| matches!(pending, Pending::TurnStart { .. }))
    }

    /// A turn that the runtime started by itself (a queued submission, a goal) runs like others.
    fn adopt_turn(&mut self, turn_id: &str) {
        tracing::info!(thread = %self.id, turn = turn_id, "the runtime started a turn by itself");
        let payload = json!({ "threadId": self.id, "turnId": turn_id, "why": "runtime" });
        self.event("turn_adopted", false, &payload);
        if self.recovery.mistrusted {
            self.recovery.to_interrupt.push(turn_id.to_owned());
        }
    }

    /// The runtime loaded the thread with other controls than it was asked for: what runs in it,
    /// now or later, is interrupted.
    pub(super) fn mistrust(&mut self, ctx: &mut Context<Self>) {
        self.recovery.mistrusted = true;
        let running = self.state.running();
        self.recovery.to_interrupt.extend(running.iter().map(|turn| turn.id.clone()));
        self.interrupt_mistrusted(ctx);
    }

    /// Interrupts turns that must not go on.
    pub(super) fn interrupt_mistrusted(&mut self, ctx: &mut Context<Self>) {
        for turn_id in std::mem::take(&mut self.recovery.to_interrupt) {
            self.ask_interrupt(turn_id, 0, None, ctx);
        }
    }
}

impl Comparison {
    /// The cursor behind a page, unless what is older is known for certain.
    fn next_page(&self, page: &HistoryPage<'_>) -> Option<String> {
        if page.turns.iter().any(|turn| self.ended.contains(&turn.id)) {
            return None;
        }
        page.next_cursor.clone()
    }
}
