//! The child: just enough of `codex app-server` for sessions and turns, and deltas as fast as a
//! pipe allows or at an exact pace. The text of a message says what its turn emits.
//!
//! # Layout
//!
//! - `server`: reads stdin, answers calls. It knows no threads: any id is one.
//! - `orders`: what the text of a message asks for.
//! - `turn`: plays a turn.
//! - `lines`: the shapes of what is emitted; `output`: stdout in large writes.

mod lines;
mod orders;
mod output;
mod server;
mod turn;

pub(crate) use server::{VERSION, serve};
