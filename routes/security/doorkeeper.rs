//! Tickets for WebSockets and cookies for the dashboard.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::{HttpRequest, HttpResponse, web};
use cm_core::error::ErrorCode;
use cm_core::wire::{Done, ErrorBody, LogIn, Ticket};

use super::origin::AccessPolicy;
use crate::answer::ApiError;
use crate::api::Api;
use crate::body::{NoBody, RawBody};
use crate::openapi::{AllOf, BodyErrors, StoppingErrors};

/// Name of the cookie.
pub(super) const COOKIE: &str = "codex_manager_session";

/// How long a ticket can be used.
const TICKET_LIFE: Duration = Duration::from_secs(30);

/// How long a cookie can be used.
const SESSION_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long the doorkeeper may take to answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);

/// Tickets and cookies that are remembered. Overflow rule: the oldest are forgotten.
const MAX_REMEMBERED: usize = 1024;

/// Remembers which tickets and cookies it gave out.
#[derive(Debug, Default)]
pub struct Doorkeeper {
    tickets: HashMap<String, Instant>,
    sessions: HashMap<String, Instant>,
}

impl Actor for Doorkeeper {
    type Context = Context<Self>;
}

fn secret() -> String {
    rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn remember(remembered: &mut HashMap<String, Instant>, life: Duration) -> String {
    let now = Instant::now();
    remembered.retain(|_, until| *until > now);
    if remembered.len() >= MAX_REMEMBERED
        && let Some(oldest) =
            remembered.iter().min_by_key(|(_, until)| **until).map(|(key, _)| key.clone())
    {
        remembered.remove(&oldest);
    }
    let secret = secret();
    remembered.insert(secret.clone(), now + life);
    secret
}

/// Asks for a ticket. Sent by the route.
#[derive(Debug, Message)]
#[rtype(result = "String")]
struct IssueTicket;

/// Uses a ticket up. Sent by the gate; answered with whether it was good.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub(super) struct RedeemTicket(pub(super) String);

/// Asks for a cookie's value. Sent by the login route.
#[derive(Debug, Message)]
#[rtype(result = "String")]
struct OpenSession;

/// Asks whether a cookie's value is good. Sent by the gate.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub(super) struct CheckSession(pub(super) String);

/// Forgets a cookie's value. Sent by the logout route.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct CloseSession(String);

impl Handler<IssueTicket> for Doorkeeper {
    type Result = String;

    fn handle(&mut self, _: IssueTicket, _: &mut Self::Context) -> Self::Result {
        remember(&mut self.tickets, TICKET_LIFE)
    }
}

impl Handler<RedeemTicket> for Doorkeeper {
    type Result = bool;

    fn handle(&mut self, ticket: RedeemTicket, _: &mut Self::Context) -> Self::Result {
        self.tickets.remove(&ticket.0).is_some_and(|until| until > Instant::now())
    }
}

impl Handler<OpenSession> for Doorkeeper {
    type Result = String;

    fn handle(&mut self, _: OpenSession, _: &mut Self::Context) -> Self::Result {
        remember(&mut self.sessions, SESSION_LIFE)
    }
}

impl Handler<CheckSession> for Doorkeeper {
    type Result = bool;

    fn handle(&mut self, session: CheckSession, _: &mut Self::Context) -> Self::Result {
        self.sessions.get(&session.0).is_some_and(|until| *until > Instant::now())
    }
}

impl Handler<CloseSession> for Doorkeeper {
    type Result = ();

    fn handle(&mut self, session: CloseSession, _: &mut Self::Context) {
        self.sessions.remove(&session.0);
    }
}

fn unavailable(error: MailboxError) -> ApiError {
    ApiError::new(ErrorCode::ShuttingDown, format!("The server is stopping ({error})."))
}

/// Issues a ticket, which opens one WebSocket where no header can be sent.
#[utoipa::path(
    post, path = "/api/stream/tickets", tag = "access", operation_id = "issueStreamTicket",
    responses((status = 200, body = Ticket), StoppingErrors),
)]
pub(crate) async fn issue_ticket(api: web::Data<Api>, _: NoBody) -> Result<HttpResponse, ApiError> {
    let ticket = api.doorkeeper.send(IssueTicket).timeout(DEADLINE).await.map_err(unavailable)?;
    let status = "ok".to_owned();
    let expires_in_seconds = TICKET_LIFE.as_secs();
    Ok(HttpResponse::Ok().json(Ticket { status, ticket, expires_in_seconds }))
}

/// Logs a browser in: its cookie then stands for the server's token.
#[utoipa::path(
    post, path = "/api/login", tag = "access", operation_id = "loginToServer",
    request_body = LogIn,
    responses(
        (status = 200, body = Done,
            headers(("set-cookie" = String, description = "`codex_manager_session`, for 30 days."))),
        (status = 401, body = ErrorBody, description = "The token is wrong: `unauthorized`."),
        AllOf<(BodyErrors, StoppingErrors)>,
    ),
)]
pub(crate) async fn log_in(
    api: web::Data<Api>,
    policy: web::Data<AccessPolicy>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: LogIn = RawBody::read(&request, payload).await?.required()?;
    if !policy.accepts_token(body.token.trim()) {
        return Err(ApiError::new(ErrorCode::Unauthorized, "The token is wrong."));
    }
    let value = api.doorkeeper.send(OpenSession).timeout(DEADLINE).await.map_err(unavailable)?;
    let mut response = HttpResponse::Ok().json(Done::default());
    let cookie = cookie(value);
    if let Err(error) = response.add_cookie(&cookie) {
        let message = format!("The cookie could not be set: {error}.");
        return Err(ApiError::new(ErrorCode::Internal, message));
    }
    Ok(response)
}

/// Logs a browser out: its cookie is worth nothing any more.
#[utoipa::path(
    post, path = "/api/logout", tag = "access", operation_id = "logoutFromServer",
    responses((status = 200, body = Done), StoppingErrors),
)]
pub(crate) async fn log_out(
    api: web::Data<Api>,
    request: HttpRequest,
    _: NoBody,
) -> Result<HttpResponse, ApiError> {
    if let Some(cookie) = request.cookie(COOKIE) {
        api.doorkeeper
            .send(CloseSession(cookie.value().to_owned()))
            .timeout(DEADLINE)
            .await
            .map_err(unavailable)?;
    }
    let mut response = HttpResponse::Ok().json(Done::default());
    if let Err(error) = response.add_removal_cookie(&cookie(String::new())) {
        tracing::warn!(%error, "a cookie could not be removed");
    }
    Ok(response)
}

fn cookie(value: String) -> Cookie<'static> {
    Cookie::build(COOKIE, value)
        .http_only(true)
        .same_site(SameSite::Strict)
        .path("/")
        .max_age(actix_web::cookie::time::Duration::seconds(
            i64::try_from(SESSION_LIFE.as_secs()).unwrap_or(0),
        ))
        .finish()
}
