//! Between the child's pipes and its actor.

use std::sync::Arc;

use cm_core::rpc::Line;
use cm_core::wire::ExitView;
use cm_process::{Child, ChildExit, ChildSpec, OrphanLedger, OutputSink, SinkState, spawn_logged};
use tokio::sync::mpsc;

use super::config::AppServerConfig;
use super::parse::{Parsed, Parser};
use crate::clock;

/// Reads that may wait between the pipe's thread and this actor. Overflow rule: the thread waits,
/// the pipe fills, the child waits; nothing is lost.
const READ_AHEAD: usize = 4;

/// What the child's threads say.
pub(super) enum FromChild {
    /// It wrote lines.
    Lines(Parsed),
    /// It is gone; nothing comes after this.
    Ended(ChildExit),
}

/// Carries output from the pipe's thread to the actor. Lines are understood on that thread, so
/// that a line of any size keeps no actor from its work.
struct PipeSink {
    sender: mpsc::Sender<FromChild>,
    parser: Parser,
}

impl OutputSink for PipeSink {
    fn lines(&mut self, batch: Vec<Line>) -> SinkState {
        let parsed = self.parser.parse(batch, clock::now_iso());
        match self.sender.blocking_send(FromChild::Lines(parsed)) {
            Ok(()) => SinkState::Open,
            Err(_) => SinkState::Gone,
        }
    }

    fn ended(&mut self, exit: ChildExit) {
        // An actor that is gone has nobody left to tell.
        self.sender.blocking_send(FromChild::Ended(exit)).ok();
    }
}

/// Starts the process on a thread that may block, and lists it for the sweep after a crash.
///
/// Answers the work, which gives the child or why there is none, and its output.
pub(super) fn spawn(
    config: &AppServerConfig,
    ledger: &Arc<OrphanLedger>,
) -> (impl Future<Output = Result<Child, String>> + use<>, mpsc::Receiver<FromChild>) {
    let (sender, output) = mpsc::channel(READ_AHEAD);
    let spec = ChildSpec {
        program: config.program.path.clone(),
        args: config.program.args.clone(),
        cwd: Some(config.cwd.clone()),
        env: config.env.clone(),
        line_cap: config.line_cap,
    };
    let ledger = Arc::clone(ledger);
    let work = tokio::task::spawn_blocking(move || {
        let log = Box::new(|line: &str| tracing::debug!(target: "codex_stderr", line));
        let child = spawn_logged(spec, PipeSink { sender, parser: Parser::default() }, log)?;
        if let Some(identity) = child.identity()
            && let Err(error) = ledger.record(identity)
        {
            tracing::warn!(%error, "the child could not be listed for the sweep after a crash");
        }
        Ok::<_, cm_process::SpawnError>(child)
    });
    let work = async move {
        match work.await {
            Ok(Ok(child)) => Ok(child),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    };
    (work, output)
}

/// How a child ended: a fragment that fits "the app-server …", and what clients see.
pub(super) fn describe(exit: ChildExit, verdict: Option<String>) -> (String, ExitView) {
    let signal = exit.signal.map(signal_name);
    let how = match (exit.code, &signal) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was ended by {signal}"),
        (None, None) => "ended".to_owned(),
    };
    let why = match verdict {
        Some(verdict) => format!("{how} ({verdict})"),
        None => how,
    };
    let view = ExitView {
        code: exit.code,
        signal,
        at: clock::now_iso(),
        reason: Some(format!("The app-server {why}.")),
        stderr: exit.stderr_tail,
    };
    (why, view)
}

/// A signal's name, such as `SIGKILL`; its number where it has none.
fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number)
        .map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}
