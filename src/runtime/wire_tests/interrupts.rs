//! Interrupting a turn, whatever it waits for, and the end of the process.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::json;

use super::client::Client;
use crate::Limits;

const ASK: &str = "item/commandExecution/requestApproval";

/// Two processes that write their ids and wait for ever, the second one in the background.
const TWO_PROCESSES: &str =
    "/run sh -c 'echo $$ > a; exec sleep 1000' & echo $$ > b; echo up; wait";

/// Waits until none of the recorded processes exists; a killed one stays until somebody reaps it.
fn assert_gone(workspace: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    for name in ["a", "b"] {
        let text = fs::read_to_string(workspace.join(name)).unwrap();
        let pid: i32 = text.trim().parse().unwrap();
        let alive = || {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            kill(Pid::from_raw(pid), None).is_ok() && !state.contains(") Z ")
        };
        while alive() {
            assert!(Instant::now() < deadline, "process {pid} ({name}) is still there");
            std::thread::yield_now();
        }
    }
}

/// Starts [`TWO_PROCESSES`] and waits until both are there.
fn start_processes(client: &mut Client, thread: &str) -> String {
    let turn = client.start(thread, TWO_PROCESSES);
    let request = client.wait(ASK);
    client.answer(&request, json!({ "decision": "accept" }));
    client.wait("item/commandExecution/outputDelta");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !fs::read_to_string(client.workspace.join("a")).is_ok_and(|text| text.ends_with('\n')) {
        assert!(Instant::now() < deadline, "the background process did not start");
        std::thread::yield_now();
    }
    turn
}

#[test]
fn a_slow_answer_can_be_interrupted() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    let turn = client.start(&thread, "/slow 100000 50");
    client.wait("item/agentMessage/delta");
    let wrong = json!({ "threadId": thread, "turnId": "wrong" });
    let message = client.refused("turn/interrupt", wrong.clone());
    assert_eq!(message, format!("expected active turn id wrong but found {turn}"));
    let from = client.messages.len();
    client.interrupt(&thread, &turn);
    let ended = client.finished();
    assert_eq!((&ended["status"], &ended["items"]), (&json!("interrupted"), &json!([])));
    let mut outline = client.outline(from);
    outline.retain(|word| word != "item/agentMessage/delta");
    assert_eq!(
        outline,
        ["answer", "thread/tokenUsage/updated", "thread/status/changed idle", "turn/completed"]
    );
    assert_eq!(client.refused("turn/interrupt", wrong), "no active turn to interrupt");
    assert_eq!(client.turn(&thread, "/say on")["status"], "completed");
}

#[test]
fn an_open_approval_is_resolved_and_a_late_answer_is_ignored() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    let turn = client.start(&thread, "/run touch x");
    let request = client.wait(ASK);
    let read = client.ok("thread/read", json!({ "threadId": thread }));
    assert_eq!(read["thread"]["status"]["activeFlags"], json!(["waitingOnApproval"]));
    client.interrupt(&thread, &turn);
    assert_eq!(client.finished()["status"], "interrupted");
    // codex resolves the request after the end of the turn.
    assert_eq!(client.wait("serverRequest/resolved")["params"]["requestId"], request["id"]);
    client.answer(&request, json!({ "decision": "accept" }));
    assert_eq!(client.turn(&thread, "/say on")["status"], "completed");
    assert!(!client.workspace.join("x").exists());
}

#[test]
fn a_running_command_is_killed_with_its_whole_group() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    let turn = start_processes(&mut client, &thread);
    client.interrupt(&thread, &turn);
    assert_eq!(client.finished()["status"], "interrupted");
    assert_gone(&client.workspace);
}

#[test]
fn the_end_of_input_kills_commands_and_leaves_an_interrupted_turn() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    start_processes(&mut client, &thread);
    let client = client.restart();
    assert_gone(&client.workspace);
    let mut client = client;
    let turns = client.history(&thread);
    assert_eq!(turns[0]["status"], "interrupted");
}

#[test]
fn what_a_command_leaves_in_the_background_ends_with_it() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    client.start(
        &thread,
        "/run echo $$ > b; (sh -c 'echo $$ > a; exec sleep 1000') & \
        until [ -s a ]; do :; done",
    );
    let request = client.wait(ASK);
    client.answer(&request, json!({ "decision": "accept" }));
    assert_eq!(client.finished()["status"], "completed");
    assert_gone(&client.workspace);
}

/// Set for the process that [`a_kill_of_the_process_takes_its_commands_along`] kills.
const VICTIM_ROOT: &str = "EMBEDDED_RUNTIME_VICTIM_ROOT";

#[test]
fn a_kill_of_the_process_takes_its_commands_along() {
    if let Some(root) = std::env::var_os(VICTIM_ROOT) {
        let mut client = Client::raw(Path::new(&root), Limits::default());
        client.initialize();
        let thread = client.thread(json!({}));
        start_processes(&mut client, &thread);
        fs::write(client.workspace.join("ready"), "").unwrap();
        // Held open until the kill.
        client.wait("never");
    }
    let root = tempfile::tempdir().unwrap();
    let name = std::thread::current().name().unwrap().to_owned();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([&name, "--exact"])
        .env(VICTIM_ROOT, root.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let workspace = root.path().join("ws");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !workspace.join("ready").exists() {
        assert!(Instant::now() < deadline, "the victim did not get ready");
        assert!(victim.try_wait().unwrap().is_none(), "the victim ended by itself");
        std::thread::yield_now();
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert_gone(&workspace);
}

#[test]
fn archiving_interrupts_the_turn() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    client.start(&thread, "/ask wait");
    client.wait("item/tool/requestUserInput");
    client.ok("thread/archive", json!({ "threadId": thread }));
    assert_eq!(client.finished()["status"], "interrupted");
    client.wait("thread/archived");
}
