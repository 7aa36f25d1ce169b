//! Commands: who is asked, what each answer does, what really runs.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, closing};
use crate::Limits;

const ASK: &str = "item/commandExecution/requestApproval";

/// The command items of a thread, from disk.
fn commands(client: &mut Client, thread: &str) -> Vec<Value> {
    let turns = client.history(thread);
    let items = turns.iter().flat_map(|turn| turn["items"].as_array().unwrap().clone());
    items.filter(|item| item["type"] == "commandExecution").collect()
}

#[test]
fn an_accepted_command_really_runs_in_the_workspace() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    let from = client.messages.len();
    client.start(&thread, "/run echo it\\'s done > made; cat made");
    let request = client.wait(ASK);
    assert_eq!(request["id"], 0);
    let params = &request["params"];
    assert_eq!(params["command"], "/bin/sh -c 'echo it\\'\\''s done > made; cat made'");
    assert_eq!(params["cwd"], json!(client.workspace));
    assert_eq!(params["availableDecisions"][0], "accept");
    assert!(!client.workspace.join("made").exists());
    client.answer(&request, json!({ "decision": "accept" }));
    let turn = client.finished();
    assert!(closing(&turn).contains("exit code 0"), "{turn}");
    assert_eq!(std::fs::read_to_string(client.workspace.join("made")).unwrap(), "it's done\n");
    let outline = client.outline(from);
    let at = outline.iter().position(|word| word.ends_with("waitingOnApproval")).unwrap();
    assert_eq!(
        outline[at..at + 9],
        [
            "thread/status/changed waitingOnApproval",
            "item/started commandExecution",
            ASK,
            "serverRequest/resolved",
            "thread/status/changed active",
            "item/commandExecution/outputDelta",
            "item/completed commandExecution",
            "thread/tokenUsage/updated",
            "item/started agentMessage",
        ]
    );
    let item = &commands(&mut client, &thread)[0];
    assert_eq!(item["status"], "completed");
    assert_eq!((&item["exitCode"], &item["aggregatedOutput"]), (&json!(0), &json!("it's done\n")));
}

#[test]
fn accept_for_session_remembers_exactly_this_command() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    client.start(&thread, "/run echo a\n/run echo a\n/run echo b");
    let first = client.wait(ASK);
    client.answer(&first, json!({ "decision": "acceptForSession" }));
    let second = client.wait(ASK);
    assert_eq!(second["id"], 1);
    assert_eq!(second["params"]["command"], "/bin/sh -c 'echo b'");
    client.answer(&second, json!({ "decision": "accept" }));
    client.finished();
    let outputs: Vec<Value> = commands(&mut client, &thread)
        .iter()
        .map(|item| item["aggregatedOutput"].clone())
        .collect();
    assert_eq!(outputs, ["a\n", "a\n", "b\n"]);
}

#[test]
fn declined_and_unreadable_answers_do_not_run_and_the_turn_goes_on() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    client.start(&thread, "/run touch 1\n/run touch 2\n/run touch 3\n/run touch 4");
    for answer in [json!({ "decision": "decline" }), json!({ "decision": "bogus" }), json!({})] {
        let request = client.wait(ASK);
        client.answer(&request, answer);
    }
    let request = client.wait(ASK);
    client.line(
        &json!({ "id": request["id"], "error": { "code": -1, "message": "no" } }).to_string(),
    );
    let turn = client.finished();
    assert!(closing(&turn).contains("rejected by user"));
    assert!(closing(&turn).contains("approval request failed"));
    assert_eq!(std::fs::read_dir(&client.workspace).unwrap().count(), 0);
    let items = commands(&mut client, &thread);
    let statuses: Vec<&Value> = items.iter().map(|item| &item["status"]).collect();
    assert_eq!(statuses, ["declined", "failed", "failed", "failed"]);
}

#[test]
fn cancel_declines_and_interrupts() {
    let mut client = Client::new();
    let thread = client.thread(json!({}));
    let from = client.messages.len();
    client.start(&thread, "/run touch x\n/say never reached");
    let request = client.wait(ASK);
    client.answer(&request, json!({ "decision": "cancel" }));
    let turn = client.finished();
    assert_eq!((&turn["status"], &turn["items"]), (&json!("interrupted"), &json!([])));
    let outline = client.outline(from);
    let at = outline.iter().position(|word| word == "serverRequest/resolved").unwrap();
    assert_eq!(
        outline[at..],
        [
            "serverRequest/resolved",
            "item/completed commandExecution",
            "thread/status/changed active",
            "thread/tokenUsage/updated",
            "thread/status/changed idle",
            "turn/completed",
        ]
    );
    assert!(!client.workspace.join("x").exists());
}

#[test]
fn read_only_refuses_and_never_declines_without_asking() {
    let mut client = Client::new();
    let text = "/run touch x\n/write y\nz\n/end";
    let thread = client.thread(json!({ "sandbox": "read-only", "approvalPolicy": "never" }));
    let turn = client.turn(&thread, text);
    assert_eq!(closing(&turn).matches("refused, the sandbox is read-only").count(), 2);
    let thread = client.thread(json!({ "approvalPolicy": "never" }));
    let turn = client.turn(&thread, text);
    assert_eq!(closing(&turn).matches("declined, the approval policy is never").count(), 2);
    assert_eq!(commands(&mut client, &thread)[0]["status"], "declined");
    // Full access does not mean that nobody is asked.
    let thread = client.thread(json!({ "sandbox": "danger-full-access" }));
    client.start(&thread, "/run true");
    let request = client.wait(ASK);
    client.answer(&request, json!({ "decision": "decline" }));
    client.finished();
    assert_eq!(std::fs::read_dir(&client.workspace).unwrap().count(), 0);
    assert!(client.messages.iter().filter(|m| m["method"] == ASK).count() == 1);
}

#[test]
fn output_is_cut_at_the_limit_and_failure_is_told() {
    let mut client =
        Client::with_limits(Limits { command_output_bytes: 1_000, ..Limits::default() });
    let thread = client.thread(json!({}));
    client.start(&thread, "/run yes ä | head -c 5000; exit 3");
    let request = client.wait(ASK);
    client.answer(&request, json!({ "decision": "accept" }));
    let turn = client.finished();
    assert!(closing(&turn).contains("exit code 3, output cut at 1000 bytes"), "{turn}");
    let item = &commands(&mut client, &thread)[0];
    assert_eq!((&item["status"], &item["exitCode"]), (&json!("failed"), &json!(3)));
    let output = item["aggregatedOutput"].as_str().unwrap();
    assert!(output.len() <= 1_000 && output.len() > 990, "{}", output.len());
}

#[test]
fn a_command_that_runs_too_long_is_killed_even_while_it_floods() {
    let limits = Limits { command_time: Duration::from_millis(300), ..Limits::default() };
    let mut client = Client::with_limits(limits);
    let thread = client.thread(json!({}));
    client.start(&thread, "/run sleep 1000\n/run yes");
    for _ in 0..2 {
        let request = client.wait(ASK);
        client.answer(&request, json!({ "decision": "accept" }));
    }
    let turn = client.finished();
    assert_eq!(closing(&turn).matches("killed after 0.3 s").count(), 2, "{turn}");
    let items = commands(&mut client, &thread);
    assert!(items.iter().all(|item| item["exitCode"] == 124), "{items:?}");
}

#[test]
fn a_working_directory_that_does_not_exist_is_told_by_the_turn() {
    let mut client = Client::new();
    let nowhere = client.workspace.join("nowhere");
    let thread = client.thread(json!({ "cwd": nowhere }));
    let turn = client.turn(&thread, "/run true\n/write x\ny");
    assert_eq!(closing(&turn).matches("working directory").count(), 2, "{turn}");
}
