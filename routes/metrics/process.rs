//! What the operating system says of the process.

use super::page::Page;

/// Adds the families that Prometheus names for every process. Called off the worker's thread: the
/// list of open files is read.
#[cfg(target_os = "linux")]
pub(super) fn describe(page: &mut Page) {
    if let Err(error) = from_proc(page) {
        tracing::debug!(%error, "the process cannot be looked at");
    }
}

/// Other systems have no `/proc`.
#[cfg(not(target_os = "linux"))]
pub(super) fn describe(_: &mut Page) {}

#[cfg(target_os = "linux")]
fn from_proc(page: &mut Page) -> procfs::ProcResult<()> {
    use super::page::number;

    let process = procfs::process::Process::myself()?;
    let stat = process.stat()?;
    let ticks = number(procfs::ticks_per_second());
    page.counter(
        "process_cpu_seconds_total",
        "CPU time of the manager, its child excluded, in seconds.",
        number(stat.utime + stat.stime) / ticks,
    );
    page.gauge(
        "process_resident_memory_bytes",
        "Resident memory of the manager in bytes.",
        number(stat.rss * procfs::page_size()),
    );
    page.gauge(
        "process_virtual_memory_bytes",
        "Virtual memory of the manager in bytes.",
        number(stat.vsize),
    );
    let threads = u64::try_from(stat.num_threads).unwrap_or_default();
    page.gauge("process_threads", "Threads of the manager.", number(threads));
    let open = u64::try_from(process.fd_count()?).unwrap_or(u64::MAX);
    page.gauge("process_open_fds", "Open file descriptors, sockets included.", number(open));
    if let procfs::process::LimitValue::Value(limit) = process.limits()?.max_open_files.soft_limit {
        page.gauge("process_max_fds", "File descriptors that may be open.", number(limit));
    }
    let boot = procfs::boot_time_secs()?;
    page.gauge(
        "process_start_time_seconds",
        "When the manager was started, in seconds since 1970.",
        number(boot) + number(stat.starttime) / ticks,
    );
    Ok(())
}
