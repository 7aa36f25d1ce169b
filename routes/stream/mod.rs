//! `GET /api/stream` and server-sent events: frames for subscribers.
//!
//! Each HTTP worker has one hub, which hears of new frames once per batch. A subscriber is a
//! cursor: when its connection can be written, its body takes as much as is ready from the worker's
//! view of the ring. Nothing is queued per subscriber but a few control frames, so memory does not
//! depend on how fast anybody reads. What lies behind a cursor is served by the same code, whether
//! it comes from the ring or from the log of events.
//!
//! # Layout
//!
//! - `hub`: one a worker; `subscribers`: whom new frames concern; `ring`: its view of the ring.
//! - `socket`: the upgrade and the commands of a client; `events`: server-sent events; `query`: what
//!   either asks for.
//! - `outlet`: what one subscriber is written; `progress`: how much it took lately; `resume`: what
//!   it missed.
//! - `connection`: the connection below, for ending it from outside; `close`: how a stream ends.

mod close;
mod connection;
pub(crate) mod events;
mod hub;
mod outlet;
mod progress;
mod query;
mod resume;
mod ring;
pub(crate) mod socket;
mod subscribers;

pub use connection::remember_connection;
pub use hub::{CloseSubscribers, CutConnections, Hub, HubCell, HubHandle, HubSettings};
