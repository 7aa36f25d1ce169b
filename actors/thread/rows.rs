//! Rows of the transcript that are not the runtime's.

use actix::prelude::*;
use cm_core::wire::TranscriptEntry;
use serde_json::json;

use super::actor::Thread;
use super::calls::answer;
use super::error::SessionError;
use super::messages::Reply;
use crate::store::read_note;

impl Thread {
    /// Adds a row, or writes it again; answers it as it is then.
    pub(super) fn add_row(
        &mut self,
        entry: TranscriptEntry,
        reply: Reply<TranscriptEntry>,
        ctx: &mut Context<Self>,
    ) {
        let (store, id, message_id) =
            (self.shared.store.clone(), self.id.clone(), entry.message_id.clone());
        let known =
            async move { store.read(move |store| read_note(store, &id, &message_id)).await };
        // Nothing else happens meanwhile: two writes of one row must not take each other back.
        let written = known.into_actor(self).then(move |known, thread, _| {
            match known {
                Ok(known) => {
                    let row = thread.write_row(known.as_ref(), entry);
                    thread.when_durable(Box::new(move |_, _, stored| {
                        answer(reply, stored.map(|()| row).map_err(SessionError::from));
                    }));
                }
                Err(error) => answer(reply, Err(error.into())),
            }
            thread.flush()
        });
        ctx.wait(written);
    }

    /// Notes a row and the word of it, which is shown when the row is on the disk.
    pub(super) fn write_row(
        &mut self,
        known: Option<&cm_core::thread::NoteRecord>,
        entry: TranscriptEntry,
    ) -> TranscriptEntry {
        let (row, writes) = self.state.note(known, entry);
        self.note(writes);
        let payload = json!({
            "threadId": self.id,
            "turnId": row.turn_id,
            "messageId": row.message_id,
            "type": row.kind,
            "entry": row,
        });
        self.tell_when_durable("transcript_updated", false, &payload);
        row
    }
}
