//! The child: one `codex app-server` process is one incarnation of one actor.
//!
//! The actor spawns the process, introduces itself, learns what the version can do, signs in when
//! it has a key and the child has no account, and then carries calls down and lines up. Lines go
//! to the thread registry in batches, in stdout order, answers to calls among them, so that the
//! answer to a turn's start never overtakes or trails what the turn does.

mod actor;
mod boot;
mod calls;
mod classify;
mod config;
mod failure;
mod handle;
mod messages;
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
