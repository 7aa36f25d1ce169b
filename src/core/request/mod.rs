//! Pure state machine of one pending request: `pending → deciding → delivered → resolved`, or
//! `expired` from any state before `resolved`.
//!
//! The first decision claims the request; every later one is told what was decided. A request
//! belongs to the child process that asked: when that process, its turn or the manager goes, the
//! request expires and is never answered into another process.
//!
//! # Layout
//!
//! - `kind`: the kinds of request, and what refuses each; `answer`: what a decision tells the child,
//!   `form` and `grant`: what it must fit; `params`: params that are too long.
//! - `record`: what is stored of a request, and its transitions.

mod answer;
mod form;
mod grant;
mod kind;
mod params;
mod record;

pub use answer::Misfit;
pub(crate) use kind::asks_for_mcp_tool;
pub use kind::{RequestFamily, RequestKind};
pub use params::{SHOWN_PARAMS_BYTES, shown_params};
pub use record::{
    AtDeadline, Decision, ExpiryReason, REQUEST_RECORD_VERSION, Refusal, RequestRecord,
    RequestState,
};
