//! Following a session: the stream that comes back, the turn that ends, the requests that are
//! answered on the way.

mod catch_up;
mod desk;
mod send;
mod turn;
mod watch;

pub(crate) use desk::{Desk, Policy};
pub(crate) use send::patiently;
pub(crate) use turn::{Follow, Followed, IDLE_CHECK, START_LIMIT};
pub(crate) use watch::{Watch, Watched};
