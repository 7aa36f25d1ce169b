//! A command that really runs: own process group, streamed output, bounded in time and size.

use std::io::{self, PipeReader, Read, Write, pipe};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::guard::kill_group;
use crate::turn::{CommandEvent, Inbox, Stop, Turn};

/// Exit code of a command that ran out of time, as in codex.
const TIMED_OUT: i32 = 124;

/// How long output may still arrive after the command has ended. A process that left the group
/// can hold the pipe open for ever.
const REST_OF_OUTPUT: Duration = Duration::from_millis(500);

/// How long a killed process may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// What a command did.
pub(super) struct Ran {
    pub(super) pid: u32,
    pub(super) exit_code: i32,
    /// Both streams in the order in which they were read, cut at the limit.
    pub(super) output: String,
    pub(super) duration_ms: u64,
    /// For the closing message.
    pub(super) summary: String,
}

/// Runs a command and streams its output; an interrupt kills its whole group.
pub(super) fn run(
    turn: &mut Turn,
    item_id: &Value,
    text: &str,
    cwd: &str,
) -> Result<io::Result<Ran>, Stop> {
    let started = Instant::now();
    let number = turn.inbox.begin_command();
    let (pid, mut child) = match start(turn, number, text, cwd) {
        Ok(started) => started,
        Err(error) => return Ok(Err(error)),
    };
    let limits = turn.server.options.limits.clone();
    let mut output = Output { text: Utf8::default(), kept: String::new(), cut: false };
    let deadline = started + limits.command_time;
    let ended = loop {
        match turn.inbox.wait_for_command(deadline) {
            CommandEvent::Output(bytes) => output.take(turn, item_id, &bytes),
            other => break other,
        }
    };
    // The exited leader is not reaped yet, so its group id cannot belong to anybody else.
    kill_group(pid);
    let gone = turn.inbox.wait_for_exit(Instant::now() + KILL_PATIENCE);
    turn.server.guard.leave(pid);
    let status = if gone { child.wait() } else { Err(io::ErrorKind::TimedOut.into()) };
    let interrupted = matches!(ended, CommandEvent::Interrupted);
    let rest_until = Instant::now() + REST_OF_OUTPUT;
    while !interrupted && let CommandEvent::Output(bytes) = turn.inbox.wait_for_rest(rest_until) {
        output.take(turn, item_id, &bytes);
    }
    turn.inbox.close_output(number);
    if interrupted {
        return Err(Stop::Interrupted);
    }
    let status = match status {
        Ok(status) => status,
        Err(error) => return Ok(Err(error)),
    };
    let timed_out = matches!(ended, CommandEvent::TimedOut);
    let (exit_code, mut summary) = describe(status, timed_out, limits.command_time);
    if output.cut {
        summary.push_str(&format!(", output cut at {} bytes", limits.command_output_bytes));
    }
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Ok(Ran { pid, exit_code, output: output.kept, duration_ms, summary }))
}

fn describe(status: ExitStatus, timed_out: bool, limit: Duration) -> (i32, String) {
    if timed_out {
        return (TIMED_OUT, format!("killed after {} s", limit.as_secs_f32()));
    }
    match (status.code(), status.signal()) {
        (Some(code), _) => (code, format!("exit code {code}")),
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            (128 + signal, format!("killed by signal {signal}"))
        }
    }
}

/// What runs first: it waits until the guard knows the group, so that no command outlives a process
/// that is killed in between. Without the word, the end of the pipe ends it.
const GATE: &str = r#"read -r go || exit 125; exec /bin/sh -c "$1" < /dev/null"#;

fn start(turn: &Turn, number: u64, text: &str, cwd: &str) -> io::Result<(u32, Child)> {
    turn.server.guard.open()?;
    let (reader, writer) = pipe()?;
    let mut child = Command::new("/bin/sh")
        .args(["-c", GATE, "sh", text])
        .current_dir(cwd)
        .stdin(Stdio::piped())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .spawn()?;
    let pid = child.id();
    let watched = turn.server.guard.enter(pid).and_then(|()| {
        watch(&turn.inbox, number, reader, pid)?;
        let mut gate = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        gate.write_all(b"go\n")
    });
    if let Err(error) = watched {
        kill_group(pid);
        turn.server.guard.leave(pid);
        drop(child.wait());
        return Err(error);
    }
    Ok((pid, child))
}

/// Starts the two threads that tell the turn about output and exit.
fn watch(inbox: &Arc<Inbox>, number: u64, mut reader: PipeReader, pid: u32) -> io::Result<()> {
    let output = Arc::clone(inbox);
    thread::Builder::new().name(format!("command-output-{pid}")).spawn(move || {
        let mut chunk = [0; 16 * 1024];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) if output.push_output(number, &chunk[..count]) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
        output.close_output(number);
    })?;
    let exit = Arc::clone(inbox);
    thread::Builder::new().name(format!("command-exit-{pid}")).spawn(move || {
        // WNOWAIT leaves the zombie, which keeps the process id from being used again.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while let Err(nix::errno::Errno::EINTR) = waitid(Id::Pid(as_pid(pid)), flags) {}
        exit.set_exited(number);
    })?;
    Ok(())
}

/// A process id in the form of the system calls.
pub(super) fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}

/// Output on its way to the client.
struct Output {
    text: Utf8,
    kept: String,
    cut: bool,
}

impl Output {
    fn take(&mut self, turn: &mut Turn, item_id: &Value, bytes: &[u8]) {
        let mut delta = self.text.take(bytes);
        let room = turn.server.options.limits.command_output_bytes - self.kept.len();
        if delta.len() > room {
            self.cut = true;
            let cut = (0..=room).rev().find(|end| delta.is_char_boundary(*end));
            delta.truncate(cut.unwrap_or(0));
        }
        if !delta.is_empty() {
            let params = json!({ "itemId": item_id, "delta": delta });
            turn.notify("item/commandExecution/outputDelta", params);
            self.kept.push_str(&delta);
        }
    }
}

/// Turns bytes into text, whatever the place where reads were cut.
#[derive(Default)]
struct Utf8 {
    /// The start of a character whose end has not arrived.
    partial: Vec<u8>,
}

impl Utf8 {
    fn take(&mut self, bytes: &[u8]) -> String {
        self.partial.extend_from_slice(bytes);
        // A character has at most four bytes, so at most three can be a start without an end.
        let length = self.partial.len();
        let is_start = |count: &usize| {
            let error = std::str::from_utf8(&self.partial[length - count..]).err();
            error.is_some_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        };
        let started = (1..=length.min(3)).find(is_start).unwrap_or(0);
        let rest = self.partial.split_off(length - started);
        let text = String::from_utf8_lossy(&self.partial).into_owned();
        self.partial = rest;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_survive_being_cut_and_garbage_is_replaced() {
        let whole = "aä🦀".as_bytes();
        for cut in 0..whole.len() {
            let mut text = Utf8::default();
            let first = text.take(&whole[..cut]);
            assert_eq!(first + &text.take(&whole[cut..]), "aä🦀", "cut at {cut}");
        }
        let mut text = Utf8::default();
        assert_eq!(text.take(b"a\xffb\xc3"), "a\u{fffd}b");
        assert_eq!(text.take(b"\xa4"), "ä");
    }
}
