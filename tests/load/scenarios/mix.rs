//! A flood to good subscribers, one that stops reading and one that reads slowly, against the
//! same flood to the good ones alone.

use std::time::Duration;

use super::bench::{Bench, closed, flood, good, per};
use super::table::Sizes;
use crate::client::{Pace, Subscriber, eviction, open_stream};
use crate::error::LoadError;
use crate::report::Figures;

/// Bytes a second of the slow one: a tenth of what the slowest flood brings, so that it is
/// never one for whom the manager may wait.
const SLOW: usize = 512 * 1024;

/// How long after the flood the stopped one may still hold its connection.
const EVICTION_DEADLINE: Duration = Duration::from_secs(30);

struct Run {
    deltas_per_s: f64,
    good_closed: u64,
    slow_closed: Option<u16>,
    evicted: bool,
}

pub(super) fn run(bench: &Bench, sizes: Sizes) -> Result<Figures, LoadError> {
    let without = once(bench, sizes, false)?;
    let with = once(bench, sizes, true)?;
    let mut figures = Figures::default();
    figures.add("rate_with_to_without", per(with.deltas_per_s, without.deltas_per_s));
    figures.add("deltas_per_s_without", without.deltas_per_s);
    figures.add("deltas_per_s_with", with.deltas_per_s);
    figures.flag("stopped_evicted", with.evicted);
    figures.count("slow_closed_with", with.slow_closed.unwrap_or(0).into());
    let good_closed = without.good_closed + with.good_closed;
    figures.count("good_closed", good_closed);
    // A rate of subscribers that were cut off is none.
    figures.flag("comparable", good_closed == 0);
    Ok(figures)
}

fn once(bench: &Bench, sizes: Sizes, with_bad: bool) -> Result<Run, LoadError> {
    let mut subscribers = good(sizes);
    let mut stopped = None;
    if with_bad {
        subscribers.push(Subscriber { pace: Pace::Slow(SLOW), latency: false });
    }
    let mut stage = bench.stage(&subscribers)?;
    if with_bad {
        stopped = Some(open_stream(stage.manager.address(), bench.view)?.0);
    }
    let cost = stage.turn(&flood(sizes.deltas, sizes.bytes), sizes.subscribers)?;
    let evicted = stopped.as_ref().is_some_and(|one| eviction(one, EVICTION_DEADLINE).is_some());
    let outcomes = stage.readers.finish();
    let (good, slow) = outcomes.split_at(sizes.subscribers);
    Ok(Run {
        deltas_per_s: per(sizes.deltas as f64, cost.seconds),
        good_closed: closed(good),
        slow_closed: slow.first().and_then(|slow| slow.closed),
        evicted,
    })
}
