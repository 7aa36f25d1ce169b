//! One very long line of the child, and how health is answered meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::bench::{Bench, closed, good, mib};
use super::table::Sizes;
use crate::client::HttpConnection;
use crate::error::LoadError;
use crate::manager::Program;
use crate::process::{memory, reset_peak};
use crate::report::{Figures, Samples};

/// How often health is asked for.
const PROBE: Duration = Duration::from_millis(1);

/// The cap of lines with which the manager is started.
const LINE_CAP: &str = "128MiB";

pub(super) fn run(bench: &Bench, sizes: Sizes) -> Result<Figures, LoadError> {
    let mut environment = bench.program.environment.clone();
    environment.push(("CODEX_MANAGER_LINE_CAP_BYTES".to_owned(), LINE_CAP.to_owned()));
    let path = bench.program.path.clone();
    let bench = Bench { program: Program { path, environment }, view: bench.view };
    let mut stage = bench.stage(&good(sizes))?;
    let pid = stage.manager.pid();
    let mut prober = stage.manager.connect()?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    reset_peak(pid)?;
    let before = memory(pid).resident;
    // It ends when it is told to, below.
    let probing = std::thread::Builder::new()
        .name("health".to_owned())
        .spawn(move || probe(&mut prober, &stopped))
        .map_err(LoadError::system("start the prober"))?;
    let turn = stage.turn(&format!("line bytes={}", sizes.bytes), sizes.subscribers);
    let idle = stage.await_idle();
    stop.store(true, Ordering::Relaxed);
    let probed = probing.join();
    let (cost, ()) = (turn?, idle?);
    let late = || stage.manager.late("health", PROBE);
    let samples = Samples::new(probed.map_err(|_| late())??);
    let memory = memory(pid);
    let outcomes = stage.readers.finish();
    let mut figures = Figures::default();
    figures.add("peak_mib", mib(memory.peak));
    figures.add("before_mib", mib(before));
    figures.add("after_mib", mib(memory.resident));
    figures.add("health_p50_ms", samples.percentile_us(50.0) / 1_000.0);
    figures.add("health_p99_ms", samples.percentile_us(99.0) / 1_000.0);
    figures.add("health_max_ms", samples.percentile_us(100.0) / 1_000.0);
    figures.count("health_answers", samples.len() as u64);
    figures.add("seconds", cost.seconds);
    figures.add("manager_cpu_s", cost.manager_cpu);
    figures.count("stream_bytes", outcomes.iter().map(|outcome| outcome.bytes).sum());
    figures.count("closed", closed(&outcomes));
    Ok(figures)
}

/// Asks at fixed times, whether or not the answer before came in time, and counts from these
/// times on: one long stall counts for every question that it kept waiting.
fn probe(connection: &mut HttpConnection, stop: &AtomicBool) -> Result<Vec<u64>, LoadError> {
    let mut times = Vec::new();
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        connection.get("/api/health")?.expect(200, "GET /api/health")?;
        times.push(u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX));
        due += PROBE;
    }
    Ok(times)
}
