//! Following a session: the stream that comes back, the turn that ends, the requests that are
//! answered on the way.
//!
//! # Layout
//!
//! - `turn`: one message and its turn; `send`: sending while the runtime is about to be there.
//! - `watch`: a subscription that comes back; `catch_up`: what REST says of what was missed.
//! - `desk`: the requests of the turn, answered one after the other.

mod catch_up;
mod desk;
mod send;
mod turn;
mod watch;

pub(crate) use desk::{Desk, Policy};
pub(crate) use send::patiently;
pub(crate) use turn::{Follow, Followed, IDLE_CHECK, START_LIMIT};
pub(crate) use watch::{Watch, Watched};
