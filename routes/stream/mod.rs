//! `GET /api/stream`: frames for subscribers.
//!
//! Each HTTP worker has one hub, which hears of new frames once per batch. A subscriber is a
//! cursor: when its socket can be written, its body takes as much as is ready from the worker's
//! view of the ring. Nothing is queued per subscriber but a few control frames, so memory does not
//! depend on how fast anybody reads.
//!
//! # Layout
//!
//! - `hub`: one a worker; `ring`: its view of the ring.
//! - `socket`: the upgrade and the commands of a client; `outlet`: what is written to it.
//! - `connection`: the connection below, for ending it from outside.

mod connection;
mod hub;
mod outlet;
mod ring;
mod socket;

pub use connection::remember_connection;
pub use hub::{CloseAll, CutAll, Hub, HubHandle, HubSettings};
pub use socket::HubCell;
pub(crate) use socket::connect;
