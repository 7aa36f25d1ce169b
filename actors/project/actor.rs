//! The records of projects: read at the start, changed one after the other.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use cm_core::event::{Audience, Durability, FrameBatch};
use cm_core::ids::ProjectId;
use cm_core::project::{ProjectBook, ProjectRecord};
use cm_core::restart::{Policy, Restart};
use cm_core::wire::ProjectSummary;
use serde_json::{Value, json};
use tokio::sync::RwLock;

use super::error::ProjectError;
use super::messages::{CreateProject, IsProject, ListProjects, UpdateProject};
use crate::clock;
use crate::handle::Handle;
use crate::journal::JournalHandle;
use crate::store::{
    StoreError, StoreHandle, StoredProjects, WriteBatch, keys, put_project, read_projects,
};
use crate::supervisor::{ChildSpec, ExitGuard, Observe, Started};
use crate::thread::{ThreadsHandle, frames};

/// Messages that may wait. Overflow rule: whoever asks waits for room until its deadline.
const MAILBOX: usize = 256;

/// How long a store that cannot be read is left alone.
const READ_AGAIN: Duration = Duration::from_millis(250);

/// The only owner of the records of projects.
pub struct Projects {
    /// Reports the actor's end to its supervisor.
    _guard: ExitGuard,
    pub(super) book: ProjectBook,
    store: StoreHandle,
    journal: JournalHandle,
    pub(super) threads: ThreadsHandle,
    /// Held together by assignments, alone by a deletion; see the module.
    pub(super) gate: Arc<RwLock<()>>,
    /// Assignments that are not answered.
    pub(super) assigning: usize,
    /// Operations on all sessions of a project that run.
    pub(super) bulks: usize,
}

/// The spec of the actor of projects.
pub fn projects_spec(
    handle: Handle<Projects>,
    policy: Policy,
    store: StoreHandle,
    journal: JournalHandle,
    threads: ThreadsHandle,
) -> ChildSpec {
    let gate = Arc::new(RwLock::new(()));
    ChildSpec {
        name: "projects",
        restart: Restart::Permanent,
        policy,
        shutdown: Duration::from_millis(500),
        watch: None,
        start: Box::new(move |guard| {
            let projects = Projects {
                _guard: guard,
                book: ProjectBook::default(),
                store: store.clone(),
                journal: journal.clone(),
                threads: threads.clone(),
                gate: Arc::clone(&gate),
                assigning: 0,
                bulks: 0,
            };
            let address = Projects::create(|ctx| {
                ctx.set_mailbox_capacity(MAILBOX);
                projects
            });
            handle.fill(address.clone());
            let clear = handle.clone();
            Started::of(address, || Stop, move || clear.clear())
        }),
    }
}

/// Reads all projects; a store that cannot be read is asked again.
async fn read(store: StoreHandle) -> StoredProjects {
    loop {
        match store.read(read_projects).await {
            Ok(stored) => return stored,
            Err(error) => tracing::error!(%error, "the projects cannot be read yet"),
        }
        tokio::time::sleep(READ_AGAIN).await;
    }
}

impl Actor for Projects {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let read = read(self.store.clone()).into_actor(self);
        ctx.wait(read.map(|stored, projects, ctx| {
            for error in stored.damaged {
                tracing::error!(%error, "a project is not listed: its record is damaged");
            }
            for record in stored.records {
                projects.book.put(record);
            }
            projects.release_strays(ctx);
        }));
    }
}

/// A change of one record.
pub(super) enum Change {
    Put(ProjectRecord),
    Remove(ProjectId),
}

/// A project as clients see it.
fn summary(record: &ProjectRecord) -> ProjectSummary {
    ProjectSummary {
        project_id: record.id.clone(),
        name: record.name.clone(),
        working_directory: record.working_directory.clone(),
        created_at: clock::iso(record.created_ms),
        updated_at: clock::iso(record.updated_ms),
    }
}

impl Change {
    /// Adds the change to what is to be written.
    fn write(&self, batch: &mut WriteBatch) -> Result<(), StoreError> {
        match self {
            Self::Put(record) => put_project(batch, record),
            Self::Remove(id) => {
                batch.remove(keys::project(id));
                Ok(())
            }
        }
    }

    /// The event that tells of it.
    fn told(&self) -> FrameBatch {
        let (kind, payload) = match self {
            Self::Put(record) => ("project_upserted", json!({ "project": summary(record) })),
            Self::Remove(id) => ("project_deleted", json!({ "projectId": id, "sessionIds": [] })),
        };
        let mut told = FrameBatch::default();
        let (to, class) = (Audience::Everyone, Durability::DurableFirst);
        frames::push(&mut told, kind, &to, None, class, &payload);
        told
    }
}

impl Projects {
    /// Makes a change: first on the disk together with its event, then here, then for subscribers.
    /// The caller lets no other message in between, so that the next change sees this one.
    pub(super) fn change(
        &self,
        change: Change,
    ) -> ResponseActFuture<Self, Result<(), ProjectError>> {
        let id = match &change {
            Change::Put(record) => &record.id,
            Change::Remove(id) => id,
        };
        let before = match self.book.get(id) {
            Some(record) => Change::Put(record.clone()),
            None => Change::Remove(id.clone()),
        };
        let (mut batch, mut undo) = (WriteBatch::default(), WriteBatch::default());
        if let Err(error) = change.write(&mut batch).and_then(|()| before.write(&mut undo)) {
            return Box::pin(actix::fut::ready(Err(error.into())));
        }
        let staged = self.journal.stage(change.told(), &mut batch);
        let store = self.store.clone();
        let work = async move { store.commit(batch).await };
        Box::pin(work.into_actor(self).map(move |stored, projects, _| {
            if let Err(error) = stored {
                // What was refused may be on the disk all the same; this actor says that it is not.
                if let Err((_, error)) = projects.store.try_record(undo) {
                    tracing::error!(%error, "a refused change of a project was not taken back");
                }
                return Err(error.into());
            }
            match change {
                Change::Put(record) => projects.book.put(record),
                Change::Remove(id) => projects.book.remove(&id),
            }
            projects.journal.publish_staged(staged);
            Ok(())
        }))
    }

    /// Puts a record and answers with the project.
    fn save(
        &self,
        record: Result<ProjectRecord, ProjectError>,
    ) -> AtomicResponse<Self, Result<ProjectSummary, ProjectError>> {
        let saved: ResponseActFuture<Self, _> = match record {
            Err(error) => Box::pin(actix::fut::ready(Err(error))),
            Ok(record) => {
                let saved = summary(&record);
                let change = self.change(Change::Put(record));
                Box::pin(change.map(|stored, _, _| stored.map(|()| saved)))
            }
        };
        AtomicResponse::new(saved)
    }
}

impl Handler<ListProjects> for Projects {
    type Result = MessageResult<ListProjects>;

    fn handle(&mut self, _: ListProjects, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.book.sorted().into_iter().map(summary).collect())
    }
}

impl Handler<IsProject> for Projects {
    type Result = bool;

    fn handle(&mut self, IsProject(id): IsProject, _: &mut Self::Context) -> Self::Result {
        self.book.get(&id).is_some()
    }
}

impl Handler<CreateProject> for Projects {
    type Result = AtomicResponse<Self, Result<ProjectSummary, ProjectError>>;

    fn handle(&mut self, message: CreateProject, _: &mut Self::Context) -> Self::Result {
        let CreateProject { name, working_directory } = message;
        let id = ProjectId::from_random(*uuid::Uuid::new_v4().as_bytes());
        let draft = self.book.draft(id, name, working_directory, clock::now_ms());
        self.save(draft.map_err(ProjectError::from))
    }
}

impl Handler<UpdateProject> for Projects {
    type Result = AtomicResponse<Self, Result<ProjectSummary, ProjectError>>;

    fn handle(&mut self, message: UpdateProject, _: &mut Self::Context) -> Self::Result {
        let UpdateProject { id, name, working_directory } = message;
        let revised = self.book.revised(&id, name, working_directory, clock::now_ms());
        self.save(revised.map_err(ProjectError::from))
    }
}

impl Handler<Observe> for Projects {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        let (assigning, bulks): (usize, usize) = (self.assigning, self.bulks);
        let observed: Value =
            json!({ "projects": self.book.len(), "assigning": assigning, "bulks": bulks });
        MessageResult(observed)
    }
}

/// Ends the actor. Sent by the supervisor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Projects {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
