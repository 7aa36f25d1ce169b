//! What a thread notes for the store, and what everyone may know of its state.

use cm_core::event::{Audience, Durability};
use cm_core::request::RequestRecord;
use cm_core::thread::Writes;
use cm_core::wire::SessionProblem;
use serde::Serialize;
use serde_json::json;

use super::actor::Thread;
use super::frames;
use crate::clock;
use crate::store::{
    OpenMark, StoreError, drop_items, drop_requests, put_item, put_note, put_open, put_request,
    put_thread, put_turn,
};

impl Thread {
    /// Adds changes of the state to what is to be stored.
    pub(super) fn note(&mut self, writes: Writes) {
        self.record_changed |= writes.thread;
        if writes.thread {
            self.touched = self.shared.next_token();
        }
        self.row_due |= writes.thread;
        if let Some(oldest) = writes.turns.iter().map(|turn| turn.ordinal).min() {
            self.shared.answers.turns_changed(&self.id, oldest);
        }
        // Also what is being read just now is not kept: it was begun before.
        if writes.turns.iter().any(|turn| turn.rolled_back) {
            self.forget_rows();
        }
        let result = (|| {
            for turn in &writes.turns {
                put_turn(&mut self.writes, &self.id, turn)?;
            }
            for item in writes.items {
                put_item(&mut self.writes, &self.id, item)?;
            }
            for note in &writes.notes {
                put_note(&mut self.writes, &self.id, note)?;
            }
            Ok::<_, StoreError>(())
        })();
        if let Err(error) = result {
            tracing::error!(thread = %self.id, %error, "a change cannot be stored");
        }
        if writes.dropped.is_empty() {
            return;
        }
        for rows in writes.dropped {
            drop_items(&mut self.writes, &self.id, rows);
        }
        self.drop_old_requests();
    }

    /// Requests among dropped rows go right behind: which ones they are has to be read.
    fn drop_old_requests(&self) {
        let store = self.shared.store.clone();
        let id = self.id.clone();
        let first_row = self.state.record.kept.first_row();
        // Ends when the store has answered, which has a deadline.
        actix::spawn(async move {
            let thread = id.clone();
            let dropped = store.read(move |store| drop_requests(store, &id, first_row)).await;
            let dropped = match dropped {
                Ok(batch) if batch.is_empty() => Ok(()),
                Ok(batch) => store.record(batch).await,
                Err(error) => Err(error),
            };
            if let Err(error) = dropped {
                tracing::warn!(%thread, %error, "old requests of a session were not dropped");
            }
        });
    }

    /// Adds a request's record to what is to be stored.
    pub(super) fn note_request(&mut self, record: &RequestRecord) {
        if let Err(error) = put_request(&mut self.writes, record) {
            tracing::error!(thread = %self.id, %error, "a request cannot be stored");
        }
    }

    /// What is unfinished now.
    fn open_mark(&self) -> OpenMark {
        let turns: Vec<u32> = self.state.running().iter().map(|turn| turn.ordinal).collect();
        let mut requests: Vec<_> = self.requests.keys().chain(self.asked.keys()).cloned().collect();
        requests.sort_unstable();
        OpenMark {
            boot: self.shared.boot.to_string(),
            incarnation: self.runtime.as_ref().map(|up| up.incarnation),
            turns: Some(turns),
            requests,
            recover: self.recovery.wanted,
        }
    }

    /// Adds what changed of the thread as a whole to what is to be stored, and notes whether lists
    /// are to show it anew.
    pub(super) fn mark_open(&mut self) {
        if std::mem::take(&mut self.record_changed)
            && let Err(error) = put_thread(&mut self.writes, &self.state.record)
        {
            tracing::error!(thread = %self.id, %error, "a change cannot be stored");
        }
        let mark = self.open_mark();
        let news = match &self.marked {
            None => !mark.is_empty(),
            Some(known) => *known != mark,
        };
        if news {
            if let Err(error) = put_open(&mut self.writes, &self.id, &mark) {
                tracing::error!(thread = %self.id, %error, "what is unfinished cannot be stored");
            }
            self.marked = (!mark.is_empty()).then_some(mark);
        }
        let activity = self.current_activity();
        if activity != self.activity {
            self.activity = activity;
            self.row_due = true;
        }
    }

    /// Says what keeps the session from working as it should.
    pub(super) fn set_problem(&mut self, code: &str, message: String) {
        tracing::warn!(thread = %self.id, code, what = message, "a session has a problem");
        let problem = SessionProblem { code: code.to_owned(), message, at: clock::now_iso() };
        let payload = json!({ "threadId": self.id, "problem": problem });
        self.state.record.problem = Some(problem);
        self.note(Writes { thread: true, ..Writes::default() });
        self.event("session_problem", false, &payload);
        self.session_updated("problem");
    }

    /// The problem is over, if it was one of these.
    pub(super) fn clear_problem(&mut self, codes: &[&str]) {
        let problem = self.state.record.problem.take_if(|problem| codes.contains(&&*problem.code));
        if problem.is_some() {
            self.note(Writes { thread: true, ..Writes::default() });
            self.session_updated("problem_solved");
        }
    }

    /// Adds an event of the manager's own.
    pub(super) fn event<P: Serialize>(&mut self, kind: &str, to_everyone: bool, payload: &P) {
        let audience =
            if to_everyone { Audience::Everyone } else { Audience::Thread(self.id.clone()) };
        let durability = Durability::DurableFirst;
        frames::push(&mut self.frames, kind, &audience, Some(&self.id), durability, payload);
    }

    /// Adds an event that is stored in one batch with what is noted, and shown when that is on the
    /// disk: a crash in between loses neither.
    pub(super) fn tell_when_durable<P: Serialize>(
        &mut self,
        kind: &str,
        to_everyone: bool,
        payload: &P,
    ) {
        let to = if to_everyone { Audience::Everyone } else { Audience::Thread(self.id.clone()) };
        let told = &mut self.durable.get_or_insert_default().frames;
        frames::push(told, kind, &to, Some(&self.id), Durability::DurableFirst, payload);
    }

    /// Tells everyone that what lists show of the session has changed.
    pub(super) fn session_updated(&mut self, reason: &str) {
        let payload = json!({ "reason": reason, "session": self.summary() });
        self.event("session_updated", true, &payload);
    }
}
