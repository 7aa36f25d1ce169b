//! Starting a child, and the handle by which it is watched and stopped.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::{ChildStderr, ChildStdin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::exit::{self, ExitWatch, Group, lock};
use crate::launch::launch;
use crate::procfs::{ProcessIdentity, identity_of};
use crate::readiness::DRAIN_TIME;
use crate::sink::{ChildExit, OutputSink};
use crate::spec::{ChildSpec, SpawnError};
use crate::stderr::{self, StderrCallback, StderrTail};
use crate::stdin::{self, StdinWriter};
use crate::stdout::{self, GuardedSink};
use crate::stop::{self, StopDeadlines, StopParts};

/// How long a caller waits for the operating system to start a process.
const SPAWN_DEADLINE: Duration = Duration::from_secs(10);

/// How long the final report waits for the thread that reads stderr.
const STDERR_GRACE: Duration = DRAIN_TIME.saturating_mul(2);

/// How long a child may live on without stdout. Longer than a graceful stop takes, so that the
/// stop's own steps come first.
const MUTE_GRACE: Duration = Duration::from_secs(2);

/// A child that was started.
///
/// Dropping it kills the whole group at once, also in the middle of a graceful stop: keep it until
/// [`OutputSink::ended`] was called.
pub struct Child {
    pid: u32,
    /// Read before the process could be reaped, so it certainly belongs to this child.
    identity: Option<ProcessIdentity>,
    /// First part of the names of the child's threads.
    name: String,
    parts: StopParts,
    tail: Arc<Mutex<StderrTail>>,
    /// Whether a graceful stop was begun; there is only one.
    stopping: AtomicBool,
}

impl Child {
    /// Process id, which is also the id of the child's process group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Who the child is beyond its number; `None` where `/proc` does not say.
    pub fn identity(&self) -> Option<ProcessIdentity> {
        self.identity
    }

    /// Writes to the child's stdin.
    pub fn stdin(&self) -> StdinWriter {
        self.parts.stdin.clone()
    }

    /// The last lines of stderr so far, oldest first, an unfinished line included.
    pub fn stderr_tail(&self) -> Vec<String> {
        lock(&self.tail).snapshot()
    }

    /// Whether the process has ended and was reaped. [`OutputSink::ended`] may still be to come.
    pub fn has_exited(&self) -> bool {
        self.parts.exit.is_over()
    }

    /// Begins the graceful stop and returns at once; a second call changes nothing.
    ///
    /// The outcome arrives through [`OutputSink::ended`]. To cut it short, call
    /// [`Child::kill_group`].
    pub fn stop(&self, deadlines: StopDeadlines) {
        if self.stopping.swap(true, Ordering::Relaxed) {
            return;
        }
        let parts = self.parts.clone();
        let body = move || stop::drive(deadlines, &parts.group, &parts.stdin, &parts.exit);
        let spawned = thread::Builder::new().name(format!("{}-stop", self.name)).spawn(body);
        if let Err(error) = spawned {
            // Without a thread nobody could wait for the deadlines, and a child that is never
            // stopped is worse than one that is stopped rudely.
            tracing::warn!(%error, "no thread for a graceful stop; killing the child");
            self.kill_group();
        }
    }

    /// Sends SIGKILL to the child and everything in its group. Never waits.
    pub fn kill_group(&self) {
        self.parts.group.signal(Signal::SIGKILL);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill_group();
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("pid", &self.pid)
            .field("identity", &self.identity)
            .field("exited", &self.has_exited())
            .finish_non_exhaustive()
    }
}

/// Starts a child in its own process group and returns when it really runs.
///
/// Its output goes to `sink`, on a thread that lives until the child is gone. The child dies by
/// SIGKILL when this process dies, however it dies (Linux).
///
/// # Errors
///
/// [`SpawnError`]; the sink is then dropped without having been called.
pub fn spawn(spec: ChildSpec, sink: impl OutputSink + 'static) -> Result<Child, SpawnError> {
    start(spec, Box::new(sink), None)
}

/// Like [`spawn`], and hands every line of stderr to `on_stderr_line`.
///
/// # Errors
///
/// As [`spawn`].
pub fn spawn_logged(
    spec: ChildSpec,
    sink: impl OutputSink + 'static,
    on_stderr_line: StderrCallback,
) -> Result<Child, SpawnError> {
    start(spec, Box::new(sink), Some(on_stderr_line))
}

fn start(
    spec: ChildSpec,
    sink: Box<dyn OutputSink>,
    on_stderr_line: Option<StderrCallback>,
) -> Result<Child, SpawnError> {
    let program = spec.program.clone();
    let name = thread_name(&program);
    // Without a buffer, a child is either taken by the caller or known not to be.
    let (started, answer) = sync_channel(0);
    let body = {
        let name = name.clone();
        move || attend_child(&spec, name, sink, on_stderr_line, &started)
    };
    if let Err(source) = thread::Builder::new().name(format!("{name}-out")).spawn(body) {
        return Err(SpawnError::Other { program, source });
    }
    match answer.recv_timeout(SPAWN_DEADLINE) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => Err(SpawnError::TimedOut { program }),
        Err(RecvTimeoutError::Disconnected) => {
            let source = io::Error::other("the starting thread ended early");
            Err(SpawnError::Other { program, source })
        }
    }
}

/// Body of the thread that spawns the child, reads its stdout and reports its end.
///
/// It lives until the child is gone, because the child's parent-death signal follows this thread.
fn attend_child(
    spec: &ChildSpec,
    name: String,
    sink: Box<dyn OutputSink>,
    on_stderr_line: Option<StderrCallback>,
    started: &SyncSender<Result<Child, SpawnError>>,
) {
    let tail = Arc::new(Mutex::new(StderrTail::default()));
    let running = match start_process(spec, &name, &tail, on_stderr_line) {
        Ok(running) => running,
        Err(error) => {
            // A caller that has left already knows that there is no child.
            let _ = started.send(Err(error));
            return;
        }
    };
    let (exit, group) = (Arc::clone(&running.parts.exit), Arc::clone(&running.parts.group));
    let child = Child {
        pid: running.pid,
        identity: running.identity,
        name,
        parts: running.parts,
        tail: Arc::clone(&tail),
        stopping: AtomicBool::new(false),
    };
    // A child that nobody takes comes back in the error and is killed by its drop.
    let mut sink = match started.send(Ok(child)) {
        Ok(()) => GuardedSink::new(sink),
        Err(_) => GuardedSink::absent(),
    };
    if let Some(pipe) = running.stdout {
        stdout::pump(pipe, spec.line_cap, &mut sink, &exit);
        // Nothing that is asked of it would ever be answered, and nobody would be told.
        if !exit.wait_at_most(MUTE_GRACE) {
            tracing::error!("a child has closed its stdout and lives on; killing it");
            group.signal(Signal::SIGKILL);
        }
    }
    let (code, signal) = exit.wait();
    // The thread's end drops its sender: that, not a message, is what is waited for.
    let _ = running.stderr_ended.recv_timeout(STDERR_GRACE);
    let stderr_tail = lock(&tail).snapshot();
    sink.ended(ChildExit { code, signal, stderr_tail });
}

/// A started process with its helping threads at work.
struct Running {
    pid: u32,
    identity: Option<ProcessIdentity>,
    parts: StopParts,
    stdout: Option<std::process::ChildStdout>,
    stderr_ended: Receiver<()>,
}

/// What the waiting thread gets once there is a process.
struct Attended {
    process: std::process::Child,
    parts: StopParts,
}

/// Starts the process and puts its helping threads to work.
///
/// The threads are made first, so that nothing can fail once there is a process.
fn start_process(
    spec: &ChildSpec,
    name: &str,
    tail: &Arc<Mutex<StderrTail>>,
    on_stderr_line: Option<StderrCallback>,
) -> Result<Running, SpawnError> {
    let no_means = |source| SpawnError::Other { program: spec.program.clone(), source };
    let (exit, exit_signal) = ExitWatch::new().map_err(no_means)?;
    let stdin = StdinWriter::new();

    let (ended, stderr_ended) = sync_channel(1);
    let for_stderr = {
        let (tail, exit) = (Arc::clone(tail), Arc::clone(&exit));
        helper(format!("{name}-err"), move |pipe: ChildStderr| {
            let _ended: SyncSender<()> = ended;
            stderr::drain(pipe, &tail, on_stderr_line, &exit);
        })
    };
    let for_stdin = {
        let (stdin, exit) = (stdin.clone(), Arc::clone(&exit));
        helper(format!("{name}-in"), move |pipe: ChildStdin| stdin::serve(&stdin, pipe, &exit))
    };
    let for_waiting = helper(format!("{name}-wait"), move |attended: Attended| {
        let Attended { process, parts } = attended;
        exit::attend(process, &parts.group, &parts.exit, exit_signal, &parts.stdin);
    });
    let for_stderr = for_stderr.map_err(no_means)?;
    let for_stdin = for_stdin.map_err(no_means)?;
    let for_waiting = for_waiting.map_err(no_means)?;

    let mut process = launch(spec)?;
    let pid = process.id();
    let identity = identity_of(pid);
    let group = Arc::new(Group::new(Pid::from_raw(pid.cast_signed())));
    let parts = StopParts { group, stdin, exit };
    let stdout = process.stdout.take();
    // Each channel holds one value and its thread does nothing but wait for it.
    if let Some(pipe) = process.stderr.take() {
        let _ = for_stderr.send(pipe);
    }
    if let Some(pipe) = process.stdin.take() {
        let _ = for_stdin.send(pipe);
    }
    let _ = for_waiting.send(Attended { process, parts: parts.clone() });
    Ok(Running { pid, identity, parts, stdout, stderr_ended })
}

/// Makes a thread that waits for one value, works on it and ends; it also ends when the sender is
/// dropped without one.
fn helper<T: Send + 'static>(
    name: String,
    body: impl FnOnce(T) + Send + 'static,
) -> io::Result<SyncSender<T>> {
    let (sender, receiver) = sync_channel(1);
    thread::Builder::new().name(name).spawn(move || {
        if let Ok(value) = receiver.recv() {
            body(value);
        }
    })?;
    Ok(sender)
}

/// The kernel keeps 15 bytes of a thread's name, five of which say what the thread does.
fn thread_name(program: &Path) -> String {
    let file_name = program.file_name().unwrap_or_default().to_string_lossy();
    file_name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(10).collect()
}
