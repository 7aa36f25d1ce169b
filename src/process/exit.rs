//! The process group of a child and the moment its leader ends.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};

use crate::stdin::StdinWriter;

/// Takes a lock whose holder may have panicked: every value here is valid after each statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The group that a child leads. Signals go only to a group that is certainly still its own.
#[derive(Debug)]
pub(crate) struct Group {
    /// Process id of the leader, which is also the id of the group.
    leader: Pid,
    /// Whether the leader was not reaped yet: until then its number cannot be given to another
    /// process. The lock is held while a signal is sent.
    unreaped: Mutex<bool>,
}

impl Group {
    pub(crate) fn new(leader: Pid) -> Self {
        Self { leader, unreaped: Mutex::new(true) }
    }

    /// Sends a signal to every member, or does nothing once the leader was reaped.
    pub(crate) fn signal(&self, signal: Signal) {
        let unreaped = lock(&self.unreaped);
        if *unreaped {
            self.send(signal);
        }
    }

    /// Kills what the leader left behind, unless the number is no longer `ours`. Afterwards no
    /// signal is sent any more.
    fn finish(&self, ours: bool) {
        let mut unreaped = lock(&self.unreaped);
        if ours {
            self.send(Signal::SIGKILL);
        }
        *unreaped = false;
    }

    fn send(&self, signal: Signal) {
        // Either call fails only if there is nobody left to signal. A leader that has moved to
        // another group gets its own signal.
        let _ = killpg(self.leader, signal);
        if getpgid(Some(self.leader)).is_ok_and(|group| group != self.leader) {
            let _ = kill(self.leader, signal);
        }
    }
}

/// Tells everybody who waits that the child has ended.
#[derive(Debug)]
pub(crate) struct ExitWatch {
    /// Hangs up when the child has ended; for threads that wait in `poll`.
    hang_up: PipeReader,
    /// `Some` once the child was reaped; the inner value is absent if somebody else took it.
    over: Mutex<Option<Option<ExitStatus>>>,
    /// Signalled when `over` is set; for threads that wait for nothing else.
    changed: Condvar,
}

impl ExitWatch {
    /// The watch, and the end whose drop is the signal for `poll`.
    pub(crate) fn new() -> io::Result<(Arc<Self>, PipeWriter)> {
        let (hang_up, signal) = io::pipe()?;
        let watch = Self { hang_up, over: Mutex::new(None), changed: Condvar::new() };
        Ok((Arc::new(watch), signal))
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.hang_up.as_fd()
    }

    pub(crate) fn is_over(&self) -> bool {
        lock(&self.over).is_some()
    }

    /// Waits for the end of the child, at most `timeout`; answers whether it has ended.
    pub(crate) fn wait_at_most(&self, timeout: Duration) -> bool {
        let Some(deadline) = Instant::now().checked_add(timeout) else {
            self.wait();
            return true;
        };
        let mut over = lock(&self.over);
        while over.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(over, left);
            over = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Waits for the end of the child: its exit code and the signal that ended it.
    pub(crate) fn wait(&self) -> (Option<i32>, Option<i32>) {
        let mut over = lock(&self.over);
        loop {
            if let Some(status) = *over {
                return (
                    status.and_then(|status| status.code()),
                    status.and_then(|status| status.signal()),
                );
            }
            over = self.changed.wait(over).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn set_over(&self, status: Option<ExitStatus>) {
        *lock(&self.over) = Some(status);
        self.changed.notify_all();
    }
}

/// Body of the waiter thread: waits for the leader, ends its group, reaps it, tells everybody.
pub(crate) fn attend(
    process: std::process::Child,
    group: &Group,
    watch: &ExitWatch,
    signal: PipeWriter,
    stdin: &StdinWriter,
) {
    let status = end_of(process, group);
    watch.set_over(status);
    stdin.abandon();
    drop(signal);
}

/// The group is killed while the leader is a zombie: its number is then still its own.
#[cfg(target_os = "linux")]
fn end_of(mut process: std::process::Child, group: &Group) -> Option<ExitStatus> {
    use nix::errno::Errno;
    use nix::sys::wait::{Id, WaitPidFlag, waitid};

    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    let ours = loop {
        match waitid(Id::Pid(group.leader), flags) {
            Err(Errno::EINTR) => {}
            // Somebody else has reaped it, so its number means nothing any more.
            Err(Errno::ECHILD) => break false,
            // Any other answer means that it has ended: also the one that fails to name a
            // real-time signal.
            _ => break true,
        }
    };
    group.finish(ours);
    process.wait().ok()
}

/// Without `waitid` the group is killed right after the leader was reaped. Its number stays taken
/// as long as the group has members, so only an empty group can be mistaken for another.
#[cfg(not(target_os = "linux"))]
fn end_of(mut process: std::process::Child, group: &Group) -> Option<ExitStatus> {
    let status = process.wait().ok();
    group.finish(true);
    status
}
