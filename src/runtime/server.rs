//! The loop over standard input, the method table, start and stop.

use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use cm_core::rpc::{Inbound, Line, LineReader, RpcId, parse_line};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::handlers::{Call, METHODS};
use crate::options::{RuntimeError, RuntimeOptions};
use crate::thread::{Loaded, Store};
use crate::tools::GroupGuard;
use crate::turn::TurnSlots;
use crate::wire::{Fault, Outbox, Requests};

/// Bytes asked of standard input per read.
const READ_BYTES: usize = 64 * 1024;

/// How long the stop waits for turns to notice and for output to be taken, each.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// Everything that calls and turns share.
pub(crate) struct Server {
    pub(crate) options: RuntimeOptions,
    pub(crate) outbox: Outbox,
    /// Requests to the client that wait for an answer.
    pub(crate) requests: Requests,
    /// Threads on disk.
    pub(crate) store: Store,
    /// Threads this process follows.
    pub(crate) threads: Mutex<Loaded>,
    /// Bounds how many turns run at once.
    pub(crate) turns: TurnSlots,
    /// Kills the process groups of commands when this process goes.
    pub(crate) guard: GroupGuard,
    /// Who is at the other end; set by `initialize`.
    pub(crate) client: OnceLock<Client>,
}

/// What `initialize` said about the client.
#[derive(Debug)]
pub(crate) struct Client {
    /// `clientInfo.name`, the `originator` of its threads.
    pub(crate) name: String,
    /// Whether experimental methods and fields are allowed.
    pub(crate) experimental: bool,
}

/// Serves one client until its end of `stdin`.
///
/// Blocks. At the end of input running commands' process groups are killed, running turns are
/// recorded as interrupted, answers already queued are written, and the call returns.
///
/// # Errors
///
/// [`RuntimeError`] when the thread directory cannot be used, the writer cannot be started or
/// `stdin` breaks.
pub fn run(
    options: RuntimeOptions,
    stdin: impl Read + Send + 'static,
    stdout: impl Write + Send + 'static,
) -> Result<(), RuntimeError> {
    let store =
        Store::open(&options.home).map_err(|(path, source)| RuntimeError::Home { path, source })?;
    let server = Arc::new(Server {
        outbox: Outbox::new(options.limits.outbox_bytes),
        requests: Requests::default(),
        store,
        threads: Mutex::new(Loaded::new(options.limits.loaded_threads)),
        turns: TurnSlots::new(options.limits.concurrent_turns),
        guard: GroupGuard::default(),
        client: OnceLock::new(),
        options,
    });
    let writer = Arc::clone(&server);
    thread::Builder::new()
        .name("app-server-writer".to_owned())
        .spawn(move || writer.outbox.drain_to(stdout))
        .map_err(RuntimeError::Writer)?;
    let outcome = read_lines(&server, stdin);
    stop(&server);
    outcome
}

fn read_lines(server: &Arc<Server>, mut stdin: impl Read) -> Result<(), RuntimeError> {
    let mut reader = LineReader::new(server.options.limits.line_bytes);
    let mut chunk = vec![0; READ_BYTES];
    loop {
        let count = match stdin.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(RuntimeError::Read(error)),
        };
        reader.push(&chunk[..count]);
        while let Some(line) = reader.next_line() {
            take_line(server, &line);
        }
    }
    if let Some(line) = reader.finish() {
        take_line(server, &line);
    }
    Ok(())
}

/// Bad lines are dropped with a note on standard error and get no answer, as in codex.
fn take_line(server: &Arc<Server>, line: &Line) {
    let text = match line {
        Line::Text(text) => text,
        Line::TooLong { bytes } => return tracing::warn!(bytes, "line is too long, dropped"),
        Line::NotUtf8 { bytes } => return tracing::warn!(bytes, "line is not UTF-8, dropped"),
        Line::Partial { bytes } => return tracing::warn!(bytes, "half a line at the end, dropped"),
    };
    match parse_line(text) {
        Ok(Inbound::Request { id, method, params }) => call(server, &id, &method, params),
        Ok(Inbound::Answer { id, outcome }) => {
            let value = |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or(Value::Null);
            server.requests.answer(&id, outcome.map(|raw| raw.map_or(Value::Null, value)));
        }
        Ok(Inbound::Notification { method, .. }) => tracing::debug!(%method, "notification"),
        Err(error) => tracing::warn!(%error, "line dropped"),
    }
}

fn call(server: &Arc<Server>, id: &RpcId, method: &str, params: Option<&RawValue>) {
    let Some((_, handler)) = METHODS.iter().find(|(name, _)| *name == method) else {
        return server.outbox.error(id, &unknown_method(method));
    };
    if method != "initialize" && server.client.get().is_none() {
        return server.outbox.error(id, &Fault::invalid("Not initialized"));
    }
    if let Err(fault) = handler(&Call { server, id, params }) {
        server.outbox.error(id, &fault);
    }
}

/// Clients discover the method set from this message, so it lists every method.
fn unknown_method(method: &str) -> Fault {
    let known: Vec<String> = METHODS.iter().map(|(name, _)| format!("`{name}`")).collect();
    Fault::bad_request(format!("unknown variant `{method}`, expected one of {}", known.join(", ")))
}

fn stop(server: &Arc<Server>) {
    // As in codex, nothing a turn says after the end of input is sent.
    server.outbox.finish();
    for thread in crate::wire::lock(&server.threads).all() {
        thread.interrupt_silently();
    }
    server.guard.kill_all();
    if !server.turns.wait_until_idle(STOP_PATIENCE) {
        tracing::warn!("a turn did not stop in time");
    }
    server.guard.close();
    server.outbox.wait_until_drained(STOP_PATIENCE);
}
