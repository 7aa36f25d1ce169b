//! Tests of the test support itself: the scripted model against the real `codex`, and the fake
//! child.
#![allow(clippy::unwrap_used, reason = "tests")]

mod app;
mod fake_child;
mod model_server;
mod real_codex;
mod stream;
