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
use bytes::{Bytes, BytesMut};
use cm_actors::journal::text_frame;
use cm_core::error::ErrorCode;
use cm_core::wire::StreamCommand;
use futures_util::Stream;
use serde_json::json;

use super::connection::Connection;
use super::hub::{HubHandle, Subscription};
use super::outlet::{Outlet, OutletBody, close, pong_frame};
use crate::answer::ApiError;

/// Largest command, fragments together, in bytes.
const MAX_COMMAND: usize = 64 * 1024;

/// `GET /api/stream`
pub(crate) async fn connect(
    request: HttpRequest,
    payload: web::Payload,
    hub: web::Data<HubCell>,
) -> Result<HttpResponse, ApiError> {
    let Ok(mut response) = actix_web_actors::ws::handshake(&request) else {
        let message = "This is a WebSocket: connect to it with an upgrade.";
        return Err(ApiError::new(ErrorCode::NotFound, message));
    };
    let Some(ring) = hub.0.attached_ring().await else {
        let message = "The stream is starting or stopping; connect again shortly.";
        return Err(ApiError::new(ErrorCode::Overloaded, message));
    };
    let filter = filter_of(request.query_string());
    let ready = {
        let ring = ring.borrow();
        json!({ "type": "ready", "threadId": filter, "epoch": ring.epoch, "seq": ring.head })
    };
    let outlet = Rc::new(RefCell::new(Outlet::new(ring, filter)));
    outlet.borrow_mut().control(text(&ready));
    let connection = request.conn_data::<Connection>().cloned();
    let subscription = hub.0.subscribe(Rc::clone(&outlet), connection);
    let commands =
        Commands { payload, codec: Codec::new().max_size(MAX_COMMAND), buffer: BytesMut::new() };
    let shared = Rc::clone(&outlet);
    Socket::create(|ctx| {
        ctx.add_stream(commands);
        Socket { outlet: shared, fragments: BytesMut::new(), _subscription: subscription }
    });
    Ok(response.streaming(OutletBody(outlet)))
}

/// The worker's hub as application data. The application's data never leaves its worker, but
/// actix-web asks for a type of its own.
pub struct HubCell(pub HubHandle);

/// The filter of a connection's query: one non-empty `threadId`; a repeated one is no filter.
fn filter_of(query: &str) -> Option<String> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query).ok()?.into_inner();
    let mut named = pairs.into_iter().filter(|(name, _)| name == "threadId").map(|(_, id)| id);
    let first = named.next().filter(|id| !id.is_empty())?;
    named.next().is_none().then_some(first)
}

fn text(value: &serde_json::Value) -> Bytes {
    text_frame(value.to_string().as_bytes()).0
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
    outlet: Rc<RefCell<Outlet>>,
    /// A command that came in pieces, as far as it is there.
    fragments: BytesMut,
    /// Ends the subscription with the actor.
    _subscription: Subscription,
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
        let mut outlet = self.outlet.borrow_mut();
        match serde_json::from_slice::<StreamCommand>(bytes) {
            Ok(StreamCommand::Subscribe { thread_id }) if !thread_id.is_empty() => {
                outlet.filter = Some(thread_id);
            }
            Ok(StreamCommand::Unsubscribe) => outlet.filter = None,
            Ok(StreamCommand::Ping) => outlet.control(text(&json!({ "type": "pong" }))),
            Ok(StreamCommand::Subscribe { .. }) | Err(_) => {
                let answer = json!({ "type": "error", "message": "invalid websocket command" });
                outlet.control(text(&answer));
            }
        }
    }

    fn fragment(&mut self, bytes: &[u8], last: bool) {
        if self.fragments.len() + bytes.len() > MAX_COMMAND {
            return self.outlet.borrow_mut().close(1009, "command too large");
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
            Ok(Frame::Ping(payload)) => self.outlet.borrow_mut().control(pong_frame(&payload)),
            Ok(Frame::Pong(_)) => {}
            Ok(Frame::Close(reason)) => {
                let code = reason.map_or(1000, |reason| u16::from(reason.code));
                self.outlet.borrow_mut().close(code, "");
                ctx.stop();
            }
            Err(error) => {
                tracing::debug!(%error, "a client broke the WebSocket protocol");
                self.outlet.borrow_mut().close(1002, "protocol error");
                ctx.stop();
            }
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::super::outlet::close_frame;
    use super::*;

    #[test]
    fn only_one_named_thread_is_a_filter() {
        assert_eq!(filter_of("threadId=a").as_deref(), Some("a"));
        for query in ["", "threadId=", "threadId=a&threadId=b", "other=a"] {
            assert_eq!(filter_of(query), None, "{query}");
        }
    }

    #[test]
    fn close_frames_are_those_of_rfc_6455() {
        assert_eq!(close_frame(1001, "x").as_ref(), b"\x88\x03\x03\xe9x");
        assert_eq!(pong_frame(b"hi").as_ref(), b"\x8a\x02hi");
    }
}
