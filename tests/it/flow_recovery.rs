//! Sessions that were cut, over each runtime.

use cm_testkit::app_server::AppServerClient;
use cm_testkit::codex::{CODEX_NEW, codex_binary};
use cm_testkit::model::{prompt, say};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{Act, Bench, DEADLINE, Kind, notified, over_runtimes, rows, text};
use crate::fake_app::refused;

over_runtimes!(
    a_session_that_was_cut_goes_on_with_its_past,
    a_session_that_was_cut_with_the_manager_goes_on_with_its_past,
);

fn a_session_that_was_cut_goes_on_with_its_past(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    bench.complete_turn(&session, &[Act::Say("before")]);
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Hold]);
    notified(&mut stream, "item/agentMessage/delta");
    bench.app.kill_child();
    let payload = stream.wait_type("session_reconciled", DEADLINE)["payload"].clone();
    assert_eq!(payload["turnsAdded"], json!([]), "{payload}");
    bench.release();
    check(&bench, &session, &turn);
    bench.complete_turn(&session, &[Act::Say("after")]);
    let detail = bench.detail(&session);
    assert_eq!(rows(&detail, "userMessage").len(), 3, "{detail}");
    assert_eq!(detail["session"]["problem"], Value::Null);
}

fn a_session_that_was_cut_with_the_manager_goes_on_with_its_past(kind: Kind) {
    let mut bench = Bench::start(kind);
    let session = bench.session();
    bench.complete_turn(&session, &[Act::Say("before")]);
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Hold]);
    notified(&mut stream, "item/agentMessage/delta");
    bench.app.kill();
    bench.release();
    bench.app.restart();
    // The message waits until the session was compared with the runtime's history.
    bench.complete_turn(&session, &[Act::Say("after")]);
    check(&bench, &session, &turn);
    assert_eq!(rows(&bench.detail(&session), "userMessage").len(), 3);
}

/// The cut turn is there once, interrupted, with its message once, and so is what was before it.
fn check(bench: &Bench, session: &str, turn: &str) {
    let detail = bench.detail(session);
    let turns = detail["thread"]["turns"].as_array().cloned().unwrap_or_default();
    let ids: Vec<String> = turns.iter().map(|turn| text(&turn["id"])).collect();
    assert_eq!(ids[1], turn, "{detail}");
    assert_eq!(
        (&turns[0]["status"], &turns[1]["status"]),
        (&json!("completed"), &json!("interrupted"))
    );
    let of = |wanted: &str, kind: &str| {
        rows(&detail, kind).iter().filter(|row| row["turnId"] == wanted).count()
    };
    assert_eq!(of(turn, "userMessage"), 1, "{detail}");
    assert_eq!((of(&ids[0], "userMessage"), of(&ids[0], "agentMessage")), (1, 1), "{detail}");
    assert_eq!(detail["session"]["activity"], "idle");
}

/// Another Codex on the manager's CODEX_HOME, as a terminal would be.
fn another_codex(bench: &Bench) -> AppServerClient {
    let binary = codex_binary(CODEX_NEW).expect("tests/run installs the codex versions");
    let (home, folder) = (bench.app.codex_home(), bench.app.dir().path().to_owned());
    let environment = [
        ("CODEX_HOME", home.to_str().unwrap()),
        ("HOME", folder.to_str().unwrap()),
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ];
    let mut client = AppServerClient::spawn(&binary, &environment);
    client.initialize();
    client
}

#[test]
fn a_session_that_another_codex_holds_says_which_process_that_is() {
    let bench = Bench::start(Kind::CodexNew);
    let session = bench.session();
    bench.complete_turn(&session, &[Act::Say("before")]);
    let old = bench.app.kill_child();
    bench.app.wait_new_child(old, DEADLINE);
    let mut other = another_codex(&bench);
    other.call("thread/resume", json!({ "threadId": session, "excludeTurns": true }));
    let path = format!("/api/sessions/{session}/messages");
    let told = bench.app.post(&path, json!({ "text": "go" }));
    refused(&told, 409, "thread_in_use");
    let holder = format!("Process {} (`", other.pid());
    assert!(text(&told.body["message"]).contains(&holder), "{}", told.text);
    let problem = bench.detail(&session)["session"]["problem"].clone();
    assert_eq!(problem["code"], "thread_in_use", "{problem}");
    drop(other);
    bench.complete_turn(&session, &[Act::Say("after")]);
    let detail = bench.detail(&session);
    assert_eq!(detail["session"]["problem"], Value::Null);
    assert_eq!(detail["thread"]["turns"].as_array().map(Vec::len), Some(2), "{detail}");
}

#[test]
fn what_waits_in_codexs_own_queue_starts_by_itself_and_is_adopted() {
    let mut bench = Bench::start(Kind::CodexNew);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let cut = bench.send(&session, &[Act::Hold]);
    notified(&mut stream, "item/agentMessage/delta");
    bench.app.kill();
    bench.release();
    let mut other = another_codex(&bench);
    let queued = prompt("go", [say("queued answer")]);
    let input = json!([{ "type": "text", "text": queued, "text_elements": [] }]);
    let submission = json!({ "threadId": session, "input": input, "clientUserMessageId": "q1" });
    other.call("thread/queue/add", submission);
    drop(other);
    bench.app.restart();
    let said = |detail: &Value| {
        let rows = rows(detail, "agentMessage");
        rows.iter().any(|row| row["content"] == "queued answer" && row["status"] == "complete")
    };
    wait_until("the queued turn has run", DEADLINE, || said(&bench.detail(&session)));
    let detail = bench.detail(&session);
    let turns = detail["thread"]["turns"].as_array().cloned().unwrap_or_default();
    assert_eq!(turns.len(), 2, "{turns:?}");
    assert_eq!((&turns[0]["id"], &turns[0]["status"]), (&json!(cut), &json!("interrupted")));
    assert!(bench.app.logs().contains("the runtime started a turn by itself"), "it was adopted");
}
