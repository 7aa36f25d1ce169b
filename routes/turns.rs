//! Messages and turns.

use actix_web::{HttpRequest, HttpResponse, web};
use cm_core::error::ErrorCode;
use cm_core::ids::ThreadId;
use cm_core::wire::{
    Interrupt, MessageAccepted, SendMessage, Steer, SteerResult, TurnInterrupted, TurnSteered,
};
use serde_json::{Map, json};

use crate::answer::{ApiError, invalid};
use crate::api::Api;
use crate::body::text;
use crate::openapi::{
    AllOf, BodyErrors, InterruptErrors, RuntimeErrors, SandboxErrors, SessionErrors, SteerErrors,
};
use crate::sessions::{body_of, check_tools, session_id};

/// Sends a message: it starts a turn, or joins the one that runs.
///
/// It is answered when the runtime has accepted it and that is on the disk; what happens next is in
/// the stream. Controls in the body hold from now on, `effort` for this turn.
#[utoipa::path(
    post, path = "/api/sessions/{id}/messages", tag = "turns", operation_id = "sendMessage",
    params(("id" = ThreadId, Path, description = "The session.")),
    request_body = SendMessage,
    responses(
        (status = 202, body = MessageAccepted),
        AllOf<(SessionErrors, RuntimeErrors, BodyErrors, SandboxErrors)>,
    ),
)]
pub(crate) async fn send(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    let body = body_of(&api, &id, &request, payload, |body| {
        let mut body = body.required::<SendMessage>()?;
        body.text = text("text", &body.text, usize::MAX)?;
        check_tools(body.dynamic_tools.as_mut())?;
        Ok(body)
    })
    .await?;
    let accepted = api.threads.send(&id, body).await;
    let accepted =
        accepted.map_err(|error| ApiError::session(error).of_call("turn/start", id.as_str()))?;
    Ok(HttpResponse::Accepted().json(accepted))
}

/// Interrupts the turn that runs.
#[utoipa::path(
    post, path = "/api/sessions/{id}/interrupt", tag = "turns", operation_id = "interruptTurn",
    params(("id" = ThreadId, Path, description = "The session.")),
    request_body = Option<Interrupt>,
    responses(
        (status = 200, body = TurnInterrupted),
        AllOf<(SessionErrors, RuntimeErrors, BodyErrors, InterruptErrors)>,
    ),
)]
pub(crate) async fn interrupt(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    let body = body_of(&api, &id, &request, payload, |body| {
        let body = body.optional::<Interrupt>()?;
        match body.turn_id.as_deref() {
            Some("") => Err(invalid("turnId", "must not be empty")),
            _ => Ok(body),
        }
    })
    .await?;
    let turn_id = api.threads.interrupt(&id, body.turn_id).await.map_err(ApiError::session)?;
    let status = "ok".to_owned();
    Ok(HttpResponse::Ok().json(TurnInterrupted { status, session_id: id, turn_id }))
}

/// Adds to a turn that runs.
#[utoipa::path(
    post, path = "/api/sessions/{id}/turns/{turn}/steer", tag = "turns",
    operation_id = "steerTurn",
    params(
        ("id" = ThreadId, Path, description = "The session."),
        ("turn" = String, Path, description = "The turn; refused when another one runs by now."),
    ),
    request_body = Steer,
    responses(
        (status = 200, body = TurnSteered),
        AllOf<(SessionErrors, RuntimeErrors, BodyErrors, SteerErrors)>,
    ),
)]
pub(crate) async fn steer(
    api: web::Data<Api>,
    path: web::Path<(String, String)>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let (id, turn_id) = path.into_inner();
    let id = session_id(&id)?;
    let input = body_of(&api, &id, &request, payload, |body| {
        text("input", &body.required::<Steer>()?.input, usize::MAX)
    })
    .await?;
    let steered =
        api.threads.steer(&id, turn_id.clone(), input).await.map_err(ApiError::session)?;
    let mut details = Map::new();
    details.insert("threadId".to_owned(), json!(id));
    details.insert("turnId".to_owned(), json!(turn_id));
    let result = |status: &str, details| SteerResult {
        action_type: "turn.steer".to_owned(),
        status: status.to_owned(),
        details,
    };
    match steered {
        Ok(()) => Ok(HttpResponse::Ok().json(TurnSteered {
            status: "ok".to_owned(),
            session_id: id,
            turn_id,
            result: result("performed", details),
        })),
        Err(failure) => {
            details.insert("error".to_owned(), json!(failure.error));
            let status = if failure.status == "failed" { 400 } else { 409 };
            let error = ApiError::new(ErrorCode::InvalidState, failure.error)
                .with("sessionId", id.as_str())
                .with("turnId", turn_id)
                .with("result", json!(result(failure.status, details)));
            Err(error.renamed(status, failure.status))
        }
    }
}
