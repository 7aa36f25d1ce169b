//! Deltas at a pace: how long from the child's write to a client's read.

use super::bench::{Bench, closed, frames, per};
use super::table::Sizes;
use crate::client::{Pace, Subscriber};
use crate::error::LoadError;
use crate::report::{Figures, Samples};

pub(super) fn run(bench: &Bench, sizes: Sizes) -> Result<Figures, LoadError> {
    let subscriber = Subscriber { pace: Pace::Full, latency: true };
    let mut stage = bench.stage(&vec![subscriber; sizes.subscribers])?;
    let before = frames(&stage.readers.seen());
    let text = format!("pace rate={} seconds={}", sizes.rate, sizes.seconds);
    let cost = stage.turn(&text, sizes.subscribers)?;
    let outcomes = stage.readers.finish();
    let frames = frames(&outcomes) - before;
    let samples = Samples::new(outcomes.iter().flat_map(|one| one.late_ns.clone()).collect());
    let events = sizes.rate * sizes.seconds * bench.view.frames_per_event();
    let expected = events * sizes.subscribers as u64;
    let mut figures = Figures::default();
    figures.add("p50_ms", samples.percentile_us(50.0) / 1_000.0);
    figures.add("p99_ms", samples.percentile_us(99.0) / 1_000.0);
    figures.add("max_ms", samples.percentile_us(100.0) / 1_000.0);
    figures.count("samples", samples.len() as u64);
    figures.add("cpu_us_per_frame", per(cost.manager_cpu * 1e6, frames as f64));
    figures.add("manager_cpu_s", cost.manager_cpu);
    figures.add("client_cpu_s", cost.client_cpu);
    figures.count("closed", closed(&outcomes));
    figures.flag("complete", samples.len() as u64 == expected);
    Ok(figures)
}
