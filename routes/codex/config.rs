//! The runtime's configuration.

use actix_web::{HttpRequest, HttpResponse, web};
use cm_core::wire::{RuntimeResult, WriteConfigBatch, WriteConfigValue};
use serde_json::{Value, json};

use super::{RuntimeCall, trim, trim_given};
use crate::answer::{ApiError, invalid};
use crate::api::Api;
use crate::body::{RawBody, few};
use crate::openapi::{AllOf, BodyErrors, RuntimeErrors};
use crate::query::Query;

/// The configuration in force.
#[utoipa::path(
    get, path = "/api/config", tag = "config", operation_id = "readConfig",
    params(
        ("cwd" = Option<String>, Query, description = "As a session in this folder has it."),
        ("includeLayers" = Option<bool>, Query, description = "Whether the files it is made of are shown."),
    ),
    responses((status = 200, body = Object), RuntimeErrors),
)]
pub(crate) async fn read(api: web::Data<Api>, query: Query) -> Result<HttpResponse, ApiError> {
    let params = json!({
        "cwd": query.text("cwd")?, "includeLayers": query.flag("includeLayers")?,
    });
    RuntimeCall::new(&api, "config/read").pass_on(params).await
}

/// What the configuration must keep to.
#[utoipa::path(
    get, path = "/api/config/requirements", tag = "config",
    operation_id = "readConfigRequirements",
    responses((status = 200, body = Object), RuntimeErrors),
)]
pub(crate) async fn requirements(api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    RuntimeCall::new(&api, "configRequirements/read").pass_on(Value::Null).await
}

/// Changes one value.
#[utoipa::path(
    post, path = "/api/config/value", tag = "config", operation_id = "writeConfigValue",
    request_body = WriteConfigValue,
    responses((status = 200, body = RuntimeResult), AllOf<(RuntimeErrors, BodyErrors)>),
)]
pub(crate) async fn write_value(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let mut body: WriteConfigValue = RawBody::read(&request, payload).await?.required()?;
    trim("keyPath", &mut body.key_path)?;
    trim_given("expectedVersion", &mut body.expected_version)?;
    trim_given("filePath", &mut body.file_path)?;
    let call = RuntimeCall::new(&api, "config/value/write");
    call.about("keyPath", body.key_path.as_str()).wrapped(json!(body)).await
}

/// Changes several values at once.
#[utoipa::path(
    post, path = "/api/config/batch", tag = "config", operation_id = "writeConfigBatch",
    request_body = WriteConfigBatch,
    responses((status = 200, body = RuntimeResult), AllOf<(RuntimeErrors, BodyErrors)>),
)]
pub(crate) async fn write_batch(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let mut body: WriteConfigBatch = RawBody::read(&request, payload).await?.required()?;
    if body.edits.is_empty() {
        return Err(invalid("edits", "must not be empty"));
    }
    few("edits", body.edits.len())?;
    for (index, edit) in body.edits.iter_mut().enumerate() {
        trim(&format!("edits.{index}.keyPath"), &mut edit.key_path)?;
    }
    trim_given("expectedVersion", &mut body.expected_version)?;
    trim_given("filePath", &mut body.file_path)?;
    RuntimeCall::new(&api, "config/batchWrite").wrapped(json!(body)).await
}
