//! The child: one `codex app-server` process is one incarnation of one actor.
//!
//! The actor spawns the process, introduces itself, learns what the version can do, signs in when
//! it has a key and the child has no account, and then carries calls down and lines up. Lines go
//! to the thread registry in batches, in stdout order, answers to calls among them, so that the
//! answer to a turn's start never overtakes or trails what the turn does.
//!
//! # Layout
//!
//! - `spec`, `config`: the child's place in the tree, and what it is started with.
//! - `actor`: one life of the child; `boot`: its first words; `pipe`: its process and how that
//!   ends; `handlers`: what is asked of it.
//! - `calls`: calls that wait for their turn or for an answer; `failure`: why one failed.
//! - `parse`: from lines to what they say; `classify`: whose answers are whose.
//! - `messages`, `handle`, `status`: how everyone else reaches and sees it.

mod actor;
mod boot;
mod calls;
mod classify;
mod config;
mod failure;
mod handle;
mod handlers;
mod messages;
mod parse;
mod pipe;
mod spec;
mod status;

pub use config::{AppServerConfig, Program};
pub use failure::CallFailure;
pub use handle::AppServerHandle;
pub use messages::{
    Announce, Batch, Call, CallOutcome, Inbound, InboundKind, Owner, Respond, RuntimeDown,
    RuntimeEvent, RuntimeUp,
};
pub use spec::app_server_spec;
pub use status::{AccountStatus, AppServerStatus};
