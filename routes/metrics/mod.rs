//! `GET /metrics`: what the manager counts, in the text format of Prometheus.
//!
//! Nothing is recorded for this page: each part of the manager has atomics of its own, and they are
//! read when somebody looks. No label names a session, a request or a client.
//!
//! # Layout
//!
//! - `page`: families of samples, and their text.
//! - `http`: requests by route; `scrape`: the route itself, and where every family is from.
//! - `process`: what the operating system says of the process.

mod http;
mod page;
mod process;
mod scrape;

pub use http::HttpStats;
pub(crate) use scrape::scrape;
