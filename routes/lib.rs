//! The HTTP and WebSocket edge: it turns requests into messages to actors and their answers into
//! bodies. Handlers hold no state and no lock; what this crate remembers (tickets and cookies, each
//! worker's view of the ring) lives in actors.
//!
//! # Layout
//!
//! - [`api`]: what handlers reach, and the table of routes ([`configure`]).
//! - `answer`: errors as bodies; `body`, `query`: reading JSON and queries.
//! - `openapi`: the description of the API; `every_operation`: what all of it has in common; `docs`:
//!   the page that shows it.
//! - `codex`: operations that the Codex runtime answers itself.
//! - `idempotency`: the middleware of requests that are not to be carried out twice.
//! - `health`, `runtime`: the service itself; `sessions`, `session_list`, `turns`, `requests`, `actions`,
//!   `controls`, `transcript`, `projects`, `jobs`: one file a resource; `stored_turns`: the history in
//!   answers about sessions.
//! - [`metrics`]: `GET /metrics`; `read_model`: each worker's copy of the lists.
//! - [`stream`]: `GET /api/stream`: the worker's hub, the socket, the body that it writes.
//! - [`security`]: who may talk to the server.

mod actions;
mod answer;
pub mod api;
mod body;
mod codex;
mod controls;
mod docs;
mod every_operation;
mod health;
mod idempotency;
mod jobs;
pub mod metrics;
mod openapi;
mod projects;
mod query;
mod read_model;
mod requests;
mod runtime;
pub mod security;
mod session_list;
mod sessions;
mod stored_turns;
pub mod stream;
mod transcript;
mod turns;

pub use api::{Api, StoreGauge, Vitals, configure};
pub use health::{Facts, readiness};
pub use read_model::{ReadModel, ReadModelCell, ReadModelHandle};
