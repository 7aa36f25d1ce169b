//! What is counted of calls to the child.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::histogram::{Histogram, HistogramView};

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// The child answered with a result.
    Answered,
    /// The child answered with an error.
    Refused,
    /// The child did not answer in time.
    Late,
    /// The child went before it answered, or could not be written to.
    Lost,
}

impl CallEnd {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Answered, Self::Refused, Self::Late, Self::Lost];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Late => "late",
            Self::Lost => "lost",
        }
    }
}

/// Calls of one method.
#[derive(Debug)]
struct MethodStats {
    /// By [`CallEnd`], in the order of [`CallEnd::ALL`].
    ends: [AtomicU64; 4],
    /// From the moment that the call was asked for to its end, waiting for a place included.
    took: Histogram,
}

impl MethodStats {
    fn new() -> Self {
        Self { ends: Default::default(), took: Histogram::of_durations() }
    }
}

/// Calls of one method at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodView {
    /// The method.
    pub method: &'static str,
    /// How many ended in each way, in the order of [`CallEnd::ALL`].
    pub ends: [u64; 4],
    /// How long they took, in microseconds.
    pub took: HistogramView,
}

/// Calls to the child, over all its lives. Written by the child's actor alone.
#[derive(Debug, Default)]
pub struct CallStats {
    /// Gauge: calls that wait for the child's answer.
    pub in_flight: AtomicU64,
    /// Gauge: calls that wait for a place among those, or to be made again.
    pub waiting: AtomicU64,
    /// Counter: calls that were not taken, because too many wait.
    pub overloaded: AtomicU64,
    /// Methods are named by the code, never by a client: there are few, and each is added when it
    /// is called first.
    methods: ArcSwap<BTreeMap<&'static str, Arc<MethodStats>>>,
}

impl CallStats {
    /// Counts a call that ended.
    pub fn ended(&self, method: &'static str, end: CallEnd, took: Duration) {
        let known = self.methods.load().get(method).cloned();
        let stats = known.unwrap_or_else(|| self.add(method));
        let [answered, refused, late, lost] = &stats.ends;
        let counter = match end {
            CallEnd::Answered => answered,
            CallEnd::Refused => refused,
            CallEnd::Late => late,
            CallEnd::Lost => lost,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        stats.took.took(took);
    }

    fn add(&self, method: &'static str) -> Arc<MethodStats> {
        let stats = Arc::new(MethodStats::new());
        // One thread writes, so that nothing is added between the look and this.
        let mut methods = BTreeMap::clone(&self.methods.load());
        methods.insert(method, Arc::clone(&stats));
        self.methods.store(Arc::new(methods));
        stats
    }

    /// Every method that was called, by name.
    pub fn methods(&self) -> Vec<MethodView> {
        let methods = self.methods.load();
        let views = methods.iter().map(|(method, stats)| MethodView {
            method,
            ends: stats.ends.each_ref().map(|counter| counter.load(Ordering::Relaxed)),
            took: stats.took.read(),
        });
        views.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_method_and_end() {
        let stats = CallStats::default();
        for (end, times) in CallEnd::ALL.into_iter().zip(1..) {
            for _ in 0..times {
                stats.ended("turn/start", end, Duration::from_millis(1));
            }
        }
        stats.ended("thread/read", CallEnd::Late, Duration::from_secs(30));
        let methods = stats.methods();
        assert_eq!(methods.len(), 2);
        assert_eq!((methods[0].method, methods[0].ends), ("thread/read", [0, 0, 1, 0]));
        assert_eq!((methods[1].method, methods[1].ends), ("turn/start", [1, 2, 3, 4]));
        assert_eq!(methods[1].took.count, 10);
    }
}
