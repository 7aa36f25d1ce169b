//! Several clients of one session at the same moment.

use std::thread;

use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript, MethodRule, step};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{DEADLINE, text, turn_end};
use crate::fake_app::{begin, create, embedded, send, with_fake};

#[test]
fn messages_that_are_sent_at_once_share_one_turn() {
    let dir = TestDir::new("record");
    // The turn is named late, and then waits for an approval: all messages come before that.
    let behaviour = Behaviour::correct()
        .turn([step::command_approval("ls", &dir.join("answers"))])
        .method("turn/start", MethodRule::late(300));
    let app = with_fake(FakeScript::always(behaviour)).start();
    let session = create(&app);
    let turns: Vec<String> = thread::scope(|scope| {
        let senders: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| text(&send(&app, &session, "go").expect_status(202).body["turnId"]))
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().expect("a sender")).collect()
    });
    assert!(turns.iter().all(|turn| *turn == turns[0]), "{turns:?}");
    assert_eq!(app.fake().calls("turn/start").len(), 1);
    assert_eq!(app.fake().calls("turn/steer").len(), 2);
}

/// The runtime forgets a turn a moment before it says how the turn ended.
#[test]
fn a_message_to_a_turn_that_is_just_over_starts_the_next_one() {
    let dir = TestDir::new("record");
    let behaviour = Behaviour::correct()
        .turn([step::command_approval("ls", &dir.join("answers"))])
        .method("turn/steer", MethodRule::error(-32600, "no active turn to steer"));
    let app = with_fake(FakeScript::always(behaviour)).start();
    let session = create(&app);
    let mut stream = app.stream(None);
    let first = begin(&app, &session);
    let approval = stream.wait_type("approval", DEADLINE)["payload"]["approvalId"].clone();
    let decide = format!("/api/approvals/{}/decision", text(&approval));
    let second = thread::scope(|scope| {
        let second = scope.spawn(|| begin(&app, &session));
        wait_until("a steer", DEADLINE, || !app.fake().calls("turn/steer").is_empty());
        app.post(&decide, json!({ "decision": "accept" })).expect_status(200);
        second.join().expect("a reply")
    });
    assert_ne!(first, second);
    assert_eq!(turn_end(&mut stream, &second)["status"], "completed");
    assert_eq!(app.fake().calls("turn/start").len(), 2);
}

/// The line that says so is longer than what is read.
#[test]
fn a_turn_whose_end_was_never_told_ends_with_the_next_message() {
    let behaviour = Behaviour::correct().turn([step::fail(&"x".repeat(2 << 20))]);
    let app = with_fake(FakeScript::always(behaviour))
        .env("CODEX_MANAGER_LINE_CAP_BYTES", (1 << 20).to_string())
        .start();
    let session = create(&app);
    let mut stream = app.stream(Some(&session));
    let mut unfiltered = app.stream(None);
    let lost = begin(&app, &session);
    unfiltered.wait_type("runtime_output_unreadable", DEADLINE);
    let next = begin(&app, &session);
    assert_ne!(lost, next);
    assert_eq!(turn_end(&mut stream, &lost)["status"], "interrupted");
    assert_eq!(turn_end(&mut stream, &next)["status"], "completed");
    assert_eq!(app.fake().calls("turn/start").len(), 2);
}

#[test]
fn a_deleted_session_stays_deleted_for_everybody() {
    let app = embedded().start();
    for _ in 0..10 {
        let session = create(&app);
        let mut stream = app.stream(None);
        let path = format!("/api/sessions/{session}");
        let (deleted, read) = thread::scope(|scope| {
            let deleted = scope.spawn(|| app.delete(&path));
            let read = scope.spawn(|| app.get(&path));
            (deleted.join().expect("a reply"), read.join().expect("a reply"))
        });
        assert_eq!(deleted.status, 200, "{}", deleted.text);
        assert!(matches!(read.status, 200 | 410), "{}", read.text);
        stream.wait_type("session_deleted", DEADLINE);
        assert_eq!(app.get(&path).status, 410);
        for list in ["/api/sessions", "/api/sessions?archived=true"] {
            let list = app.get(list).expect_status(200).body["data"].clone();
            assert_eq!(list, Value::Array(Vec::new()));
        }
    }
    let tree = app.get("/api/runtime").expect_status(200).body["tree"].clone();
    let panics = &tree["children"][0]["children"][2]["observed"]["panics"];
    assert_eq!(panics, 0, "{tree}");
}

#[test]
fn the_words_of_a_message_that_joined_a_turn_outlive_its_interrupt() {
    let app = embedded().start();
    let writable = serde_json::json!({
        "cwd": app.workspace(), "filesystemSandbox": "workspace-write",
    });
    let session = app.post("/api/sessions", writable).expect_status(200);
    let session = text(&session.body["session"]["sessionId"]);
    let mut stream = app.stream(Some(&session));
    let turn = text(&send(&app, &session, "/run sleep 5").expect_status(202).body["turnId"]);
    stream.wait_type("approval", DEADLINE);
    let joined = send(&app, &session, "/say second").expect_status(202);
    assert_eq!(text(&joined.body["turnId"]), turn);
    app.post(&format!("/api/sessions/{session}/interrupt"), serde_json::json!({}))
        .expect_status(200);
    turn_end(&mut stream, &turn);
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200);
    let rows = detail.body["transcript"].as_array().cloned().unwrap_or_default();
    let said: Vec<&Value> = rows.iter().filter(|row| row["role"] == "user").collect();
    assert_eq!(said.len(), 2, "{rows:?}");
    assert_eq!(said[1]["content"], "/say second");
}

#[test]
fn whoever_waits_for_a_session_that_is_deleted_is_told_so() {
    let app = embedded().start();
    for _ in 0..5 {
        let session = create(&app);
        let path = format!("/api/sessions/{session}");
        let replies: Vec<u16> = thread::scope(|scope| {
            let senders: Vec<_> =
                (0..6).map(|_| scope.spawn(|| send(&app, &session, "/say hi").status)).collect();
            let deleted = scope.spawn(|| app.delete(&path).status);
            assert_eq!(deleted.join().expect("a reply"), 200);
            senders.into_iter().map(|sender| sender.join().expect("a reply")).collect()
        });
        assert!(replies.iter().all(|status| [202, 404, 410].contains(status)), "{replies:?}");
    }
}
