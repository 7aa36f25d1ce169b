//! What the runtime offers: models, apps, experimental features, collaboration modes.

use actix_web::{HttpResponse, web};
use cm_core::wire::RuntimePage;
use serde_json::json;

use super::{RuntimeCall, runtime_thread};
use crate::answer::ApiError;
use crate::api::Api;
use crate::openapi::RuntimeErrors;
use crate::query::Query;

/// Models that turns can use.
#[utoipa::path(
    get, path = "/api/models", tag = "runtime", operation_id = "listModels",
    params(
        ("cursor" = Option<String>, Query, description = "Where the page starts."),
        ("limit" = Option<u32>, Query, description = "Rows of the page.", minimum = 1, maximum = 200),
    ),
    responses((status = 200, body = RuntimePage), RuntimeErrors),
)]
pub(crate) async fn models(api: web::Data<Api>, query: Query) -> Result<HttpResponse, ApiError> {
    let mut params = json!({ "limit": query.limit()? });
    if let Some(cursor) = query.cursor("cursor")? {
        params["cursor"] = json!(cursor);
    }
    RuntimeCall::new(&api, "model/list").pass_on(params).await
}

/// Features that the runtime can switch on.
#[utoipa::path(
    get, path = "/api/features/experimental", tag = "runtime",
    operation_id = "listExperimentalFeatures",
    params(
        ("cursor" = Option<String>, Query, description = "Where the page starts."),
        ("limit" = Option<u32>, Query, description = "Rows of the page.", minimum = 1, maximum = 200),
    ),
    responses((status = 200, body = RuntimePage), RuntimeErrors),
)]
pub(crate) async fn features(api: web::Data<Api>, query: Query) -> Result<HttpResponse, ApiError> {
    let params = json!({ "limit": query.limit()?, "cursor": query.cursor("cursor")? });
    RuntimeCall::new(&api, "experimentalFeature/list").pass_on(params).await
}

/// Ways of working together that a turn can be given.
#[utoipa::path(
    get, path = "/api/collaboration/modes", tag = "runtime",
    operation_id = "listCollaborationModes",
    params(
        ("cursor" = Option<String>, Query, description = "Where the page starts."),
        ("limit" = Option<u32>, Query, description = "Rows of the page.", minimum = 1, maximum = 200),
    ),
    responses((status = 200, body = RuntimePage), RuntimeErrors),
)]
pub(crate) async fn modes(api: web::Data<Api>, query: Query) -> Result<HttpResponse, ApiError> {
    let params = json!({ "limit": query.limit()?, "cursor": query.cursor("cursor")? });
    RuntimeCall::new(&api, "collaborationMode/list").page(params).await
}

/// Apps that the account has connected.
#[utoipa::path(
    get, path = "/api/apps", tag = "runtime", operation_id = "listApps",
    params(
        ("cursor" = Option<String>, Query, description = "Where the page starts."),
        ("limit" = Option<u32>, Query, description = "Rows of the page.", minimum = 1, maximum = 200),
        ("threadId" = Option<String>, Query, description = "As this session sees them."),
        ("forceRefetch" = Option<bool>, Query, description = "Whether the runtime asks anew."),
    ),
    responses((status = 200, body = RuntimePage), RuntimeErrors),
)]
pub(crate) async fn apps(api: web::Data<Api>, query: Query) -> Result<HttpResponse, ApiError> {
    let session = query.text("threadId")?;
    let params = json!({
        "limit": query.limit()?,
        "cursor": query.cursor("cursor")?,
        "threadId": runtime_thread(&api, session).await,
        "forceRefetch": query.flag("forceRefetch")?,
    });
    RuntimeCall::new(&api, "app/list").pass_on(params).await
}
