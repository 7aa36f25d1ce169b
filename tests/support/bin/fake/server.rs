//! Reads stdin and answers calls.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cm_core::rpc::{DEFAULT_LINE_CAP, Inbound, Line, LineReader, RpcId, code, parse_line};
use nix::sys::signal::{SigSet, Signal};
use serde_json::{Value, json, value::RawValue};

use super::output::{Output, append_line};
use super::script::{Behaviour, Initialize, MethodRule, load};
use super::threads::Threads;
use super::turn::{ActiveTurn, interrupt_turn, play_outside_a_turn, start_turn};

/// The methods that are answered, as the discovery error lists them, where the script says nothing
/// else.
const METHODS: [&str; 19] = [
    "initialize",
    "account/read",
    "account/login/start",
    "model/list",
    "thread/start",
    "thread/resume",
    "thread/read",
    "thread/turns/list",
    "thread/list",
    "thread/loaded/list",
    "thread/name/set",
    "thread/archive",
    "thread/unarchive",
    "thread/delete",
    "thread/unsubscribe",
    "thread/backgroundTerminals/clean",
    "turn/start",
    "turn/steer",
    "turn/interrupt",
];

/// What the threads of the fake share.
pub(super) struct Shared {
    pub(super) output: Output,
    pub(super) behaviour: Behaviour,
    /// Where every received line is appended.
    log: Option<PathBuf>,
    state: Mutex<State>,
    /// Told of every answer and every interrupt.
    pub(super) changed: Condvar,
}

/// What changes.
#[derive(Default)]
pub(super) struct State {
    initialized: bool,
    pub(super) threads: Threads,
    /// Turns started by this process.
    pub(super) turns_started: usize,
    /// The running turn of each thread.
    pub(super) active: HashMap<String, ActiveTurn>,
    /// Ids of server requests count from 0 in every process, as in codex.
    pub(super) next_request: i64,
    /// Answers of the client by request id, until they are taken.
    pub(super) answers: HashMap<i64, Value>,
    /// Calls of each method so far.
    calls: HashMap<String, u64>,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call answers, or the error's message.
type Answer = Result<Value, String>;

/// Runs the program.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]
pub(crate) fn main() -> ExitCode {
    let path_from = |name: &str| std::env::var_os(name).map(PathBuf::from);
    if std::env::args().any(|argument| argument == "--version") {
        println!("codex-cli 0.169.0");
        return ExitCode::SUCCESS;
    }
    let loaded = load(path_from("FAKE_APP_SERVER_SCRIPT").as_deref())
        .and_then(|behaviour| Ok((behaviour, Output::new()?)));
    let (behaviour, output) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("failed to load the script: {error}");
            return ExitCode::from(2);
        }
    };
    if behaviour.ignore_sigterm {
        // Blocked before the first thread starts, so that every thread inherits it.
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGTERM);
        if let Err(error) = signals.thread_block() {
            eprintln!("failed to ignore SIGTERM: {error}");
        }
    }
    let threads = Threads::load(path_from("CODEX_HOME").as_deref());
    let shared = Arc::new(Shared {
        output,
        behaviour,
        log: path_from("FAKE_APP_SERVER_LOG"),
        state: Mutex::new(State { threads, ..State::default() }),
        changed: Condvar::new(),
    });
    play_outside_a_turn(&shared, &shared.behaviour.at_start);
    read_stdin(&shared);
    if shared.behaviour.ignore_stdin_eof {
        loop {
            std::thread::park();
        }
    }
    ExitCode::SUCCESS
}

fn read_stdin(shared: &Arc<Shared>) {
    let mut lines = LineReader::new(DEFAULT_LINE_CAP);
    let mut buffer = vec![0; 64 * 1024];
    let mut stdin = io::stdin().lock();
    loop {
        match stdin.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => lines.push(&buffer[..read]),
        }
        while let Some(line) = lines.next_line() {
            if let Line::Text(line) = line {
                receive(shared, &line);
            }
        }
    }
}

fn receive(shared: &Arc<Shared>, line: &[u8]) {
    if let Some(log) = &shared.log {
        append_line(log, line);
    }
    // Like codex: a line that is not a message is dropped.
    match parse_line(line) {
        Ok(Inbound::Request { id, method, params }) => {
            call(shared, &id, &method, &value_of(params));
        }
        Ok(Inbound::Answer { id: RpcId::Number(id), .. }) => {
            let answer = serde_json::from_slice(line).unwrap_or(Value::Null);
            shared.lock().answers.insert(id, answer);
            shared.changed.notify_all();
        }
        Ok(Inbound::Answer { .. } | Inbound::Notification { .. }) | Err(_) => {}
    }
}

fn value_of(params: Option<&RawValue>) -> Value {
    params.and_then(|params| serde_json::from_str(params.get()).ok()).unwrap_or(Value::Null)
}

/// Answers one call by its rule.
fn call(shared: &Arc<Shared>, id: &RpcId, method: &str, params: &Value) {
    let count = {
        let mut state = shared.lock();
        let calls = state.calls.entry(method.to_owned()).or_default();
        *calls += 1;
        *calls
    };
    let rule = shared.behaviour.methods.get(method).cloned().unwrap_or_default();
    if count <= rule.overloaded_first {
        return shared.output.error(id, code::OVERLOADED, "Server overloaded; retry later.");
    }
    if rule.together > 0 && count <= rule.together {
        shared.output.gather(count < rule.together);
    }
    let silent = rule.never || count <= rule.silent_first;
    if shared.behaviour.lacks.contains(method) {
        return reply(shared, &rule, silent, id, Err(unknown(shared, method)));
    }
    if let Some(error) = &rule.error {
        let line = format!("{}\n", json!({ "id": id, "error": error }));
        return respond(shared, &rule, silent, move |output| output.bytes(line.as_bytes()));
    }
    if method == "turn/start" && rule.result.is_none() {
        return start_turn(shared, params, |answer| reply(shared, &rule, silent, id, answer));
    }
    if method == "turn/interrupt" && rule.result.is_none() {
        return interrupt_turn(shared, params, |answer| reply(shared, &rule, silent, id, answer));
    }
    let answer = match &rule.result {
        Some(result) => Ok(result.clone()),
        None => answer_to(shared, method, params),
    };
    if method == "initialize" {
        match shared.behaviour.initialize {
            Initialize::Hang => return,
            Initialize::Refuse => {
                return shared.output.error(id, code::INVALID_REQUEST, "scripted refusal");
            }
            Initialize::Answer => {}
        }
    }
    let initialized = method == "initialize" && answer.is_ok();
    let starts = matches!(method, "thread/start" | "thread/fork");
    let started = starts.then(|| answer.as_ref().ok().cloned()).flatten();
    let reverted = method == "thread/revert" && rule.result.is_none() && answer.is_ok();
    reply(shared, &rule, silent, id, answer);
    if let Some(opened) = started {
        shared.output.notify("thread/started", &json!({ "thread": opened["thread"] }));
    }
    if reverted {
        shared.output.notify("thread/reverted", &json!({ "threadId": params["threadId"] }));
    }
    if initialized {
        // On a thread of its own: a step may wait for an answer, which this one has to read.
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            play_outside_a_turn(&shared, &shared.behaviour.after_initialize);
        });
    }
}

fn reply(shared: &Arc<Shared>, rule: &MethodRule, silent: bool, id: &RpcId, answer: Answer) {
    let id = id.clone();
    match answer {
        Err(message) => respond(shared, rule, silent, move |output| {
            output.error(&id, code::INVALID_REQUEST, &message);
        }),
        Ok(mut result) => {
            if let (Some(members), Some(changes)) =
                (result.as_object_mut(), rule.merge.as_ref().and_then(Value::as_object))
            {
                members.extend(changes.clone());
            }
            respond(shared, rule, silent, move |output| output.result(&id, &result));
        }
    }
}

/// Writes an answer as often and as late as the rule says.
fn respond(
    shared: &Arc<Shared>,
    rule: &MethodRule,
    silent: bool,
    write: impl Fn(&Output) + Send + 'static,
) {
    let copies = if silent { 0 } else { rule.copies.unwrap_or(1) };
    if rule.delay_ms == 0 {
        return (0..copies).for_each(|_| write(&shared.output));
    }
    let (late, delay) = (Arc::clone(shared), Duration::from_millis(rule.delay_ms));
    std::thread::spawn(move || {
        std::thread::sleep(delay);
        (0..copies).for_each(|_| write(&late.output));
    });
}

/// The correct answer to a call that is not about a running turn.
fn answer_to(shared: &Shared, method: &str, params: &Value) -> Answer {
    let mut state = shared.lock();
    if method == "initialize" {
        if std::mem::replace(&mut state.initialized, true) {
            return Err("Already initialized".to_owned());
        }
        let client = params["clientInfo"]["name"].as_str().unwrap_or("client");
        let version = shared.behaviour.version.as_deref().unwrap_or("0.169.0");
        return Ok(json!({
            "userAgent": format!("{client}/{version} (fake; x86_64) none ({client}; 0)"),
            "codexHome": std::env::var("CODEX_HOME").unwrap_or_default(),
            "platformFamily": "unix",
            "platformOs": "linux",
        }));
    }
    if !state.initialized {
        return Err("Not initialized".to_owned());
    }
    let threads = &mut state.threads;
    Ok(match method {
        "account/read" => json!({ "account": null, "requiresOpenaiAuth": false }),
        "account/login/start" => json!({ "type": "apiKey" }),
        "model/list" => json!({ "data": [], "nextCursor": null }),
        "thread/list" => threads.list(params),
        "thread/loaded/list" => threads.loaded(),
        "thread/start" => {
            let id = threads.start(params);
            threads.get(&json!({ "threadId": id }))?.opened(false)
        }
        "thread/resume" => {
            let thread = threads.get(params)?;
            thread.apply(params);
            thread.opened(params["excludeTurns"] != true)
        }
        "thread/read" => {
            let with_turns = params["includeTurns"] == true;
            json!({ "thread": threads.get(params)?.object(with_turns) })
        }
        "thread/turns/list" => threads.get(params)?.turns(),
        // These are known where a script says so.
        "thread/revert" => {
            let thread = threads.get(params)?;
            thread.revert(params["beforeTurnId"].as_str().unwrap_or_default())?;
            thread.opened(false)
        }
        "thread/fork" => {
            let id = threads.fork(params)?;
            threads.get(&json!({ "threadId": id }))?.opened(false)
        }
        "thread/rollback" => {
            let thread = threads.get(params)?;
            thread.roll_back(params["numTurns"].as_u64().unwrap_or(0));
            thread.opened(false)
        }
        "thread/name/set" => {
            let name = params["name"].as_str().ok_or("missing field `name`")?;
            threads.get(params)?.set_name(name);
            threads.materialise(params["threadId"].as_str().unwrap_or_default());
            let renamed = json!({ "threadId": params["threadId"], "threadName": name });
            shared.output.notify("thread/name/updated", &renamed);
            json!({})
        }
        "thread/archive" | "thread/unarchive" => {
            threads.get(params)?.set_archived(method == "thread/archive");
            let event = format!("{method}d");
            shared.output.notify(&event, &json!({ "threadId": params["threadId"] }));
            json!({ "thread": threads.get(params)?.object(false) })
        }
        "thread/delete" => {
            threads.get(params)?;
            threads.delete(params);
            shared.output.notify("thread/deleted", &json!({ "threadId": params["threadId"] }));
            json!({})
        }
        "turn/steer" => {
            let thread = params["threadId"].as_str().unwrap_or_default();
            let active = state.active.get(thread).ok_or("no active turn to steer")?;
            json!({ "turnId": active.turn_id })
        }
        "thread/unsubscribe" | "thread/backgroundTerminals/clean" => json!({}),
        other => return Err(unknown(shared, other)),
    })
}

/// What is said of a method that is not known: every one that is.
fn unknown(shared: &Shared, method: &str) -> String {
    let behaviour = &shared.behaviour;
    let scripted: BTreeSet<&str> = behaviour.methods.keys().map(String::as_str).collect();
    let scripted = scripted.into_iter().filter(|name| !METHODS.contains(name));
    let known = METHODS.into_iter().chain(scripted);
    let known = known.filter(|name| !behaviour.lacks.contains(*name));
    let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
    format!("Invalid request: unknown variant `{method}`, expected one of {}", known.join(", "))
}
