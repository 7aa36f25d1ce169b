//! What is counted, for `/metrics`.
//!
//! Each part owns a struct of plain atomics that it raises as it works, and that is read when
//! somebody looks: a hot path pays one relaxed addition and knows nothing of exporters. Nothing is
//! counted per session.
//!
//! # Layout
//!
//! - `stream`: frames, the ring and the cursors into it.

mod stream;

pub use stream::StreamStats;
