//! One socket: the upgrade, and the commands that its client sends.
//!
//! actix-web-actors does the handshake only. Its own session actor *is* the response's body, so it
//! stops with a client that stops reading; this one is an ordinary actor.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};

use actix::prelude::*;
use actix_codec::Decoder;
use actix_http::ws::{Codec, Frame, Item, ProtocolError};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::BytesMut;
use cm_core::error::ErrorCode;
use cm_core::wire::{ErrorBody, StreamCommand};
use futures_util::Stream;
use serde_json::json;

use super::close;
use super::connection::Connection;
use super::hub::{HubCell, HubHandle, Subscription};
use super::outlet::{Outlet, OutletBody};
use super::query::Subscribe;
use super::resume::{Position, resume};
use super::ring::Encoding;
use crate::answer::ApiError;
use crate::openapi::StreamErrors;

/// Largest command, fragments together, in bytes.
const MAX_COMMAND: usize = 64 * 1024;

/// Everything that happens, over a WebSocket.
///
/// Each text message is a `StreamFrame`; what the client may send is a `StreamCommand`.
/// docs/protocol/stream.md says which frames there are.
#[utoipa::path(
    get, path = "/api/stream", tag = "stream", operation_id = "openStream",
    params(
        ("threadId" = Option<String>, Query,
            description = "The only session to hear of. Empty or repeated it is no filter."),
        ("since" = Option<String>, Query, pattern = "^.+:[0-9]+$",
            description = "`<epoch>:<seq>` of a frame that was had: what came behind it follows."),
        ("view" = Option<String>, Query, pattern = "^(default|single)$",
            description = "`default`: with version 1's repetitions; `single`: each thing once."),
        ("ticket" = Option<String>, Query,
            description = "A ticket in place of the token, which is never taken from a URL."),
    ),
    responses(
        (status = 101, description = "The WebSocket is open."),
        (status = 404, body = ErrorBody, description = "The request is no upgrade: `not_found`."),
        StreamErrors,
    ),
)]
pub(crate) async fn connect(
    request: HttpRequest,
    payload: web::Payload,
    hub: web::Data<HubCell>,
) -> Result<HttpResponse, ApiError> {
    let Ok(mut response) = actix_web_actors::ws::handshake(&request) else {
        let message = "This is a WebSocket: connect to it with an upgrade.";
        return Err(ApiError::new(ErrorCode::NotFound, message));
    };
    let Subscribe { filter, since, single } = Subscribe::parse(request.query_string())?;
    let outlet = hub.0.outlet(Encoding::WebSocket, filter.clone(), single).await;
    let Some(mut outlet) = outlet else {
        return Err(not_there());
    };
    let head = outlet.head();
    outlet.say(&json!({
        "type": "ready",
        "threadId": filter,
        "epoch": head.epoch,
        "seq": head.seq,
    }));
    let outlet = Rc::new(RefCell::new(outlet));
    if let Some(since) = since {
        resume(&hub.0, &outlet, since);
    }
    let connection = request.conn_data::<Connection>().cloned();
    let subscription = hub.0.subscribe(Rc::clone(&outlet), connection);
    let commands =
        Commands { payload, codec: Codec::new().max_size(MAX_COMMAND), buffer: BytesMut::new() };
    let shared = Rc::clone(&outlet);
    let hub = hub.0.clone();
    Socket::create(|ctx| {
        ctx.add_stream(commands);
        Socket { hub, outlet: shared, fragments: BytesMut::new(), subscription }
    });
    Ok(response.streaming(OutletBody(outlet)))
}

/// The answer to a subscriber while the stream cannot be reached.
pub(super) fn not_there() -> ApiError {
    let message = "The stream is starting or stopping; connect again shortly.";
    ApiError::new(ErrorCode::Overloaded, message)
}

/// Frames that the client sends.
struct Commands {
    payload: web::Payload,
    codec: Codec,
    buffer: BytesMut,
}

impl Stream for Commands {
    type Item = Result<Frame, ProtocolError>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match this.codec.decode(&mut this.buffer) {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match Pin::new(&mut this.payload).poll_next(context) {
                Poll::Ready(Some(Ok(chunk))) => this.buffer.extend_from_slice(&chunk),
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// The actor of one socket.
struct Socket {
    hub: HubHandle,
    outlet: Rc<RefCell<Outlet>>,
    /// A command that came in pieces, as far as it is there.
    fragments: BytesMut,
    /// Ends with the actor.
    subscription: Subscription,
}

impl Actor for Socket {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Self::Context) {
        // The client is gone: its body has nothing left to wait for.
        self.outlet.borrow_mut().close(close::GOING_AWAY, "");
    }
}

impl Socket {
    fn command(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match serde_json::from_slice::<StreamCommand>(bytes) {
            Ok(StreamCommand::Subscribe { thread_id, after }) => self.subscribe(thread_id, after),
            Ok(StreamCommand::Unsubscribe) => self.subscription.set_filter(None),
            Ok(StreamCommand::Ping) => {
                self.outlet.borrow_mut().control(&json!({ "type": "pong" }));
            }
            Err(_) => self.refuse(),
        }
    }

    /// Changes the filter, or the position, or both; without either it means nothing.
    fn subscribe(&mut self, thread_id: Option<String>, after: Option<String>) {
        let position = after.as_deref().map(Position::parse);
        let empty = thread_id.as_deref() == Some("");
        if empty || position == Some(None) || (thread_id.is_none() && position.is_none()) {
            return self.refuse();
        }
        // Without a session, a position means all of them.
        self.subscription.set_filter(thread_id);
        if let Some(position) = position.flatten() {
            resume(&self.hub, &self.outlet, position);
        }
    }

    fn refuse(&self) {
        let answer = json!({ "type": "error", "message": "invalid websocket command" });
        self.outlet.borrow_mut().control(&answer);
    }

    fn fragment(&mut self, bytes: &[u8], last: bool) {
        if self.fragments.len() + bytes.len() > MAX_COMMAND {
            return self.outlet.borrow_mut().close(close::TOO_BIG, "command too large");
        }
        self.fragments.extend_from_slice(bytes);
        if last {
            let whole = std::mem::take(&mut self.fragments);
            self.command(&whole);
        }
    }
}

impl StreamHandler<Result<Frame, ProtocolError>> for Socket {
    fn handle(&mut self, frame: Result<Frame, ProtocolError>, ctx: &mut Self::Context) {
        match frame {
            Ok(Frame::Text(bytes) | Frame::Binary(bytes)) => self.command(&bytes),
            Ok(Frame::Continuation(item)) => match item {
                Item::FirstText(bytes) | Item::FirstBinary(bytes) => {
                    self.fragments.clear();
                    self.fragment(&bytes, false);
                }
                Item::Continue(bytes) => self.fragment(&bytes, false),
                Item::Last(bytes) => self.fragment(&bytes, true),
            },
            Ok(Frame::Ping(payload)) => self.outlet.borrow_mut().pong(&payload),
            Ok(Frame::Pong(_)) => {}
            Ok(Frame::Close(reason)) => {
                let code = reason.map_or(1000, |reason| u16::from(reason.code));
                self.outlet.borrow_mut().close(code, "");
                ctx.stop();
            }
            Err(error) => {
                tracing::debug!(%error, "a client broke the WebSocket protocol");
                self.outlet.borrow_mut().close(close::PROTOCOL, "protocol error");
                ctx.stop();
            }
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
