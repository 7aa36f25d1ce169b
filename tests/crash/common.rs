//! Rounds, seeds, the program over the fake child, and what is asked of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cm_testkit::app::{AppBuilder, Runtime, TestApp};
use cm_testkit::fake::FakeScript;
use cm_testkit::process::{command_line, pid_alive, wait_until};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// The program under test.
pub(crate) const MANAGER: &str = env!("CARGO_BIN_EXE_codex-manager");

/// Longest wait for anything that happens by itself.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The families of requests: their list, their decision and the id's name in both.
pub(crate) const FAMILIES: [&str; 3] = ["approvals", "tool-input", "tool-calls"];

/// Whether the long counts are asked for.
pub(crate) fn is_long() -> bool {
    std::env::var_os("CM_CRASH_LONG").is_some_and(|value| value == "1")
}

/// How many rounds to play.
pub(crate) fn rounds(few: usize, long: usize) -> usize {
    if is_long() { long } else { few }
}

/// The choices of a test, which says with what seed.
#[track_caller]
pub(crate) fn choices(test: &str) -> StdRng {
    let given = std::env::var("CM_CRASH_SEED").ok();
    let seed = match given {
        Some(seed) => seed.parse().expect("CM_CRASH_SEED is a whole number"),
        None => rand::random(),
    };
    println!("{test}: CM_CRASH_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// The program with restarts that are quick and never given up.
#[track_caller]
pub(crate) fn builder() -> AppBuilder {
    builder_of(Path::new(MANAGER))
}

/// The same of another program that is the program in the end.
#[track_caller]
pub(crate) fn builder_of(program: &Path) -> AppBuilder {
    TestApp::builder(program)
        .env("CODEX_MANAGER_RESTART_BACKOFF_MS", "20")
        .env("CODEX_MANAGER_RESTART_BACKOFF_MAX_MS", "100")
        .env("CODEX_MANAGER_RESTART_INTENSITY", "100000")
        // What the runtime made and nobody was told of would come back as a session.
        .env("CODEX_MANAGER_THREAD_SYNC_MS", "0")
}

/// The fake child with a script.
///
/// # Panics
///
/// When the suite was built without it.
#[track_caller]
pub(crate) fn fake(script: FakeScript) -> Runtime {
    match option_env!("CARGO_BIN_EXE_fake-app-server") {
        Some(path) => Runtime::Fake(PathBuf::from(path), script),
        None => panic!("run the suite with --features testkit"),
    }
}

/// The string that a value must be.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => panic!("expected text, got {value}"),
    }
}

/// Ids and states of a session's turns.
pub(crate) fn turns(detail: &Value) -> Vec<(String, String)> {
    let turns = detail["thread"]["turns"].as_array();
    turns.into_iter().flatten().map(|turn| (text(&turn["id"]), text(&turn["status"]))).collect()
}

/// The requests of one family, all or those that are pending.
#[track_caller]
pub(crate) fn requests(app: &TestApp, session: &str, family: &str, query: &str) -> Vec<Value> {
    let reply = app.get(&format!("/api/sessions/{session}/{family}{query}")).expect_status(200);
    reply.body["data"].as_array().cloned().expect("a list")
}

/// The id of a request.
#[track_caller]
pub(crate) fn request_id(request: &Value) -> String {
    text(request.get("approvalId").unwrap_or_else(|| &request["requestId"]))
}

/// What answers a request of a family, and where it is sent.
pub(crate) fn decision(family: &str, id: &str, number: usize) -> (String, Value) {
    let word = if number.is_multiple_of(2) { "accept" } else { "decline" };
    match family {
        "approvals" => (format!("/api/approvals/{id}/decision"), json!({ "decision": word })),
        "tool-input" => {
            let answers = json!({ "q1": { "answers": [format!("answer {number}")] } });
            let body = json!({ "decision": "accept", "answers": answers });
            (format!("/api/tool-input/{id}/decision"), body)
        }
        _ => {
            let body = json!({ "text": format!("answer {number}") });
            (format!("/api/tool-calls/{id}/response"), body)
        }
    }
}

/// A question of the agent with the id `q1`.
pub(crate) fn question() -> Value {
    let question = json!({
        "id": "q1", "header": "Colour", "question": "Which?", "isOther": false, "isSecret": false,
        "options": [{ "label": "red", "description": "" }],
    });
    json!({ "itemId": "i1", "questions": [question] })
}

/// A call of a tool of the client.
pub(crate) fn tool_call() -> Value {
    json!({ "callId": "c1", "tool": "lookup", "arguments": { "q": 1 } })
}

/// Waits until nothing is left of what the program started but its child and what that started.
#[track_caller]
pub(crate) fn only_child_is_left(app: &TestApp) {
    let child = app.child_pid().expect("a child");
    let orphans = || {
        let mut pids = app.descendants();
        pids.retain(|pid| *pid != app.pid() && !has_ancestor(*pid, child) && pid_alive(*pid));
        pids
    };
    let mut left = Vec::new();
    wait_until("no orphan is left", DEADLINE, || {
        left = orphans();
        if !left.is_empty() {
            let names: Vec<String> = left.iter().map(|pid| command_line(*pid)).collect();
            println!("still there: {names:?}");
        }
        left.is_empty()
    });
}

fn has_ancestor(pid: u32, ancestor: u32) -> bool {
    pid == ancestor
        || parent_of(pid).is_some_and(|parent| parent > 1 && has_ancestor(parent, ancestor))
}

/// Field 4 of `/proc/<pid>/stat` (proc_pid_stat(5)).
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].split_whitespace().nth(1)?.parse().ok()
}
