//! The real program as a child process, with clients of its HTTP and WebSocket edge.
//!
//! # Layout
//!
//! - `builder`: how it is started; `test_app`: the running program; `manager`: its process and end.
//! - `stream`: a subscriber that keeps every frame; `events`: one of the server-sent events.

mod builder;
mod events;
mod manager;
mod stream;
mod test_app;

pub use builder::{AppBuilder, Runtime};
pub use events::{Event, EventClient};
pub use manager::Exited;
pub use stream::{Closed, Frame, StreamClient, StreamOptions};
pub use test_app::TestApp;
