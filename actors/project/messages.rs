//! Messages to the actor of projects. All are sent by routes and answered when what they ask for is
//! on the disk.

use actix::prelude::*;
use cm_core::ids::{ProjectId, ThreadId};
use cm_core::wire::{ProjectSummary, SessionProject};

use super::bulk::{Moved, Removed};
use super::error::ProjectError;

/// Asks for all projects, sorted by name.
#[derive(Debug, Message)]
#[rtype(result = "Vec<ProjectSummary>")]
pub(super) struct ListProjects;

/// Asks whether there is a project.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub(super) struct IsProject(pub(super) ProjectId);

/// Makes a project.
#[derive(Debug, Message)]
#[rtype(result = "Result<ProjectSummary, ProjectError>")]
pub(super) struct CreateProject {
    pub(super) name: String,
    pub(super) working_directory: Option<String>,
}

/// Gives a project another name and, where one is given, another working directory.
#[derive(Debug, Message)]
#[rtype(result = "Result<ProjectSummary, ProjectError>")]
pub(super) struct UpdateProject {
    pub(super) id: ProjectId,
    pub(super) name: String,
    pub(super) working_directory: Option<Option<String>>,
}

/// Deletes a project without sessions.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), ProjectError>")]
pub(super) struct DeleteProject(pub(super) ProjectId);

/// Puts a session into a project, or takes it out of the one that it is in.
#[derive(Debug, Message)]
#[rtype(result = "Result<SessionProject, ProjectError>")]
pub(super) struct AssignSession {
    pub(super) session: ThreadId,
    pub(super) project: Option<ProjectId>,
}

/// Takes all sessions out of a project, and archives them before if that is wanted.
#[derive(Debug, Message)]
#[rtype(result = "Result<Moved, ProjectError>")]
pub(super) struct MoveAll {
    pub(super) project: ProjectId,
    pub(super) archive: bool,
}

/// Deletes all sessions of a project for good.
#[derive(Debug, Message)]
#[rtype(result = "Result<Removed, ProjectError>")]
pub(super) struct DeleteAll(pub(super) ProjectId);
