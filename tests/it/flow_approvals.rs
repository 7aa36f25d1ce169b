//! Approvals: what is accepted really happens, what is refused does not.

use std::path::PathBuf;

use cm_testkit::app::StreamClient;
use serde_json::{Value, json};

use crate::common::{
    Act, Bench, DEADLINE, Kind, approval, notified, over_runtimes, rows, text, turn_end,
};

over_runtimes!(
    an_accepted_command_runs,
    a_command_accepted_for_the_session_is_not_asked_again,
    a_declined_command_does_not_run_and_the_turn_goes_on,
    a_cancelled_command_does_not_run_and_the_turn_is_interrupted,
    an_accepted_file_change_is_applied,
    a_declined_file_change_is_not_applied,
);

/// A command that leaves a file, and the file. 0.140 runs what it knows to be harmless unasked.
fn touch(bench: &Bench, name: &str) -> (String, PathBuf) {
    (format!("touch {name}"), bench.app.workspace().join(name))
}

/// Waits for the resolution of an approval and answers its payload.
#[track_caller]
fn resolution(stream: &mut StreamClient, approval: &str) -> Value {
    let frame = stream.wait_type("approval_resolved", DEADLINE);
    assert_eq!(frame["payload"]["approvalId"], approval);
    frame["payload"].clone()
}

fn an_accepted_command_runs(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let (command, file) = touch(&bench, "accepted");
    let turn = bench.send(&session, &[Act::Run(&command), Act::Say("and so it was")]);

    let asked = stream.wait_type("approval", DEADLINE)["payload"].clone();
    let id = text(&asked["approvalId"]);
    assert_eq!(asked["method"], "item/commandExecution/requestApproval");
    assert_eq!((&asked["threadId"], &asked["turnId"]), (&json!(session), &json!(turn)));
    assert_eq!(asked["status"], "pending");
    assert!(text(&asked["summary"]).contains(&command), "{asked}");
    assert!(asked["details"]["itemId"].is_string(), "{asked}");
    let listed = bench.app.get(&format!("/api/sessions/{session}/approvals")).expect_status(200);
    assert_eq!(listed.body, json!({ "data": [asked] }));
    assert_eq!(bench.detail(&session)["session"]["activity"], "waiting");
    assert!(!file.exists(), "nothing runs before somebody says so");

    let reply = bench.decide(&id, json!({ "decision": "accept" })).expect_status(200);
    assert_eq!(reply.body, json!({ "status": "ok", "approvalId": id, "threadId": session }));
    let resolved = json!({
        "approvalId": id, "status": "resolved", "decision": "accept", "scope": "turn",
    });
    assert_eq!(resolution(&mut stream, &id), resolved);
    let item = item_completed(&mut stream, "commandExecution");
    assert_eq!((&item["status"], &item["exitCode"]), (&json!("completed"), &json!(0)), "{item}");
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    assert!(file.is_file());

    let detail = bench.detail(&session);
    let row = rows(&detail, "approval.resolved")[0];
    assert_eq!(row["messageId"], format!("approval-{id}"));
    assert_eq!(row["content"], "Approval resolved (accept)");
    let row = rows(&detail, "commandExecution")[0];
    assert!(text(&row["content"]).starts_with("Command execution completed: "), "{row}");
    let again = bench.decide(&id, json!({ "decision": "decline" })).expect_status(409).body;
    assert_eq!(again["status"], "reconciled");
    assert_eq!(
        (&again["code"], &again["decision"]),
        (&json!("already_resolved"), &json!("accept"))
    );
}

fn a_command_accepted_for_the_session_is_not_asked_again(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let (command, file) = touch(&bench, "for-the-session");
    let turn = bench.send(&session, &[Act::Run(&command)]);
    let id = approval(&mut stream);
    let accept = json!({ "decision": "accept", "scope": "session" });
    bench.decide(&id, accept).expect_status(200);
    assert_eq!(resolution(&mut stream, &id)["scope"], "session");
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    std::fs::remove_file(&file).unwrap();
    let turn = bench.send(&session, &[Act::Run(&command)]);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    assert!(file.is_file(), "it ran again");
    let asked = stream.read(|all| all.iter().filter(|frame| frame["type"] == "approval").count());
    assert_eq!(asked, 1);
}

fn a_declined_command_does_not_run_and_the_turn_goes_on(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let (command, file) = touch(&bench, "declined");
    let turn = bench.send(&session, &[Act::Run(&command), Act::Say("then something else")]);
    let id = approval(&mut stream);
    bench.decide(&id, json!({ "decision": "decline" })).expect_status(200);
    assert_eq!(resolution(&mut stream, &id)["decision"], "decline");
    assert_eq!(item_completed(&mut stream, "commandExecution")["status"], "declined");
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    assert!(!file.exists());
    let detail = bench.detail(&session);
    let said = rows(&detail, "agentMessage");
    assert!(said.iter().any(|row| row["content"] == "then something else"), "{detail}");
}

fn a_cancelled_command_does_not_run_and_the_turn_is_interrupted(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let (command, file) = touch(&bench, "cancelled");
    let turn = bench.send(&session, &[Act::Run(&command), Act::Say("never said")]);
    let id = approval(&mut stream);
    bench.decide(&id, json!({ "decision": "cancel" })).expect_status(200);
    assert_eq!(resolution(&mut stream, &id)["decision"], "cancel");
    assert_eq!(turn_end(&mut stream, &turn)["status"], "interrupted");
    assert!(!file.exists());
    assert_eq!(bench.detail(&session)["session"]["activity"], "idle");
    bench.complete_turn(&session, &[Act::Say("on it goes")]);
}

fn an_accepted_file_change_is_applied(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.file_session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Write("new.txt", "one line")]);
    let item = notified_item(&mut stream, "item/started", "fileChange");
    assert!(text(&item["changes"][0]["diff"]).contains("one line"), "{item}");
    let asked = stream.wait_type("approval", DEADLINE)["payload"].clone();
    assert_eq!(asked["method"], "item/fileChange/requestApproval");
    assert_eq!(asked["itemId"], item["id"]);
    let file = bench.app.workspace().join("new.txt");
    assert!(!file.exists());
    let id = text(&asked["approvalId"]);
    bench.decide(&id, json!({ "decision": "accept" })).expect_status(200);
    assert_eq!(resolution(&mut stream, &id)["decision"], "accept");
    assert_eq!(item_completed(&mut stream, "fileChange")["status"], "completed");
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "one line\n");
    let diffs = stream.read(|all| all.iter().filter(|f| f["type"] == "turn_diff_updated").count());
    assert!(diffs > 0, "the diff of the turn is told");
    let detail = bench.detail(&session);
    assert_eq!(rows(&detail, "fileChange")[0]["content"], "File change completed: 1 change");
}

fn a_declined_file_change_is_not_applied(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.file_session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Write("new.txt", "one line"), Act::Say("not then")]);
    let id = approval(&mut stream);
    bench.decide(&id, json!({ "decision": "decline" })).expect_status(200);
    assert_eq!(item_completed(&mut stream, "fileChange")["status"], "declined");
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    assert!(!bench.app.workspace().join("new.txt").exists());
}

/// Waits until an item of a type is completed.
#[track_caller]
fn item_completed(stream: &mut StreamClient, kind: &str) -> Value {
    notified_item(stream, "item/completed", kind)
}

/// Waits for a notification about an item of a type.
#[track_caller]
fn notified_item(stream: &mut StreamClient, method: &str, kind: &str) -> Value {
    loop {
        let item = notified(stream, method)["item"].clone();
        if item["type"] == kind {
            return item;
        }
    }
}
