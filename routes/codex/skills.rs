//! Skills of the agent.

use actix_web::{HttpRequest, HttpResponse, web};
use cm_core::wire::{ConfigureSkill, RuntimePage, RuntimeResult, WriteRemoteSkill};
use serde_json::json;

use super::{RuntimeCall, trim};
use crate::answer::ApiError;
use crate::api::Api;
use crate::body::RawBody;
use crate::openapi::{AllOf, BodyErrors, RuntimeErrors};
use crate::query::Query;

/// Skills by folder.
#[utoipa::path(
    get, path = "/api/skills", tag = "runtime", operation_id = "listSkills",
    params(
        ("forceReload" = Option<bool>, Query, description = "Whether the folders are read anew."),
        ("cwd" = Option<String>, Query, description = "The folder; the runtime's own when absent."),
    ),
    responses((status = 200, body = RuntimePage), RuntimeErrors),
)]
pub(crate) async fn list(api: web::Data<Api>, query: Query) -> Result<HttpResponse, ApiError> {
    let mut params = json!({ "forceReload": query.flag("forceReload")? });
    if let Some(cwd) = query.text("cwd")? {
        params["cwds"] = json!([cwd]);
    }
    RuntimeCall::new(&api, "skills/list").page(params).await
}

/// Switches a skill on or off.
#[utoipa::path(
    post, path = "/api/skills/config", tag = "runtime", operation_id = "configureSkill",
    request_body = ConfigureSkill,
    responses((status = 200, body = RuntimeResult), AllOf<(RuntimeErrors, BodyErrors)>),
)]
pub(crate) async fn configure(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let mut body: ConfigureSkill = RawBody::read(&request, payload).await?.required()?;
    trim("path", &mut body.path)?;
    let call = RuntimeCall::new(&api, "skills/config/write").about("path", body.path.as_str());
    call.wrapped(json!(body)).await
}

/// Skills of the remote catalogue.
///
/// No version of the runtime from 0.106 on has this method.
#[utoipa::path(
    get, path = "/api/skills/remote", tag = "runtime", operation_id = "readRemoteSkills",
    responses((status = 200, body = RuntimeResult), RuntimeErrors),
)]
pub(crate) async fn remote(api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    RuntimeCall::new(&api, "skills/remote/read").wrapped(json!({})).await
}

/// Takes a skill of the remote catalogue over.
///
/// No version of the runtime from 0.106 on has this method.
#[utoipa::path(
    post, path = "/api/skills/remote", tag = "runtime", operation_id = "writeRemoteSkill",
    request_body = WriteRemoteSkill,
    responses((status = 200, body = RuntimeResult), AllOf<(RuntimeErrors, BodyErrors)>),
)]
pub(crate) async fn write_remote(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let mut body: WriteRemoteSkill = RawBody::read(&request, payload).await?.required()?;
    trim("hazelnutId", &mut body.hazelnut_id)?;
    let call = RuntimeCall::new(&api, "skills/remote/write");
    call.about("hazelnutId", body.hazelnut_id.as_str()).wrapped(json!(body)).await
}
