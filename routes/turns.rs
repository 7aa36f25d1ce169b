//! Messages and turns.

use actix_web::{HttpRequest, HttpResponse, web};
use cm_core::error::ErrorCode;
use cm_core::wire::{Interrupt, SendMessage, Steer};
use serde_json::{Value, json};

use crate::answer::{ApiError, invalid};
use crate::api::Api;
use crate::body::text;
use crate::sessions::{body_of, check_tools, session_id};

/// `POST /api/sessions/{id}/messages`
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
        check_tools(body.dynamic_tools.as_ref())?;
        Ok(body)
    })
    .await?;
    let accepted = api.threads.send(&id, body).await.map_err(ApiError::session)?;
    Ok(HttpResponse::Accepted().json(accepted))
}

/// `POST /api/sessions/{id}/interrupt`
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
    Ok(HttpResponse::Ok().json(json!({ "status": "ok", "sessionId": id, "turnId": turn_id })))
}

/// `POST /api/sessions/{id}/turns/{turn}/steer`
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
    let mut details = json!({ "threadId": id, "turnId": turn_id });
    let (status, word) = match &steered {
        Ok(()) => (200, "performed"),
        Err(failure) => {
            details["error"] = Value::from(failure.error.as_str());
            (if failure.status == "failed" { 400 } else { 409 }, failure.status)
        }
    };
    let result = json!({ "actionType": "turn.steer", "status": word, "details": details });
    match steered {
        Ok(()) => Ok(HttpResponse::Ok().json(json!({
            "status": "ok", "sessionId": id, "turnId": turn_id, "result": result,
        }))),
        Err(failure) => {
            let error = ApiError::new(ErrorCode::InvalidState, failure.error)
                .with("sessionId", id.as_str())
                .with("turnId", turn_id)
                .with("result", result);
            Err(error.renamed(status, failure.status))
        }
    }
}
