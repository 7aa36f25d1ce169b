//! Server-sent events: the stream for clients without WebSocket (HTML standard, §9.2).
//!
//! Each event's id is its position, so that a client that reconnects says with `Last-Event-ID` where
//! it left off, as browsers do by themselves. Every thing is said once.

use std::cell::RefCell;
use std::rc::Rc;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use cm_core::ids::ThreadId;
use cm_core::wire::ErrorBody;

use super::connection::Connection;
use super::hub::{HubCell, Subscription};
use super::outlet::{Outlet, OutletBody};
use super::query::{Subscribe, position};
use super::resume::resume;
use super::ring::Encoding;
use super::socket::not_there;
use crate::answer::ApiError;
use crate::openapi::StreamErrors;
use crate::sessions::session_id;

/// How long a browser waits before it connects again, in milliseconds.
const RETRY: Bytes = Bytes::from_static(b"retry: 1000\n\n");

/// Everything that happens, as server-sent events.
///
/// The data of each event is a `StreamFrame`, its id the position to come back with.
#[utoipa::path(
    get, path = "/api/events", tag = "stream", operation_id = "readEvents",
    params(
        ("threadId" = Option<String>, Query,
            description = "The only session to hear of. Empty or repeated it is no filter."),
        ("since" = Option<String>, Query, pattern = "^.+:[0-9]+$",
            description = "`<epoch>:<seq>` of a frame that was had: what came behind it follows."),
        ("last-event-id" = Option<String>, Header,
            description = "The same, as browsers say it by themselves; it goes before `since`."),
    ),
    responses((status = 200, body = String, content_type = "text/event-stream"), StreamErrors),
)]
pub(crate) async fn all(
    request: HttpRequest,
    hub: web::Data<HubCell>,
) -> Result<HttpResponse, ApiError> {
    let filter = Subscribe::parse(request.query_string())?.filter;
    connect(&request, &hub, filter).await
}

/// What happens in one session, as server-sent events.
///
/// A session that does not exist is heard of when it does.
#[utoipa::path(
    get, path = "/api/sessions/{id}/events", tag = "stream", operation_id = "readSessionEvents",
    params(
        ("id" = ThreadId, Path, description = "The session."),
        ("since" = Option<String>, Query, pattern = "^.+:[0-9]+$",
            description = "`<epoch>:<seq>` of a frame that was had: what came behind it follows."),
        ("last-event-id" = Option<String>, Header,
            description = "The same, as browsers say it by themselves; it goes before `since`."),
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = 404, body = ErrorBody, description = "That is no session's id: `not_found`."),
        StreamErrors,
    ),
)]
pub(crate) async fn of_session(
    request: HttpRequest,
    path: web::Path<String>,
    hub: web::Data<HubCell>,
) -> Result<HttpResponse, ApiError> {
    let id = session_id(&path)?;
    connect(&request, &hub, Some(id.as_str().to_owned())).await
}

async fn connect(
    request: &HttpRequest,
    hub: &HubCell,
    filter: Option<String>,
) -> Result<HttpResponse, ApiError> {
    let asked = Subscribe::parse(request.query_string())?;
    let last = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
    // What a browser remembers is newer than the address that it was given.
    let since = match last.filter(|id| !id.is_empty()) {
        Some(id) => Some(position("Last-Event-ID", id)?),
        None => asked.since,
    };
    let outlet = hub.0.outlet(Encoding::ServerSentEvents, filter, true).await;
    let Some(mut outlet) = outlet else {
        return Err(not_there());
    };
    outlet.resumable = true;
    outlet.push(RETRY);
    if since.is_none() {
        // A client that is cut off before the first event goes on from here.
        outlet.push(Bytes::from(format!("id: {}\ndata: {}\n\n", outlet.place(), outlet.ready())));
    }
    let outlet = Rc::new(RefCell::new(outlet));
    if let Some(since) = since {
        resume(&hub.0, &outlet, since);
    }
    let connection = request.conn_data::<Connection>().cloned();
    let subscription = hub.0.subscribe(Rc::clone(&outlet), connection);
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        // Proxies that gather what they pass on would hold events back.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Events { body: OutletBody(outlet), _subscription: subscription }))
}

/// The body of the answer; the subscription ends with it.
struct Events {
    body: OutletBody,
    _subscription: Subscription,
}

impl futures_util::Stream for Events {
    type Item = Result<Bytes, actix_web::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::pin::Pin::new(&mut self.body).poll_next(context)
    }
}

impl Outlet {
    /// The head as a position.
    fn place(&self) -> String {
        let head = self.head();
        format!("{}:{}", head.epoch, head.seq)
    }

    /// The first event.
    fn ready(&self) -> serde_json::Value {
        let head = self.head();
        serde_json::json!({
            "type": "ready",
            "threadId": self.filter,
            "epoch": head.epoch,
            "seq": head.seq,
        })
    }
}
