//! What is done with a session beside turns.

use actix_web::{HttpRequest, HttpResponse, web};
use cm_actors::app_server::CallFailure;
use cm_actors::thread::{SessionError, ThreadAction};
use cm_core::ids::ThreadId;
use cm_core::wire::{
    MAX_NAME, MAX_PATH, MAX_TEXT, Review, ReviewDelivery, ReviewTarget, RollBack, SessionActed,
    SessionCreated,
};
use serde_json::{Value, json};

use crate::answer::{ApiError, invalid};
use crate::api::Api;
use crate::body::{NoBody, text};
use crate::openapi::{AllOf, BodyErrors, RuntimeErrors, SessionErrors};
use crate::sessions::{body_of, exists, session_id};
use crate::stored_turns::with_turns;

/// Turns that one rollback takes back at the most.
const MOST_TURNS: u64 = 10_000;

/// An error of an action, with the method as version 1 names it.
fn failed(error: SessionError, method: &str, id: &ThreadId) -> ApiError {
    let details = match &error {
        SessionError::Failed(_) => Some(json!({ "method": method, "sessionId": id })),
        _ => None,
    };
    let error = ApiError::session(error);
    match details {
        Some(details) => error.with("details", details),
        None => error,
    }
}

async fn act(
    api: &Api,
    id: ThreadId,
    action: ThreadAction,
    num_turns: Option<u32>,
) -> Result<HttpResponse, ApiError> {
    let method = action.method();
    let acted = api.threads.act(&id, action).await;
    let result = acted.map_err(|error| failed(error, method, &id))?;
    let status = "ok".to_owned();
    Ok(HttpResponse::Ok().json(SessionActed { status, session_id: id, num_turns, result }))
}

/// Begins a session with the history of this one.
///
/// A body is not looked at, beyond that it is JSON.
#[utoipa::path(
    post, path = "/api/sessions/{id}/fork", tag = "sessions", operation_id = "forkSession",
    params(("id" = ThreadId, Path, description = "The session.")),
    responses((status = 200, body = SessionCreated), AllOf<(RuntimeErrors, SessionErrors)>),
)]
pub(crate) async fn fork(
    api: web::Data<Api>,
    path: web::Path<String>,
    _: NoBody,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    let forked = api.threads.fork(&id).await;
    let forked = forked.map_err(|error| failed(error, "thread/fork", &id))?;
    Ok(HttpResponse::Ok().json(with_turns(&api, forked).await))
}

/// Makes what the model sees of the history shorter.
///
/// A body is not looked at, beyond that it is JSON.
#[utoipa::path(
    post, path = "/api/sessions/{id}/compact", tag = "sessions", operation_id = "compactSession",
    params(("id" = ThreadId, Path, description = "The session.")),
    responses((status = 200, body = SessionActed), AllOf<(RuntimeErrors, SessionErrors)>),
)]
pub(crate) async fn compact(
    api: web::Data<Api>,
    path: web::Path<String>,
    _: NoBody,
) -> Result<HttpResponse, ApiError> {
    act(&api, session_id(&path)?, ThreadAction::Compact, None).await
}

/// Ends commands that an interrupt left running.
///
/// A body is not looked at, beyond that it is JSON.
#[utoipa::path(
    post, path = "/api/sessions/{id}/background-terminals/clean", tag = "sessions",
    operation_id = "cleanBackgroundTerminals",
    params(("id" = ThreadId, Path, description = "The session.")),
    responses((status = 200, body = SessionActed), AllOf<(RuntimeErrors, SessionErrors)>),
)]
pub(crate) async fn clean_terminals(
    api: web::Data<Api>,
    path: web::Path<String>,
    _: NoBody,
) -> Result<HttpResponse, ApiError> {
    act(&api, session_id(&path)?, ThreadAction::CleanTerminals, None).await
}

/// Takes the latest turns back.
///
/// The model and the transcript forget them; files that they changed stay changed.
#[utoipa::path(
    post, path = "/api/sessions/{id}/rollback", tag = "sessions", operation_id = "rollBackSession",
    params(("id" = ThreadId, Path, description = "The session.")),
    request_body = Option<RollBack>,
    responses((status = 200, body = SessionActed), AllOf<(RuntimeErrors, SessionErrors, BodyErrors)>),
)]
pub(crate) async fn roll_back(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    let turns = body_of(&api, &id, &request, payload, |body| {
        let turns = body.optional::<RollBack>()?.num_turns.unwrap_or(1);
        let wanted = || invalid("numTurns", &format!("must not be more than {MOST_TURNS}"));
        u32::try_from(turns).ok().filter(|_| turns <= MOST_TURNS).ok_or_else(wanted)
    })
    .await?;
    act(&api, id, ThreadAction::RollBack { turns }, Some(turns)).await
}

/// Reviews something in the session's folder.
#[utoipa::path(
    post, path = "/api/sessions/{id}/review", tag = "sessions", operation_id = "startReview",
    params(("id" = ThreadId, Path, description = "The session.")),
    request_body = Option<Review>,
    responses((status = 200, body = SessionActed), AllOf<(RuntimeErrors, SessionErrors, BodyErrors)>),
)]
pub(crate) async fn review(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    const METHOD: &str = "review/start";
    let (delivery, target) = body_of(&api, &id, &request, payload, |body| {
        let body = body.nullable::<Review>()?;
        Ok((body.delivery, target(body)?))
    })
    .await?;
    exists(&api, &id).await?;
    // Said before anything is forked for it.
    if !api.app_server.status().profile.has(METHOD) {
        return Err(failed(CallFailure::unknown_method(METHOD).into(), METHOD, &id));
    }
    let reviewed = match delivery {
        ReviewDelivery::Inline => id.clone(),
        // Newer versions know no review in a thread of its own: a fork is one.
        ReviewDelivery::Detached => {
            let forked = api.threads.fork(&id).await;
            forked.map_err(|error| failed(error, "thread/fork", &id))?.session.session_id
        }
    };
    let action = ThreadAction::Review { target };
    let acted = api.threads.act(&reviewed, action).await;
    let mut result = acted.map_err(|error| failed(error, METHOD, &id))?;
    if delivery == ReviewDelivery::Detached
        && let Some(members) = result.as_object_mut()
    {
        members.insert("reviewThreadId".to_owned(), json!(reviewed));
    }
    let status = "ok".to_owned();
    let acted = SessionActed { status, session_id: id, num_turns: None, result };
    Ok(HttpResponse::Ok().json(acted))
}

/// What is reviewed, as the runtime takes it.
fn target(body: Review) -> Result<Value, ApiError> {
    let given = |name: &str, value: Option<String>, max: usize| {
        value.map(|value| text(name, &value, max)).transpose()
    };
    let branch = given("branch", body.branch, MAX_PATH)?;
    let sha = given("sha", body.sha, MAX_NAME)?;
    let title = given("title", body.title, 300)?;
    let instructions = given("instructions", body.instructions, MAX_TEXT)?;
    Ok(match body.target_type {
        ReviewTarget::UncommittedChanges => json!({ "type": "uncommittedChanges" }),
        ReviewTarget::BaseBranch => {
            let branch = branch.unwrap_or_else(|| "main".to_owned());
            json!({ "type": "baseBranch", "branch": branch })
        }
        ReviewTarget::Commit => {
            let sha = sha.ok_or_else(|| invalid("sha", "is needed for the target `commit`"))?;
            json!({ "type": "commit", "sha": sha, "title": title })
        }
        ReviewTarget::Custom => {
            let usual = || "Review this thread's current changes.".to_owned();
            let instructions = instructions.unwrap_or_else(usual);
            json!({ "type": "custom", "instructions": instructions })
        }
    })
}
