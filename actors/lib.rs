//! Everything in Codex Manager that lives, remembers or waits.
//!
//! Every living thing is an actix actor under the [`supervisor`]; memory is a cache of the
//! [`store`]; nothing here knows HTTP. All actors of this crate run on one control arbiter, the
//! store on its own OS thread.
//!
//! # Layout
//!
//! - [`handle`]: what callers hold instead of an address; it survives restarts.
//! - [`supervisor`]: child specs, restart policy, the tree that operators see.
//! - [`store`]: the `Store` trait, its sled implementation, the store thread and its group commit.
//! - [`index`]: the lists of sessions, encoded, for whoever reads them.
//! - [`idempotency`]: keys by which clients repeat a request and not what it does.
//! - [`journal`]: numbers for frames, the ring, and the workers that read it.
//! - [`app_server`]: one child process is one incarnation of one actor.
//! - [`thread`]: the registry and one actor per Codex thread.
//! - [`request`]: one actor per pending approval, question or tool call.
//! - [`project`]: projects, and which sessions belong to them.
//! - [`metrics`]: what is counted, for `/metrics`.
//! - [`failpoint`]: where tests kill the program or let a write fail.
//! - [`clock`]: wall clock time in the forms that records and bodies use.

pub mod app_server;
pub mod clock;
pub mod failpoint;
pub mod handle;
pub mod idempotency;
pub mod index;
pub mod journal;
pub mod metrics;
pub mod project;
pub mod request;
pub mod store;
pub mod supervisor;
pub mod thread;
