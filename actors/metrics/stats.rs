//! The stats that the composition root makes and hands to those who count.

use std::sync::Arc;

use super::sessions::SessionStats;
use super::stream::StreamStats;

/// What is counted outside of the parts that have a handle of their own: the child's calls are
/// reached through its handle.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Journal, hubs and sockets.
    pub stream: Arc<StreamStats>,
    /// Registry and threads.
    pub sessions: Arc<SessionStats>,
}
