//! Reading a session: whole, a page of its transcript, a page of its turns, one item.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::prelude::*;
use bytes::Bytes;
use cm_core::ids::ThreadId;
use cm_core::request::RequestFamily;
use cm_core::rows::RowIndex;

use super::actor::Thread;
use super::answers::Question;
use super::calls::answer;
use super::error::SessionError;
use super::messages::Reply;
use super::{detail, pages};
use crate::store::{Store, StoreError, read_item, refresh_rows};

/// What is read, and what is known of it already.
struct Reading {
    id: ThreadId,
    index: Arc<RowIndex>,
    head: detail::Head,
    question: Question,
}

impl Reading {
    /// Runs where the store is read. The index of the rows comes back, grown.
    fn run(mut self, store: &dyn Store) -> Result<(Bytes, Arc<RowIndex>), StoreError> {
        refresh_rows(store, &self.id, &mut self.index)?;
        let Self { id, index, head, question } = &self;
        let first_row = head.kept.first_row();
        let answer = match *question {
            Question::Detail => detail::encode(store, id, index, head)?,
            Question::Transcript { before, limit } => {
                pages::transcript(store, id, index, first_row, before, limit)?
            }
            Question::Turns { before, limit } => {
                pages::turns(store, id, index, first_row, before, limit)?
            }
        };
        Ok((answer, self.index))
    }
}

impl Thread {
    /// Something of the session has changed: answers of before are no answers any more.
    pub(super) fn revised(&mut self) {
        self.revision = self.shared.next_token();
    }

    /// What the store has of the session's rows may differ from what was read.
    pub(super) fn forget_rows(&mut self) {
        self.revised();
        self.index_life = self.revision;
        self.shared.answers.forget(&self.id);
    }

    /// Reads the session, or answers as the last time when nothing has changed since.
    pub(super) fn read(
        &mut self,
        question: Question,
        reply: Reply<Bytes>,
        ctx: &mut Context<Self>,
    ) {
        // Reads come behind every write that is queued, so the transcript is current.
        let pending = self.flush();
        ctx.spawn(pending);
        if self.recovery.behind.is_some() {
            // What is missing is read beside this and told when it is there.
            self.recover(None, ctx);
        }
        let known = self.shared.answers.get(&self.id, self.revision, question);
        if let Some(known) = known {
            return answer(reply, Ok(known));
        }
        let reading = Reading {
            id: self.id.clone(),
            index: self.shared.answers.index(&self.id),
            head: detail::Head {
                session: self.summary(),
                thread: self.state.record.thread.clone(),
                active_flags: self.active_flags(),
                kept: self.state.record.kept.clone(),
                subagents: self.state.record.subagents.clone(),
            },
            question,
        };
        let (revision, index_life) = (self.revision, self.index_life);
        // A request writes its record by itself.
        let settled = self.requests.is_empty() && self.asked.is_empty();
        let store = self.shared.store.clone();
        let work = async move { store.read(move |store| reading.run(store)).await };
        self.spawn_busy(work, ctx, move |thread, read, _| {
            let read = read.map(|(body, index)| {
                // What could not be written yet is missing in what was read.
                if !thread.shared.store.failing().load(Ordering::Relaxed) {
                    if thread.index_life == index_life {
                        thread.shared.answers.keep_index(&thread.id, index);
                    }
                    if settled && thread.revision == revision {
                        thread.shared.answers.keep(&thread.id, revision, question, &body);
                    }
                }
                body
            });
            answer(reply, read.map_err(SessionError::from));
        });
    }

    /// What the turn that runs waits for, as the runtime names it in a thread's status. Calls of the
    /// client's tools have no name there.
    fn active_flags(&self) -> Option<Vec<&'static str>> {
        self.state.active_turn()?;
        let live = self.requests.values().map(|live| &live.record);
        let flags = live.filter(|record| record.is_pending()).filter_map(|record| {
            match record.kind.family() {
                RequestFamily::Approval | RequestFamily::Extended => Some("waitingOnApproval"),
                RequestFamily::ToolInput => Some("waitingOnUserInput"),
                RequestFamily::ToolCall => None,
            }
        });
        let distinct: BTreeSet<&'static str> = flags.collect();
        Some(distinct.into_iter().collect())
    }

    /// What the runtime says of one item.
    pub(super) fn read_item(
        &mut self,
        item_id: String,
        reply: Reply<Bytes>,
        ctx: &mut Context<Self>,
    ) {
        let pending = self.flush();
        ctx.spawn(pending);
        let store = self.shared.store.clone();
        let id = self.id.clone();
        let work = async move { store.read(move |store| read_item(store, &id, &item_id)).await };
        self.spawn_busy(work, ctx, |_, item, _| {
            let item = item.map(|item| Bytes::from(item.unwrap_or_default()));
            answer(reply, item.map_err(SessionError::from));
        });
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // Memory of a thread that is let go is given back.
        self.shared.answers.forget(&self.id);
    }
}
