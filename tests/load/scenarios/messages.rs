//! Messages one after another on one connection, each to the next session; their turns end at
//! once. Beside it what the disk takes for one fdatasync.

use std::time::Instant;

use super::bench::{Bench, per};
use super::table::Sizes;
use crate::error::LoadError;
use crate::manager::Manager;
use crate::process::{Stopwatch, fdatasync_p50_us};
use crate::report::{Figures, Samples};

/// Rounds of the probe of the disk.
const PROBES: usize = 500;

pub(super) fn run(bench: &Bench, sizes: Sizes) -> Result<Figures, LoadError> {
    let manager = Manager::start(&bench.program)?;
    let sessions = manager.sessions(sizes.sessions)?;
    let mut connection = manager.connect()?;
    let before = fdatasync_p50_us(&manager.data_dir(), PROBES)?;
    let pids = [manager.pid(), manager.child_pid()?, std::process::id()];
    let mut times = Vec::with_capacity(sizes.messages);
    let watch = Stopwatch::start(&pids);
    for session in sessions.iter().cycle().take(sizes.messages) {
        let asked = Instant::now();
        manager.send(&mut connection, session, "end")?;
        times.push(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    let (seconds, cpu) = (watch.seconds(None), watch.cpu_seconds());
    let after = fdatasync_p50_us(&manager.data_dir(), PROBES)?;
    let samples = Samples::new(times);
    let messages = sizes.messages as f64;
    let mut figures = Figures::default();
    figures.add("messages_per_s", per(messages, seconds));
    figures.add("p50_ms", samples.percentile_us(50.0) / 1_000.0);
    figures.add("p99_ms", samples.percentile_us(99.0) / 1_000.0);
    figures.add("max_ms", samples.percentile_us(100.0) / 1_000.0);
    figures.add("fdatasync_p50_ms", (before + after) / 2_000.0);
    figures.add("cpu_us_per_message", per(cpu[0] * 1e6, messages));
    figures.add("child_cpu_us_per_message", per(cpu[1] * 1e6, messages));
    figures.count("messages", samples.len() as u64);
    Ok(figures)
}
