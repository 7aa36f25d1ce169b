//! How a thread's changes become visible and durable.

use actix::prelude::*;
use cm_core::event::FrameBatch;
use futures_util::future::LocalBoxFuture;

use super::actor::{Durable, Thread};
use crate::journal::Staged;
use crate::store::{WriteBatch, keys};

/// Frames that are shown before their change is on the disk.
enum Shown {
    /// Stored with the change.
    Staged(Staged),
    /// Of no change, or of no lasting interest.
    Plain(FrameBatch),
}

impl Thread {
    /// Publishes frames and stores changes; a durable change is waited for.
    pub(super) fn flush(&mut self) -> ResponseActFuture<Self, ()> {
        if self.deleted.is_some() {
            self.frames = FrameBatch::default();
            self.writes = WriteBatch::default();
            self.durable = None;
            return Box::pin(actix::fut::ready(()));
        }
        self.mark_open();
        if self.row_due || !self.is_flushed() {
            self.revised();
        }
        if self.state.running().is_empty()
            && let Some(parked) = self.parked.take()
        {
            // Whoever stops the manager may have gone on.
            parked.send(()).ok();
        }
        let journal = self.shared.journal.clone();
        let store = self.shared.store.clone();
        let mut batch = std::mem::take(&mut self.writes);
        let frames = std::mem::take(&mut self.frames);
        // Frames that tell of a change are stored with it: whoever comes back after a crash is told
        // of what the store says, whatever the moment of the crash. They are shown as soon as the
        // change is queued, so that the write that takes them out again is queued behind it.
        let shown = match frames.is_durable() && !batch.is_empty() {
            true => Shown::Staged(journal.stage(frames, &mut batch)),
            false => Shown::Plain(frames),
        };
        if let Some(durable) = self.durable.take() {
            let Durable { frames, done } = durable;
            let again = what_is_tried_again(&batch);
            let staged = (!frames.is_empty()).then(|| journal.stage(frames, &mut batch));
            let ticket = match batch.is_empty() {
                true => None,
                false => Some(store.try_commit(batch)),
            };
            let is_late = matches!(ticket, Some(Err(_)));
            let shown = match &ticket {
                Some(Err(_)) => Some(shown),
                _ => {
                    self.show(shown);
                    None
                }
            };
            let work = async move {
                match ticket {
                    None => Ok(()),
                    Some(Ok(ticket)) => ticket.durable().await,
                    Some(Err((batch, _))) => store.commit(batch).await,
                }
            };
            return Box::pin(work.into_actor(self).then(move |result, thread, ctx| {
                let result = result.map_err(|error| error.failure());
                if is_late || result.is_err() {
                    // Reads that came in between were in front of it.
                    thread.forget_rows();
                }
                if let Some(shown) = shown {
                    thread.show(shown);
                }
                if result.is_ok() {
                    if let Some(staged) = staged {
                        thread.shared.journal.publish_staged(staged);
                    }
                    thread.show_row();
                } else {
                    thread.try_again(again, ctx);
                }
                for done in done {
                    done(thread, ctx, result.clone());
                }
                // What was done may have changed more.
                if thread.is_flushed() {
                    return Box::pin(actix::fut::ready(())) as ResponseActFuture<Self, ()>;
                }
                thread.flush()
            }));
        }
        self.show_row();
        if batch.is_empty() {
            self.show(shown);
            return Box::pin(actix::fut::ready(()));
        }
        match self.record(batch) {
            None => {
                self.show(shown);
                Box::pin(actix::fut::ready(()))
            }
            Some(queued) => {
                Box::pin(queued.into_actor(self).map(|(), thread, _| {
                    // Reads that came in between were in front of it.
                    thread.forget_rows();
                    thread.show(shown);
                }))
            }
        }
    }

    fn show(&self, shown: Shown) {
        match shown {
            Shown::Staged(staged) => self.shared.journal.publish_staged(staged),
            Shown::Plain(frames) => self.shared.journal.publish(frames),
        }
    }

    /// Leaves changes that could not be stored to the store, which writes them first when it can
    /// again: this actor holds them for true, so the disk must come to say the same.
    fn try_again(&self, batch: WriteBatch, ctx: &mut Context<Self>) {
        if batch.is_empty() {
            return;
        }
        if let Some(queued) = self.record(batch) {
            ctx.spawn(queued.into_actor(self).map(|(), thread, _| thread.forget_rows()));
        }
    }

    /// Queues changes that nobody waits for, so that the store keeps them while it cannot write
    /// them. What is left, when the queue has no room, is the wait for it.
    fn record(&self, batch: WriteBatch) -> Option<LocalBoxFuture<'static, ()>> {
        let Err((batch, _)) = self.shared.store.try_record(batch) else {
            return None;
        };
        let (id, store) = (self.id.clone(), self.shared.store.clone());
        Some(Box::pin(async move {
            if let Err(error) = store.record(batch).await {
                tracing::error!(thread = %id, %error, "changes of a thread were not stored");
            }
        }))
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.durable.is_none() && self.frames.is_empty() && self.writes.is_empty()
    }
}

/// The changes of a batch that hold although it was refused. Requests are tried again by
/// themselves, for a while, and what was to be shown is not shown.
fn what_is_tried_again(batch: &WriteBatch) -> WriteBatch {
    let entries = batch.entries.iter().filter(|(key, _)| !keys::is_request(key));
    WriteBatch { entries: entries.cloned().collect() }
}
