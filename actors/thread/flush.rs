//! How a thread's changes become visible and durable.

use actix::prelude::*;
use cm_core::event::FrameBatch;

use super::actor::{Durable, Thread};
use crate::store::{WriteBatch, keys};

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
        if self.state.running().is_empty()
            && let Some(parked) = self.parked.take()
        {
            // Whoever stops the manager may have gone on.
            parked.send(()).ok();
        }
        self.shared.journal.publish(std::mem::take(&mut self.frames));
        let mut batch = std::mem::take(&mut self.writes);
        let store = self.shared.store.clone();
        if let Some(durable) = self.durable.take() {
            let Durable { frames, done } = durable;
            let again = what_is_tried_again(&batch);
            // Stored with the change that they tell of: a crash in between does not lose them.
            let journal = &self.shared.journal;
            let staged = (!frames.is_empty()).then(|| journal.stage(frames, &mut batch));
            let work =
                async move { if batch.is_empty() { Ok(()) } else { store.commit(batch).await } };
            return Box::pin(work.into_actor(self).then(move |result, thread, ctx| {
                let result = result.map_err(|error| error.failure());
                if result.is_ok() {
                    if let Some(staged) = staged {
                        thread.shared.journal.publish_staged(staged);
                    }
                    thread.show_row();
                } else {
                    thread.try_again(again);
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
            return Box::pin(actix::fut::ready(()));
        }
        // Recorded changes are committed right behind what was shown; only a full queue waits.
        let Err((batch, _)) = store.try_commit(batch) else {
            return Box::pin(actix::fut::ready(()));
        };
        let id = self.id.clone();
        let work = async move {
            if let Err(error) = store.record(batch).await {
                tracing::error!(thread = %id, %error, "changes of a thread were not stored");
            }
        };
        Box::pin(work.into_actor(self))
    }

    /// Leaves changes that could not be stored to the store, which writes them first when it can
    /// again: this actor holds them for true, so the disk must come to say the same.
    fn try_again(&mut self, batch: WriteBatch) {
        if batch.is_empty() {
            return;
        }
        if let Err((mut batch, _)) = self.shared.store.try_commit(batch) {
            batch.extend(std::mem::take(&mut self.writes));
            self.writes = batch;
        }
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
