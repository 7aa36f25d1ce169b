//! Plays the steps of a turn, each turn on a thread of its own.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};
use serde_json::{Value, json};

use super::output::{append_line, new_id, notification, now_ms};
use super::script::Step;
use super::server::Shared;
use super::text::long_text;

/// The running turn of a thread.
#[derive(Debug)]
pub(super) struct ActiveTurn {
    /// Its id.
    pub(super) turn_id: String,
    /// Whether the client has interrupted it.
    interrupted: bool,
}

/// Which turn a step belongs to; both empty outside of one.
#[derive(Debug, Clone, Default)]
struct Context {
    thread_id: String,
    turn_id: String,
}

/// How a turn ends.
enum Ending {
    Completed,
    Interrupted,
    Failed(String),
}

/// Starts a turn; `answer` writes what the call answers, before anything of the turn is sent.
pub(super) fn start_turn(
    shared: &Arc<Shared>,
    params: &Value,
    answer: impl FnOnce(Result<Value, String>),
) {
    let thread_id = params["threadId"].as_str().unwrap_or_default().to_owned();
    let text = params["input"][0]["text"].as_str().unwrap_or_default().to_owned();
    let mut state = shared.lock();
    match state.threads.get(params) {
        Ok(thread) => {
            thread.apply(params);
            thread.begin_turn(&text);
        }
        Err(_) => return answer(Err(format!("thread not found: {thread_id}"))),
    }
    state.threads.materialise(&thread_id);
    if let Some(active) = state.active.get(&thread_id) {
        // Like codex since 0.155: a second turn steers the running one.
        return answer(Ok(json!({ "turn": turn(&active.turn_id, "inProgress", &Value::Null) })));
    }
    let turn_id = new_id();
    let active = ActiveTurn { turn_id: turn_id.clone(), interrupted: false };
    state.active.insert(thread_id.clone(), active);
    let number = state.turns_started;
    state.turns_started += 1;
    drop(state);
    answer(Ok(json!({ "turn": turn(&turn_id, "inProgress", &Value::Null) })));
    let default = || vec![Step::Message { text: "Hello from the fake app-server.".to_owned() }];
    let steps = shared.behaviour.turns.get(number).cloned().unwrap_or_else(default);
    let (shared, context) = (Arc::clone(shared), Context { thread_id, turn_id });
    std::thread::spawn(move || run_turn(&shared, &context, &text, &steps));
}

/// Interrupts a turn; `answer` writes what the call answers, before the turn's end is sent.
pub(super) fn interrupt_turn(
    shared: &Shared,
    params: &Value,
    answer: impl FnOnce(Result<Value, String>),
) {
    let thread_id = params["threadId"].as_str().unwrap_or_default();
    let mut state = shared.lock();
    let Some(active) = state.active.get_mut(thread_id) else {
        return answer(Err("no active turn to interrupt".to_owned()));
    };
    active.interrupted = true;
    // The lock is held, so the turn cannot see the interrupt before it is answered.
    answer(Ok(json!({})));
    drop(state);
    shared.changed.notify_all();
}

/// Plays steps that belong to no turn.
pub(super) fn play_outside_a_turn(shared: &Shared, steps: &[Step]) {
    for step in steps {
        play(shared, &Context::default(), step);
    }
}

fn run_turn(shared: &Shared, context: &Context, text: &str, steps: &[Step]) {
    let id = &context.thread_id;
    let active = json!({ "type": "active", "activeFlags": [] });
    let output = &shared.output;
    output.notify("thread/status/changed", &json!({ "threadId": id, "status": active }));
    let started = turn(&context.turn_id, "inProgress", &Value::Null);
    output.notify("turn/started", &json!({ "threadId": id, "turn": started }));
    let content = json!([{ "type": "text", "text": text, "text_elements": [] }]);
    let user = json!({ "type": "userMessage", "id": new_id(), "content": content });
    item(shared, context, "item/started", &user);
    item(shared, context, "item/completed", &user);
    let ending = steps.iter().find_map(|step| play(shared, context, step));
    let (status, error) = match ending.unwrap_or(Ending::Completed) {
        Ending::Completed => ("completed", Value::Null),
        Ending::Interrupted => ("interrupted", Value::Null),
        Ending::Failed(message) => {
            ("failed", json!({ "message": message, "codexErrorInfo": "other" }))
        }
    };
    let ended = turn(&context.turn_id, status, &error);
    let mut state = shared.lock();
    state.active.remove(id);
    if let Ok(thread) = state.threads.get(&json!({ "threadId": id })) {
        thread.end_turn(ended.clone());
    }
    drop(state);
    let idle = json!({ "threadId": id, "status": { "type": "idle" } });
    output.notify("thread/status/changed", &idle);
    output.notify("turn/completed", &json!({ "threadId": id, "turn": ended }));
}

/// Plays one step; an answer ends the turn.
fn play(shared: &Shared, context: &Context, step: &Step) -> Option<Ending> {
    let output = &shared.output;
    match step {
        Step::Message { text } => {
            let message = begin_message(shared, context);
            for word in text.split_inclusive(' ') {
                output.bytes(&delta(context, &message, word));
            }
            complete_message(shared, context, &message, text);
        }
        Step::Deltas { count, bytes, pace_us, open } => {
            let message = begin_message(shared, context);
            let (filler, pace) = ("x".repeat(*bytes), Duration::from_micros(*pace_us));
            for number in 0..*count {
                let line = delta(context, &message, &filler);
                if !pace.is_zero() {
                    output.bytes(&line);
                    if wait(shared, context, pace) {
                        return Some(Ending::Interrupted);
                    }
                } else {
                    output.buffered(&line);
                    if number % 256 == 0 && interrupted(shared, context) {
                        return Some(Ending::Interrupted);
                    }
                }
            }
            output.bytes(b"");
            if !open {
                let whole = filler.repeat(usize::try_from(*count).unwrap_or(0));
                complete_message(shared, context, &message, &whole);
            }
        }
        Step::Items { count, bytes } => {
            let text = "x".repeat(*bytes);
            for number in 0..*count {
                let id = new_id();
                for (method, text) in [("item/started", ""), ("item/completed", text.as_str())] {
                    let params = with_ids(&json!({ "item": message(&id, text) }), context);
                    output.buffered(&notification(method, &params));
                }
                if number % 256 == 0 && interrupted(shared, context) {
                    return Some(Ending::Interrupted);
                }
            }
            output.bytes(b"");
        }
        Step::Notify { method, params } => {
            output.notify(method, &with_ids(params, context));
        }
        Step::Request { method, params, record, no_wait } => {
            let id = request(shared, method, &with_ids(params, context));
            if !no_wait && answer_to(shared, context, id, record.as_deref()).is_none() {
                return Some(Ending::Interrupted);
            }
        }
        Step::CommandApproval { command, record } => {
            return approve(shared, context, command, record.as_ref());
        }
        Step::Line { text } => output.bytes(format!("{text}\n").as_bytes()),
        Step::ByteLine { bytes } => output.bytes(&[bytes.as_slice(), b"\n"].concat()),
        Step::BigLine { bytes, hold } => {
            // The line is made before the message begins, so that between the two events it is only
            // on its way.
            let id = new_id();
            let params =
                json!({ "item": message(&id, &long_text(*bytes)), "completedAtMs": now_ms() });
            let line = notification("item/completed", &with_ids(&params, context));
            item(shared, context, "item/started", &message(&id, ""));
            output.line_with_a_late_end(&line, || {
                if let Some(fifo) = hold {
                    // The end of what is read is all that it says.
                    let _ = std::fs::read(fifo);
                }
            });
        }
        Step::HalfLine {} => output.bytes(br#"{"method":"item/agentMessage/delta","params":{"th"#),
        Step::Stderr { lines, bytes } => {
            let line = format!("{}\n", "e".repeat(*bytes));
            (0..*lines).for_each(|_| complain(line.as_bytes()));
        }
        Step::Complain { text } => complain(format!("{text}\n").as_bytes()),
        Step::Grandchild { pid_file, own_group } => grandchild(pid_file, *own_group),
        Step::Pause { ms } => {
            if wait(shared, context, Duration::from_millis(*ms)) {
                return Some(Ending::Interrupted);
            }
        }
        Step::Hang {} => {
            while !wait(shared, context, Duration::from_secs(3600)) {}
            return Some(Ending::Interrupted);
        }
        Step::Fail { message } => return Some(Ending::Failed(message.clone())),
        Step::Exit { code } => std::process::exit(*code),
        Step::Sigkill {} => {
            // Only a process without the right to signal itself would live on.
            let _ = raise(Signal::SIGKILL);
        }
    }
    None
}

fn approve(
    shared: &Shared,
    context: &Context,
    command: &str,
    record: Option<&PathBuf>,
) -> Option<Ending> {
    let id = new_id();
    let command_item = |status: &str| {
        json!({
            "type": "commandExecution",
            "id": id,
            "command": command,
            "cwd": "/",
            "status": status,
            "commandActions": [],
            "aggregatedOutput": null,
            "exitCode": (status == "completed").then_some(0),
        })
    };
    item(shared, context, "item/started", &command_item("inProgress"));
    let params = with_ids(
        &json!({
            "itemId": id,
            "reason": "scripted",
            "command": command,
            "cwd": "/",
            "availableDecisions": ["accept", "cancel"],
        }),
        context,
    );
    let request_id = request(shared, "item/commandExecution/requestApproval", &params);
    let answer = answer_to(shared, context, request_id, record.map(PathBuf::as_path));
    let resolved = json!({ "threadId": context.thread_id, "requestId": request_id });
    shared.output.notify("serverRequest/resolved", &resolved);
    let decision = answer.as_ref().and_then(|answer| answer["result"]["decision"].as_str());
    let accepted = matches!(decision, Some("accept" | "acceptForSession"));
    let status = if accepted { "completed" } else { "declined" };
    item(shared, context, "item/completed", &command_item(status));
    (answer.is_none() || decision == Some("cancel")).then_some(Ending::Interrupted)
}

fn begin_message(shared: &Shared, context: &Context) -> String {
    let id = new_id();
    item(shared, context, "item/started", &message(&id, ""));
    id
}

fn complete_message(shared: &Shared, context: &Context, id: &str, text: &str) {
    item(shared, context, "item/completed", &message(id, text));
}

fn message(id: &str, text: &str) -> Value {
    json!({ "type": "agentMessage", "id": id, "text": text, "phase": null })
}

fn delta(context: &Context, item_id: &str, text: &str) -> Vec<u8> {
    let params = with_ids(&json!({ "itemId": item_id, "delta": text }), context);
    notification("item/agentMessage/delta", &params)
}

fn item(shared: &Shared, context: &Context, method: &str, item: &Value) {
    let at = if method == "item/started" { "startedAtMs" } else { "completedAtMs" };
    let params = with_ids(&json!({ "item": item, at: now_ms() }), context);
    shared.output.notify(method, &params);
}

fn turn(id: &str, status: &str, error: &Value) -> Value {
    let ended = (status != "inProgress").then(|| now_ms() / 1000);
    json!({
        "id": id,
        "items": [],
        "itemsView": "notLoaded",
        "status": status,
        "error": error,
        "startedAt": now_ms() / 1000,
        "completedAt": ended,
        "durationMs": ended.map(|_| 1),
    })
}

fn with_ids(params: &Value, context: &Context) -> Value {
    let mut params = params.as_object().cloned().unwrap_or_default();
    for (name, id) in [("threadId", &context.thread_id), ("turnId", &context.turn_id)] {
        if !id.is_empty() {
            params.entry(name).or_insert_with(|| json!(id));
        }
    }
    Value::Object(params)
}

/// Sends a server request and answers its id.
fn request(shared: &Shared, method: &str, params: &Value) -> i64 {
    let mut state = shared.lock();
    let id = state.next_request;
    state.next_request += 1;
    drop(state);
    let message = json!({ "id": id, "method": method, "params": params });
    shared.output.bytes(format!("{message}\n").as_bytes());
    id
}

/// Waits, like codex without end, for the client's answer; `None` when the turn is interrupted.
fn answer_to(shared: &Shared, context: &Context, id: i64, record: Option<&Path>) -> Option<Value> {
    let mut state = shared.lock();
    let answer = loop {
        if let Some(answer) = state.answers.remove(&id) {
            break answer;
        }
        if state.active.get(&context.thread_id).is_some_and(|active| active.interrupted) {
            return None;
        }
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    };
    drop(state);
    if let Some(record) = record {
        append_line(record, answer.to_string().as_bytes());
    }
    Some(answer)
}

/// Waits; answers whether the turn was interrupted meanwhile.
fn wait(shared: &Shared, context: &Context, duration: Duration) -> bool {
    let end = Instant::now() + duration;
    let mut state = shared.lock();
    loop {
        if state.active.get(&context.thread_id).is_some_and(|active| active.interrupted) {
            return true;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let waited = shared.changed.wait_timeout(state, left);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn interrupted(shared: &Shared, context: &Context) -> bool {
    wait(shared, context, Duration::ZERO)
}

fn complain(line: &[u8]) {
    // A closed stderr is the supervisor's business, not a reason to die.
    let _ = std::io::stderr().write_all(line);
}

fn grandchild(pid_file: &Path, own_group: bool) {
    let mut command = Command::new("sleep");
    command.arg("3600").stdin(Stdio::null()).stdout(Stdio::inherit()).stderr(Stdio::null());
    if own_group {
        command.process_group(0);
    }
    match command.spawn() {
        Ok(child) => append_line(pid_file, child.id().to_string().as_bytes()),
        Err(error) => complain(format!("failed to start a grandchild: {error}\n").as_bytes()),
    }
}
