//! MCP servers of the runtime.

use actix_web::{HttpRequest, HttpResponse, web};
use cm_core::error::ErrorCode;
use cm_core::wire::{MAX_NAME, McpLogin, RuntimePage, RuntimeResult};
use serde_json::{Value, json};

use super::RuntimeCall;
use crate::answer::ApiError;
use crate::api::Api;
use crate::body::{NoBody, RawBody, few};
use crate::openapi::{AllOf, BodyErrors, RuntimeErrors};
use crate::query::Query;

/// MCP servers and how they are.
#[utoipa::path(
    get, path = "/api/mcp/servers", tag = "runtime", operation_id = "listMcpServers",
    params(
        ("cursor" = Option<String>, Query, description = "Where the page starts."),
        ("limit" = Option<u32>, Query, description = "Rows of the page.", minimum = 1, maximum = 200),
    ),
    responses((status = 200, body = RuntimePage), RuntimeErrors),
)]
pub(crate) async fn servers(api: web::Data<Api>, query: Query) -> Result<HttpResponse, ApiError> {
    let mut params = json!({ "limit": query.limit()? });
    if let Some(cursor) = query.cursor("cursor")? {
        params["cursor"] = json!(cursor);
    }
    RuntimeCall::new(&api, "mcpServerStatus/list").pass_on(params).await
}

/// Reads the configuration of MCP servers anew.
///
/// A body is not looked at, beyond that it is JSON.
#[utoipa::path(
    post, path = "/api/mcp/reload", tag = "runtime", operation_id = "reloadMcpServers",
    responses((status = 200, body = RuntimeResult), RuntimeErrors),
)]
pub(crate) async fn reload(api: web::Data<Api>, _: NoBody) -> Result<HttpResponse, ApiError> {
    RuntimeCall::new(&api, "config/mcpServer/reload").wrapped(Value::Null).await
}

/// Signs in to an MCP server; the answer has the address to open.
#[utoipa::path(
    post, path = "/api/mcp/servers/{serverName}/oauth/login", tag = "runtime",
    operation_id = "loginToMcpServer",
    params(("serverName" = String, Path, description = "The server, as it is configured.")),
    request_body = Option<McpLogin>,
    responses((status = 200, body = RuntimeResult), AllOf<(RuntimeErrors, BodyErrors)>),
)]
pub(crate) async fn log_in(
    api: web::Data<Api>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: McpLogin = RawBody::read(&request, payload).await?.nullable()?;
    few("scopes", body.scopes.as_ref().map_or(0, Vec::len))?;
    let name = path.into_inner();
    // What no table of the configuration can be called is no server.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.len() > MAX_NAME || !name.bytes().all(plain) {
        let message = "There is no such MCP server.";
        return Err(ApiError::worded(ErrorCode::NotFound, "not_found", message).with("name", name));
    }
    let params = json!({
        "name": name, "scopes": body.scopes, "timeoutSecs": body.timeout_secs,
    });
    RuntimeCall::new(&api, "mcpServer/oauth/login").about("name", name).wrapped(params).await
}
