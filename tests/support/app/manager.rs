//! One run of the program: its process, its output and its end.

use std::fmt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::app_server::read_text;
use crate::mailbox::Mailbox;
use crate::process::{kill_group, signal_process};

/// Bytes of each output stream that are kept.
const BYTE_LIMIT: usize = 256 * 1024 * 1024;
/// How long the output of a program that has ended is waited for. A process that it left behind
/// may hold the pipe, so the end of the output is no certain event.
const OUTPUT_DEADLINE: Duration = Duration::from_millis(500);

/// How a run of the program ended.
#[derive(Debug, Clone)]
pub struct Exited {
    /// The exit code, if it was not killed by a signal.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// How long the end took, from the signal or the start.
    pub elapsed: Duration,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

impl fmt::Display for Exited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ended with code {:?}, signal {:?} after {:?}\nstdout:\n{}\nstderr:\n{}",
            self.code, self.signal, self.elapsed, self.stdout, self.stderr
        )
    }
}

/// A running program in its own process group.
#[derive(Debug)]
pub(super) struct Manager {
    pid: u32,
    started: Instant,
    /// Its one entry is the end of the process.
    exit: Arc<Mailbox<ExitStatus>>,
    pub(super) stdout: Arc<Mailbox<String>>,
    pub(super) stderr: Arc<Mailbox<String>>,
}

impl Manager {
    /// Starts the command.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub(super) fn spawn(command: &mut Command) -> Self {
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("failed to start {:?}: {error}", command.get_program()),
        };
        let (stdout, stderr) =
            (Arc::new(Mailbox::new(BYTE_LIMIT)), Arc::new(Mailbox::new(BYTE_LIMIT)));
        if let Some(pipe) = child.stdout.take() {
            let lines = Arc::clone(&stdout);
            std::thread::spawn(move || read_text(pipe, &lines));
        }
        if let Some(pipe) = child.stderr.take() {
            let lines = Arc::clone(&stderr);
            std::thread::spawn(move || read_text(pipe, &lines));
        }
        let exit = Arc::new(Mailbox::new(1));
        let (pid, end) = (child.id(), Arc::clone(&exit));
        let outputs = [Arc::clone(&stdout), Arc::clone(&stderr)];
        std::thread::spawn(move || {
            if let Ok(status) = child.wait() {
                end.push(status, 0);
            }
            end.close("the process was reaped");
            // Wakes who waits for a line that will never come, also where a process that was
            // left behind still holds the pipes.
            let until = Instant::now() + OUTPUT_DEADLINE;
            for lines in outputs {
                let _ = lines.wait_closed(until.saturating_duration_since(Instant::now()));
                lines.close("the process has ended");
            }
        });
        Self { pid, started: Instant::now(), exit, stdout, stderr }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn has_ended(&self) -> bool {
        !self.exit.is_empty()
    }

    /// Sends a signal to the process alone; nothing when it has ended.
    pub(super) fn signal(&self, signal: Signal) {
        if !self.has_ended() {
            signal_process(self.pid, signal);
        }
    }

    /// Sends SIGKILL to what is left of the process group.
    pub(super) fn kill_group(&self) {
        kill_group(self.pid);
    }

    /// Waits for the end; `since` is where `elapsed` counts from, absent the start.
    ///
    /// # Panics
    ///
    /// When it is still there at the deadline.
    #[track_caller]
    pub(super) fn wait_exit(&self, deadline: Duration, since: Option<Instant>) -> Exited {
        let status = match self.exit.wait(deadline, |all| all.first().copied()) {
            Ok(status) => status,
            Err(error) => panic!("the program did not end: {error}\n{}", self.logs(60)),
        };
        let elapsed = since.unwrap_or(self.started).elapsed();
        for lines in [&self.stdout, &self.stderr] {
            // What came by then is all there is to show.
            let _ = lines.wait_closed(2 * OUTPUT_DEADLINE);
        }
        Exited {
            code: status.code(),
            signal: status.signal(),
            elapsed,
            stdout: self.stdout.read(|lines| lines.join("\n")),
            stderr: self.stderr.read(|lines| lines.join("\n")),
        }
    }

    /// The last lines of both streams.
    pub(super) fn logs(&self, count: usize) -> String {
        let last = |lines: &[String]| lines[lines.len().saturating_sub(count)..].join("\n");
        let (stdout, stderr) = (self.stdout.read(last), self.stderr.read(last));
        format!("--- stdout ---\n{stdout}\n--- stderr ---\n{stderr}")
    }
}
