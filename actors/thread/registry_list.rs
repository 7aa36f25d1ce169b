//! The lists of sessions: reading them from the store, what threads change in them, and who asks
//! for them.

use std::time::Duration;

use actix::prelude::*;
use cm_core::error::ErrorCode;
use cm_core::ids::ThreadId;
use cm_core::wire::SessionSummary;

use super::actor::Thread;
use super::error::SessionError;
use super::messages::{AttachReader, FindMembers, ListSessions, Reply};
use super::registry::ThreadRegistry;
use super::view;
use crate::index::{AttachedReader, SessionIndex, SessionRow};
use crate::store::{Store, StoreError, StoreHandle, ThreadPage, read_thread_page};

/// Sessions that are read from the store at once: so few that no write waits long behind them.
const PAGE: usize = 256;

/// How long a list waits until the lists were read.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a store that cannot be read is left alone.
const READ_AGAIN: Duration = Duration::from_millis(250);

impl ThreadRegistry {
    /// Reads the lists from the store, a page at a time and beside everything else.
    pub(super) fn read_lists(&self, ctx: &mut Context<Self>) {
        self.shared.index.begin_reading();
        let work = read_lists(self.shared.index.clone(), self.shared.store.clone());
        ctx.spawn(work.into_actor(self).map(|aliases, registry, _| {
            registry.aliases.extend(aliases);
        }));
    }

    /// Shows a thread whose actor is gone as one that does nothing.
    pub(super) fn show_idle(&self, id: &ThreadId) {
        let Some(row) = self.shared.index.get(id) else { return };
        let idle = serde_json::from_slice::<SessionSummary>(&row.json).and_then(|mut summary| {
            view::IDLE.clone_into(&mut summary.activity);
            SessionRow::encode(&summary)
        });
        match idle {
            Ok(row) => self.shared.index.put(row),
            Err(error) => tracing::error!(thread = %id, %error, "lists cannot show a change"),
        }
    }
}

impl Thread {
    /// Shows lists what changed of the session: when it is on the disk, or queued for it, and
    /// before anybody is answered.
    pub(super) fn show_row(&mut self) {
        if !std::mem::take(&mut self.row_due) {
            return;
        }
        match SessionRow::encode(&self.summary()) {
            Ok(row) => self.shared.index.put(row),
            Err(error) => tracing::error!(thread = %self.id, %error, "lists cannot show a change"),
        }
    }
}

/// Reads all rows. Answers whose threads the runtime knows by another id: a registry that was
/// restarted alone has to know before it hears of them.
async fn read_lists(index: SessionIndex, store: StoreHandle) -> Aliases {
    let mut after: Option<Vec<u8>> = None;
    let mut aliases = Aliases::new();
    loop {
        let from = after.clone();
        let read = store.read(move |store| read_rows(store, from.as_deref())).await;
        let Rows { rows, aliases: read, last } = match read {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "the lists of sessions cannot be read yet");
                tokio::time::sleep(READ_AGAIN).await;
                continue;
            }
        };
        index.add_read(rows);
        aliases.extend(read);
        if last.is_none() {
            index.end_reading();
            return aliases;
        }
        after = last;
    }
}

/// Sessions by the id of the runtime's thread.
type Aliases = Vec<(ThreadId, ThreadId)>;

/// A page of rows.
struct Rows {
    rows: Vec<SessionRow>,
    aliases: Aliases,
    /// Where the next one starts.
    last: Option<Vec<u8>>,
}

/// Reads a page of rows. Runs where the store is read, so that the control
/// arbiter decodes nothing.
fn read_rows(store: &dyn Store, after: Option<&[u8]>) -> Result<Rows, StoreError> {
    let ThreadPage { records, damaged, last } = read_thread_page(store, after, PAGE)?;
    for error in damaged {
        tracing::error!(%error, "a session is not listed: its record is damaged");
    }
    let mut rows = Vec::with_capacity(records.len());
    let mut aliases = Aliases::new();
    for record in &records {
        aliases.extend(record.aliases().map(|alias| (alias.clone(), record.id.clone())));
        // One that is at something says so itself when its actor starts.
        match SessionRow::encode(&view::summary(record, view::IDLE)) {
            Ok(row) => rows.push(row),
            Err(error) => tracing::error!(thread = %record.id, %error, "a session is not listed"),
        }
    }
    Ok(Rows { rows, aliases, last })
}

impl ThreadRegistry {
    /// Answers from the lists when they were read.
    fn answer_from_lists<T: 'static>(
        &self,
        reply: Reply<T>,
        ctx: &mut Context<Self>,
        read: impl FnOnce(&SessionIndex) -> Result<T, SessionError> + 'static,
    ) {
        let index = self.shared.index.clone();
        let work = async move {
            let read = match tokio::time::timeout(PATIENCE, index.is_built()).await {
                Ok(()) => read(&index),
                Err(_) => {
                    let message =
                        "The sessions are still being read from the store; try again shortly.";
                    Err(SessionError::failed(ErrorCode::Overloaded, message))
                }
            };
            // Whoever asked may have stopped waiting.
            reply.send(read).ok();
        };
        ctx.spawn(work.into_actor(self));
    }
}

impl Handler<ListSessions> for ThreadRegistry {
    type Result = ();

    fn handle(&mut self, ListSessions { query, reply }: ListSessions, ctx: &mut Self::Context) {
        self.answer_from_lists(reply, ctx, move |index| Ok(index.page(&query)));
    }
}

impl Handler<FindMembers> for ThreadRegistry {
    type Result = ();

    fn handle(&mut self, FindMembers { project, reply }: FindMembers, ctx: &mut Self::Context) {
        self.answer_from_lists(reply, ctx, move |index| Ok(index.members(project.as_ref())));
    }
}

impl Handler<AttachReader> for ThreadRegistry {
    type Result = ResponseFuture<Option<AttachedReader>>;

    fn handle(
        &mut self,
        AttachReader(reader): AttachReader,
        _: &mut Context<Self>,
    ) -> Self::Result {
        let index = self.shared.index.clone();
        Box::pin(async move {
            tokio::time::timeout(PATIENCE, index.is_built()).await.ok()?;
            Some(index.attach(reader))
        })
    }
}
