//! Deltas as fast as they are taken, to many subscribers.

use super::bench::{Bench, closed, flood, frames, good, mib, per};
use super::table::Sizes;
use crate::error::LoadError;
use crate::process::{memory, reset_peak};
use crate::report::Figures;

pub(super) fn run(bench: &Bench, sizes: Sizes) -> Result<Figures, LoadError> {
    let mut stage = bench.stage(&good(sizes))?;
    let pid = stage.manager.pid();
    let before = frames(&stage.readers.seen());
    reset_peak(pid)?;
    let cost = stage.turn(&flood(sizes.deltas, sizes.bytes), sizes.subscribers)?;
    let memory = memory(pid);
    let outcomes = stage.readers.finish();
    let frames = frames(&outcomes) - before;
    let events = sizes.deltas * bench.view.frames_per_event();
    let complete = outcomes.iter().all(|outcome| outcome.frames >= events);
    let deltas = sizes.deltas as f64;
    let mut figures = Figures::default();
    figures.add("deltas_per_s", per(deltas, cost.seconds));
    figures.add("frames_per_s", per(frames as f64, cost.seconds));
    figures.add("cpu_s_per_million_deltas", per(cost.manager_cpu * 1e6, deltas));
    figures.add("cpu_us_per_frame", per(cost.manager_cpu * 1e6, frames as f64));
    figures.add("seconds", cost.seconds);
    figures.add("manager_cpu_s", cost.manager_cpu);
    figures.add("child_cpu_s", cost.child_cpu);
    figures.add("client_cpu_s", cost.client_cpu);
    figures.add("peak_mib", mib(memory.peak));
    figures.count("frames", frames);
    figures.count("closed", closed(&outcomes));
    figures.flag("complete", complete);
    Ok(figures)
}
