//! What journal, hubs and sockets count.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters and gauges of the journal and of everyone who reads it.
///
/// Shared by all of them; every field is raised and read with relaxed ordering. *Counter*: only
/// ever grows while the process lives. *Gauge*: goes up and down.
#[derive(Debug, Default)]
pub struct StreamStats {
    /// Counter: ephemeral frames that were numbered.
    pub frames_ephemeral: AtomicU64,
    /// Counter: recorded frames that were numbered.
    pub frames_recorded: AtomicU64,
    /// Counter: durable-first frames that were numbered.
    pub frames_durable_first: AtomicU64,
    /// Counter: bytes of numbered frames as they go to a WebSocket, once per frame, however many
    /// subscribers there are.
    pub bytes: AtomicU64,
    /// Counter: cursors that were told `reset`.
    pub resets: AtomicU64,
    /// Counter: subscribers that were cut off because they did not read.
    pub evictions: AtomicU64,
    /// Counter: subscribers without a cursor that fell off the ring and were closed with 1013.
    pub gap_closes: AtomicU64,
    /// Counter: subscriptions that began behind the head, with a cursor.
    pub replays: AtomicU64,
    /// Gauge: bytes that the slowest cursor was behind the head, at the most since the last look.
    /// Hubs raise it with [`StreamStats::lagged`]; a look takes it and starts anew.
    pub cursor_lag_bytes_max: AtomicU64,
    /// Gauge: subscribers that are connected now, WebSocket and SSE together.
    pub sockets: AtomicU64,
    /// Gauge: bytes that the ring takes in memory.
    pub ring_bytes: AtomicU64,
    /// Gauge: segments in the ring.
    pub ring_segments: AtomicU64,
    /// Gauge: when the oldest segment of the ring was numbered, in milliseconds since 1970; 0 while
    /// the ring is empty. The ring's age is the time since then.
    pub ring_oldest_ms: AtomicU64,
    /// Gauge: bytes of frames that are kept on the disk for cursors older than the ring.
    pub log_bytes: AtomicU64,
}

impl StreamStats {
    /// Notes how far a cursor is behind the head.
    pub fn lagged(&self, bytes: u64) {
        self.cursor_lag_bytes_max.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Takes the largest lag since the last look.
    pub fn take_lag(&self) -> u64 {
        self.cursor_lag_bytes_max.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_the_largest_since_the_last_look() {
        let stats = StreamStats::default();
        stats.lagged(5);
        stats.lagged(90);
        stats.lagged(7);
        assert_eq!(stats.take_lag(), 90);
        assert_eq!(stats.take_lag(), 0);
    }
}
