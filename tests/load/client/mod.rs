//! Clients that must never be what is measured.
//!
//! # Layout
//!
//! - `http`: requests one after another on one connection.
//! - `upgrade`: from a connection to a WebSocket.
//! - `frames`: frames in raw bytes; `readers`: many subscribers on one thread.

mod frames;
mod http;
mod readers;
mod upgrade;

pub(crate) use http::HttpConnection;
pub(crate) use readers::{Outcome, Pace, Readers, Subscriber};
pub(crate) use upgrade::{View, eviction, open_stream};
