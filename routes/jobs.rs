//! Background jobs and suggested requests, while there is no queue: what version 1 answers with its
//! queue off.

use actix_web::{HttpResponse, web};
use cm_core::error::ErrorCode;
use cm_core::ids::{RequestId, ThreadId};
use cm_core::wire::{
    JobList, JobState, JobView, SuggestRequest, Suggestion, SuggestionQueued, SuggestionUpserted,
    UpsertSuggestion,
};

use crate::answer::{ApiError, invalid};
use crate::api::Api;
use crate::body::NoBody;
use crate::openapi::{AllOf, BodyErrors, SessionErrors, answers};
use crate::query::Query;
use crate::sessions::{exists, session_id};

answers! {
    /// Errors of the queue.
    QueueErrors {
        "503" => "There is no queue, which is all that this version answers: `job_conflict`.",
    }

    /// Errors of a job, where there is a queue.
    JobErrors {
        "404" => "There is no such job: `not_found`.",
        "503" => "There is no queue, which is all that this version answers: `job_conflict`.",
    }

    /// Errors of calling a job off, where there is a queue.
    CancelErrors {
        "409" => "The job has ended already: the status is `already_terminal`, with `job`.",
    }

    /// Errors of a suggestion, where there is a queue.
    SuggestionErrors {
        "400" => "The body is wrong: `invalid_request`.",
        "409" => "Nobody makes suggestions: `job_conflict`; or there is nothing to make one of: the \
                  status is `no_context`.",
        "429" => "The queue is full: `queue_full`.",
        "503" => "There is no queue, which is all that this version answers: `job_conflict`.",
    }
}

/// What version 1 says.
fn queue_is_off() -> ApiError {
    ApiError::new(ErrorCode::JobConflict, "orchestrator queue is unavailable")
}

/// What no job can be called is none, with and without a queue.
fn of_job(id: &str) -> ApiError {
    match RequestId::parse(id) {
        Ok(_) => queue_is_off(),
        Err(_) => ApiError::worded(ErrorCode::NotFound, "not_found", "There is no such job.")
            .with("jobId", id),
    }
}

/// A session's part of the queue: whether there is such a session is said first.
async fn of_session(api: &Api, id: &str) -> Result<HttpResponse, ApiError> {
    let id = session_id(id)?;
    exists(api, &id).await?;
    Err(queue_is_off().with("sessionId", id.as_str()))
}

/// A background job.
#[utoipa::path(
    get, path = "/api/orchestrator/jobs/{jobId}", tag = "jobs", operation_id = "readJob",
    params(("jobId" = String, Path, description = "The job.")),
    responses((status = 200, body = JobView), JobErrors),
)]
pub(crate) async fn read(path: web::Path<String>) -> Result<HttpResponse, ApiError> {
    Err(of_job(&path))
}

/// Background jobs of a project or a session, the oldest first.
#[utoipa::path(
    get, path = "/api/projects/{projectId}/orchestrator/jobs", tag = "jobs",
    operation_id = "listJobs",
    params(
        ("projectId" = String, Path, description = "A project, or `session:` and a session."),
        ("state" = Option<JobState>, Query, description = "Jobs in this state only."),
    ),
    responses((status = 200, body = JobList), QueueErrors),
)]
pub(crate) async fn list(query: Query) -> Result<HttpResponse, ApiError> {
    if let Some(state) = query.get("state")
        && serde_json::from_value::<JobState>(state.into()).is_err()
    {
        let message = "must be `queued`, `running`, `completed`, `failed` or `canceled`";
        return Err(invalid("state", message));
    }
    Err(queue_is_off())
}

/// Calls a background job off.
///
/// A body is not looked at.
#[utoipa::path(
    post, path = "/api/orchestrator/jobs/{jobId}/cancel", tag = "jobs", operation_id = "cancelJob",
    params(("jobId" = String, Path, description = "The job.")),
    responses((status = 200, body = JobView), AllOf<(JobErrors, CancelErrors)>),
)]
pub(crate) async fn cancel(path: web::Path<String>, _: NoBody) -> Result<HttpResponse, ApiError> {
    Err(of_job(&path))
}

/// Asks for what might be said next, and waits for it.
///
/// While there is no queue a body is not looked at, beyond that it is JSON.
#[utoipa::path(
    post, path = "/api/sessions/{id}/suggested-request", tag = "jobs",
    operation_id = "suggestRequest",
    params(("id" = ThreadId, Path, description = "The session.")),
    request_body = Option<SuggestRequest>,
    responses((status = 200, body = Suggestion), AllOf<(SessionErrors, SuggestionErrors, BodyErrors)>),
)]
pub(crate) async fn suggest(
    api: web::Data<Api>,
    path: web::Path<String>,
    _: NoBody,
) -> Result<HttpResponse, ApiError> {
    of_session(&api, &path).await
}

/// Asks for what might be said next; it comes in the stream.
///
/// While there is no queue a body is not looked at, beyond that it is JSON.
#[utoipa::path(
    post, path = "/api/sessions/{id}/suggested-request/jobs", tag = "jobs",
    operation_id = "queueSuggestedRequest",
    params(("id" = ThreadId, Path, description = "The session.")),
    request_body = Option<SuggestRequest>,
    responses((status = 202, body = SuggestionQueued), AllOf<(SessionErrors, SuggestionErrors, BodyErrors)>),
)]
pub(crate) async fn queue_suggestion(
    api: web::Data<Api>,
    path: web::Path<String>,
    _: NoBody,
) -> Result<HttpResponse, ApiError> {
    of_session(&api, &path).await
}

/// Says what might be said next, for whoever asked for it.
///
/// While there is no queue a body is not looked at, beyond that it is JSON.
#[utoipa::path(
    post, path = "/api/sessions/{id}/suggested-request/upsert", tag = "jobs",
    operation_id = "upsertSuggestedRequest",
    params(("id" = ThreadId, Path, description = "The session.")),
    request_body = UpsertSuggestion,
    responses((status = 200, body = SuggestionUpserted), AllOf<(SessionErrors, SuggestionErrors, BodyErrors)>),
)]
pub(crate) async fn upsert_suggestion(
    api: web::Data<Api>,
    path: web::Path<String>,
    _: NoBody,
) -> Result<HttpResponse, ApiError> {
    of_session(&api, &path).await
}
