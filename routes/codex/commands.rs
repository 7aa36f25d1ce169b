//! Commands outside of a session, and feedback.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use cm_core::wire::{CommandExecuted, ExecuteCommand, RuntimeResult, SendFeedback};
use serde_json::json;

use super::{RuntimeCall, runtime_thread, trim, trim_given};
use crate::answer::{ApiError, invalid};
use crate::api::Api;
use crate::body::{RawBody, few};
use crate::openapi::{AllOf, BodyErrors, RuntimeErrors};

/// How much longer than the command the answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Longest time that a command may be given: a day.
const LONGEST_MS: u64 = 24 * 60 * 60 * 1000;

/// Runs a command in the runtime's sandbox and answers when it has ended.
#[utoipa::path(
    post, path = "/api/commands/exec", tag = "runtime", operation_id = "executeCommand",
    request_body = ExecuteCommand,
    responses((status = 200, body = CommandExecuted), AllOf<(RuntimeErrors, BodyErrors)>),
)]
pub(crate) async fn execute(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let mut body: ExecuteCommand = RawBody::read(&request, payload).await?.required()?;
    trim_given("cwd", &mut body.cwd)?;
    if body.command.first().is_none_or(|program| program.trim().is_empty()) {
        return Err(invalid("command", "must name a program"));
    }
    few("command", body.command.len())?;
    // The kernel ends each word at a zero byte, so none can be passed on.
    if let Some(index) = body.command.iter().position(|word| word.contains('\0')) {
        return Err(invalid(&format!("command.{index}"), "must not hold a zero byte"));
    }
    if body.timeout_ms.is_some_and(|ms| ms > LONGEST_MS) {
        return Err(invalid("timeoutMs", &format!("must not be longer than {LONGEST_MS}")));
    }
    let deadline = body.timeout_ms.map(|ms| Duration::from_millis(ms) + ANSWER);
    let params = json!({
        "command": body.command,
        "cwd": body.cwd,
        "timeoutMs": body.timeout_ms,
        "sandboxPolicy": null,
    });
    let call = RuntimeCall::new(&api, "command/exec").about("command", body.command.join(" "));
    call.within(deadline).in_background().wrapped(params).await
}

/// Sends feedback to the makers of the runtime.
#[utoipa::path(
    post, path = "/api/feedback", tag = "runtime", operation_id = "sendFeedback",
    request_body = SendFeedback,
    responses((status = 200, body = RuntimeResult), AllOf<(RuntimeErrors, BodyErrors)>),
)]
pub(crate) async fn feedback(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let mut body: SendFeedback = RawBody::read(&request, payload).await?.required()?;
    trim("classification", &mut body.classification)?;
    trim_given("reason", &mut body.reason)?;
    trim_given("threadId", &mut body.thread_id)?;
    body.thread_id = runtime_thread(&api, body.thread_id).await;
    RuntimeCall::new(&api, "feedback/upload").wrapped(json!(body)).await
}
