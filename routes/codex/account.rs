//! The runtime's account.
//!
//! Keys and tokens go to the runtime and nowhere else: no log, no event and no error has them.

use actix_web::{HttpRequest, HttpResponse, web};
use cm_core::wire::{CancelLogin, RuntimeResult, StartLogin};
use serde_json::{Value, json};

use super::{RuntimeCall, trim, trim_given};
use crate::answer::ApiError;
use crate::api::Api;
use crate::body::{NoBody, RawBody};
use crate::openapi::{AllOf, BodyErrors, RuntimeErrors};

/// The account that is signed in.
#[utoipa::path(
    get, path = "/api/account", tag = "account", operation_id = "readAccount",
    responses((status = 200, body = Object), RuntimeErrors),
)]
pub(crate) async fn read(api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    RuntimeCall::new(&api, "account/read").pass_on(json!({})).await
}

/// Signs in.
#[utoipa::path(
    post, path = "/api/account/login/start", tag = "account", operation_id = "startLogin",
    request_body = StartLogin,
    responses((status = 200, body = RuntimeResult), AllOf<(RuntimeErrors, BodyErrors)>),
)]
pub(crate) async fn start_login(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let mut body: StartLogin = RawBody::read(&request, payload).await?.confidential()?;
    let kind = match &mut body {
        StartLogin::ApiKey { api_key } => {
            trim("apiKey", api_key)?;
            "apiKey"
        }
        StartLogin::Chatgpt => "chatgpt",
        StartLogin::ChatgptAuthTokens { access_token, chatgpt_account_id, chatgpt_plan_type } => {
            trim("accessToken", access_token)?;
            trim("chatgptAccountId", chatgpt_account_id)?;
            trim_given("chatgptPlanType", chatgpt_plan_type)?;
            "chatgptAuthTokens"
        }
    };
    let call = RuntimeCall::new(&api, "account/login/start").confidential();
    call.about("type", kind).wrapped(json!(body)).await
}

/// Gives a sign-in up.
#[utoipa::path(
    post, path = "/api/account/login/cancel", tag = "account", operation_id = "cancelLogin",
    request_body = CancelLogin,
    responses((status = 200, body = RuntimeResult), AllOf<(RuntimeErrors, BodyErrors)>),
)]
pub(crate) async fn cancel_login(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let mut body: CancelLogin = RawBody::read(&request, payload).await?.required()?;
    trim("loginId", &mut body.login_id)?;
    let call = RuntimeCall::new(&api, "account/login/cancel");
    call.about("loginId", body.login_id.as_str()).wrapped(json!(body)).await
}

/// Signs out.
///
/// A body is not looked at, beyond that it is JSON.
#[utoipa::path(
    post, path = "/api/account/logout", tag = "account", operation_id = "logout",
    responses((status = 200, body = RuntimeResult), RuntimeErrors),
)]
pub(crate) async fn log_out(api: web::Data<Api>, _: NoBody) -> Result<HttpResponse, ApiError> {
    RuntimeCall::new(&api, "account/logout").wrapped(Value::Null).await
}

/// How much of the account's limits is used.
#[utoipa::path(
    get, path = "/api/account/rate-limits", tag = "account", operation_id = "readRateLimits",
    responses((status = 200, body = Object), RuntimeErrors),
)]
pub(crate) async fn rate_limits(api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    RuntimeCall::new(&api, "account/rateLimits/read").pass_on(Value::Null).await
}
