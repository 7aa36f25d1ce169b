//! Questions about processes, and the one polling loop of the test suites.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Pause between two looks in [`wait_until`].
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Waits until `condition` holds.
///
/// This is the only place that looks again after a pause, for conditions that nothing announces:
/// a process that is gone, a file that another program writes, a readiness probe. Everything that
/// has an event is waited for through its [`crate::mailbox::Mailbox`].
///
/// # Panics
///
/// When the deadline passes.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition() {
        if Instant::now() >= end {
            panic!("not within {deadline:?}: {what}");
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Whether the process runs. A zombie does not: it only waits for its parent.
pub fn pid_alive(pid: u32) -> bool {
    if cfg!(target_os = "linux") {
        return state_of(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'));
    }
    as_pid(pid).is_some_and(|pid| kill(pid, None).is_ok())
}

/// Waits until the process is gone.
///
/// # Panics
///
/// When it is still there at the deadline.
#[track_caller]
pub fn wait_pid_gone(pid: u32, deadline: Duration) {
    wait_until(&format!("process {pid} is gone"), deadline, || !pid_alive(pid));
}

/// Sends SIGKILL to one process; one that is gone is fine.
pub fn kill_process(pid: u32) {
    signal_process(pid, Signal::SIGKILL);
}

/// Sends a signal to one process; one that is gone is fine.
pub fn signal_process(pid: u32, signal: Signal) {
    if let Some(pid) = as_pid(pid) {
        // ESRCH is the outcome that was asked for.
        let _ = kill(pid, signal);
    }
}

/// Sends SIGKILL to a process group; one that is gone is fine.
pub fn kill_group(pid: u32) {
    if let Some(pid) = as_pid(pid) {
        let _ = killpg(pid, Signal::SIGKILL);
    }
}

/// Live processes whose environment holds `NAME=value`, this one excluded (Linux only).
///
/// A program passes its environment to what it starts, so this finds every descendant, also one
/// that has left the process group or lost its parent.
pub fn processes_with_env(name: &str, value: &str) -> Vec<u32> {
    let wanted = format!("{name}={value}").into_bytes();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut found: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id() && pid_alive(*pid))
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == wanted)
        })
        .collect();
    found.sort_unstable();
    found
}

/// What `ps` would show for a process, for messages.
pub fn command_line(pid: u32) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&raw).replace('\0', " ").trim().to_owned()
}

/// Field 3 of `/proc/<pid>/stat`. The name in field 2 may hold spaces and parentheses, so the
/// last closing parenthesis is what counts (proc_pid_stat(5)).
fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].trim_start().chars().next()
}

/// Never 0 or 1: signalled as a group these would mean this very process, or everybody.
fn as_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().filter(|pid| *pid > 1).map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_live_process_a_zombie_and_a_dead_one_are_told_apart() {
        let mut child = Command::new("cat")
            .env("CM_TESTKIT_MARK", "process-rs")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("cat");
        let pid = child.id();
        assert!(pid_alive(pid));
        wait_until("the mark shows after exec", Duration::from_secs(10), || {
            processes_with_env("CM_TESTKIT_MARK", "process-rs").contains(&pid)
        });
        assert_eq!(command_line(pid), "cat");
        kill_process(pid);
        // Not reaped yet: a zombie counts as gone.
        wait_pid_gone(pid, Duration::from_secs(10));
        assert!(processes_with_env("CM_TESTKIT_MARK", "process-rs").is_empty());
        child.wait().expect("reap");
        assert!(!pid_alive(pid));
    }

    #[test]
    fn pids_that_mean_everybody_are_never_signalled() {
        assert_eq!(as_pid(0), None);
        assert_eq!(as_pid(1), None);
        assert_eq!(as_pid(u32::MAX), None);
    }
}
