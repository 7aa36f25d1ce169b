//! Frames of a thread's events, as version 1 orders and spells them.

use cm_core::event::{
    Audience, Durability, Envelope, EnvelopeContext, EnvelopeSession, FrameBody, RawNotification,
    Signal, alias, durability_of,
};
use cm_core::ids::ThreadId;
use cm_core::rpc::RpcId;
use serde::Serialize;
use serde_json::value::RawValue;

/// What the frames of one event need to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventContext<'a> {
    pub(super) thread_id: Option<&'a ThreadId>,
    pub(super) turn_id: Option<&'a str>,
    pub(super) title: Option<&'a str>,
    pub(super) project_id: Option<&'a str>,
    pub(super) received_at: &'a str,
}

impl EventContext<'_> {
    fn audience(&self) -> Audience {
        match self.thread_id {
            Some(thread_id) => Audience::Thread(thread_id.clone()),
            None => Audience::Unfiltered,
        }
    }
}

/// Adds a frame; a payload that cannot be written as JSON is logged, which cannot happen for what
/// came in as JSON.
pub(super) fn push<P: Serialize>(
    frames: &mut Vec<FrameBody>,
    kind: &str,
    audience: Audience,
    shown: Option<&ThreadId>,
    durability: Durability,
    payload: &P,
) {
    match FrameBody::new(kind, audience, shown, durability, payload) {
        Ok(frame) => frames.push(frame),
        Err(error) => tracing::error!(kind, %error, "an event could not be written"),
    }
}

/// The frame that comes before anything the manager makes of an event.
pub(super) fn first(
    frames: &mut Vec<FrameBody>,
    context: EventContext<'_>,
    signal: Signal,
    method: &str,
    params: Option<&RawValue>,
    request_id: Option<&RpcId>,
) {
    let event_type = signal.event_type(method);
    let durability = match signal {
        Signal::Notification => durability_of(method),
        Signal::Request => Durability::DurableFirst,
    };
    let envelope = Envelope {
        source: "app_server",
        signal_type: signal,
        event_type: &event_type,
        method,
        received_at: context.received_at,
        context: EnvelopeContext {
            thread_id: context.thread_id.map(ThreadId::as_str),
            turn_id: context.turn_id,
        },
        params,
        session: context.thread_id.map(|id| EnvelopeSession {
            id,
            title: context.title,
            project_id: context.project_id,
        }),
        request_id,
    };
    push(frames, &event_type, context.audience(), None, durability, &envelope);
}

/// The frames that come after what the manager makes of a notification: the alias, if the method
/// has one, and the raw notification.
pub(super) fn last(
    frames: &mut Vec<FrameBody>,
    context: EventContext<'_>,
    method: &str,
    params: Option<&RawValue>,
) {
    #[derive(Serialize)]
    struct Nothing {}

    let durability = durability_of(method);
    if let Some((kind, to_everyone)) = alias(method) {
        let audience = if to_everyone { Audience::Everyone } else { context.audience() };
        match params {
            Some(params) => push(frames, kind, audience, context.thread_id, durability, &params),
            None => push(frames, kind, audience, context.thread_id, durability, &Nothing {}),
        }
    }
    let raw = RawNotification { method, params };
    push(frames, "notification", context.audience(), None, durability, &raw);
}

/// All frames of a notification of which the manager makes nothing.
pub(super) fn plain(
    frames: &mut Vec<FrameBody>,
    context: EventContext<'_>,
    method: &str,
    params: Option<&RawValue>,
) {
    first(frames, context, Signal::Notification, method, params, None);
    last(frames, context, method, params);
}
