//! A restart on a store with many sessions.

use std::time::{Duration, Instant};

use super::bench::{Bench, mib};
use super::table::Sizes;
use crate::error::LoadError;
use crate::manager::Manager;
use crate::process::memory;
use crate::report::{Figures, Samples};

/// What a manager has to come to rest after its start.
const SETTLE: Duration = Duration::from_secs(2);

pub(super) fn run(bench: &Bench, sizes: Sizes) -> Result<Figures, LoadError> {
    let mut manager = Manager::start(&bench.program)?;
    let began = Instant::now();
    manager.sessions(sizes.sessions)?;
    let creating = began.elapsed().as_secs_f64();
    let (mut ready, mut list, mut page) = (Vec::new(), Vec::new(), 0);
    let mut resident = Vec::new();
    for _ in 0..sizes.messages.max(1) {
        manager = manager.restart()?;
        let mut connection = manager.connect()?;
        let asked = Instant::now();
        let path = "/api/sessions?limit=100";
        let answer = connection.get(path)?.expect(200, path)?;
        list.push(nanoseconds(asked.elapsed()));
        ready.push(nanoseconds(manager.ready_after()));
        page = answer.body["data"].as_array().map_or(0, Vec::len);
        std::thread::sleep(SETTLE);
        resident.push(memory(manager.pid()).resident);
    }
    resident.sort_unstable();
    let mut figures = Figures::default();
    figures.add("ready_ms", Samples::new(ready).percentile_us(50.0) / 1_000.0);
    figures.add("first_page_ms", Samples::new(list).percentile_us(50.0) / 1_000.0);
    figures.add("resident_mib", mib(resident[resident.len() / 2]));
    figures.add("creates_per_s", sizes.sessions as f64 / creating);
    figures.count("page", page as u64);
    Ok(figures)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
