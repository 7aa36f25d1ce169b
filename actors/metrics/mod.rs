//! What is counted, for `/metrics`.
//!
//! Each part owns a struct of plain atomics that it raises as it works, and that is read when
//! somebody looks: a hot path pays one relaxed addition and knows nothing of exporters. Nothing is
//! counted per session.
//!
//! # Layout
//!
//! - `stream`: frames, the ring and the cursors into it.
//! - `sessions`: sessions, living threads, pending requests; `calls`: calls to the child.
//! - `histogram`: values by class; `stats`: all of it together, for who looks.

mod calls;
mod histogram;
mod sessions;
mod stats;
mod stream;

pub use calls::{CallEnd, CallStats, MethodView};
pub use histogram::{Histogram, HistogramView};
pub use sessions::{Counted, Gauge, SessionStats};
pub use stats::Stats;
pub use stream::StreamStats;
