//! How routes reach projects.

use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::prelude::*;
use cm_core::ids::{ProjectId, ThreadId};
use cm_core::wire::{ProjectSummary, SessionProject};

use super::actor::Projects;
use super::bulk::{Moved, Removed};
use super::error::ProjectError;
use super::messages::{
    AssignSession, CreateProject, DeleteAll, DeleteProject, IsProject, ListProjects, MoveAll,
    UpdateProject,
};
use crate::handle::Handle;

/// How long somebody waits for what is done with all sessions of a project. It goes on without
/// them: each session has its own deadline.
const BULK_DEADLINE: Duration = Duration::from_secs(3600);

/// A stable way to reach projects.
#[derive(Debug, Clone)]
pub struct ProjectsHandle {
    projects: Handle<Projects>,
    deadline: Duration,
}

type Answer<T> = Result<T, ProjectError>;

impl ProjectsHandle {
    /// Makes a handle; `deadline` bounds every answer that is about one project or session.
    pub fn new(projects: Handle<Projects>, deadline: Duration) -> Self {
        Self { projects, deadline }
    }

    async fn ask<M, T>(&self, message: M, deadline: Duration) -> Answer<T>
    where
        M: Message<Result = Answer<T>> + Send + 'static,
        T: Send + 'static,
        Projects: Handler<M>,
        <Projects as Actor>::Context: ToEnvelope<Projects, M>,
    {
        self.projects.ask(message, deadline).await?
    }

    /// All projects, sorted by name.
    ///
    /// # Errors
    ///
    /// [`ProjectError`].
    pub async fn list(&self) -> Answer<Vec<ProjectSummary>> {
        Ok(self.projects.ask(ListProjects, self.deadline).await?)
    }

    /// Whether there is a project.
    ///
    /// # Errors
    ///
    /// [`ProjectError`].
    pub async fn exists(&self, id: &ProjectId) -> Answer<bool> {
        Ok(self.projects.ask(IsProject(id.clone()), self.deadline).await?)
    }

    /// Makes a project.
    ///
    /// # Errors
    ///
    /// [`ProjectError`].
    pub async fn create(
        &self,
        name: String,
        working_directory: Option<String>,
    ) -> Answer<ProjectSummary> {
        self.ask(CreateProject { name, working_directory }, self.deadline).await
    }

    /// Gives a project another name and, where one is given, another working directory or none.
    ///
    /// # Errors
    ///
    /// [`ProjectError`].
    pub async fn update(
        &self,
        id: ProjectId,
        name: String,
        working_directory: Option<Option<String>>,
    ) -> Answer<ProjectSummary> {
        self.ask(UpdateProject { id, name, working_directory }, self.deadline).await
    }

    /// Deletes a project without sessions.
    ///
    /// # Errors
    ///
    /// [`ProjectError`].
    pub async fn delete(&self, id: ProjectId) -> Answer<()> {
        self.ask(DeleteProject(id), self.deadline).await
    }

    /// Puts a session into a project, or takes it out of the one that it is in.
    ///
    /// # Errors
    ///
    /// [`ProjectError`].
    pub async fn assign(
        &self,
        session: ThreadId,
        project: Option<ProjectId>,
    ) -> Answer<SessionProject> {
        self.ask(AssignSession { session, project }, self.deadline).await
    }

    /// Takes all sessions out of a project, and archives them before if that is wanted.
    ///
    /// # Errors
    ///
    /// [`ProjectError`]; what failed with one session is in the answer.
    pub async fn move_all(&self, project: ProjectId, archive: bool) -> Answer<Moved> {
        self.ask(MoveAll { project, archive }, BULK_DEADLINE).await
    }

    /// Deletes all sessions of a project for good.
    ///
    /// # Errors
    ///
    /// [`ProjectError`]; what failed with one session is in the answer.
    pub async fn delete_all(&self, project: ProjectId) -> Answer<Removed> {
        self.ask(DeleteAll(project), BULK_DEADLINE).await
    }
}
