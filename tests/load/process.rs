//! What the system says of a process: CPU, memory, open files.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::error::LoadError;

/// Ticks per second of the times in `/proc/<pid>/stat`: USER_HZ, 100 on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time that a process has used in user and kernel mode (fields 14 and 15 of
/// `/proc/<pid>/stat`, proc_pid_stat(5)); zero for one that is gone.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in field 2 may hold spaces; the last closing parenthesis ends it.
    let after_name = stat.rfind(')').map_or("", |end| &stat[end + 1..]);
    let ticks = |index| after_name.split_whitespace().nth(index)?.parse::<u64>().ok();
    let ticks = ticks(11).unwrap_or(0) + ticks(12).unwrap_or(0);
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

/// Memory of a process in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident: u64,
    /// The most that was resident since the last [`reset_peak`].
    pub(crate) peak: u64,
}

/// Reads VmRSS and VmHWM; zeros for a process that is gone.
pub(crate) fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
    };
    Memory { resident: field("VmRSS").unwrap_or(0), peak: field("VmHWM").unwrap_or(0) }
}

/// Lets the peak of a process start at what is resident now (proc_pid_clear_refs(5), value 5).
///
/// # Errors
///
/// When the system refuses, which makes every later peak meaningless.
pub(crate) fn reset_peak(pid: u32) -> Result<(), LoadError> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").map_err(LoadError::system("reset the peak"))
}

/// Allows as many open files as this user may have; a thousand subscribers need them.
pub(crate) fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Refused only where it is as high as it may be.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// CPU and wall time of a stretch of a measurement.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    pids: Vec<u32>,
    began: Instant,
    before: Vec<Duration>,
}

impl Stopwatch {
    /// Starts one over these processes.
    pub(crate) fn start(pids: &[u32]) -> Self {
        let before = pids.iter().map(|pid| cpu_time(*pid)).collect();
        Self { pids: pids.to_vec(), began: Instant::now(), before }
    }

    /// Wall time in seconds until `end`, or until now.
    pub(crate) fn seconds(&self, end: Option<Instant>) -> f64 {
        end.unwrap_or_else(Instant::now).duration_since(self.began).as_secs_f64()
    }

    /// CPU seconds of each process so far, in the order of the start.
    pub(crate) fn cpu_seconds(&self) -> Vec<f64> {
        let used = |(pid, before): (&u32, &Duration)| cpu_time(*pid).saturating_sub(*before);
        self.pids.iter().zip(&self.before).map(|pair| used(pair).as_secs_f64()).collect()
    }
}

/// Median time of an append of 4 KiB with its fdatasync in a folder, in microseconds: what the
/// disk itself costs, beside which durable figures are read.
///
/// # Errors
///
/// When the folder cannot be written.
pub(crate) fn fdatasync_p50_us(folder: &Path, rounds: usize) -> Result<f64, LoadError> {
    use std::io::Write;
    let path = folder.join("fdatasync-probe");
    let probe = || -> std::io::Result<Vec<u64>> {
        let mut file = fs::File::create(&path)?;
        let block = [0x5a; 4096];
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let began = Instant::now();
            file.write_all(&block)?;
            file.sync_data()?;
            times.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(times)
    };
    let times = probe().map_err(LoadError::system("measure fdatasync"));
    // The probe is of no use to anybody afterwards; the folder goes with the measurement anyway.
    let _ = fs::remove_file(&path);
    Ok(crate::report::Samples::new(times?).percentile_us(50.0))
}
