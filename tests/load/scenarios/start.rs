//! From the start of the process to ready, and what is resident when nothing happens.

use std::time::Duration;

use super::bench::{Bench, mib};
use super::table::Sizes;
use crate::error::LoadError;
use crate::manager::Manager;
use crate::process::memory;
use crate::report::{Figures, Samples};

/// What a manager has to come to rest after its start.
const SETTLE: Duration = Duration::from_secs(2);

pub(super) fn run(bench: &Bench, sizes: Sizes) -> Result<Figures, LoadError> {
    let mut times = Vec::new();
    let mut resident = Vec::new();
    for _ in 0..sizes.messages.max(1) {
        let manager = Manager::start(&bench.program)?;
        times.push(u64::try_from(manager.ready_after().as_nanos()).unwrap_or(u64::MAX));
        std::thread::sleep(SETTLE);
        resident.push(memory(manager.pid()).resident);
    }
    resident.sort_unstable();
    let samples = Samples::new(times);
    let mut figures = Figures::default();
    figures.add("ready_ms", samples.percentile_us(50.0) / 1_000.0);
    figures.add("ready_max_ms", samples.percentile_us(100.0) / 1_000.0);
    figures.add("idle_resident_mib", mib(resident[resident.len() / 2]));
    figures.count("starts", samples.len() as u64);
    Ok(figures)
}
