//! The end of a session.

use std::path::PathBuf;

use actix::prelude::*;
use cm_core::event::{Audience, Durability, FrameBatch};
use cm_core::ids::ThreadId;
use cm_core::request::ExpiryReason;
use serde_json::{Value, json};

use super::actor::Thread;
use super::calls::{Pending, answer};
use super::error::SessionError;
use super::frames;
use super::messages::{Deleted, Reply, ThreadDeleted};
use crate::app_server::{AppServerHandle, CallFailure};
use crate::clock;
use crate::store::{StoreError, remove_thread};

/// Text of a deleted session's answer.
const DELETED_MESSAGE: &str = "This chat was permanently deleted and is no longer available.";

impl Deleted {
    /// A session that was deleted now.
    pub(super) fn now(session_id: ThreadId, title: Option<String>) -> Self {
        let deleted_at = clock::now_iso();
        Self {
            status: "deleted",
            session_id,
            title,
            message: DELETED_MESSAGE,
            deleted_at,
            deleted_files: 0,
        }
    }
}

impl Thread {
    /// Deletes the session, in the child as well.
    pub(super) fn delete(&mut self, reply: Reply<Deleted>, ctx: &mut Context<Self>) {
        // Versions without a delete keep the thread in their archive; the manager forgets it.
        let method =
            if self.child_has("thread/delete") { "thread/delete" } else { "thread/archive" };
        // An archived file only moves.
        let path = self.state.record.thread.get("path").and_then(Value::as_str).map(PathBuf::from);
        let path = path.filter(|_| method == "thread/delete");
        let look = self.shared.paths.look(move || path.filter(|path| path.is_file()));
        let app_server = self.shared.app_server.clone();
        let former = match method {
            "thread/delete" => self.state.record.replaced.clone(),
            // They are in the archive.
            _ => Vec::new(),
        };
        let work = async move {
            let former = delete_former(&app_server, former).await?;
            // A file that cannot be looked at is not counted.
            Ok((former, look.await.ok().flatten()))
        };
        self.spawn_busy(work, ctx, move |thread, known: Result<_, CallFailure>, ctx| {
            if let Some(deleted) = &thread.deleted {
                return answer(reply, Err(SessionError::Deleted(deleted.clone())));
            }
            match known {
                Ok((former, file)) => {
                    thread.call(method, json!({}), Pending::Delete { file, former, reply }, ctx);
                }
                Err(error) => answer(reply, Err(error.failure(method).into())),
            }
        });
    }

    pub(super) fn deleted(
        &mut self,
        outcome: Result<Value, CallFailure>,
        file: Option<PathBuf>,
        former: u32,
        reply: Reply<Deleted>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(error) = outcome
            && !error.is_unknown_thread()
        {
            // Codex 0.169 keeps what forks are built on: it goes to its archive.
            if file.is_some() && error.is_forked_from() {
                let pending = Pending::Delete { file: None, former, reply };
                return self.call("thread/archive", json!({}), pending, ctx);
            }
            return self.explain(error.failure("thread/delete"), ctx, |_, failure, _| {
                answer(reply, Err(failure.into()));
            });
        }
        self.removing = true;
        self.let_go_of_requests();
        let title = Some(self.state.record.shown_title().to_owned());
        let mut body = Deleted::now(self.id.clone(), title);
        let store = self.shared.store.clone();
        let id = self.id.clone();
        let pending = self.flush();
        let gone = self.shared.paths.look(move || file.is_some_and(|file| !file.exists()));
        let journal = self.shared.journal.clone();
        let work = async move {
            let mut batches = store.read(move |store| remove_thread(store, &id)).await?;
            body.deleted_files = former + u32::from(gone.await.unwrap_or(false));
            let mut told = FrameBatch::default();
            let (to, class) = (Audience::Everyone, Durability::DurableFirst);
            let id = body.session_id.clone();
            frames::push(&mut told, "session_deleted", &to, Some(&id), class, &body);
            let mut last = batches.pop().unwrap_or_default();
            for batch in batches {
                store.commit(batch).await?;
            }
            // Stored with the change that it tells of: a crash in between does not lose it.
            let staged = journal.stage(told, &mut last);
            store.commit(last).await?;
            Ok::<_, StoreError>((body, staged))
        };
        let work = pending.then(|(), thread, _| work.into_actor(thread));
        ctx.wait(work.map(move |result, thread: &mut Self, _| match result {
            Ok((body, staged)) => {
                thread.shared.index.remove(&thread.id);
                thread.shared.journal.publish(std::mem::take(&mut thread.frames));
                thread.shared.journal.publish_staged(staged);
                thread.deleted = Some(body.clone());
                let gone = SessionError::Deleted(body.clone());
                thread.refuse_pending(&gone);
                thread.refuse_waiting(&gone);
                // The registry lets go of this actor, which ends it when its mailbox is empty.
                let told = thread.shared.registry.tell(ThreadDeleted(body.clone()));
                if let Err(error) = told {
                    tracing::error!(thread = %thread.id, %error, "the registry was not told");
                }
                answer(reply, Ok(body));
            }
            Err(error) => {
                thread.removing = false;
                let error = SessionError::from(error);
                // Their answers may have come and were passed over.
                thread.refuse_pending(&error);
                answer(reply, Err(error));
            }
        }));
    }

    fn refuse_pending(&mut self, error: &SessionError) {
        for (_, pending) in std::mem::take(&mut self.pending) {
            pending.refuse(error.clone());
        }
    }

    /// Shows every request as expired and lets its actor go: nothing of a deleted session is
    /// stored any more.
    fn let_go_of_requests(&mut self) {
        let now = clock::now_ms();
        self.asked.clear();
        for (_, live) in std::mem::take(&mut self.requests) {
            let mut record = live.record;
            let was_pending = record.status() == "pending";
            record.expire(ExpiryReason::SessionDeleted, now, &clock::iso(now));
            if was_pending {
                self.show_end(&record);
            }
        }
    }
}

/// Deletes the threads in whose place others are; answers how many there were. They come first: a
/// deletion that fails can be repeated.
async fn delete_former(
    app_server: &AppServerHandle,
    former: Vec<ThreadId>,
) -> Result<u32, CallFailure> {
    let mut deleted = 0;
    // The newest ones are built on the older ones.
    for thread_id in former.into_iter().rev() {
        let params = json!({ "threadId": thread_id });
        match app_server.call("thread/delete", params.clone(), None, false).await {
            Ok(_) => deleted += 1,
            Err(error) if error.is_unknown_thread() => {}
            Err(error) if error.is_forked_from() => {
                // It is there already, unless that failed.
                let archived = app_server.call("thread/archive", params, None, false).await;
                if let Err(error) = archived {
                    tracing::debug!(thread = %thread_id, %error, "a former thread is not archived");
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(deleted)
}
