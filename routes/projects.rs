//! Projects, and which sessions belong to them.

use actix_web::{HttpRequest, HttpResponse, web};
use cm_actors::project::ProjectError;
use cm_actors::thread::SessionError;
use cm_core::error::ErrorCode;
use cm_core::ids::{ProjectId, ThreadId};
use cm_core::request::RequestFamily;
use cm_core::wire::{
    AgentSessions, AssignProject, CreateProject, ErrorBody, MoveDestination, MoveSessions,
    ProjectCreated, ProjectDeleted, ProjectList, ProjectSaved, SessionFailure, SessionProject,
    SessionsDeleted, SessionsMoved, UpdateProject,
};
use serde_json::Value;

use crate::answer::ApiError;
use crate::api::Api;
use crate::body::{NoBody, RawBody, text};
use crate::openapi::{AllOf, BodyErrors, ManagerErrors, ProjectErrors};
use crate::sessions::session_id;

/// Characters of a name, of a working directory and of an id at the most, as in version 1.
const MAX_NAME: usize = 120;
const MAX_DIRECTORY: usize = 2000;
const MAX_ID: usize = 200;

/// What an owner of agents begins with that is a session and no project.
const SESSION_OWNER: &str = "session:";

/// A project that does not exist; the id may not even be well-formed.
fn no_project(id: &str) -> ApiError {
    ApiError::worded(ErrorCode::NotFound, "not_found", "There is no such project.")
        .with("projectId", id)
}

/// The project of a path. A malformed id names no project.
fn project_id(text: &str) -> Result<ProjectId, ApiError> {
    ProjectId::parse(text).map_err(|_| no_project(text))
}

/// An error of a project's route.
fn refusal(id: &str, error: ProjectError) -> ApiError {
    match error {
        ProjectError::NotFound => no_project(id),
        ProjectError::NameTaken(owner) => {
            let message = "Another project has this name; names differ by more than case.";
            ApiError::worded(ErrorCode::DuplicateName, "duplicate_name", message)
                .with("projectId", owner.as_str())
        }
        ProjectError::NotEmpty(count) => {
            let message = "The project has sessions; move or delete them first.";
            ApiError::worded(ErrorCode::ProjectNotEmpty, "project_not_empty", message)
                .with("projectId", id)
                .with("sessionCount", count)
        }
        ProjectError::Session(error) => ApiError::session(error),
        ProjectError::Failed(failure) => failure.into(),
    }
}

fn ok() -> String {
    "ok".to_owned()
}

/// The word for an operation on many sessions.
fn outcome(failures: &[SessionFailure]) -> String {
    if failures.is_empty() { ok() } else { "partial".to_owned() }
}

fn failures(failures: Vec<(ThreadId, SessionError)>) -> Vec<SessionFailure> {
    let described = |(session_id, error): (ThreadId, SessionError)| {
        let (code, message) = ApiError::session(error).in_words();
        SessionFailure { session_id, code, message }
    };
    failures.into_iter().map(described).collect()
}

fn directory(given: Option<String>) -> Result<Option<String>, ApiError> {
    given.map(|path| text("workingDirectory", &path, MAX_DIRECTORY)).transpose()
}

/// All projects.
#[utoipa::path(
    get, path = "/api/projects", tag = "projects", operation_id = "listProjects",
    responses((status = 200, body = ProjectList), ManagerErrors),
)]
pub(crate) async fn list(api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    let data = api.projects.list().await.map_err(|error| refusal("", error))?;
    Ok(HttpResponse::Ok().json(ProjectList { data }))
}

/// Makes a project.
#[utoipa::path(
    post, path = "/api/projects", tag = "projects", operation_id = "createProject",
    request_body = CreateProject,
    responses(
        (status = 200, body = ProjectCreated),
        (status = 409, body = ErrorBody, description = "Another project has the name: `duplicate_name`, with its `projectId`."),
        AllOf<(ManagerErrors, BodyErrors)>,
    ),
)]
pub(crate) async fn create(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: CreateProject = RawBody::read(&request, payload).await?.required()?;
    let name = text("name", &body.name, MAX_NAME)?;
    let created = api.projects.create(name, directory(body.working_directory)?).await;
    let project = created.map_err(|error| refusal("", error))?;
    Ok(HttpResponse::Ok().json(ProjectCreated {
        status: ok(),
        project,
        orchestration_session: None,
    }))
}

/// Gives a project another name, and another working directory where the body names one.
#[utoipa::path(
    post, path = "/api/projects/{id}/rename", tag = "projects", operation_id = "updateProject",
    params(("id" = String, Path, description = "The project.")),
    request_body = UpdateProject,
    responses(
        (status = 200, body = ProjectSaved),
        (status = 409, body = ErrorBody, description = "Another project has the name: `duplicate_name`, with its `projectId`."),
        AllOf<(ManagerErrors, ProjectErrors, BodyErrors)>,
    ),
)]
pub(crate) async fn update(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    // As in version 1 a body that is wrong is said before a project that does not exist.
    let body: UpdateProject = RawBody::read(&request, payload).await?.required()?;
    let name = text("name", &body.name, MAX_NAME)?;
    let working_directory = body.working_directory.map(directory).transpose()?;
    let updated = api.projects.update(project_id(&path)?, name, working_directory).await;
    let project = updated.map_err(|error| refusal(&path, error))?;
    Ok(HttpResponse::Ok().json(ProjectSaved { status: ok(), project }))
}

/// Deletes a project without sessions.
#[utoipa::path(
    delete, path = "/api/projects/{id}", tag = "projects", operation_id = "deleteProject",
    params(("id" = String, Path, description = "The project.")),
    responses(
        (status = 200, body = ProjectDeleted),
        (status = 409, body = ErrorBody, description = "It has sessions: `project_not_empty`, with `sessionCount`."),
        AllOf<(ManagerErrors, ProjectErrors)>,
    ),
)]
pub(crate) async fn delete(
    api: web::Data<Api>,
    path: web::Path<String>,
    _: NoBody,
) -> Result<HttpResponse, ApiError> {
    let project_id = project_id(&path)?;
    let deleted = api.projects.delete(project_id.clone()).await;
    deleted.map_err(|error| refusal(&path, error))?;
    let body = ProjectDeleted { status: ok(), project_id, unassigned_session_count: 0 };
    Ok(HttpResponse::Ok().json(body))
}

/// The sessions that agents of a project work in.
#[utoipa::path(
    get, path = "/api/projects/{id}/agent-sessions", tag = "projects",
    operation_id = "listAgentSessions",
    params(("id" = String, Path, description = "The project, or `session:` and a session's id.")),
    responses((status = 200, body = AgentSessions), AllOf<(ManagerErrors, ProjectErrors)>),
)]
pub(crate) async fn agent_sessions(
    api: web::Data<Api>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let owner = path.into_inner();
    let is_session =
        owner.strip_prefix(SESSION_OWNER).is_some_and(|id| ThreadId::parse(id).is_ok());
    if !is_session {
        require(&api, &project_id(&owner)?).await?;
    }
    let body = AgentSessions { status: ok(), project_id: owner, data: Vec::new() };
    Ok(HttpResponse::Ok().json(body))
}

async fn require(api: &Api, id: &ProjectId) -> Result<(), ApiError> {
    match api.projects.exists(id).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(no_project(id.as_str())),
        Err(error) => Err(refusal(id.as_str(), error)),
    }
}

/// Takes all sessions out of a project, and archives them before if that is wanted.
#[utoipa::path(
    post, path = "/api/projects/{id}/chats/move-all", tag = "projects",
    operation_id = "moveSessionsOfProject",
    params(("id" = String, Path, description = "The project.")),
    request_body = MoveSessions,
    responses(
        (status = 200, body = SessionsMoved),
        (status = 409, body = ErrorBody, description = "None could be archived, because the runtime has none of them: \
                                      `not_materialized`, with `sessionIds`."),
        AllOf<(ManagerErrors, ProjectErrors, BodyErrors)>,
    ),
)]
pub(crate) async fn move_all(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: MoveSessions = RawBody::read(&request, payload).await?.required()?;
    let project_id = project_id(&path)?;
    let archive = body.destination == MoveDestination::Archive;
    let moved = api.projects.move_all(project_id.clone(), archive).await;
    let moved = moved.map_err(|error| refusal(&path, error))?;
    let is_missing =
        |(_, error): &(_, SessionError)| matches!(error, SessionError::NotMaterialized(_));
    // Version 1 answers so when it did nothing, and its clients know what to say then.
    if moved.moved == 0 && !moved.failures.is_empty() && moved.failures.iter().all(is_missing) {
        let ids = moved.failures.iter().map(|(id, _)| Value::from(id.as_str()));
        let message = "These sessions never had a turn, so the Codex runtime cannot archive them.";
        let word = "not_materialized_sessions";
        return Err(ApiError::worded(ErrorCode::NotMaterialized, word, message)
            .with("projectId", project_id.as_str())
            .with("sessionIds", ids.collect::<Vec<_>>()));
    }
    let failures = failures(moved.failures);
    Ok(HttpResponse::Ok().json(SessionsMoved {
        status: outcome(&failures),
        project_id,
        destination: body.destination,
        moved_session_count: moved.moved,
        archived_session_count: moved.archived,
        already_archived_session_count: moved.already_archived,
        failures,
    }))
}

/// Deletes all sessions of a project for good.
///
/// A body is not looked at, beyond that it is JSON.
#[utoipa::path(
    post, path = "/api/projects/{id}/chats/delete-all", tag = "projects",
    operation_id = "deleteSessionsOfProject",
    params(("id" = String, Path, description = "The project.")),
    responses((status = 200, body = SessionsDeleted), AllOf<(ManagerErrors, ProjectErrors)>),
)]
pub(crate) async fn delete_all(
    api: web::Data<Api>,
    path: web::Path<String>,
    _: NoBody,
) -> Result<HttpResponse, ApiError> {
    let project_id = project_id(&path)?;
    let removed = api.projects.delete_all(project_id.clone()).await;
    let removed = removed.map_err(|error| refusal(&path, error))?;
    let failures = failures(removed.failures);
    Ok(HttpResponse::Ok().json(SessionsDeleted {
        status: outcome(&failures),
        project_id,
        deleted_session_count: removed.deleted,
        skipped_session_count: removed.skipped,
        failures,
    }))
}

/// Puts a session into a project, or takes it out of the one that it is in.
#[utoipa::path(
    post, path = "/api/sessions/{id}/project", tag = "projects", operation_id = "assignProject",
    params(("id" = String, Path, description = "The session.")),
    request_body = AssignProject,
    responses(
        (status = 200, body = SessionProject),
        (status = 410, body = ErrorBody, description = "The session was deleted: `deleted`."),
        AllOf<(ManagerErrors, ProjectErrors, BodyErrors)>,
    ),
)]
pub(crate) async fn assign(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path);
    let wanted = match RawBody::read(&request, payload).await.and_then(|body| read_wanted(&body)) {
        Ok(wanted) => wanted,
        Err(error) => return Err(unless_deleted(&api, id, error).await),
    };
    let unknown = |project: &str| {
        let message = "There is no such project.";
        ApiError::worded(ErrorCode::NotFound, "project_not_found", message)
            .with("sessionId", path.as_str())
            .with("projectId", project)
    };
    // As in version 1 a project that does not exist is said before a session that does not.
    let project = match &wanted {
        None => None,
        Some(text) => match ProjectId::parse(text) {
            Ok(project) => Some(project),
            Err(_) => return Err(unless_deleted(&api, id, unknown(text)).await),
        },
    };
    let session = match id {
        Ok(session) => session,
        Err(no_session) => {
            if let Some(project) = &project {
                require(&api, project).await.map_err(|_| unknown(project.as_str()))?;
            }
            return Err(no_session);
        }
    };
    match api.projects.assign(session.clone(), project).await {
        Ok(assigned) => Ok(HttpResponse::Ok().json(assigned)),
        Err(ProjectError::NotFound) => {
            let error = unknown(wanted.as_deref().unwrap_or_default());
            Err(unless_deleted(&api, Ok(session), error).await)
        }
        Err(error) => Err(refusal("", error)),
    }
}

fn read_wanted(body: &RawBody) -> Result<Option<String>, ApiError> {
    let body: AssignProject = body.required()?;
    body.project_id.map(|id| text("projectId", &id, MAX_ID)).transpose()
}

/// That the session was deleted comes before everything else.
async fn unless_deleted(api: &Api, id: Result<ThreadId, ApiError>, error: ApiError) -> ApiError {
    let Ok(id) = id else { return error };
    match api.threads.requests(&id, &[RequestFamily::Approval], false).await {
        Err(deleted @ SessionError::Deleted(_)) => ApiError::session(deleted),
        _ => error,
    }
}
