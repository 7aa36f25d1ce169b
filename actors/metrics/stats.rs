//! Everything that is counted outside of the parts that routes reach anyway, together.

use std::sync::Arc;

use super::sessions::SessionStats;
use super::stream::StreamStats;
use crate::store::{StoreHandle, StoreStatsView};

/// Made by the composition root, which hands each part to those who count, and the whole to
/// `/metrics`. The child's calls are reached through the child's handle.
#[derive(Debug, Clone)]
pub struct Stats {
    /// Journal, hubs and sockets.
    pub stream: Arc<StreamStats>,
    /// Registry and threads.
    pub sessions: Arc<SessionStats>,
    /// Kept from routes, which are not to reach the store.
    store: StoreHandle,
}

impl Stats {
    /// Nothing was counted yet but what the store counts by itself.
    pub fn new(store: StoreHandle) -> Self {
        Self { stream: Arc::default(), sessions: Arc::default(), store }
    }

    /// What the store has counted.
    pub fn store(&self) -> StoreStatsView {
        self.store.stats().read()
    }

    /// Jobs that wait for the store's threads now.
    pub fn store_waiting(&self) -> usize {
        self.store.waiting()
    }
}
