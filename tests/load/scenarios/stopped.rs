//! A flood with a subscriber that stops reading, against the same flood without it.

use std::time::Duration;

use super::bench::{Bench, closed, flood, good, mib, per};
use super::table::Sizes;
use crate::client::{eviction, open_stream};
use crate::error::LoadError;
use crate::process::{memory, reset_peak};
use crate::report::Figures;

/// How long after the flood the stopped one may still hold its connection.
const EVICTION_DEADLINE: Duration = Duration::from_secs(30);

struct Run {
    seconds: f64,
    peak: u64,
    resident: u64,
    closed: u64,
    evicted_after: Option<Duration>,
}

pub(super) fn run(bench: &Bench, sizes: Sizes) -> Result<Figures, LoadError> {
    let without = once(bench, sizes, false)?;
    let with = once(bench, sizes, true)?;
    let deltas = sizes.deltas as f64;
    let mut figures = Figures::default();
    figures.add("peak_growth_mib", mib(with.peak) - mib(without.peak));
    figures.add("resident_growth_mib", mib(with.resident) - mib(without.resident));
    figures.add("peak_without_mib", mib(without.peak));
    figures.add("peak_with_mib", mib(with.peak));
    figures.add("deltas_per_s_without", per(deltas, without.seconds));
    figures.add("deltas_per_s_with", per(deltas, with.seconds));
    figures.flag("evicted", with.evicted_after.is_some());
    figures.add("evicted_after_s", with.evicted_after.map_or(0.0, |after| after.as_secs_f64()));
    figures.count("good_closed", without.closed + with.closed);
    Ok(figures)
}

fn once(bench: &Bench, sizes: Sizes, with_stopped: bool) -> Result<Run, LoadError> {
    let mut stage = bench.stage(&good(sizes))?;
    let pid = stage.manager.pid();
    // Never read from: what its kernel does not take stays with the manager.
    let stopped = match with_stopped {
        true => Some(open_stream(stage.manager.address(), bench.view)?.0),
        false => None,
    };
    reset_peak(pid)?;
    let cost = stage.turn(&flood(sizes.deltas, sizes.bytes), sizes.subscribers)?;
    stage.await_idle()?;
    let evicted_after = stopped.as_ref().and_then(|stream| eviction(stream, EVICTION_DEADLINE));
    let memory = memory(pid);
    let outcomes = stage.readers.finish();
    Ok(Run {
        seconds: cost.seconds,
        peak: memory.peak,
        resident: memory.resident,
        closed: closed(&outcomes),
        evicted_after,
    })
}
