//! The child and the supervision tree.

use actix_web::{HttpRequest, HttpResponse, web};
use cm_core::error::ErrorCode;
use cm_core::wire::{AppServerView, RestartBody, RestartRequested, RuntimeDrift, RuntimeView};

use crate::answer::ApiError;
use crate::api::Api;
use crate::body::RawBody;
use crate::health;
use crate::openapi::{AllOf, BodyErrors, ManagerErrors};

/// The child process, the supervision tree and the newest number of the stream.
#[utoipa::path(
    get, path = "/api/runtime", tag = "service", operation_id = "readRuntime",
    responses((status = 200, body = RuntimeView), ManagerErrors),
)]
pub(crate) async fn view(api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    let tree = api.supervisor.tree().await?;
    let head = api.journal.head().await?.ok_or_else(|| {
        ApiError::new(ErrorCode::StoreUnavailable, "The journal is starting; try again shortly.")
    })?;
    let session_defaults = api.threads.defaults().await.map_err(ApiError::session)?.controls;
    let status = api.app_server.status();
    Ok(HttpResponse::Ok().json(RuntimeView {
        app_server: AppServerView {
            health: health::codex(&status, &api.info),
            user_agent: status.profile.user_agent.clone(),
            methods: status.profile.methods.clone(),
            program: api.info.program.display().to_string(),
            codex_home: api.info.codex_home.display().to_string(),
            login_problem: health::login_problem(&status, &api.info),
            in_flight: status.in_flight,
            stderr: status.stderr.clone(),
        },
        drift: RuntimeDrift::clone(&status.drift),
        session_defaults,
        tree,
        epoch: head.epoch,
        seq: head.seq,
    }))
}

/// Ends the child process and starts it at once, forgetting its failures.
#[utoipa::path(
    post, path = "/api/runtime/restart", tag = "service", operation_id = "restartRuntime",
    request_body = Option<RestartBody>,
    responses(
        (status = 202, body = RestartRequested,
            description = "It is being ended; the stream and health show the next life."),
        AllOf<(ManagerErrors, BodyErrors)>,
    ),
)]
pub(crate) async fn restart(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: RestartBody = RawBody::read(&request, payload).await?.optional()?;
    tracing::info!(reason = body.reason.as_deref().unwrap_or("none given"), "restart asked for");
    let incarnation = api.supervisor.restart("app_server").await?.ok_or_else(|| {
        ApiError::new(ErrorCode::ShuttingDown, "The manager is stopping; nothing is restarted.")
    })?;
    let status = "restarting".to_owned();
    Ok(HttpResponse::Accepted().json(RestartRequested { status, incarnation }))
}
