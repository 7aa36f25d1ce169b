//! The middleware that every request passes first, and that counts each.

use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, ORIGIN, UPGRADE,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};
use cm_core::error::ErrorCode;
use cm_core::wire::ErrorBody;

use super::doorkeeper::{COOKIE, CheckSession, DEADLINE, RedeemTicket};
use super::origin::AccessPolicy;
use crate::answer::{ApiError, invalid};
use crate::api::Api;
use crate::query::is_well_encoded;

/// Header for the manager's token where `Authorization` carries another one.
const TOKEN_HEADER: &str = "x-codex-manager-token";

/// Header that carries the request's id back.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Paths that need no token: liveness, and the way to get a cookie.
const OPEN_PATHS: [&str; 2] = ["/livez", "/api/login"];

/// Whether a path needs no token.
pub(crate) fn needs_no_token(path: &str) -> bool {
    OPEN_PATHS.contains(&path)
}

/// Checks host, origin and token; gives each request an id and each error body that id.
///
/// # Errors
///
/// Only what the inner service fails with; a refusal is an ordinary answer.
pub async fn gate(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let began = Instant::now();
    // Sorted by time to the millisecond. Finer order would need a lock that all workers share.
    let now = uuid::Timestamp::now(uuid::NoContext);
    let request_id = uuid::Uuid::new_v7(now).to_string();
    let stats = request.app_data::<web::Data<Api>>().map(|api| api.http.clone());
    let method = request.method().clone();
    let refused = check(&request).await.err();
    let mut response = match refused {
        Some(error) => {
            tracing::warn!(
                request_id,
                method = %request.method(),
                path = request.path(),
                why = %error,
                "request refused"
            );
            request.into_response(error.error_response()).map_into_boxed_body()
        }
        None => next.call(request).await?.map_into_boxed_body(),
    };
    if let Some(stats) = stats {
        let route = response.request().match_pattern();
        stats.answered(route, &method, response.status(), began.elapsed());
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if response.status().is_server_error() {
        // The id that the client was given leads here.
        tracing::warn!(request_id, status = response.status().as_u16(), "request not served");
    }
    let body = response.response_mut().extensions_mut().remove::<ErrorBody>();
    let Some(mut body) = body else {
        return Ok(response);
    };
    // Where the body is about a request of the agent, `requestId` names that one, as in version 1;
    // the header has ours.
    if !body.more.contains_key("requestId") {
        body.request_id = Some(request_id);
    }
    let Ok(text) = serde_json::to_vec(&body) else {
        return Ok(response);
    };
    response.headers_mut().remove(CONTENT_LENGTH);
    Ok(response.map_body(|_, _| BoxBody::new(text)))
}

async fn check(request: &ServiceRequest) -> Result<(), ApiError> {
    let Some(policy) = request.app_data::<web::Data<AccessPolicy>>() else {
        return Err(ApiError::new(ErrorCode::Internal, "The server has no access policy."));
    };
    let header = |name: &HeaderName| {
        request.headers().get(name).map(|value| value.to_str().unwrap_or_default())
    };
    let host = header(&HOST).unwrap_or_default();
    if !policy.accepts_host(host) {
        return Err(ApiError::new(
            ErrorCode::HostNotAllowed,
            "This server answers to its own address only; the Host header names another one.",
        ));
    }
    let upgrade = request.headers().contains_key(UPGRADE);
    let reads_only = !upgrade && matches!(*request.method(), Method::GET | Method::HEAD);
    if let Some(origin) = header(&ORIGIN)
        && !policy.accepts_origin(origin, host, reads_only)
    {
        return Err(ApiError::new(
            ErrorCode::OriginNotAllowed,
            "Pages of this origin may not talk to the server; see ALLOWED_ORIGINS.",
        ));
    }
    let open = !policy.needs_token() || needs_no_token(request.path());
    if !open && !has_token(request, policy, upgrade).await {
        return Err(ApiError::new(
            ErrorCode::Unauthorized,
            "This server needs its token: send `Authorization: Bearer …`, or log in at /api/login.",
        ));
    }
    if !is_well_encoded(request.path()) {
        return Err(ApiError::worded(
            ErrorCode::NotFound,
            "not_found",
            "The path holds a broken percent-encoding, so that it names nothing.",
        ));
    }
    // Also where no query is looked at: what cannot be read cannot have been meant.
    if !is_well_encoded(request.query_string()) {
        return Err(invalid("", "the query holds a broken percent-encoding"));
    }
    Ok(())
}

async fn has_token(request: &ServiceRequest, policy: &AccessPolicy, upgrade: bool) -> bool {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let bearer = header(AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
    let given = [header(TOKEN_HEADER), bearer];
    if given.into_iter().flatten().any(|token| policy.accepts_token(token.trim())) {
        return true;
    }
    let Some(api) = request.app_data::<web::Data<Api>>() else {
        return false;
    };
    if let Some(cookie) = request.cookie(COOKIE)
        && api
            .doorkeeper
            .send(CheckSession(cookie.value().to_owned()))
            .timeout(DEADLINE)
            .await
            .unwrap_or(false)
    {
        return true;
    }
    let ticket = upgrade.then(|| ticket_of(request.query_string())).flatten();
    match ticket {
        Some(ticket) => {
            api.doorkeeper.send(RedeemTicket(ticket)).timeout(DEADLINE).await.unwrap_or(false)
        }
        None => false,
    }
}

/// A one-time ticket may stand in a URL: it is worthless once it was seen.
fn ticket_of(query: &str) -> Option<String> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query).ok()?.into_inner();
    pairs.into_iter().find(|(name, _)| name == "ticket").map(|(_, ticket)| ticket)
}
