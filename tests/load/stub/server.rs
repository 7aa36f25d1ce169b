//! Reads stdin, answers calls.

use std::collections::HashMap;
use std::io::{self, BufRead, Read};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::lines::{self, Ids};
use super::orders::parse;
use super::output::Output;
use super::turn::{closing, opening, play};

/// The version that it claims to be.
pub(crate) const VERSION: &str = "0.169.0";

/// Longest line that is read, in bytes. Overflow rule: the stub ends, since the rest of the line
/// would be taken for another one.
const LINE_CAP: u64 = 64 * 1024 * 1024;

/// The methods that are answered, as the discovery error lists them.
const METHODS: [&str; 16] = [
    "initialize",
    "account/read",
    "model/list",
    "thread/start",
    "thread/resume",
    "thread/read",
    "thread/list",
    "thread/loaded/list",
    "thread/name/set",
    "thread/archive",
    "thread/unarchive",
    "thread/delete",
    "thread/unsubscribe",
    "turn/start",
    "turn/steer",
    "turn/interrupt",
];

/// A turn that runs.
#[derive(Debug)]
struct Running {
    turn: String,
    interrupted: Arc<AtomicBool>,
}

/// The running turn of each thread; shared with the turns, which remove themselves.
type Turns = Arc<Mutex<HashMap<String, Running>>>;

/// Serves until stdin ends.
#[expect(clippy::print_stderr, reason = "stderr is this program's log")]
pub(crate) fn serve() -> ExitCode {
    let output = match Output::open() {
        Ok(output) => Arc::new(output),
        Err(error) => {
            eprintln!("failed to open stdout: {error}");
            return ExitCode::FAILURE;
        }
    };
    let turns = Turns::default();
    let mut stdin = io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        match stdin.by_ref().take(LINE_CAP).read_until(b'\n', &mut line) {
            Ok(length) if length > 0 && line.ends_with(b"\n") => {}
            _ => return ExitCode::SUCCESS,
        }
        // What is no call needs no answer: `initialized`, and answers to requests never made.
        let Ok(message) = serde_json::from_slice::<Value>(&line) else { continue };
        if let (Some(id), Some(method)) = (message.get("id"), message["method"].as_str()) {
            let params = &message["params"];
            if method == "turn/start" {
                start_turn(&output, &turns, id, params);
            } else {
                output.write(&answer(&turns, id, method, params));
            }
        }
    }
}

fn result(id: &Value, result: &Value) -> Vec<u8> {
    format!("{}\n", json!({ "id": id, "result": result })).into_bytes()
}

fn error(id: &Value, message: &str) -> Vec<u8> {
    let error = json!({ "code": -32600, "message": message });
    format!("{}\n", json!({ "id": id, "error": error })).into_bytes()
}

/// The lines that answer a call.
fn answer(turns: &Turns, id: &Value, method: &str, params: &Value) -> Vec<u8> {
    let thread = params["threadId"].as_str().unwrap_or_default();
    let value = match method {
        "initialize" => {
            let client = params["clientInfo"]["name"].as_str().unwrap_or("client");
            json!({
                "userAgent": format!("{client}/{VERSION} (stub; x86_64) none ({client}; 0)"),
                "codexHome": std::env::var("CODEX_HOME").unwrap_or_default(),
                "platformFamily": "unix",
                "platformOs": "linux",
            })
        }
        "account/read" => json!({ "account": null, "requiresOpenaiAuth": false }),
        "model/list" | "thread/list" | "thread/loaded/list" => {
            json!({ "data": [], "nextCursor": null })
        }
        "thread/start" => {
            let opened = lines::opened(&lines::new_id(), params);
            let mut out = result(id, &opened);
            lines::notify(&mut out, "thread/started", &json!({ "thread": opened["thread"] }));
            return out;
        }
        "thread/resume" => lines::opened(thread, params),
        "thread/read" => json!({ "thread": lines::thread(thread, "/") }),
        "thread/name/set" => {
            let mut out = result(id, &json!({}));
            let renamed = json!({ "threadId": thread, "threadName": params["name"] });
            lines::notify(&mut out, "thread/name/updated", &renamed);
            return out;
        }
        "thread/archive" | "thread/unarchive" => json!({ "thread": lines::thread(thread, "/") }),
        "thread/delete" | "thread/unsubscribe" => json!({}),
        "turn/steer" => match lock(turns).get(thread) {
            Some(running) => json!({ "turnId": running.turn }),
            None => return error(id, "no active turn to steer"),
        },
        "turn/interrupt" => match lock(turns).get(thread) {
            Some(running) => {
                running.interrupted.store(true, Ordering::Relaxed);
                json!({})
            }
            None => return error(id, "no active turn to interrupt"),
        },
        unknown => {
            let known = METHODS.map(|name| format!("`{name}`")).join(", ");
            let message = format!("unknown variant `{unknown}`, expected one of {known}");
            return error(id, &format!("Invalid request: {message}"));
        }
    };
    result(id, &value)
}

fn lock(turns: &Turns) -> std::sync::MutexGuard<'_, HashMap<String, Running>> {
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start_turn(output: &Arc<Output>, turns: &Turns, id: &Value, params: &Value) {
    let text = params["input"][0]["text"].as_str().unwrap_or_default();
    let thread = params["threadId"].as_str().unwrap_or_default().to_owned();
    if let Some(running) = lock(turns).get(&thread) {
        // Like codex since 0.155: a second turn joins the running one.
        let turn = json!({ "turn": lines::turn(&running.turn, "inProgress") });
        output.write(&result(id, &turn));
        return;
    }
    let ids = Ids { thread, turn: lines::new_id() };
    let mut out = result(id, &json!({ "turn": lines::turn(&ids.turn, "inProgress") }));
    out.extend(opening(&ids, text));
    let orders = parse(text);
    if orders.is_empty() {
        // All of it in one write and without a thread: it must cost next to nothing.
        out.extend(closing(&ids, false));
        output.write(&out);
        return;
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    let running = Running { turn: ids.turn.clone(), interrupted: Arc::clone(&interrupted) };
    lock(turns).insert(ids.thread.clone(), running);
    output.write(&out);
    let (output, turns) = (Arc::clone(output), Arc::clone(turns));
    let name = "turn".to_owned();
    // It ends with its orders, with an interrupt or with the process.
    let started = std::thread::Builder::new().name(name).spawn(move || {
        play(&output, &ids, &orders, &interrupted);
        lock(&turns).remove(&ids.thread);
        output.write(&closing(&ids, interrupted.load(Ordering::Relaxed)));
    });
    // Without threads there is no load to make; the end of the process says so to the manager.
    if started.is_err() {
        std::process::exit(3);
    }
}
