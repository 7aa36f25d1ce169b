//! The middleware of requests that are not to be carried out twice.
//!
//! Without the header `Idempotency-Key` it does nothing. With it, the request is announced to the
//! one owner of all keys, carried out in a task that outlives its connection, and its end said.

use actix_web::body::{BodySize, BoxBody, MessageBody, to_bytes};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse, ResponseError, web};
use cm_actors::app_server::AppServerHandle;
use cm_actors::idempotency::{Begun, Ended, KeptAnswer, LONGEST_ANSWER};
use cm_core::error::ErrorCode;
use cm_core::idempotency::{Fingerprint, IdempotencyKey};
use cm_core::ids::Incarnation;
use sha1::{Digest, Sha1};

use crate::answer::ApiError;
use crate::api::Api;
use crate::body::read_bytes;

/// The header with the key.
pub(crate) const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The header by which an answer says that it is the one of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The header by which an answer says that it will not be given again.
const STORED: HeaderName = HeaderName::from_static("idempotency-stored");

/// Carries a request out once. Where it is not known how far it came, it is not carried out again.
///
/// # Errors
///
/// Only what the inner service fails with.
pub(crate) async fn once(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    with_key(request, next, false).await
}

/// The same for what may be carried out again where it is not known how far it came, because a
/// repetition changes nothing, or is told what the first one did.
///
/// # Errors
///
/// Only what the inner service fails with.
pub(crate) async fn repeatable(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    with_key(request, next, true).await
}

async fn with_key(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
    may_repeat: bool,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if !request.headers().contains_key(KEY) {
        return next.call(request).await.map(ServiceResponse::map_into_boxed_body);
    }
    let http = request.request().clone();
    // A client that has lost its connection is the one that repeats its request: the task ends with
    // the request's end, whoever is there to hear of it.
    let carried_out = actix_web::rt::spawn(carry_out(request, next, may_repeat));
    match carried_out.await {
        Ok(answered) => answered,
        Err(_) => {
            let message = "The request failed in a way that was not foreseen.";
            let error = ApiError::new(ErrorCode::Internal, message);
            Ok(ServiceResponse::new(http, error.error_response()))
        }
    }
}

async fn carry_out(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
    may_repeat: bool,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(api) = request.app_data::<web::Data<Api>>().cloned() else {
        let error = ApiError::new(ErrorCode::Internal, "The server has no parts.");
        return Ok(request.into_response(error.error_response()));
    };
    let key = match key(request.request()) {
        Ok(key) => key,
        Err(error) => return Ok(request.into_response(error.error_response())),
    };
    let payload = request.take_payload();
    let body = match read_bytes(request.request(), payload).await {
        Ok(body) => body,
        Err(error) => return Ok(request.into_response(error.error_response())),
    };
    let print = fingerprint(request.request(), &body);
    let attempt = match api.idempotency.begin(key, print, may_repeat).await {
        Ok(Begun::Run(attempt)) => attempt,
        Ok(Begun::Replay(answer)) => return Ok(request.into_response(replayed(answer))),
        Err(failure) => {
            return Ok(request.into_response(ApiError::from(failure).error_response()));
        }
    };
    let before = Life::of(&api.app_server);
    request.set_payload(body.into());
    let answered = next.call(request).await;
    let mut answer = match answered {
        Ok(answer) => answer.map_into_boxed_body(),
        Err(error) => {
            let status = error.as_response_error().status_code().as_u16();
            attempt.end(Ended::Unknown { status }).await;
            return Err(error);
        }
    };
    let status = answer.status();
    if !status.is_success() {
        attempt.end(failed(status, before.lasted(&api.app_server))).await;
        return Ok(answer);
    }
    let fits = matches!(answer.response().body().size(), BodySize::Sized(bytes) if bytes <= LONGEST_ANSWER);
    let ended = match fits {
        true => {
            let (http, response) = answer.into_parts();
            let (response, body) = response.into_parts();
            // A body that was sized before it is sent is in memory and cannot fail.
            let body = to_bytes(body).await.unwrap_or_default();
            let kept = KeptAnswer {
                status: status.as_u16(),
                content_type: content_type(response.headers().get(CONTENT_TYPE)),
                body: body.clone(),
            };
            answer = ServiceResponse::new(http, response.set_body(BoxBody::new(body)));
            Ended::Answered(kept)
        }
        false => Ended::TooLong { status: status.as_u16() },
    };
    if !(attempt.end(ended).await && fits) {
        answer.headers_mut().insert(STORED, HeaderValue::from_static("false"));
    }
    Ok(answer)
}

/// The key of a request.
fn key(request: &HttpRequest) -> Result<IdempotencyKey, ApiError> {
    let mut values = request.headers().get_all(KEY);
    let value = values.next().map(HeaderValue::as_bytes).unwrap_or_default();
    if values.next().is_some() {
        let message = "The header `Idempotency-Key` was sent more than once.";
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    IdempotencyKey::parse(value).map_err(|error| {
        let message = format!("The header `Idempotency-Key` {error}.");
        ApiError::new(ErrorCode::InvalidRequest, message)
    })
}

/// What the request asks for. Whoever may send requests may send any, so a digest that is good
/// enough against mistakes is good enough.
fn fingerprint(request: &HttpRequest, body: &[u8]) -> Fingerprint {
    let mut digest = Sha1::new();
    // None of the first two holds a line break.
    digest.update(format!("{}\n{}\n", request.method(), request.uri()));
    digest.update(body);
    Fingerprint(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn content_type(header: Option<&HeaderValue>) -> String {
    header.and_then(|value| value.to_str().ok()).unwrap_or("application/json").to_owned()
}

fn replayed(answer: KeptAnswer) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = HttpResponse::build(status);
    response.content_type(answer.content_type).insert_header((REPLAYED, "true"));
    response.body(answer.body)
}

/// What an answer that is no success says of what was done.
fn failed(status: StatusCode, runtime_lasted: bool) -> Ended {
    let nothing = match status {
        // The runtime may have been told before it ended.
        StatusCode::SERVICE_UNAVAILABLE => runtime_lasted,
        StatusCode::NOT_IMPLEMENTED => true,
        status => !status.is_server_error(),
    };
    match nothing {
        true => Ended::NothingDone,
        false => Ended::Unknown { status: status.as_u16() },
    }
}

/// A life of the runtime, as it was when a request began.
#[derive(Debug, PartialEq, Eq)]
struct Life {
    incarnation: Incarnation,
    initialized: bool,
    state: String,
}

impl Life {
    fn of(runtime: &AppServerHandle) -> Self {
        let status = runtime.status();
        let (incarnation, initialized) = (status.incarnation, status.initialized);
        Self { incarnation, initialized, state: status.state.clone() }
    }

    /// Whether nothing that the runtime was told since can have been lost with it.
    fn lasted(&self, runtime: &AppServerHandle) -> bool {
        let was_ending = self.initialized && self.state == "stopping";
        !was_ending && *self == Self::of(runtime)
    }
}
