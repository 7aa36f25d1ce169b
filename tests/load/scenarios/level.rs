//! Floods over many sessions one after another: what they leave behind must level off.

use super::bench::{Bench, closed, flood, good, mib};
use super::table::Sizes;
use crate::error::LoadError;
use crate::process::memory;
use crate::report::Figures;

pub(super) fn run(bench: &Bench, sizes: Sizes) -> Result<Figures, LoadError> {
    let mut stage = bench.stage(&good(sizes))?;
    let pid = stage.manager.pid();
    let mut resident = Vec::with_capacity(sizes.sessions);
    for session in stage.manager.sessions(sizes.sessions)? {
        stage.move_to(session);
        stage.turn(&flood(sizes.deltas, sizes.bytes), sizes.subscribers)?;
        resident.push(mib(memory(pid).resident));
    }
    let peak = memory(pid).peak;
    let outcomes = stage.readers.finish();
    let (first, second) = resident.split_at(resident.len() / 2);
    let most = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
    let mut figures = Figures::default();
    figures.add("first_half_mib", most(first));
    figures.add("second_half_mib", most(second));
    figures.add("growth_mib", most(second) - most(first));
    figures.add("peak_mib", mib(peak));
    figures.list("resident_mib", resident);
    figures.count("closed", closed(&outcomes));
    Ok(figures)
}
