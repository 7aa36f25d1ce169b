//! The ground floor of Codex Manager.
//!
//! Nothing here does I/O, reads a clock, spawns a task or knows actix. Everything that several
//! crates must agree on lives here, and every decision that can be written as a pure function is
//! written as one, so that it can be tested without a process, a socket or a sleep.
//!
//! # Layout
//!
//! - [`ids`]: one newtype per kind of identifier.
//! - [`error`]: the error table (code → HTTP status, WebSocket close code, exit code, retryable).
//! - [`rpc`]: the app-server wire: bounded line reader, lenient parser, strict writer.
//! - [`compat`]: what a given `codex` version can do.
//! - [`login`]: a login that cannot be renewed any more.
//! - [`drift`]: what a child has that this build does not know, and lacks that it uses.
//! - [`controls`]: approval policy, sandbox and network, and how the runtime spells them.
//! - [`idempotency`]: keys by which a client repeats a request and not what it does.
//! - [`event`]: stream event names and the frames that subscribers receive.
//! - [`wire`]: REST bodies shared by the server and the command line client.
//! - [`transcript`]: the rows that items, requests and failed turns become; [`rows`]: their order.
//! - [`project`]: what is stored of projects, and whose name is whose; [`job`]: of background jobs.
//! - [`v1`]: what version 1 kept in its data directory.
//! - [`thread`], [`request`], [`restart`]: pure state machines.

pub mod compat;
pub mod controls;
pub mod drift;
pub mod error;
pub mod event;
pub mod idempotency;
pub mod ids;
pub mod job;
pub mod login;
pub mod project;
pub mod request;
pub mod restart;
pub mod rows;
pub mod rpc;
pub mod thread;
pub mod transcript;
pub mod v1;
pub mod wire;
