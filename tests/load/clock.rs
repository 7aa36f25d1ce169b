//! The clock that processes share.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of CLOCK_MONOTONIC, which is the same in every process of one boot.
pub(crate) fn monotonic_ns() -> u64 {
    // The call cannot fail for a clock that Linux always has; 0 would show as an absurd latency.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}
