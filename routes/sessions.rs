//! Sessions: create, read, and their life.

use actix_web::http::header::ContentType;
use actix_web::{HttpRequest, HttpResponse, web};
use cm_actors::thread::SessionError;
use cm_core::error::ErrorCode;
use cm_core::ids::ThreadId;
use cm_core::request::RequestFamily;
use cm_core::wire::{
    CreateSession, DynamicTool, MAX_NAME, MAX_NOTE, Rename, ResumeSession, SessionArchived,
    SessionCreated, SessionDeleted, SessionDetail, SessionRenamed,
};

use crate::answer::{ApiError, invalid};
use crate::api::Api;
use crate::body::{NoBody, RawBody, text};
use crate::openapi::{
    AllOf, BodyErrors, FirstTurnErrors, ManagerErrors, RuntimeErrors, SandboxErrors, SessionErrors,
};
use crate::stored_turns::{with_turns, without_turns};

/// Tools that one session may offer.
const MAX_TOOLS: usize = 128;

/// The session of a path. A malformed id names no session.
pub(crate) fn session_id(text: &str) -> Result<ThreadId, ApiError> {
    ThreadId::parse(text).map_err(|_| ApiError::no_session(text))
}

/// Reads and understands the body of a session's route. A session that does not exist is said
/// before a body that is wrong, as in version 1.
pub(crate) async fn body_of<T>(
    api: &Api,
    id: &ThreadId,
    request: &HttpRequest,
    payload: web::Payload,
    understand: impl FnOnce(RawBody) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let error = match RawBody::read(request, payload).await.and_then(understand) {
        Ok(body) => return Ok(body),
        Err(error) => error,
    };
    exists(api, id).await?;
    Err(error)
}

/// Says that a session does not exist or was deleted.
pub(crate) async fn exists(api: &Api, id: &ThreadId) -> Result<(), ApiError> {
    match api.threads.requests(id, &[RequestFamily::Approval], false).await {
        Err(gone @ (SessionError::NotFound(_) | SessionError::Deleted(_))) => {
            Err(ApiError::session(gone))
        }
        _ => Ok(()),
    }
}

/// Checks tools that a client offers. Blanks around their names and descriptions go: the runtime
/// refuses names that have some.
pub(crate) fn check_tools(tools: Option<&mut Vec<DynamicTool>>) -> Result<(), ApiError> {
    let Some(tools) = tools else { return Ok(()) };
    if tools.len() > MAX_TOOLS {
        return Err(invalid("dynamicTools", &format!("at most {MAX_TOOLS} tools")));
    }
    for (index, tool) in tools.iter_mut().enumerate() {
        tool.name = text(&format!("dynamicTools.{index}.name"), &tool.name, MAX_NAME)?;
        let name = format!("dynamicTools.{index}.description");
        tool.description = text(&name, &tool.description, MAX_NOTE)?;
    }
    Ok(())
}

/// Creates a session.
#[utoipa::path(
    post, path = "/api/sessions", tag = "sessions", operation_id = "createSession",
    request_body = Option<CreateSession>,
    responses(
        (status = 200, body = SessionCreated),
        AllOf<(ManagerErrors, RuntimeErrors, BodyErrors, SandboxErrors)>,
    ),
)]
pub(crate) async fn create(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let mut body: CreateSession = RawBody::read(&request, payload).await?.optional()?;
    if body.cwd.as_deref().is_some_and(str::is_empty) {
        return Err(invalid("cwd", "must not be empty"));
    }
    check_tools(body.dynamic_tools.as_mut())?;
    let created = api.threads.create(body).await.map_err(|error| match error {
        // What a body can have wrong beyond its shape is the folder, which is looked at later.
        SessionError::Failed(failure) if failure.code == ErrorCode::InvalidRequest => {
            invalid("cwd", &failure.message)
        }
        error => ApiError::session(error),
    })?;
    Ok(HttpResponse::Ok().json(created))
}

/// A session with everything that was said and done in it.
#[utoipa::path(
    get, path = "/api/sessions/{id}", tag = "sessions", operation_id = "readSession",
    params(("id" = ThreadId, Path, description = "The session.")),
    responses((status = 200, body = SessionDetail), SessionErrors),
)]
pub(crate) async fn read(
    api: web::Data<Api>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    let detail = api.threads.detail(&id).await.map_err(ApiError::session)?;
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(detail))
}

/// One item of a session, byte for byte as the runtime wrote it; the latest of its id.
#[utoipa::path(
    get, path = "/api/sessions/{id}/items/{item}", tag = "sessions", operation_id = "readItem",
    params(
        ("id" = ThreadId, Path, description = "The session."),
        ("item" = String, Path, description = "The item, as the transcript names it."),
    ),
    responses((status = 200, body = Object), SessionErrors),
)]
pub(crate) async fn item(
    api: web::Data<Api>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (id, item_id) = path.into_inner();
    let id = session_id(&id)?;
    let item = api.threads.item(&id, item_id).await.map_err(ApiError::session)?;
    if item.is_empty() {
        let message = "The session has no such item.";
        let error = ApiError::worded(ErrorCode::NotFound, "not_found", message);
        return Err(error.with("sessionId", id.as_str()));
    }
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(item))
}

/// Deletes a session for good.
#[utoipa::path(
    delete, path = "/api/sessions/{id}", tag = "sessions", operation_id = "deleteSession",
    params(("id" = ThreadId, Path, description = "The session.")),
    responses((status = 200, body = SessionDeleted), AllOf<(SessionErrors, RuntimeErrors)>),
)]
pub(crate) async fn delete(
    api: web::Data<Api>,
    path: web::Path<String>,
    _: NoBody,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    let deleted = api.threads.delete(&id).await.map_err(ApiError::session)?;
    Ok(HttpResponse::Ok().json(SessionDeleted {
        status: "ok".to_owned(),
        session_id: deleted.session_id,
        title: deleted.title,
        deleted_file_count: deleted.deleted_files,
    }))
}

/// Gives a session a title.
#[utoipa::path(
    post, path = "/api/sessions/{id}/rename", tag = "sessions", operation_id = "renameSession",
    params(("id" = ThreadId, Path, description = "The session.")),
    request_body = Rename,
    responses((status = 200, body = SessionRenamed), AllOf<(SessionErrors, BodyErrors)>),
)]
pub(crate) async fn rename(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    let title = body_of(&api, &id, &request, payload, |body| {
        text("title", &body.required::<Rename>()?.title, 200)
    })
    .await?;
    let session = api.threads.rename(&id, title).await.map_err(ApiError::session)?;
    Ok(HttpResponse::Ok().json(SessionRenamed { status: "ok".to_owned(), session }))
}

/// Puts a session into the archive; it can be read there, and takes no messages.
#[utoipa::path(
    post, path = "/api/sessions/{id}/archive", tag = "sessions", operation_id = "archiveSession",
    params(("id" = ThreadId, Path, description = "The session.")),
    responses(
        (status = 200, body = SessionArchived),
        AllOf<(SessionErrors, RuntimeErrors, FirstTurnErrors)>,
    ),
)]
pub(crate) async fn archive(
    api: web::Data<Api>,
    path: web::Path<String>,
    _: NoBody,
) -> Result<HttpResponse, ApiError> {
    let session_id = session_id(&path)?;
    api.threads.archive(&session_id).await.map_err(ApiError::session)?;
    Ok(HttpResponse::Ok().json(SessionArchived { status: "ok".to_owned(), session_id }))
}

/// Takes a session back from the archive.
#[utoipa::path(
    post, path = "/api/sessions/{id}/unarchive", tag = "sessions",
    operation_id = "unarchiveSession",
    params(("id" = ThreadId, Path, description = "The session.")),
    responses((status = 200, body = SessionCreated), AllOf<(SessionErrors, RuntimeErrors)>),
)]
pub(crate) async fn unarchive(
    api: web::Data<Api>,
    path: web::Path<String>,
    _: NoBody,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    let created = api.threads.unarchive(&id).await.map_err(ApiError::session)?;
    Ok(HttpResponse::Ok().json(without_turns(created)))
}

/// Loads a session into the child again; a message does this by itself.
#[utoipa::path(
    post, path = "/api/sessions/{id}/resume", tag = "sessions", operation_id = "resumeSession",
    params(("id" = ThreadId, Path, description = "The session.")),
    request_body = Option<ResumeSession>,
    responses(
        (status = 200, body = SessionCreated),
        AllOf<(SessionErrors, RuntimeErrors, BodyErrors, FirstTurnErrors)>,
    ),
)]
pub(crate) async fn resume(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    let body = body_of(&api, &id, &request, payload, |body| {
        let mut body = body.optional::<ResumeSession>()?;
        check_tools(body.dynamic_tools.as_mut())?;
        Ok(body)
    })
    .await?;
    let resumed = api.threads.resume(&id, body.dynamic_tools).await.map_err(ApiError::session)?;
    Ok(HttpResponse::Ok().json(with_turns(&api, resumed).await))
}
