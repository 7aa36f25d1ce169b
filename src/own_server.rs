//! A server for the length of one command: `run --serve`.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use cm_cli::StartedServer;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::config::{Sources, load};

/// How long the server may take until it listens.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long it may take to stop: its own deadlines add up to less.
const STOP_DEADLINE: Duration = Duration::from_secs(6);
/// Longest line that is looked for the address, in bytes.
const LINE_BYTES: u64 = 4096;

/// Starts `serve` with the configuration of this process and waits until it listens.
///
/// It gets its own process group: a Ctrl-C is for the turn, not for the server under it. It dies
/// with this process, however that ends.
///
/// # Errors
///
/// A fragment that says why there is no server.
pub(crate) fn start() -> Result<StartedServer, String> {
    let program =
        std::env::current_exe().map_err(|error| format!("the program is gone: {error}"))?;
    let mut command = Command::new(program);
    // What it logs stands between the agent's words, so only what matters.
    command.args(["serve", "--log-level", "warn"]);
    if let Some(data_dir) = data_dir_outside()? {
        command.arg("--data-dir").arg(data_dir);
    }
    start_command(command)
}

/// Where a server of one command keeps its state when nobody said where: in the user's state
/// folder (XDG base directories), since a session that may write the current folder must not hold
/// the manager's state. `None` when the configuration names a place or the current folder has one.
fn data_dir_outside() -> Result<Option<PathBuf>, String> {
    let unusable = |error: std::io::Error| format!("the working directory is gone: {error}");
    let sources = Sources::of_this_process().map_err(unusable)?;
    let here = sources.working_directory.join(".data");
    let state_home = std::env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty());
    let loaded = load(sources).map_err(|problems| problems.to_string())?;
    let settings = loaded.settings;
    if settings.data_dir != here || here.exists() {
        return Ok(None);
    }
    let user_home = settings.runtime.user_home.map(|home| home.join(".local/state"));
    let state_home = state_home.map(PathBuf::from).or(user_home);
    Ok(state_home.map(|state| state.join("codex-manager")))
}

fn start_command(mut command: Command) -> Result<StartedServer, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    cm_process::die_with_parent(&mut command);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let output = child.stdout.take().ok_or("its output cannot be read")?;
    let (sender, receiver) = sync_channel(1);
    let reader = std::thread::Builder::new().name("server output".to_owned());
    if let Err(error) = reader.spawn(move || read_address(output, &sender)) {
        stop(child, &receiver);
        return Err(error.to_string());
    }
    match receiver.recv_timeout(START_DEADLINE) {
        Ok(base_url) => {
            Ok(StartedServer { base_url, stop: Box::new(move || stop(child, &receiver)) })
        }
        Err(RecvTimeoutError::Disconnected) => {
            stop(child, &receiver);
            Err("it ended at once; what it said stands above".to_owned())
        }
        Err(RecvTimeoutError::Timeout) => {
            stop(child, &receiver);
            Err(format!("it does not listen after {} s", START_DEADLINE.as_secs()))
        }
    }
}

/// Sends the address out of the line `listening on http://…`, then reads on until the server is
/// gone, which ends the channel.
fn read_address(output: ChildStdout, sender: &SyncSender<String>) {
    let mut output = BufReader::new(output);
    let mut line = String::new();
    if (&mut output).take(LINE_BYTES).read_line(&mut line).is_err() {
        return;
    }
    if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://"))
        && sender.send(url.to_owned()).is_ok()
    {
        let _ = std::io::copy(&mut output, &mut std::io::sink());
    }
}

/// Asks the server to stop, waits, and kills it when it does not.
fn stop(mut child: Child, gone: &Receiver<String>) {
    let pid = i32::try_from(child.id()).map(Pid::from_raw);
    if let Ok(pid) = pid
        && kill(pid, Signal::SIGTERM).is_ok()
    {
        // The end of its output is the end of the server.
        let _ = gone.recv_timeout(STOP_DEADLINE);
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_address_is_read_and_the_server_is_stopped_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let stopped = directory.path().join("stopped");
        // The shell's `wait` returns at the signal, unlike a foreground command.
        let script = format!(
            "trap 'kill $!; touch {}; exit' TERM; echo listening on http://127.0.0.1:7; \
             sleep 60 >/dev/null & wait",
            stopped.display()
        );
        let server = start_command(shell(&script)).unwrap();
        assert_eq!(server.base_url, "http://127.0.0.1:7");
        (server.stop)();
        assert!(stopped.exists());
    }

    #[test]
    fn a_server_that_ends_is_noticed() {
        let error = start_command(shell("exit 2")).err().unwrap();
        assert!(error.contains("ended at once"), "{error}");
        assert!(start_command(Command::new("/no/such/program")).is_err());
    }
}
