//! What is done with a session beside turns: forks, turns taken back, compaction, review.

use cm_testkit::model::{prompt, run_in_sandbox, say};
use serde_json::{Value, json};

use crate::common::{Act, Bench, DEADLINE, Kind, notified, over_runtimes, rows, text, turn_end};

over_runtimes!(
    a_review_is_interrupted_like_any_turn,
    a_review_runs_with_the_controls_that_were_changed_last,
    what_runs_a_turn_does_not_end_the_one_that_runs,
    a_message_does_not_end_a_review,
    a_review_is_one_turn,
    a_review_asks_nobody_and_runs_nothing_that_needs_it,
    a_fork_begins_with_the_history_and_goes_its_own_way,
    turns_are_taken_back,
    what_the_runtime_has_is_done_and_the_rest_is_said,
    a_session_that_does_not_exist_is_said_before_anything_else,
);

/// What the agent said in a session, in order.
fn said(bench: &Bench, session: &str) -> Vec<String> {
    let detail = bench.detail(session);
    rows(&detail, "agentMessage").into_iter().map(|row| text(&row["content"])).collect()
}

fn a_fork_begins_with_the_history_and_goes_its_own_way(kind: Kind) {
    let mut bench = Bench::start(kind);
    let source = bench.session_with(json!({ "approvalPolicy": "on-request" }));
    bench.complete_turn(&source, &[Act::Say("one")]);
    bench.complete_turn(&source, &[Act::Say("two")]);
    let mut stream = bench.app.stream(None);
    let forked = bench.act(&source, "fork", json!({})).expect_status(200).body;
    assert_eq!((&forked["status"], &forked["sourceSessionId"]), (&json!("ok"), &json!(source)));
    let session = &forked["session"];
    let fork = text(&session["sessionId"]);
    assert_ne!(fork, source);
    assert_eq!(session["materialized"], true);
    assert_eq!(session["approvalPolicy"], "on-request", "the controls are copied");
    assert_eq!(forked["thread"]["id"], fork);
    stream.wait_for(
        |frame| frame["type"] == "session_updated" && frame["threadId"] == fork.as_str(),
        DEADLINE,
    );
    assert_eq!(said(&bench, &fork), ["one", "two"]);
    bench.complete_turn(&fork, &[Act::Say("mine")]);
    bench.complete_turn(&source, &[Act::Say("three")]);
    bench.app.restart();
    assert_eq!(said(&bench, &fork), ["one", "two", "mine"]);
    assert_eq!(said(&bench, &source), ["one", "two", "three"]);
    let turns = bench.detail(&fork)["thread"]["turns"].as_array().map(Vec::len);
    assert_eq!(turns, Some(3));
    bench.complete_turn(&fork, &[Act::Say("after")]);
}

fn turns_are_taken_back(kind: Kind) {
    let mut bench = Bench::start(kind);
    let session = bench.session();
    let none = bench.act(&session, "rollback", json!({}));
    if kind == Kind::Embedded {
        let refused = none.expect_status(501).body;
        assert_eq!(refused["code"], "method_not_supported");
        assert_eq!(refused["details"]["method"], "thread/rollback");
        return;
    }
    assert_eq!(none.expect_status(409).body["code"], "invalid_state", "there is none yet");
    for words in ["one", "two", "three"] {
        bench.complete_turn(&session, &[Act::Say(words)]);
    }
    let mut stream = bench.app.stream(Some(&session));
    let back = bench.act(&session, "rollback", json!({ "numTurns": "2" })).expect_status(200).body;
    assert_eq!((&back["status"], &back["numTurns"]), (&json!("ok"), &json!(2)));
    let told = stream.wait_type("session_rolled_back", DEADLINE);
    assert_eq!(told["payload"]["turnIds"].as_array().map(Vec::len), Some(2));
    assert_eq!(said(&bench, &session), ["one"]);
    bench.complete_turn(&session, &[Act::Say("four")]);
    let forked = bench.act(&session, "fork", json!({})).expect_status(200).body;
    assert_eq!(said(&bench, &text(&forked["session"]["sessionId"])), ["one", "four"]);
    bench.app.restart();
    assert_eq!(said(&bench, &session), ["one", "four"]);
    let turns = bench.detail(&session)["thread"]["turns"].as_array().map(Vec::len);
    assert_eq!(turns, Some(2));
    // Not while one runs.
    bench.send(&session, &[Act::Hold]);
    let refused = bench.act(&session, "rollback", json!({})).expect_status(409).body;
    assert_eq!(refused["code"], "invalid_state");
    bench.act(&session, "interrupt", json!({})).expect_status(200);
}

fn what_the_runtime_has_is_done_and_the_rest_is_said(kind: Kind) {
    let bench = Bench::start(kind);
    let session = bench.session();
    bench.complete_turn(&session, &[Act::Say("hello")]);
    let capabilities = bench.app.get("/api/capabilities").expect_status(200).body;
    let mut stream = bench.app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    let actions = [
        ("compact", json!({}), "thread/compact/start"),
        ("background-terminals/clean", json!({}), "thread/backgroundTerminals/clean"),
        ("review", json!({ "instructions": "look" }), "review/start"),
    ];
    for (action, body, method) in actions {
        let reply = bench.act(&session, action, body);
        match text(&capabilities["methods"][method]).as_str() {
            "available" => {
                let body = reply.expect_status(200).body;
                assert_eq!((&body["status"], &body["sessionId"]), (&json!("ok"), &json!(session)));
                assert!(body["result"].is_object(), "{body}");
                if action == "compact" {
                    notified(&mut stream, "turn/completed");
                }
            }
            _ => {
                let body = reply.expect_status(501).body;
                assert_eq!(body["code"], "method_not_supported");
                assert_eq!(body["details"], json!({ "method": method, "sessionId": session }));
            }
        }
    }
    for (action, body, wrong) in [
        ("rollback", json!({ "numTurns": 0 }), "numTurns"),
        ("rollback", json!({ "numTurns": 10_001 }), "numTurns"),
        ("review", json!({ "targetType": "commit" }), "sha"),
        ("review", json!({ "targetType": "everything" }), "targetType"),
        ("review", json!({ "title": "x".repeat(301) }), "title"),
    ] {
        let body = bench.act(&session, action, body).expect_status(400).body;
        assert_eq!(body["issues"][0]["path"][0], wrong, "{body}");
    }
}

fn what_runs_a_turn_does_not_end_the_one_that_runs(kind: Kind) {
    if !kind.is_codex() {
        // The embedded runtime has neither, which `what_the_runtime_has_is_done…` looks at.
        return;
    }
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let turn = bench.send(&session, &[Act::Hold]);
    notified(&mut stream, "item/agentMessage/delta");
    for action in ["compact", "review"] {
        let refused = bench.act(&session, action, json!({})).expect_status(409).body;
        assert_eq!(refused["code"], "invalid_state", "{refused}");
    }
    bench.release();
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
}

fn a_review_is_one_turn(kind: Kind) {
    if !kind.is_codex() {
        // The embedded runtime has no review, which `what_the_runtime_has_is_done…` looks at.
        return;
    }
    let bench = Bench::start(kind);
    let session = bench.session();
    bench.complete_turn(&session, &[Act::Say("one")]);
    let mut stream = bench.app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    let instructions = prompt("go", [run_in_sandbox("echo seen"), say("looked")]);
    let begun = bench.act(&session, "review", json!({ "instructions": instructions }));
    let turn = text(&begun.expect_status(200).body["result"]["turn"]["id"]);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    let turns = || {
        let turns = bench.detail(&session)["thread"]["turns"].as_array().cloned();
        let turns = turns.unwrap_or_default().into_iter();
        turns.map(|turn| (text(&turn["id"]), text(&turn["status"]))).collect::<Vec<_>>()
    };
    assert_eq!(turns().len(), 2, "{:?}", turns());
    assert_eq!(turns()[1], (turn, "completed".to_owned()));
    // It is taken back as one.
    bench.act(&session, "rollback", json!({})).expect_status(200);
    assert_eq!((turns().len(), said(&bench, &session)), (1, vec!["one".to_owned()]));
    bench.complete_turn(&session, &[Act::Say("two")]);
    let asked = bench.model().requests().pop().expect("a request").body["input"].to_string();
    assert!(asked.contains("one") && !asked.contains("looked"), "{asked}");
    bench.act(&session, "rollback", json!({ "numTurns": 2 })).expect_status(200);
    assert_eq!(turns(), vec![]);
}

fn a_review_asks_nobody_and_runs_nothing_that_needs_it(kind: Kind) {
    if !kind.is_codex() {
        // The embedded runtime has no review, which `what_the_runtime_has_is_done…` looks at.
        return;
    }
    let bench = Bench::start(kind);
    let session = bench.session_with(json!({ "approvalPolicy": "untrusted" }));
    let mut stream = bench.app.stream(Some(&session));
    let instructions = kind.message(&[Act::Run("touch asked"), Act::Say("looked")]);
    let begun = bench.act(&session, "review", json!({ "instructions": instructions }));
    let turn = text(&begun.expect_status(200).body["result"]["turn"]["id"]);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    // Codex refuses it by itself: nobody is asked, and it does not run.
    assert!(stream.frames().iter().all(|frame| frame["type"] != "approval"));
    assert!(!bench.app.workspace().join("asked").exists());
}

fn a_message_does_not_end_a_review(kind: Kind) {
    if !kind.is_codex() {
        // The embedded runtime has no review, which `what_the_runtime_has_is_done…` looks at.
        return;
    }
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let held = kind.message(&[Act::Hold]);
    let review = bench.act(&session, "review", json!({ "instructions": held })).expect_status(200);
    let turn = text(&review.body["result"]["turn"]["id"]);
    stream.wait_for(
        |frame| {
            frame["type"] == "app_server.item.started"
                && frame["payload"]["params"]["item"]["type"] == "agentMessage"
        },
        DEADLINE,
    );
    let message = json!({ "text": kind.message(&[Act::Say("more")]) });
    let refused = bench.act(&session, "messages", message).expect_status(409).body;
    assert_eq!(refused["message"], "cannot steer a review turn");
    bench.release();
    assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
    let lost = bench.detail(&session);
    assert_eq!(rows(&lost, "turn.interrupted").len(), 0, "{lost}");
}

fn a_review_runs_with_the_controls_that_were_changed_last(kind: Kind) {
    if !kind.is_codex() {
        // The embedded runtime has no review, which `what_the_runtime_has_is_done…` looks at.
        return;
    }
    let bench = Bench::start(kind);
    let session = bench.session_with(json!({ "approvalPolicy": "never" }));
    let review = |file: &str| {
        let mut stream = bench.app.stream(Some(&session));
        stream.wait_type("ready", DEADLINE);
        let command = run_in_sandbox(&format!("touch {file}"));
        let instructions = prompt("go", [command, say("looked")]);
        let begun = bench.act(&session, "review", json!({ "instructions": instructions }));
        let turn = text(&begun.expect_status(200).body["result"]["turn"]["id"]);
        assert_eq!(turn_end(&mut stream, &turn)["status"], "completed");
        let turns = bench.detail(&session)["thread"]["turns"].clone();
        let mut of_turns = turns.as_array().into_iter().flatten();
        let all_ended = of_turns.all(|turn| turn["status"] == "completed");
        assert!(all_ended, "none runs any more: {turns}");
        bench.app.workspace().join(file).exists()
    };
    bench.complete_turn(&session, &[Act::Say("one turn with the first controls")]);
    assert!(review("written"), "the session may write");
    let controls = json!({
        "model": null, "approvalPolicy": "never", "networkAccess": "restricted",
        "filesystemSandbox": "read-only",
    });
    let change = json!({ "scope": "session", "controls": controls });
    bench.act(&session, "session-controls", change).expect_status(200);
    assert!(!review("refused"), "the session may only read");
}

fn a_review_is_interrupted_like_any_turn(kind: Kind) {
    if !kind.is_codex() {
        // The embedded runtime has no review, which `what_the_runtime_has_is_done…` looks at.
        return;
    }
    let bench = Bench::start(kind);
    let session = bench.session();
    let mut stream = bench.app.stream(Some(&session));
    let instructions = kind.message(&[Act::Hold]);
    let begun = bench.act(&session, "review", json!({ "instructions": instructions }));
    let turn = text(&begun.expect_status(200).body["result"]["turn"]["id"]);
    bench.model().wait_for(|request| request.body["input"].to_string().contains("go"), DEADLINE);
    bench.act(&session, "interrupt", json!({ "turnId": turn })).expect_status(200);
    assert_eq!(turn_end(&mut stream, &turn)["status"], "interrupted");
    assert_eq!(bench.detail(&session)["session"]["activity"], "idle");
    bench.release();
    bench.complete_turn(&session, &[Act::Say("and the next turn")]);
}

fn a_session_that_does_not_exist_is_said_before_anything_else(kind: Kind) {
    let bench = Bench::start(kind);
    let nobody = "00000000-0000-7000-8000-000000000000";
    for action in ["fork", "compact", "rollback", "background-terminals/clean", "review"] {
        let body = bench.act(nobody, action, json!({ "numTurns": 0 })).expect_status(404).body;
        assert_eq!((&body["status"], &body["sessionId"]), (&json!("not_found"), &json!(nobody)));
        let body = bench.act("nope", action, Value::Null).expect_status(404).body;
        assert_eq!(body["status"], "not_found");
    }
}
