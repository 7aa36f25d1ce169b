//! The worker's copy of what is read most: lists of sessions, without leaving the worker's thread.
//!
//! A question to another thread costs more than the answer: waking it, being woken. So each worker
//! has a copy of the lists, fed with changes; rows are shared, so a copy is two small sorted sets.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_web::web;
use cm_actors::index::{
    AttachedReader, ListQuery, ListVersion, RowChange, RowsChanged, SessionRows,
};
use cm_actors::thread::{SessionError, ThreadsHandle};
use tokio::sync::Notify;

/// Announcements that may wait. Overflow rule: the model notices the gap by the versions and asks
/// for all rows.
const MAILBOX: usize = 256;

/// How long a read waits for a change that it must show. Then it asks the registry.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the model waits before it asks a registry that is being restarted again.
const ATTACH_AGAIN: Duration = Duration::from_millis(50);

/// How old the answer of the file system may be when it is shown.
const FILE_AGE: Duration = Duration::from_secs(1);

/// How long the file system may take; then the answer before is shown.
const FILE_PATIENCE: Duration = Duration::from_millis(250);

/// The model of one worker.
pub struct ReadModel {
    threads: ThreadsHandle,
    shared: Rc<Shared>,
    /// Counts attachments: the end of an earlier one is no news.
    attachment: u64,
}

struct Shared {
    rows: RefCell<SessionRows>,
    /// The version of the rows; `None` until they were there for the first time.
    version: Cell<Option<u64>>,
    /// The newest version of the lists, raised by the index.
    newest: ListVersion,
    /// Tells those who wait that the version has changed.
    changed: Notify,
    file: FileSeen,
}

/// Whether a file exists, and when that was looked at.
#[derive(Default)]
struct FileSeen {
    exists: Cell<bool>,
    looked: Cell<Option<Instant>>,
    /// Whether somebody looks now.
    looking: Cell<bool>,
}

/// How the handlers of a worker reach their model. It never leaves the worker's thread.
#[derive(Clone)]
pub struct ReadModelHandle {
    shared: Rc<Shared>,
    threads: ThreadsHandle,
    /// Keeps the actor alive as long as the worker.
    actor: Addr<ReadModel>,
}

/// The worker's model as application data, which asks for a type of its own.
pub struct ReadModelCell(pub ReadModelHandle);

impl ReadModel {
    /// Starts the model of the current worker.
    pub fn start_on_worker(threads: ThreadsHandle, newest: ListVersion) -> ReadModelHandle {
        let shared = Rc::new(Shared {
            rows: RefCell::default(),
            version: Cell::new(None),
            newest,
            changed: Notify::new(),
            file: FileSeen::default(),
        });
        let model = Self { threads: threads.clone(), shared: Rc::clone(&shared), attachment: 0 };
        let actor = Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX);
            model
        });
        ReadModelHandle { shared, threads, actor }
    }

    /// Asks for all rows, again and again until they are there. Changes wait meanwhile.
    fn attach(&self, ctx: &mut Context<Self>) {
        let threads = self.threads.clone();
        let recipient = ctx.address().recipient::<RowsChanged>();
        let work = async move {
            loop {
                if let Ok(Some(attached)) = threads.attach_reader(recipient.clone()).await {
                    return attached;
                }
                tokio::time::sleep(ATTACH_AGAIN).await;
            }
        };
        ctx.wait(work.into_actor(self).map(|attached, model, ctx| model.attached(attached, ctx)));
    }

    fn attached(&mut self, attached: AttachedReader, ctx: &mut Context<Self>) {
        let AttachedReader { version, rows, life } = attached;
        let mut known = SessionRows::default();
        for row in rows {
            known.put(row);
        }
        self.shared.rows.replace(known);
        self.reached(version);
        self.attachment += 1;
        let attachment = self.attachment;
        let over = async move {
            // An error is the end as well: the index is gone.
            life.await.ok();
        };
        ctx.spawn(over.into_actor(self).map(move |(), model, ctx| {
            if model.attachment == attachment {
                model.attach(ctx);
            }
        }));
    }

    fn reached(&self, version: u64) {
        self.shared.version.set(Some(version));
        self.shared.changed.notify_waiters();
    }
}

impl Actor for ReadModel {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.attach(ctx);
    }
}

impl Handler<RowsChanged> for ReadModel {
    type Result = ();

    fn handle(&mut self, message: RowsChanged, ctx: &mut Self::Context) {
        let RowsChanged { after, version, changes } = message;
        let known = self.shared.version.get();
        if known.is_some_and(|known| known >= version) {
            return;
        }
        if known != Some(after) {
            return self.attach(ctx);
        }
        let mut rows = self.shared.rows.borrow_mut();
        for change in changes.iter() {
            match change {
                RowChange::Put(row) => {
                    rows.put(row.clone());
                }
                RowChange::Removed(id) => {
                    rows.remove(id);
                }
            }
        }
        drop(rows);
        self.reached(version);
    }
}

impl Shared {
    fn is_current(&self, wanted: u64) -> bool {
        self.version.get().is_some_and(|version| version >= wanted)
    }

    /// Waits until the rows show everything up to a version; answers whether they do in time.
    async fn wait_for(&self, wanted: u64) -> bool {
        let reached = async {
            loop {
                let changed = self.changed.notified();
                if self.is_current(wanted) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.is_ok()
    }
}

impl ReadModelHandle {
    /// A page of a list, as the body of its answer. It shows every change that was answered before
    /// this was called.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub(crate) async fn page(&self, query: ListQuery) -> Result<Vec<u8>, SessionError> {
        let wanted = self.shared.newest.current();
        let is_current = self.shared.is_current(wanted)
            || self.actor.connected() && self.shared.wait_for(wanted).await;
        if !is_current {
            return self.threads.list(query).await;
        }
        Ok(self.shared.rows.borrow().page(&query))
    }

    /// Whether a file exists, as the file system said a second ago or later. Only one path is
    /// asked for in the life of a worker.
    pub(crate) async fn file_exists(&self, path: impl FnOnce() -> PathBuf) -> bool {
        let seen = &self.shared.file;
        let fresh = seen.looked.get().is_some_and(|looked| looked.elapsed() < FILE_AGE);
        if fresh || seen.looking.get() {
            return seen.exists.get();
        }
        // A file system may hang: nobody waits for it twice, and the worker never does.
        let path = path();
        let shared = Rc::clone(&self.shared);
        seen.looking.set(true);
        let look = actix_web::rt::spawn(async move {
            let exists = web::block(move || path.exists()).await;
            if let Ok(exists) = exists {
                shared.file.exists.set(exists);
            }
            shared.file.looked.set(Some(Instant::now()));
            shared.file.looking.set(false);
        });
        // On a timeout the look goes on and its answer is there later.
        tokio::time::timeout(FILE_PATIENCE, look).await.ok();
        seen.exists.get()
    }
}
